//! `vmascope top`.
use crate::cli::Top;
use anyhow::{Result, bail};
use std::process::ExitCode;
pub fn run(_: &Top) -> Result<ExitCode> {
    bail!("no")
}
