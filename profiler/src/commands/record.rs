//! `vmascope record`: run the probes, write a recording, print the short report.

use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::Result;

use super::{
    asked,
    measure::{Keep, measure},
};
use crate::{
    child::{self, Held},
    cli::Record,
    error::{Usage, WithCommand},
    model::{Batch, Snapshot},
    recording::{Recording, Writer},
    report, session, user,
};

pub fn run(args: &Record) -> Result<ExitCode> {
    if args.command.is_empty() {
        return record(args, None);
    }
    let run = || {
        let user = match &args.user {
            Some(name) => Some(user::named(name).map_err(Usage)?),
            None => user::caller(),
        };
        record(args, Some(child::spawn_held(&args.command, user.as_ref())?))
    };
    run().map_err(|e: anyhow::Error| WithCommand(e).into())
}

/// Events and intervals go to the file as they come.
struct ToFile(Writer);

impl Keep for ToFile {
    fn events(&mut self, batch: &Batch) -> Result<()> {
        Ok(self.0.events(batch)?)
    }

    fn interval(&mut self, snapshot: &Snapshot) -> Result<()> {
        Ok(self.0.interval(snapshot)?)
    }
}

fn record(args: &Record, child: Option<Held>) -> Result<ExitCode> {
    let mut asked = asked::probing(&args.probing)?;
    if let Some(child) = &child
        && !args.all
    {
        asked = asked::child(asked, child.pid, &args.command);
    }
    let mut live = session::start(&asked)?;
    live.arm()?;
    let mut file = ToFile(Writer::create(&args.output, &live.session)?);
    let ended = measure(live, child, args.duration, args.probing.interval, &mut file)?;
    file.0.finish(&ended.snapshot)?;
    user::give(&args.output)?;
    summary(&args.output)?;
    match ended.child {
        None => Ok(ExitCode::SUCCESS),
        Some(status) => Ok(ExitCode::from(child::exit_code(status?))),
    }
}

/// To stderr: stdout belongs to the command that was run.
fn summary(path: &Path) -> Result<()> {
    let recording = Recording::open(path)?;
    let short = report::short(&report::of(&recording)?);
    let path = path.display();
    // The recording is what counts, even if nobody reads this.
    let _ = writeln!(
        io::stderr(),
        "{short}\nrecording: {path}   full report: vmascope report {path}"
    );
    Ok(())
}
