//! `vmascope export`: a recording in other tools' formats.

use std::{fs, process::ExitCode};

use anyhow::Result;

use crate::{cli::Export, recording::Recording, sinks, user};

pub fn run(args: &Export) -> Result<ExitCode> {
    sinks::csv::export(&Recording::open(&args.file)?, &args.csv)?;
    user::give(&args.csv)?;
    for file in fs::read_dir(&args.csv)? {
        user::give(&file?.path())?;
    }
    Ok(ExitCode::SUCCESS)
}
