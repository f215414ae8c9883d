//! `vmascope repair`: a recording that was cut short, as one file.

use std::process::ExitCode;

use anyhow::Result;

use super::print;
use crate::{
    cli::Repair,
    recording::{Recording, Repaired, repair},
    report::units::count,
    user,
};

pub fn run(args: &Repair) -> Result<ExitCode> {
    let path = &args.file;
    let done = repair(path)?;
    user::give(path)?;
    let recording = Recording::open(path)?;
    let name = path.display();
    let seconds = recording.snapshot()?.duration_ns as f64 / 1e9;
    let (waits, faults) = recording.events_in_all()?;
    let holds = format!(
        "it holds {seconds:.1} s, {} waits and {} faults over the threshold",
        count(waits),
        count(faults)
    );
    print(&match done {
        Repaired::Whole => format!("{name} is one file already: {holds}\n"),
        Repaired::Folded => format!("{name} is one file now: {holds}\n"),
    })?;
    Ok(ExitCode::SUCCESS)
}
