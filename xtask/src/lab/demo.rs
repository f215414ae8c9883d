//! `cargo xtask demo`: the profiler on its own contention stimulus, on two kernels.
//!
//! In: the checkout. Out: the report of a guest with the newest kernel, where every signal is
//! there, then that of this machine, where its kernel allows tracing.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use guest::plan::Step;

use super::kernels::{Flavour, Kernel, MATRIX};
use super::machine::{Machine, Streams};
use super::qemu::{Accel, Qemu};
use super::tools::Tools;
use super::vm::guest_file;
use crate::apt::Apt;
use crate::arch::Arch;
use crate::{build, paths, system};

#[derive(clap::Args)]
pub struct Args {
    /// How long the stimulus runs, in seconds.
    #[arg(long, default_value_t = 5)]
    duration: u32,
}

/// Removed with what is in it when dropped.
struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let arch = Arch::HOST;
    let program = build::vmascope(arch, true)?;
    let out = Folder(paths::temp_beside(
        &std::env::temp_dir().join("vmascope-demo"),
    ));
    paths::make_dir(&out.0)?;
    in_guest(args, arch, &program, &out.0)?;
    on_host(args, &program, &out.0)?;
    Ok(ExitCode::SUCCESS)
}

fn record(program: &str, output: &str, args: &Args) -> Vec<String> {
    let duration = format!("{}s", args.duration);
    [
        program,
        "record",
        "-o",
        output,
        "--",
        program,
        "demo",
        "storm",
        "--threads",
        "3",
        "--duration",
        &duration,
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The full tier, whatever kernel this machine has.
fn in_guest(args: &Args, arch: Arch, program: &Path, out: &Path) -> Result<()> {
    let tools = Tools::ensure(&[arch])?;
    let qemu = Qemu::ensure()?;
    let newest = MATRIX.last().copied().unwrap_or_default();
    let kernel = Kernel::ensure(&Apt::new(&paths::cache()?)?, newest, arch, Flavour::Cloud)?;
    println!("\n=== in a virtual machine: {} ===", kernel.label);
    let machine = Machine {
        qemu: &qemu,
        kernel: &kernel,
        init: tools.init(arch)?,
        busybox: tools.busybox(arch)?,
        files: vec![guest_file(program, "/bin/vmascope")?],
        smp: 2,
        mem_mib: 1024,
        accel: Accel::Multi,
        disk_latency_ms: 0,
        slow_disk_ms: 0,
        disk_iops: None,
        network: None,
    };
    let mut recording = Step::new("record", 120, &[]);
    recording.argv = record("vmascope", "/out/storm.db", args);
    let mut report = Step::new("report", 60, &["vmascope", "report", "/out/storm.db"]);
    report.stream = true;
    let mut streams = Streams {
        stdout: &mut io::stdout(),
        stderr: &mut io::stderr(),
    };
    let ended = machine.run(&[recording, report], out, &mut streams)?;
    for result in &ended.report.results {
        if result.code() != 0 {
            let said = fs::read_to_string(out.join(format!("{}.stderr", result.name)));
            bail!(
                "{} in the guest ended with {}: {}",
                result.name,
                result.code(),
                said.unwrap_or_default().trim()
            );
        }
    }
    Ok(())
}

/// What this machine's own kernel can tell; that may be little, and is no failure then.
fn on_host(args: &Args, program: &Path, out: &Path) -> Result<()> {
    println!("\n=== on this machine ===");
    if !system::is_root() {
        println!(
            "not root: run `sudo {} doctor` to see what this kernel allows",
            program.display()
        );
        return Ok(());
    }
    let doctor = Command::new(program).arg("doctor").output();
    let doctor = doctor.with_context(|| format!("cannot start {}", program.display()))?;
    if !doctor.status.success() {
        let why = String::from_utf8_lossy(&doctor.stderr);
        println!("this kernel does not allow tracing: {}", why.trim());
        return Ok(());
    }
    let recording = out.join("host.db");
    let words = record(
        &program.display().to_string(),
        &recording.display().to_string(),
        args,
    );
    let mut command = Command::new(program);
    system::output(command.args(words.iter().skip(1)))?;
    system::run(Command::new(program).arg("report").arg(&recording))
}
