//! `vmascope status` and `vmascope stop`: what runs detached, and its end.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{
    print,
    running::{self, Running},
};
use crate::{cli::Which, recording::Recording};

/// What a recorder has to write its end, its command included.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn status(args: &Which) -> Result<ExitCode> {
    let mut all = running::all();
    if let Some(name) = &args.which {
        all.retain(|r| r.is(name));
        if all.is_empty() {
            return not_running(name);
        }
    }
    if all.is_empty() {
        print("nothing runs detached\n")?;
    }
    for running in &all {
        print(&format!("{}\n", running.said()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A recording that nobody writes.
fn not_running(name: &Path) -> Result<ExitCode> {
    if !name.exists() {
        bail!(
            "{}: nothing that runs detached is called so: see `vmascope status`",
            name.display()
        );
    }
    let (name, recording) = (name.display(), Recording::open(name)?);
    let state = match recording.complete() {
        true => format!("finished; `vmascope report {name}`"),
        false => format!(
            "cut short, or written by a recorder that is not detached; if that is gone, `vmascope repair {name}`"
        ),
    };
    print(&format!("{name}: {state}\n"))?;
    Ok(ExitCode::SUCCESS)
}

pub fn stop(args: &Which) -> Result<ExitCode> {
    let mut all = running::all();
    if let Some(name) = &args.which {
        all.retain(|r| r.is(name));
    }
    match (&all[..], &args.which) {
        ([one], _) => end(one),
        ([], Some(name)) => bail!(
            "{}: nothing that runs detached is called so: see `vmascope status`",
            name.display()
        ),
        ([], None) => bail!("nothing runs detached: a recorder on a terminal ends with Ctrl-C"),
        (several, _) => {
            let names = several.iter().map(Running::said).collect::<Vec<_>>();
            bail!(
                "several run detached: say which, by its number or its file: {}",
                names.join("; ")
            )
        }
    }
}

fn end(running: &Running) -> Result<ExitCode> {
    let pid = running.pid;
    let mut log = File::open(&running.log).ok();
    let before = log.as_mut().and_then(|log| log.seek(SeekFrom::End(0)).ok());
    running.terminate().with_context(|| {
        format!("cannot stop process {pid}: run as the user who started it, or as root")
    })?;
    if !running.ends_within(PATIENCE) {
        bail!(
            "process {pid} was told to stop, and still writes after {} s: see `vmascope status`",
            PATIENCE.as_secs()
        );
    }
    let mut said = String::new();
    if let (Some(mut log), Some(before)) = (log, before) {
        log.seek(SeekFrom::Start(before))?;
        log.read_to_string(&mut said)?;
    }
    print(&said)?;
    check(running, &said)?;
    Ok(ExitCode::SUCCESS)
}

/// Its exit code is for its parent: whether all went well is told by what it wrote, and said.
fn check(running: &Running, said: &str) -> Result<()> {
    let log = running.log.display();
    if let Some(path) = running.recording()
        && !Recording::open(&path)?.complete()
    {
        let path = path.display();
        bail!("{path} was cut short: see {log} for why, and `vmascope repair {path}`");
    }
    // As `error::say` has it.
    let last = said.lines().last().unwrap_or_default();
    if last.starts_with("vmascope: ") {
        bail!("the recorder ended with an error: see {log}");
    }
    Ok(())
}
