//! The checks that need no virtual machine: `cargo xtask ci`, and the first part of a test run.

use std::process::ExitCode;

use anyhow::Result;

use crate::step::{self, Stage};

#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: &Args) -> Result<ExitCode> {
    Ok(step::summary(&step::run_all(stages())))
}

/// The stages, in the order of what fails fastest.
pub fn stages() -> Vec<Stage<'static>> {
    Vec::new()
}
