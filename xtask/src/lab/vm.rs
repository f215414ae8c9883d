//! `cargo xtask vm`: one command as root in a guest.
//!
//! In: a kernel and a command. Out: the command's stdout and stderr on ours, its exit code, and
//! the files of /out. What the lab itself has to say goes to stderr.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;

use anyhow::{Context as _, Result, bail};
use guest::plan::{Step, StepResult};

use super::acceptance::android;
use super::kernels::{Flavour, Kernel};
use super::machine::{GuestFile, Machine, Network, Streams};
use super::phone;
use super::qemu::{Accel, Qemu};
use super::tools::Tools;
use crate::apt::Apt;
use crate::arch::Arch;
use crate::{build, paths};

/// The exit code for "the lab failed", as opposed to the command's own.
const LAB_FAILED: u8 = 125;

#[derive(clap::Args)]
pub struct Args {
    /// Debian's newest kernel of this series, such as 6.12.
    #[arg(long, value_name = "SERIES", default_value = "6.12")]
    kernel: String,
    /// A kernel of your own: a bzImage (`x86_64`) or Image (aarch64).
    #[arg(long, value_name = "FILE", conflicts_with = "kernel")]
    kernel_image: Option<PathBuf>,
    /// The modules of that kernel (a folder that holds `kernel/`); else all needed is built in.
    #[arg(long, value_name = "DIR", requires = "kernel_image")]
    modules: Option<PathBuf>,
    #[arg(long, default_value_t = Arch::HOST, value_enum)]
    arch: Arch,
    /// Which of Debian's kernels.
    #[arg(long, default_value_t = Flavour::Cloud, value_enum)]
    flavour: Flavour,
    /// Processors.
    #[arg(long, default_value_t = 2)]
    smp: u32,
    /// Memory in MiB.
    #[arg(long, value_name = "MB", default_value_t = 1024)]
    mem: u32,
    /// Where the guest's /out goes.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// A file for the guest, at DST or in /root, which is on PATH and the current folder.
    #[arg(long = "file", value_name = "SRC[:DST]")]
    files: Vec<String>,
    /// Delay every read and write of /data by this much, in the guest.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    disk_latency: u32,
    /// Limit the rate of the disk of /data, outside the guest.
    #[arg(long, value_name = "N")]
    disk_iops: Option<u32>,
    /// One processor whose clock counts instructions, 1 ns each: for benches.
    #[arg(long)]
    icount: bool,
    /// Emulate all processors on one thread, or on a thread each.
    #[arg(long, value_name = "single|multi", default_value = "multi", value_parser = ["single", "multi"])]
    accel_threads: String,
    /// Also run an adbd, for `cargo xtask android --serial 127.0.0.1:PORT` while the command runs.
    #[arg(long, value_name = "PORT")]
    adb: Option<u16>,
    /// Seconds after which the command is killed (exit code 124).
    #[arg(long, value_name = "S", default_value_t = 600)]
    timeout: u64,
    /// Do not build vmascope: the guest gets what is in dist, if anything.
    #[arg(long)]
    no_build: bool,
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    // Set-up and builds talk on stdout, which belongs to the command here.
    let stdout = take_stdout()?;
    match run_command(args, stdout) {
        Ok(result) => {
            if let Some(error) = &result.start_error {
                eprintln!(
                    "xtask: the guest cannot start {}: {error}",
                    first(&args.command)
                );
            }
            if result.timed_out {
                eprintln!("xtask: killed after {} s", args.timeout);
            }
            Ok(ExitCode::from(
                u8::try_from(result.code()).unwrap_or(LAB_FAILED),
            ))
        }
        Err(error) => {
            eprintln!("xtask: {error:#}");
            Ok(ExitCode::from(LAB_FAILED))
        }
    }
}

fn first(command: &[String]) -> &str {
    command.first().map_or("", String::as_str)
}

