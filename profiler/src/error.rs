//! Errors as the shell sees them: one line, and an exit code that says whose fault it was.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{
    Command, CommandFactory as _,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{child::ChildError, cli::Cli, loader::LoadError, session::SessionError};

/// Exit codes, documented in `vmascope man`.
pub const FAILED: u8 = 1;
pub const USAGE: u8 = 2;
pub const KERNEL: u8 = 3;
/// With `-- CMD`: vmascope itself failed, the command cannot be executed, is not there.
pub const OWN_FAILURE: u8 = 125;
pub const CANNOT_EXECUTE: u8 = 126;
pub const NOT_FOUND: u8 = 127;

/// A mistake on the command line that clap cannot see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Marks an error that came up while a command was to be run.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WithCommand(pub anyhow::Error);

pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(code(error))
}

fn code(error: &anyhow::Error) -> u8 {
    if let Some(WithCommand(inner)) = error.downcast_ref() {
        return match inner.downcast_ref() {
            Some(ChildError::NotFound { .. }) => NOT_FOUND,
            Some(ChildError::CannotExecute { .. }) => CANNOT_EXECUTE,
            _ => match code(inner) {
                FAILED => OWN_FAILURE,
                other => other,
            },
        };
    }
    if error.is::<Usage>() {
        return USAGE;
    }
    match error.downcast_ref() {
        Some(SessionError::NoBtf { .. } | SessionError::Load(LoadError::Kernel(_))) => KERNEL,
        _ => FAILED,
    }
}

/// What clap found wrong, on one line; or the help or version that was asked for.
pub fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // A reader that went away is no error.
            let _ = error.print();
            ExitCode::from(error.exit_code() as u8)
        }
        _ => {
            let args = std::env::args_os().skip(1);
            let args = args.map(|arg| arg.to_string_lossy().into_owned());
            say(&usage_line(error, args));
            ExitCode::from(USAGE)
        }
    }
}

fn usage_line(error: &clap::Error, args: impl Iterator<Item = String>) -> String {
    let command = meant(args);
    let invalid = error.get(ContextKind::InvalidSubcommand);
    if let (ErrorKind::InvalidSubcommand, Some(ContextValue::String(name))) =
        (error.kind(), invalid)
    {
        return unknown_subcommand(&command, name);
    }
    let mut line = String::new();
    let text = error.render().to_string();
    for part in text.trim_start_matches("error: ").lines().map(str::trim) {
        if part.starts_with("Usage: ") || part.starts_with("For more information") {
            break;
        }
        match part.strip_prefix("tip: ") {
            Some(tip) => line.extend([": ", tip]),
            None if part.is_empty() || line.is_empty() => line += part,
            None => line.extend([" ", part]),
        }
    }
    let name = command.get_bin_name().unwrap_or(command.get_name());
    format!("{line}; see `{name} --help`")
}

/// The sub-command that the arguments name, as far as they do.
fn meant(args: impl Iterator<Item = String>) -> Command {
    let mut command = Cli::command();
    command.build();
    for arg in args.take_while(|arg| arg != "--") {
        if let Some(sub) = command.find_subcommand(&arg) {
            command = sub.clone();
        }
    }
    command
}

/// Names what there is to choose from.
fn unknown_subcommand(command: &Command, name: &str) -> String {
    let what = command
        .get_subcommand_value_name()
        .unwrap_or("command")
        .to_lowercase();
    let known = command.get_subcommands().map(Command::get_name);
    let known: Vec<&str> = known.filter(|name| *name != "help").collect();
    format!("unknown {what} `{name}`: choose from {}", known.join(", "))
}

/// Says it on standard error. Nobody reading is no reason to panic.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr(), "vmascope: {text}");
}

/// The chain of causes on one line, without those that the one above has quoted.
pub fn one_line(error: &anyhow::Error) -> String {
    let error = match error.downcast_ref() {
        Some(WithCommand(inner)) => inner,
        None => error,
    };
    let mut line = String::new();
    for cause in error.chain().map(|cause| cause.to_string()) {
        if !line.contains(&cause) {
            line += if line.is_empty() { "" } else { ": " };
            line += &cause;
        }
    }
    line.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn line(args: &[&str]) -> String {
        let error = Cli::try_parse_from(["vmascope"].iter().chain(args)).unwrap_err();
        usage_line(&error, args.iter().map(ToString::to_string))
    }

    #[test]
    fn usage_errors_are_one_line_with_the_remedy() {
        assert_eq!(
            line(&["demo", "flood"]),
            "unknown scenario `flood`: choose from touch, storm, file, userfault, freeze, inversion, conflict, fork, reader, stress, swap, cow, thp, shmem"
        );
        assert_eq!(
            line(&["dance"]),
            "unknown command `dance`: choose from top, record, report, export, diff, serve, status, stop, repair, demo, doctor, completions, man"
        );
        assert_eq!(
            line(&["record", "--sample", "3"]),
            "invalid value '3' for '--sample <N>': must be a power of two: 1, 2, 4, 8, 16 ...; see `vmascope record --help`"
        );
        assert_eq!(
            line(&["record", "--hooks", "best"]),
            "invalid value 'best' for '--hooks <HOOKS>' \
             [possible values: auto, fentry, kprobe, tracepoint]; see `vmascope record --help`"
        );
        let formats = line(&["export", "a.db"]);
        let wanted =
            "the following required arguments were not provided: <--csv <DIR>|--json <FILE>|";
        assert!(
            formats.starts_with(wanted) && formats.ends_with("; see `vmascope export --help`"),
            "{formats}"
        );
    }

    #[test]
    fn codes_say_whose_fault_it_was() {
        let not_found = || {
            anyhow::Error::from(ChildError::NotFound {
                command: "x".into(),
            })
        };
        assert_eq!(code(&anyhow::anyhow!("x")), FAILED);
        assert_eq!(code(&Usage("x".into()).into()), USAGE);
        assert_eq!(code(&WithCommand(anyhow::anyhow!("x")).into()), OWN_FAILURE);
        assert_eq!(code(&WithCommand(not_found()).into()), NOT_FOUND);
        assert_eq!(
            code(&WithCommand(not_found().context("record")).into()),
            NOT_FOUND
        );
    }

    #[test]
    fn a_chain_is_one_line() {
        let error = anyhow::anyhow!("first\n  second").context("top");
        assert_eq!(one_line(&error), "top: first second");
        let source = io::Error::other("no disk");
        let quoted = ChildError::Start {
            command: "x".into(),
            source,
        };
        assert_eq!(one_line(&quoted.into()), "cannot start x: no disk");
    }
}
