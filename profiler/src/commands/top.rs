//! `vmascope top`: the dashboard, live or from a recording.

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
    sync::{Arc, mpsc::channel},
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::asked;
use crate::{
    cli::Top,
    error::Usage,
    recording::Recording,
    session::{self, Live, SessionError},
    sinks::top,
};

/// The second picture comes early, so that there are rates to see within a second.
const SOON: Duration = Duration::from_millis(400);

pub fn run(args: &Top) -> Result<ExitCode> {
    if !io::stdout().is_terminal() {
        let why = "top needs a terminal: use `vmascope report -d 10s`, or `vmascope record`";
        return Err(Usage(why.into()).into());
    }
    match &args.file {
        Some(path) => top::play(&Recording::open(path)?)?,
        None => live(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn live(args: &Top) -> Result<()> {
    let mut live = session::start(&asked::probing(&args.probing)?)?;
    live.arm()?;
    let session = live.session.clone();
    let interval = args.probing.interval;
    let (updates, pictures) = channel();
    let poller = std::thread::Builder::new()
        .name("vmascope-poll".into())
        .spawn(move || poll(live, interval, |update| updates.send(update).is_ok()))
        .context("cannot start a thread")?;
    top::run(pictures, &session)?;
    // The receiver is gone, so the poller ends at its next picture; its error ended the screen.
    if poller.is_finished() {
        match poller.join() {
            Ok(polled) => polled?,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    Ok(())
}

/// Until nobody looks any more.
fn poll(
    mut live: Live,
    interval: Duration,
    show: impl Fn(top::Update) -> bool,
) -> Result<(), SessionError> {
    let mut wait = interval.min(SOON);
    loop {
        let update = top::Update {
            snapshot: Arc::new(live.snapshot()?),
            events: live.events(),
        };
        if !show(update) {
            return Ok(());
        }
        std::thread::sleep(wait);
        wait = interval;
    }
}
