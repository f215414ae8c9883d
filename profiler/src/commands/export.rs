//! `vmascope export`: a recording in other tools' formats.

use std::{fs, process::ExitCode};

use anyhow::Result;

use crate::{cli::Export, recording::Recording, sinks, user};

pub fn run(args: &Export) -> Result<ExitCode> {
    let recording = Recording::open(&args.file)?;
    if let Some(dir) = &args.to.csv {
        sinks::csv::export(&recording, dir)?;
        user::give(dir)?;
        for file in fs::read_dir(dir)? {
            user::give(&file?.path())?;
        }
    }
    if let Some(file) = &args.to.perfetto {
        sinks::perfetto::export(&recording, file)?;
        user::give(file)?;
    }
    if let Some(file) = &args.to.html {
        sinks::html::export(&recording, file)?;
        user::give(file)?;
    }
    Ok(ExitCode::SUCCESS)
}
