//! The `vmascope` program: parse, run, say what went wrong on one line.

use std::process::ExitCode;

use clap::Parser as _;
use vmascope::{cli::Cli, commands, error};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return error::usage(&e),
    };
    match commands::run(cli) {
        Ok(code) => code,
        Err(e) => {
            error::say(&error::one_line(&e));
            error::exit_code(&e)
        }
    }
}
