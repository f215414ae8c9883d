//! `cargo xtask build`: static programs for either architecture.
//!
//! In: the workspace. Out: dist/ARCH/vmascope, and the guest's /init in the target folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::arch::Arch;
use crate::toolchain::{self, Std};
use crate::{paths, system};

const MIB: u64 = 1 << 20;
/// Of the one static binary, stripped (docs/overhead.md).
const MAX_SIZE: u64 = 8 * MIB;

#[derive(clap::Args)]
pub struct Args {
    /// Optimise for size, strip, and hold the result against its size budget.
    #[arg(long)]
    release: bool,
    /// The architecture to build for.
    #[arg(long, default_value_t = Arch::HOST, value_enum)]
    arch: Arch,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let program = vmascope(args.arch, args.release)?;
    let size = program.metadata()?.len();
    println!("{} {:.2} MiB, static", program.display(), mib(size));
    Ok(ExitCode::SUCCESS)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

/// The profiler for an architecture, at dist/ARCH/vmascope.
pub fn vmascope(arch: Arch, release: bool) -> Result<PathBuf> {
    let built = program("profiler", "vmascope", arch, release)?;
    let dir = paths::root().join("dist").join(arch.name());
    paths::make_dir(&dir)?;
    let to = dir.join("vmascope");
    // Rename: the old one may be running.
    let temp = paths::temp_beside(&to);
    fs::copy(&built, &temp).with_context(|| format!("cannot write {}", temp.display()))?;
    fs::rename(&temp, &to).with_context(|| format!("cannot write {}", to.display()))?;
    let size = to.metadata()?.len();
    if release && size > MAX_SIZE {
        bail!(
            "{} has {:.2} MiB, the budget is {} MiB",
            to.display(),
            mib(size),
            MAX_SIZE / MIB
        );
    }
    Ok(to)
}

/// The /init of the lab's virtual machines.
pub fn guest(arch: Arch) -> Result<PathBuf> {
    program("guest", "guest", arch, true)
}

/// What the acceptance test of the same name records.
pub fn callers(arch: Arch) -> Result<PathBuf> {
    program("guest", "callers", arch, true)
}

/// The loads of the benches.
pub fn load(arch: Arch) -> Result<PathBuf> {
    program("guest", "load", arch, true)
}

/// Builds one static program; cargo decides whether there is anything to do.
fn program(package: &str, name: &str, arch: Arch, release: bool) -> Result<PathBuf> {
    let std = toolchain::ensure_target(arch)?;
    let mut cargo = toolchain::cargo()?;
    cargo.args(["build", "--quiet", "--package", package, "--bin", name]);
    cargo.args(["--target", arch.triple()]);
    if release {
        cargo.arg("--release");
    }
    if std == Std::FromSource {
        cargo.env("RUSTC_BOOTSTRAP", "1");
        cargo.args(["-Z", "build-std=std,panic_abort"]);
    }
    // For every architecture on every call: what differs between two calls makes cargo build the
    // host's build scripts again.
    for arch in Arch::ALL {
        let compiler = toolchain::c_compiler(arch);
        let triple = arch.triple().replace('-', "_");
        let key = format!("CARGO_TARGET_{}", triple.to_uppercase());
        cargo.env(format!("{key}_RUSTFLAGS"), "-Ctarget-feature=+crt-static");
        cargo.env(format!("{key}_LINKER"), &compiler);
        cargo.env(format!("CC_{triple}"), &compiler);
    }
    // Either would take the place of the target's flags, and the program would not be static.
    cargo
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    system::run(&mut cargo)?;
    let profile = if release { "release" } else { "debug" };
    let built = paths::target().join(arch.triple()).join(profile).join(name);
    check_static(&built)?;
    Ok(built)
}

fn check_static(program: &Path) -> Result<()> {
    let header = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    if is_dynamic(&header).context("no 64-bit ELF file")? {
        bail!("{} needs a dynamic loader", program.display());
    }
    Ok(())
}

/// Whether a 64-bit little-endian ELF file asks for an interpreter (PT_INTERP).
fn is_dynamic(elf: &[u8]) -> Option<bool> {
    const PT_INTERP: u64 = 3;
    let read = |at: usize, len: usize| -> Option<u64> {
        let bytes = elf.get(at..at.checked_add(len)?)?;
        Some(bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
    };
    if elf.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let table = usize::try_from(read(0x20, 8)?).ok()?;
    let (size, count) = (read(0x36, 2)? as usize, read(0x38, 2)? as usize);
    for i in 0..count {
        if read(table.checked_add(i * size)?, 4)? == PT_INTERP {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_dynamic_from_static() {
        // This test is itself linked dynamically.
        let own = fs::read("/proc/self/exe").unwrap();
        assert_eq!(is_dynamic(&own), Some(true));
        assert_eq!(is_dynamic(b"#!/bin/sh"), None);
        let mut cut = own;
        cut.truncate(0x40);
        assert_eq!(is_dynamic(&cut), None);
    }
}
