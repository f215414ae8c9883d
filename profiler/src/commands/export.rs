//! `vmascope export`: a recording in other tools' formats.

use std::process::ExitCode;

use anyhow::Result;

use crate::{cli::Export, recording::Recording, sinks};

pub fn run(args: &Export) -> Result<ExitCode> {
    sinks::csv::export(&Recording::open(&args.file)?, &args.csv)?;
    Ok(ExitCode::SUCCESS)
}
