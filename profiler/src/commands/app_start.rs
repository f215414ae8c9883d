//! `vmascope record --app-start`: arm, launch the app, record until it is idle. In: a package. Out: its
//! recording, and the report of its start.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};

use super::{
    asked,
    detach::Caller,
    keep::{self, Recorder as _, UntilIdle},
    measure::measure,
    print,
};
use crate::{
    cli::{MmapLock, Record},
    kernel::launch::Launch,
    recording::Recording,
    report, session,
};

/// Idleness is judged by the last second.
const INTERVAL: Duration = Duration::from_millis(250);
/// Some apps never are idle.
const AT_MOST: Duration = Duration::from_secs(30);

pub fn run(args: &Record, package: &str, caller: Option<Caller>) -> Result<ExitCode> {
    let mut probing = args.probing.clone();
    probing.package = Some(package.into());
    probing.mmap_lock = probing.mmap_lock.or(Some(MmapLock::All));
    probing.interval = probing.interval.min(INTERVAL);
    let mut asked = asked::probing(&probing)?;
    asked.target = format!("start of {package}");
    let launch = Launch::prepare(package).map_err(|why| anyhow!(why))?;
    let mut live = session::start(&asked)?;
    live.arm()?;
    let kept = keep::recorder(args, &live.session)?;
    caller.into_iter().for_each(Caller::tell);
    let launch = launch.launch().context("cannot start a thread")?;
    let mut kept = Box::new(UntilIdle::new(kept, launch));
    let duration = args.duration.unwrap_or(AT_MOST);
    let ended = measure(live, None, Some(duration), probing.interval, kept.as_mut())?;
    let counted = ended.counted?;
    let written = kept.finish(&counted)?;
    if counted.faults_total() == 0 {
        bail!(
            "no process of {package} had a fault: is it an app of another user, or one that runs as another package?"
        );
    }
    let path = args.output.display();
    print(&report::app_start(&report::of(&Recording::open(
        &args.output,
    )?)?))?;
    let note = written.note.unwrap_or_default();
    let _ = writeln!(
        io::stderr(),
        "{note}\nrecording: {path}   this again: vmascope report --format app-start {path}"
    );
    Ok(ExitCode::SUCCESS)
}
