//! `cargo xtask`: everything the project does besides running: set-up, builds, checks, the lab.
//!
//! In: the command line. Out: the exit code of the sub-command; an error is one line on stderr.

mod android;
mod apt;
mod arch;
mod bench;
mod build;
mod ci;
mod deb;
mod exports;
mod files;
mod fuzz;
mod lab;
mod packages;
mod paths;
mod prometheus;
mod python;
mod setup;
mod step;
mod system;
mod toolchain;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Sets up, builds, checks and tests vmascope.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what builds and tests need; a second run only prints the versions.
    Setup(setup::Args),
    /// Build the static `vmascope` with the eBPF object inside, to dist/ARCH/vmascope.
    Build(build::Args),
    /// Run every check that needs no virtual machine.
    Ci(ci::Args),
    /// Give random input to whatever reads from outside, starting from the corpus that is kept.
    Fuzz(fuzz::Args),
    /// Run one command as root in a virtual machine with one of Debian's kernels.
    Vm(lab::vm::Args),
    /// Run all checks, the unit tests, and the acceptance tests on every kernel of the lab.
    Test(lab::test::Args),
    /// Run the profiler on its built-in stimulus, in a virtual machine and on this one.
    Demo(lab::demo::Args),
    /// Run the profiler on a phone, over adb, and fetch what it recorded.
    Android(android::Args),
    /// Measure what the profiler costs and hold it against its budgets.
    Bench(bench::Args),
}

fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Setup(args) => setup::run(&args),
        Command::Build(args) => build::run(&args),
        Command::Ci(args) => ci::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Vm(args) => lab::vm::run(&args),
        Command::Test(args) => lab::test::run(&args),
        Command::Demo(args) => lab::demo::run(&args),
        Command::Android(args) => android::run(&args),
        Command::Bench(args) => bench::run(&args),
    }
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
