//! `cargo xtask android`: vmascope on a phone, over adb.
//!
//! In: a device by USB or network, arguments for vmascope. Out: the program on the device, its
//! output on ours, its exit code, and what it recorded in the current folder. What we have to say
//! ourselves goes to stderr, a line each.

mod adb;
mod words;

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context as _, Result, bail};

pub use adb::Adb;
use adb::Device;
use words::{DIR, Facts, Root};

use crate::arch::Arch;
use crate::lab::vm;
use crate::{build, system};

#[derive(clap::Args)]
pub struct Args {
    /// The device, as `adb devices` has it; HOST:PORT is connected to first [default: the only one].
    #[arg(long, value_name = "SERIAL")]
    serial: Option<String>,
    /// What to build for [default: what the device is].
    #[arg(long, value_enum)]
    target: Option<Arch>,
    /// Do not build vmascope: the device gets what is in dist.
    #[arg(long)]
    no_build: bool,
    /// For vmascope; none starts its dashboard.
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    // Set-up and builds talk on stdout, which belongs to the program on the device.
    let stdout = vm::take_stdout()?;
    let adb = Adb::ensure()?;
    let named = std::env::var("ANDROID_SERIAL").ok();
    let device = adb.device(args.serial.as_deref().or(named.as_deref()))?;
    let root = root(&device)?;
    let facts = Facts::parse(&device.root_shell(root, &Facts::question())?.stdout);
    let arch = facts.arch(args.target).map_err(anyhow::Error::msg)?;
    if let Some(warning) = facts.warning(&args.args) {
        eprintln!("{warning}");
    }
    put(&device, root, &facts, &program(arch, args.no_build)?)?;
    let status = device.attach(root, &line(&args.args), stdout)?;
    if !status.success() && facts.enforcing {
        tell_denial(&device, root);
    }
    if let Some(file) = words::recording(&args.args) {
        fetch(&device, root, &file, status)
            .with_context(|| format!("{file} is not fetched, look in {DIR} of the device"))?;
    }
    Ok(ExitCode::from(code(status)))
}

/// Finds a way to be root.
fn root(device: &Device) -> Result<Root> {
    for root in Root::ALL {
        let said = device.root_shell(root, "id -u")?;
        if said.code == 0 && said.stdout.trim() == "0" {
            return Ok(root);
        }
    }
    bail!(words::no_root(&device.serial))
}

fn program(arch: Arch, no_build: bool) -> Result<PathBuf> {
    if !no_build {
        return build::vmascope(arch, true);
    }
    vm::built(arch).with_context(|| {
        format!("no dist/{arch}/vmascope: run `cargo xtask build --release --arch {arch}`")
    })
}

/// Puts the program on the device, unless it is there, and sees that it can be started.
fn put(device: &Device, root: Root, facts: &Facts, program: &Path) -> Result<()> {
    let text = system::output(Command::new("sha256sum").arg(program))?;
    let hash = text
        .split_whitespace()
        .next()
        .context("sha256sum says nothing")?;
    let target = format!("{DIR}/vmascope");
    if facts.hash != hash {
        // A copy that is running cannot be written over, and half a copy must not be run.
        let temp = format!("{target}.new");
        device.push(program, &temp)?;
        let moved =
            device.root_shell(root, &format!("chmod 755 {temp} && mv -f {temp} {target}"))?;
        if moved.code != 0 {
            bail!(
                "cannot move {temp} on the device: {}",
                words::last_line(&moved.all())
            );
        }
        eprintln!(
            "pushed {} to {target} of {}",
            program.display(),
            device.serial
        );
    }
    let said = device.root_shell(root, &format!("{target} --version"))?;
    if said.code != 0 {
        bail!(facts.not_started(said.code, &said.all()));
    }
    Ok(())
}

/// Everything that the program writes, and that SQLite does for it, stays in its folder.
fn line(args: &[String]) -> String {
    let words: Vec<String> = args.iter().map(|arg| words::quote(arg)).collect();
    let words = words.join(" ");
    format!("cd {DIR} && export PATH={DIR}:$PATH TMPDIR={DIR} && exec {DIR}/vmascope {words}")
}

fn tell_denial(device: &Device, root: Root) {
    let dmesg = device.root_shell(root, "dmesg").map(|said| said.stdout);
    // Not being able to look is no second error.
    if let Some(denial) = dmesg.as_deref().ok().and_then(words::denial) {
        eprintln!(
            "SELinux denied something: {denial}; on a test device `setenforce 0` as root helps"
        );
    }
}

/// Pulls the recording into the current folder, and removes it from the device. A run that crashed
/// leaves up to three files, and may leave none.
fn fetch(device: &Device, root: Root, file: &str, status: ExitStatus) -> Result<()> {
    let list = device.root_shell(root, &words::listing(file))?.stdout;
    let found: Vec<&str> = list
        .lines()
        .map(str::trim_end)
        .filter(|l| !l.is_empty())
        .collect();
    if found.is_empty() {
        if status.success() {
            bail!("vmascope left no {file} in {DIR} of {}", device.serial);
        }
        return Ok(());
    }
    // SQLite would take what an older recording of this name has left for a part of this one.
    for name in found.iter().filter_map(|name| Path::new(name).file_name()) {
        for suffix in ["-wal", "-shm"] {
            let mut companion = name.to_owned();
            companion.push(suffix);
            fs::remove_file(companion).ok();
        }
    }
    for name in &found {
        let path = words::on_device(name);
        let local = Path::new(name)
            .file_name()
            .context("a recording without a name")?;
        device.pull(&path, Path::new(local))?;
        let removed = device.root_shell(root, &format!("rm -f {}", words::quote(&path)))?;
        let note = if removed.code == 0 {
            ""
        } else {
            ", and left it there"
        };
        eprintln!("pulled {} from {}{note}", local.display(), device.serial);
    }
    Ok(())
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
