//! `cargo xtask bench`: what the probes cost, held against the budgets.
//!
//! In: the profiler, one guest whose clock counts instructions, this machine. Out: docs/overhead.md,
//! every figure of which was measured by the run that wrote it.

mod cases;
mod guest;
mod native;
mod page;
pub mod peer;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use page::Phone;

use crate::arch::Arch;
use crate::lab::vm;
use crate::{build, paths, system};

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// The cost of the probes, of the daemon and of its start; writes docs/overhead.md.
    Probes(Probes),
}

#[derive(clap::Args)]
struct Probes {
    /// Only the added cost of a fault, against empty programs; prints it and writes no page.
    #[arg(long)]
    quick: bool,
    /// Only the start in the full tier, against bpftrace; prints it and writes no page.
    #[arg(long, conflicts_with = "quick")]
    start: bool,
    /// Without bpftrace beside it, which takes minutes and 200 MB.
    #[arg(long)]
    no_peer: bool,
    /// Only the arm64 guest; prints it and writes no page.
    #[arg(long, conflicts_with_all = ["quick", "start"])]
    phone: bool,
    /// Measure the programs in dist as they are.
    #[arg(long)]
    no_build: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let What::Probes(args) = &args.what;
    if args.phone {
        print!("{}", page::phone(&phone(args.no_build)?));
        return Ok(ExitCode::SUCCESS);
    }
    let program = if args.no_build {
        vm::built(Arch::HOST).context("dist holds no vmascope: leave out --no-build")?
    } else {
        build::vmascope(Arch::HOST, true)?
    };
    // A copy: a build beside us must not change what is measured half-way.
    let folder = Folder::new()?;
    let program = folder.copy(&program)?;
    let load = build::load(Arch::HOST)?;
    if args.quick {
        let cases = cases::quick();
        let run = guest::run(Arch::HOST, &program, &load, None, &cases, false)?;
        print!("{}", page::faults(&run, &cases));
        return Ok(ExitCode::SUCCESS);
    }
    let peer = if args.no_peer {
        Err("left out by --no-peer".to_owned())
    } else {
        peer::bpftrace(Arch::HOST).map_err(|error| format!("{error:#}"))
    };
    if args.start {
        let run = guest::run(Arch::HOST, &program, &load, peer.as_ref().ok(), &[], true)?;
        let starts = run.starts.context("the guest told no start")?;
        println!("{}: {}", run.kernel, page::start(&starts).0);
        return Ok(ExitCode::SUCCESS);
    }
    if !system::is_root() {
        bail!("the profiler needs root on this machine too: run as root, or give --quick");
    }
    // Before anything is measured: the builds of both architectures must be what is weighed.
    let sizes = sizes(args.no_build)?;
    // Other work on the machine would spoil these; in the guest instructions are counted.
    let native = native::run(&program, &load)?;
    let cases = cases::all();
    let run = guest::run(
        Arch::HOST,
        &program,
        &load,
        peer.as_ref().ok(),
        &cases,
        true,
    )?;
    let phone = phone(args.no_build)?;
    let figures = page::Figures {
        native,
        run,
        cases,
        phone,
        sizes,
        no_peer: peer.err(),
    };
    let text = page::text(&figures)?;
    let path = paths::root().join("docs/overhead.md");
    fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    print!("{text}");
    println!("\nwritten: {}", path.display());
    Ok(ExitCode::SUCCESS)
}

/// The same in a guest of the architecture that phones have.
fn phone(no_build: bool) -> Result<Phone> {
    let arch = Arch::Aarch64;
    let program = match no_build {
        true => vm::built(arch).context("dist holds no vmascope of arm64: leave out --no-build")?,
        false => build::vmascope(arch, true)?,
    };
    let cases = cases::phone();
    let run = guest::run(arch, &program, &build::load(arch)?, None, &cases, true)?;
    Ok(Phone { run, cases })
}

/// A temporary folder, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let dir = paths::temp_beside(&std::env::temp_dir().join("vmascope-bench"));
        paths::make_dir(&dir)?;
        Ok(Self(dir))
    }

    fn copy(&self, file: &Path) -> Result<PathBuf> {
        let to = self.0.join(file.file_name().unwrap_or_default());
        fs::copy(file, &to).with_context(|| format!("cannot write {}", to.display()))?;
        Ok(to)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Bytes of each architecture's program.
fn sizes(no_build: bool) -> Result<Vec<(Arch, Option<u64>)>> {
    let size = |arch| -> Result<(Arch, Option<u64>)> {
        let program = if no_build {
            vm::built(arch)
        } else {
            Some(build::vmascope(arch, true)?)
        };
        let size = program.map(|path| path.metadata().map(|meta| meta.len()));
        Ok((arch, size.transpose()?))
    };
    Arch::ALL.into_iter().map(size).collect()
}
