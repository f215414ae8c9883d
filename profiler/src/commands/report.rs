//! `vmascope report`: of a recording, or live for a while.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use super::{
    asked,
    measure::{Keep, measure},
    print,
};
use crate::{
    cli::{Report, ReportFormat},
    model::{Batch, Snapshot},
    recording::{Recording, Writer},
    report, session,
};

pub fn run(args: &Report) -> Result<ExitCode> {
    let report = match &args.file {
        Some(path) => report::of(&Recording::open(path)?)?,
        None => live(args)?,
    };
    match args.format {
        ReportFormat::Text => print(&report::text(&report))?,
        ReportFormat::Json => print(&report::json(&report)?)?,
        ReportFormat::Lkml => print(&report::lkml(&report))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The same as of a recording, which is kept in memory.
fn live(args: &Report) -> Result<report::Report> {
    let mut live = session::start(&asked::probing(&args.probing)?)?;
    live.arm()?;
    let duration = args.duration.context("no --duration")?;
    let mut kept = ToMemory(Writer::in_memory(&live.session)?);
    let ended = measure(live, None, Some(duration), args.probing.interval, &mut kept)?;
    Ok(report::of(&kept.0.into_recording(&ended.snapshot)?)?)
}

struct ToMemory(Writer);

impl Keep for ToMemory {
    fn events(&mut self, batch: Batch) -> Result<()> {
        Ok(self.0.events(&batch)?)
    }

    fn interval(&mut self, _snapshot: &Snapshot) -> Result<()> {
        Ok(())
    }
}
