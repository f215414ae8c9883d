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
    recording::Recording,
    report, session, user,
};

pub fn run(args: &Record) -> Result<ExitCode> {
    if args.csv.as_deref() == Some(Path::new("-")) && !args.command.is_empty() {
        let why = "standard output is the command's: use --csv FILE, or -p PID";
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
        let user = match &args.user {
            Some(name) => Some(user::named(name).map_err(Usage)?),
            None => user::caller(),
        };
        record(
            args,
            Some(child::spawn_held(&args.command, user.as_ref())?),
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
    let interval = args.probing.interval;
    let kept = keep::recorder(args, &live.session).and_then(|mut to| {
        caller.into_iter().for_each(Caller::tell);
        let ended = measure(live, child, args.duration, interval, to.as_mut())?;
        Ok((to, ended))
    });
    let (to, ended) = match kept {
        Err(e) if e.is::<ReaderGone>() => return Ok(ExitCode::SUCCESS),
        kept => kept?,
    };
    summary(&to.finish(&ended.snapshot)?)?;
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
    let recording = Recording::open(path)?;
    let short = report::short(&report::of(&recording)?);
    let path = path.display();
    let _ = writeln!(
        io::stderr(),
        "{short}\nrecording: {path}   full report: vmascope report {path}"
    );
    Ok(())
}
