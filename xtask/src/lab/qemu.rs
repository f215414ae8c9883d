//! QEMU for both guest architectures: the system's if it is new enough, else a private one.
//!
//! In: what is installed; Debian's packages. Out: programs, the libraries and data they need, and
//! the options that suit these kernels under emulation.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::apt::{self, Apt};
use crate::arch::Arch;
use crate::{deb, paths, system};

/// QEMU 7.2 runs guest code while the guest patches it: x86 kernels die in jump labels, ftrace and
/// BPF trampolines within seconds.
const OLDEST: u32 = 10;
const PACKAGES: [&str; 2] = ["qemu-system-x86", "qemu-system-arm"];

#[derive(Clone, Debug)]
pub struct Qemu {
    /// The folder with the private copy; none when the system's is used.
    root: Option<PathBuf>,
    pub version: String,
}

/// How the processors are emulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// A thread per processor.
    Multi,
    /// All processors on one thread.
    Single,
    /// One processor whose clock counts instructions: 1 ns each.
    Icount,
}

fn program(arch: Arch) -> String {
    format!("qemu-system-{}", arch.name())
}

impl Qemu {
    /// Finds a QEMU that will do, or unpacks one into the cache.
    pub fn ensure() -> Result<Self> {
        let system = Self {
            root: None,
            version: String::new(),
        };
        if let Some(found) = system.checked() {
            return Ok(found);
        }
        let place = paths::cache()?.join("qemu");
        for entry in fs::read_dir(&place).into_iter().flatten().flatten() {
            let private = Self {
                root: Some(entry.path()),
                version: String::new(),
            };
            if let Some(found) = private.checked() {
                return Ok(found);
            }
        }
        install(&place)
    }

    /// Itself with its version, if both programs start and are new enough.
    fn checked(&self) -> Option<Self> {
        let mut oldest: Option<(u32, String)> = None;
        for arch in Arch::ALL {
            let text = system::output(self.command(arch)?.arg("--version")).ok()?;
            let version = text.split_once("version ")?.1;
            let version = version.split([' ', '\n']).next()?.to_owned();
            let major = version.split('.').next()?.parse().ok()?;
            if oldest.as_ref().is_none_or(|(m, _)| major < *m) {
                oldest = Some((major, version));
            }
        }
        let (major, version) = oldest?;
        (major >= OLDEST).then(|| Self {
            root: self.root.clone(),
            version,
        })
    }

    /// The program for guests of an architecture, with its libraries and data set.
    pub fn command(&self, guest: Arch) -> Option<Command> {
        let Some(root) = &self.root else {
            return system::find(&program(guest)).map(Command::new);
        };
        let mut command = Command::new(root.join("usr/bin").join(program(guest)));
        let mut libraries = OsString::new();
        for dir in ["usr/lib", "lib"] {
            libraries.push(root.join(dir).join(Arch::HOST.gnu()));
            libraries.push(":");
        }
        command.env("LD_LIBRARY_PATH", libraries);
        for dir in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
            command.arg("-L").arg(root.join(dir));
        }
        Some(command)
    }
}

fn install(place: &Path) -> Result<Qemu> {
    eprintln!(
        "installing QEMU {OLDEST} or newer privately: the virtual machines need it, and older ones crash these kernels"
    );
    let host = apt::host_suite()?;
    let (security, backports) = (format!("{host}-security"), format!("{host}-backports"));
    // Testing and unstable have no such suites, and a new QEMU of their own.
    let suites = match host.as_str() {
        "bookworm" | "trixie" => vec![host.as_str(), &security, &backports],
        _ => vec![host.as_str()],
    };
    let apt = Apt::new(&paths::cache()?)?;
    let packages = apt.closure(&PACKAGES, &suites, Arch::HOST, &apt::installed()?)?;
    let main = packages
        .iter()
        .find(|package| package.name == PACKAGES[0])
        .context("no QEMU in Debian's packages")?;
    let dir = place.join(main.version.replace([':', '~', '+'], "-"));
    let temp = paths::temp_beside(&dir);
    paths::make_dir(&temp)?;
    for package in &packages {
        deb::unpack_over(&apt.fetch(package)?, &temp)?;
    }
    if dir.exists() {
        // It was there, and did not start: this machine needs other libraries beside it.
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    fs::rename(&temp, &dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let private = Qemu {
        root: Some(dir.clone()),
        version: String::new(),
    };
    match private.checked() {
        Some(found) => Ok(found),
        None => bail!(
            "the QEMU {} in {} does not start or is older than {OLDEST}: install QEMU {OLDEST} by hand",
            main.version,
            dir.display()
        ),
    }
}

/// The options that make a machine of this architecture; see `Accel` for the clock.
pub fn machine_options(guest: Arch, accel: Accel) -> Vec<&'static str> {
    let mut options = match guest {
        // 5-level page tables only slow the emulation down.
        Arch::X86_64 => vec!["-machine", "q35", "-cpu", "max,la57=off"],
        // Newer models sign pointers, in software here: up to three times slower.
        Arch::Aarch64 => vec!["-machine", "virt,gic-version=3", "-cpu", "cortex-a76"],
    };
    options.extend(match accel {
        Accel::Multi => ["-accel", "tcg,thread=multi"],
        Accel::Single | Accel::Icount => ["-accel", "tcg,thread=single"],
    });
    if accel == Accel::Icount {
        options.extend(["-icount", "shift=0,sleep=off"]);
    }
    options
}

/// The console's name on the kernel's command line.
pub const fn console(guest: Arch) -> &'static str {
    match guest {
        Arch::X86_64 => "ttyS0",
        Arch::Aarch64 => "ttyAMA0",
    }
}
