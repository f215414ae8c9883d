//! `vmascope report`: of a recording, or live for a while.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use super::{
    asked,
    measure::{Keep, measure},
    print,
};
use crate::{
    cli::{Format, Report},
    collect::Batch,
    model::{FaultEvent, Snapshot, WaitEvent},
    recording::Recording,
    report, session,
};

/// Single events a live report keeps: the longest.
const WORST: usize = 100;

pub fn run(args: &Report) -> Result<ExitCode> {
    let report = match &args.file {
        Some(path) => report::of(&Recording::open(path)?)?,
        None => live(args)?,
    };
    match args.format {
        Format::Text => print(&report::text(&report))?,
        Format::Json => print(&report::json(&report)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn live(args: &Report) -> Result<report::Report> {
    let mut live = session::start(&asked::probing(&args.probing)?)?;
    live.arm()?;
    let duration = args.duration.context("no --duration")?;
    let mut worst = Worst::default();
    let ended = measure(
        live,
        None,
        Some(duration),
        args.probing.interval,
        &mut worst,
    )?;
    Ok(report::build(
        &ended.session,
        &ended.snapshot,
        &worst.waits,
        &worst.faults,
    ))
}

#[derive(Default)]
struct Worst {
    waits: Vec<WaitEvent>,
    faults: Vec<FaultEvent>,
}

impl Keep for Worst {
    fn events(&mut self, batch: &Batch) -> Result<()> {
        self.waits.extend_from_slice(&batch.waits);
        self.waits
            .sort_by_key(|w| std::cmp::Reverse(w.duration_ns()));
        self.waits.truncate(WORST);
        self.faults.extend_from_slice(&batch.faults);
        self.faults
            .sort_by_key(|f| std::cmp::Reverse(f.duration_ns()));
        self.faults.truncate(WORST);
        Ok(())
    }

    fn interval(&mut self, _snapshot: &Snapshot) -> Result<()> {
        Ok(())
    }
}
