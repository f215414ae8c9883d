//! `cargo xtask setup`: everything that builds and tests need, at once.
//!
//! Builds and tests call the same functions when they need a tool; this is for those who want it
//! done beforehand. Out: what was installed and why, then each tool's version.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::arch::Arch;
use crate::{paths, system, toolchain};

#[derive(clap::Args)]
pub struct Args {
    /// Also what only some checks use: cargo-deny.
    #[arg(long)]
    full: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    toolchain::ensure_ebpf()?;
    for arch in Arch::ALL {
        toolchain::ensure_target(arch)?;
    }
    if args.full {
        ensure_deny()?;
    }
    for (tool, version) in toolchain::versions()? {
        println!("{tool:<24} {version}");
    }
    println!("{:<24} {}", "cache", paths::cache()?.display());
    Ok(ExitCode::SUCCESS)
}

fn ensure_deny() -> Result<()> {
    if system::find("cargo-deny").is_some() {
        return Ok(());
    }
    println!("building cargo-deny (some minutes): it checks licences and sources of dependencies");
    let mut install = Command::new("cargo");
    install.args(["install", "cargo-deny", "--locked", "--quiet"]);
    system::run(install.current_dir(paths::root())).context("the checks run without it, too")
}
