//! One file per sub-command: from parsed arguments to an exit code.

mod app_start;
mod asked;
mod detach;
mod diff;
mod doctor;
mod ending;
mod export;
mod keep;
mod limit;
mod man;
mod measure;
mod record;
mod repair;
mod report;
mod running;
mod serve;
mod stop;
mod top;

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, Parser as _};

pub use keep::Trigger;

use crate::cli::{Cli, Command};

/// Runs what the command line asks for.
pub fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        None if io::stdout().is_terminal() => run(Cli::parse_from(["vmascope", "top"])),
        None => {
            print(&Cli::command().render_help().to_string())?;
            Ok(ExitCode::from(crate::error::USAGE))
        }
        Some(Command::Top(args)) => top::run(&args),
        Some(Command::Record(args)) => record::run(&args),
        Some(Command::Report(args)) => report::run(&args),
        Some(Command::Export(args)) => export::run(&args),
        Some(Command::Diff(args)) => diff::run(&args),
        Some(Command::Serve(args)) => serve::run(&args),
        Some(Command::Status(args)) => stop::status(&args),
        Some(Command::Stop(args)) => stop::stop(&args),
        Some(Command::Repair(args)) => repair::run(&args),
        Some(Command::Demo(args)) => crate::demo::run(&args.scenario),
        Some(Command::Doctor(args)) => doctor::run(&args),
        Some(Command::Completions { shell }) => {
            // Into memory first: on a closed pipe the generator would panic.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "vmascope", &mut script);
            print(&String::from_utf8_lossy(&script))?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Man) => {
            print(&String::from_utf8_lossy(
                &man::page().context("cannot write the manual")?,
            ))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Prints what was asked for. A reader that went away (`| head`) is no error.
pub(crate) fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write to standard output"),
    }
}
