//! Errors as the shell sees them: one line, and an exit code that says whose fault it was.

use std::process::ExitCode;

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
#[error("{0:#}")]
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
            eprintln!("vmascope: {}", usage_line(error));
            ExitCode::from(USAGE)
        }
    }
}

fn usage_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    // Which command's help to point to: clap ends with its usage.
    let usage = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Usage: "));
    let words = usage.unwrap_or("vmascope").split(' ');
    let path: Vec<&str> = words
        .take_while(|word| !word.starts_with(['[', '<', '-']))
        .collect();
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidSubcommand)
    {
        return unknown_subcommand(name, &path);
    }
    let mut line = String::new();
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
    format!("{line}; see `{} --help`", path.join(" "))
}

/// Names what there is to choose from.
fn unknown_subcommand(name: &str, path: &[&str]) -> String {
    let mut command = Cli::command();
    for part in path.iter().skip(1) {
        match command.find_subcommand(part) {
            Some(found) => command = found.clone(),
            None => break,
        }
    }
    let what = command
        .get_subcommand_value_name()
        .unwrap_or("command")
        .to_lowercase();
    let known: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
    format!("unknown {what} `{name}`: choose from {}", known.join(", "))
}

/// The chain of causes on one line.
pub fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}")
        .lines()
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn line(args: &[&str]) -> String {
        let args = ["vmascope"].iter().chain(args);
        usage_line(&Cli::try_parse_from(args).unwrap_err())
    }

    #[test]
    fn usage_errors_are_one_line_with_the_remedy() {
        assert_eq!(
            line(&["demo", "flood"]),
            "unknown scenario `flood`: choose from touch, storm"
        );
        assert_eq!(
            line(&["dance"]),
            "unknown command `dance`: choose from top, record, report, export, demo, doctor, completions, man"
        );
        assert_eq!(
            line(&["record", "--sample", "3"]),
            "invalid value '3' for '--sample <N>': must be a power of two: 1, 2, 4, 8, 16 ...; see `vmascope --help`"
        );
        assert_eq!(
            line(&["record", "--hooks", "best"]),
            "invalid value 'best' for '--hooks <HOOKS>' \
             [possible values: auto, fentry, kprobe, tracepoint]; see `vmascope --help`"
        );
        assert_eq!(
            line(&["export", "a.db"]),
            "the following required arguments were not provided: --csv <DIR>; see `vmascope export --help`"
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
    }
}