fn run_command(args: &Args, mut stdout: File) -> Result<StepResult> {
    let tools = Tools::ensure(&[args.arch])?;
    let kernel = match &args.kernel_image {
        Some(image) => Kernel::from_file(image, args.modules.as_deref(), args.arch)?,
        None => {
            let apt = Apt::new(&paths::cache()?)?;
            Kernel::ensure(&apt, &args.kernel, args.arch, args.flavour)?
        }
    };
    if kernel.is_substitute() {
        eprintln!(
            "no kernel {}: {} stands for it",
            kernel.wanted, kernel.series
        );
    }
    let mut files = vec![];
    if args.no_build {
        let program = built(args.arch).map(|path| guest_file(&path, "/bin/vmascope"));
        files.extend(program.transpose()?);
    } else {
        files.push(guest_file(
            &build::vmascope(args.arch, true)?,
            "/bin/vmascope",
        )?);
    }
    for spec in &args.files {
        files.push(user_file(spec)?);
    }
    if args.adb.is_some() {
        files.extend(phone::adbd(args.arch)?);
    }
    let qemu = Qemu::ensure()?;
    eprintln!("{} on {}, QEMU {}", kernel.label, args.arch, qemu.version);
    let machine = Machine {
        qemu: &qemu,
        kernel: &kernel,
        init: tools.init(args.arch)?,
        busybox: tools.busybox(args.arch)?,
        files,
        smp: args.smp,
        mem_mib: args.mem,
        accel: match (args.icount, args.accel_threads.as_str()) {
            (true, _) => Accel::Icount,
            (false, "single") => Accel::Single,
            (false, _) => Accel::Multi,
        },
        disk_latency_ms: args.disk_latency,
        slow_disk_ms: 0,
        disk_iops: args.disk_iops,
        network: args.adb.map(|port| Network {
            port,
            steps: mpsc::channel().0,
        }),
    };
    let mut steps = match args.adb {
        Some(_) => android::adbd_steps(),
        None => Vec::new(),
    };
    let mut step = Step::new("command", args.timeout, &[]);
    step.argv.clone_from(&args.command);
    step.stream = true;
    steps.push(step);
    // Without a place to go to, the files of /out are dropped.
    let nowhere = paths::temp_beside(&std::env::temp_dir().join("vmascope-out"));
    let out = args.out.as_deref().unwrap_or(&nowhere);
    paths::make_dir(out)?;
    let ended = machine.run(
        &steps,
        out,
        &mut Streams {
            stdout: &mut stdout,
            stderr: &mut io::stderr(),
        },
    );
    if args.out.is_none() {
        fs::remove_dir_all(&nowhere).ok();
    }
    let mut report = ended?.report;
    match report.results.pop() {
        Some(result) => Ok(result),
        None => bail!("the guest did not run the command"),
    }
}

/// The profiler as it was built last.
pub fn built(arch: Arch) -> Option<PathBuf> {
    let program = paths::root()
        .join("dist")
        .join(arch.name())
        .join("vmascope");
    program.is_file().then_some(program)
}

/// Our own stdout for the command's output; whatever else is printed goes to stderr from now on.
pub fn take_stdout() -> Result<File> {
    let own = io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .context("cannot use stdout")?;
    // SAFETY: dup2(2) on two open descriptors; the standard library looks only at the numbers.
    if unsafe { libc::dup2(io::stderr().as_raw_fd(), io::stdout().as_raw_fd()) } == -1 {
        return Err(io::Error::last_os_error()).context("cannot redirect stdout");
    }
    Ok(File::from(own))
}

/// Reads `SRC[:DST]`.
fn user_file(spec: &str) -> Result<GuestFile> {
    // A colon may be part of the source's name, if there is such a file.
    let (source, target) = match spec.rsplit_once(':') {
        Some((source, target)) if !Path::new(spec).exists() => (source, target.to_owned()),
        _ => {
            let name = Path::new(spec).file_name().unwrap_or_default();
            (spec, format!("/root/{}", name.to_string_lossy()))
        }
    };
    guest_file(Path::new(source), &target)
}

pub fn guest_file(source: &Path, target: &str) -> Result<GuestFile> {
    let named = || format!("cannot read {} for the guest", source.display());
    let mode = source.metadata().with_context(named)?.permissions().mode();
    Ok(GuestFile {
        path: target.to_owned(),
        mode: mode & 0o7777,
        bytes: fs::read(source).with_context(named)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_where_it_is_told() {
        let own = std::env::current_exe().unwrap();
        let plain = user_file(own.to_str().unwrap()).unwrap();
        let name = own.file_name().unwrap().to_str().unwrap();
        assert_eq!(plain.path, format!("/root/{name}"));
        assert_eq!(plain.mode & 0o100, 0o100);
        let told = user_file(&format!("{}:/bin/x", own.display())).unwrap();
        assert_eq!(told.path, "/bin/x");
        assert!(user_file("/no/such/file:/bin/x").is_err());
    }
}
