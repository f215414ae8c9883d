//! `vmascope record`: run the probes, write a recording, print the short report.

use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::Result;

use super::{
    app_start, asked,
    detach::{self, Caller, Detached},
    keep::{self, ReaderGone, Written},
    measure::measure,
};
use crate::{
    child::{self, Held},
    cli::Record,
    error::{Usage, WithCommand},
    kernel::pids,
    recording::{self, Recording},
    report::{self, Analysis},
    session,
    user::{self, Login},
};

pub fn run(args: &Record) -> Result<ExitCode> {
    if args.output == Path::new("-") {
        let why = "-o -: a recording is a file; to stream single events, use --csv -";
        return Err(Usage(why.into()).into());
    }
    if args.csv.as_deref() == Some(Path::new("-")) && !args.command.is_empty() {
        let why = "standard output is the command's: use --csv FILE, or -p PID";
        return Err(Usage(why.into()).into());
    }
    if args.keep.is_some() && args.max_size.is_none() && args.max_age.is_none() {
        let why = "--keep is about the recordings that --max-size and --max-age make: \
                   add one of these, or leave it out";
        return Err(Usage(why.into()).into());
    }
    let caller = if args.detach {
        if args.csv.as_deref() == Some(Path::new("-")) {
            let why = "--detach leaves standard output behind: use --csv FILE";
            return Err(Usage(why.into()).into());
        }
        match detach::detach(args)? {
            Detached::Caller(code) => return Ok(code),
            Detached::Recorder(caller) => Some(caller),
        }
    } else {
        None
    };
    if let Some(package) = &args.app_start {
        return app_start::run(args, package, caller);
    }
    if args.command.is_empty() {
        return record(args, None, caller);
    }
    let run = || {
        if !args.all
            && let Some(why) = pids::refusal("a command")
        {
            return Err(Usage(format!("{why}, or use --all")).into());
        }
        let login = match &args.user {
            Some(name) => Some(user::named(name).map_err(Usage)?),
            None => user::caller_s_login(),
        };
        let login = login.filter(Login::is_another);
        record(
            args,
            Some(child::spawn_held(&args.command, login.as_ref())?),
            caller,
        )
    };
    run().map_err(|e: anyhow::Error| WithCommand(e).into())
}

fn record(args: &Record, child: Option<Held>, caller: Option<Caller>) -> Result<ExitCode> {
    let mut asked = asked::probing(&args.probing)?;
    if let Some(child) = &child
        && !args.all
    {
        asked = asked::child(asked, child.pid, &args.command);
    }
    let mut live = session::start(&asked)?;
    live.arm()?;
    let mut to = match keep::recorder(args, &live.session) {
        Err(e) if child.is_none() && e.is::<ReaderGone>() => return Ok(ExitCode::SUCCESS),
        to => to?,
    };
    caller.into_iter().for_each(Caller::tell);
    let interval = args.probing.interval;
    let ended = measure(live, child, args.duration, interval, to.as_mut())?;
    let counted = ended.counted;
    match counted.and_then(|now| summary(&to.finish(&now)?)) {
        Err(e) if e.is::<ReaderGone>() => {}
        done => done?,
    }
    match ended.child {
        None => Ok(ExitCode::SUCCESS),
        Some(status) => Ok(ExitCode::from(child::exit_code(status?))),
    }
}

/// To stderr: stdout belongs to the command that was run.
fn summary(written: &Written) -> Result<()> {
    // The recording is what counts, even if nobody reads this.
    if let Some(note) = &written.note {
        let _ = writeln!(io::stderr(), "{note}");
    }
    let Some(path) = written.files.last() else {
        return Ok(());
    };
    let short = short(&Recording::open(path)?)?;
    let path = path.display();
    let _ = writeln!(
        io::stderr(),
        "{short}\nrecording: {path}   full report: vmascope report {path}"
    );
    Ok(())
}

/// The short report says nothing of blame and conflicts, and working those out would take minutes and
/// gigabytes after a long run on a busy machine.
fn short(recording: &Recording) -> recording::Result<String> {
    let waits = recording.worst_waits(report::WORST)?;
    let (session, counts) = (recording.session(), recording.snapshot()?);
    let mut brief = report::build(session, &counts, &waits, &[], Analysis::default());
    brief.complete = recording.complete();
    Ok(report::short(&brief))
}
