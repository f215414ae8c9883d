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
    error::Usage,
    model::{Batch, Snapshot},
    recording::{Recording, Shown, Writer},
    report, session, sinks,
};

pub fn run(args: &Report) -> Result<ExitCode> {
    let shown = Shown::from(&args.rows);
    if matches!(args.format, ReportFormat::Lkml | ReportFormat::AppStart) && !shown.is_all() {
        let why = "--tid, --comm and --cpu choose what is listed, and this format has sums only: \
                   use --format text, json or html";
        return Err(Usage(why.into()).into());
    }
    let recording = match &args.file {
        Some(path) => Recording::open(path)?,
        None => live(args)?,
    }
    .showing(shown);
    let report = || report::of(&recording);
    print(&match args.format {
        ReportFormat::Text => report::text(&report()?),
        ReportFormat::Json => report::json(&report()?)?,
        ReportFormat::Lkml => report::lkml(&report()?),
        ReportFormat::AppStart => report::app_start(&report()?),
        ReportFormat::Html => sinks::html::page(&recording)?,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A recording that has no name, and goes with the process.
fn live(args: &Report) -> Result<Recording> {
    let mut live = session::start(&asked::probing(&args.probing)?)?;
    live.arm()?;
    let duration = args.duration.context("no --duration")?;
    let mut kept = Unnamed(Writer::temporary(&live.session)?);
    let ended = measure(live, None, Some(duration), args.probing.interval, &mut kept)?;
    Ok(kept.0.into_recording(&ended.counted?)?)
}

struct Unnamed(Writer);

impl Keep for Unnamed {
    fn events(&mut self, batch: Batch) -> Result<()> {
        Ok(self.0.events(&batch)?)
    }

    fn interval(&mut self, snapshot: &Snapshot) -> Result<()> {
        Ok(self.0.interval(snapshot)?)
    }
}
