//! adb: the system's, else Debian's, unpacked into the cache; and its commands as we need them.
//!
//! In: what is installed; Debian's packages. Out: what a device says, or one line that says why it
//! says nothing.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::words::{self, Root};
use crate::apt;
use crate::arch::Arch;
use crate::{packages, paths, system};

/// Where Debian's package has it; usr/bin has only a link.
const PROGRAM: &str = "usr/lib/android-sdk/platform-tools/adb";

/// What a device may take from being there to being ready.
const SETTLE: Duration = Duration::from_secs(5);

/// The client program. It starts a server of its own if none runs.
#[derive(Clone)]
pub struct Adb {
    program: PathBuf,
    /// Of the private copy.
    libraries: OsString,
}

/// What a command on the device came to.
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// All of it, for those who look for a phrase.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl Adb {
    pub fn ensure() -> Result<Self> {
        if let Some(program) = system::find("adb") {
            return Ok(Self {
                program,
                libraries: OsString::new(),
            });
        }
        if let Some(found) = cached()? {
            return Ok(found);
        }
        install().context("no adb on PATH, and none from Debian: install Android's platform-tools")
    }

    /// The client with its libraries set.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if !self.libraries.is_empty() {
            command.env("LD_LIBRARY_PATH", &self.libraries);
        }
        command
    }

    fn said(&self, args: &[&str]) -> Result<Said> {
        let mut command = self.command();
        let out = command
            .args(args)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        Ok(Said {
            code: out.status.code().unwrap_or(1),
            stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
        })
    }

    /// Finds the device that is meant, and makes sure that it can be talked to.
    pub fn device(&self, serial: Option<&str>) -> Result<Device> {
        if let Some(address) = serial.filter(|serial| serial.contains(':')) {
            let said = self.said(&["connect", address])?.all();
            if let Some(why) = words::not_connected(address, &said) {
                bail!(why);
            }
        }
        let start = Instant::now();
        let serial = loop {
            let list = self.said(&["devices"])?;
            if list.code != 0 {
                bail!("adb does not work: {}", words::last_line(&list.all()));
            }
            let devices = words::devices(&list.stdout);
            match words::choose(&devices, serial) {
                Ok(serial) => break serial,
                Err(_) if words::is_settling(&devices) && start.elapsed() < SETTLE => {
                    thread::sleep(Duration::from_millis(300));
                }
                Err(why) => bail!(why),
            }
        };
        Ok(Device {
            adb: self.clone(),
            serial,
        })
    }
}

/// One that an earlier run has unpacked.
fn cached() -> Result<Option<Adb>> {
    let tools = paths::cache()?.join("tools");
    for entry in fs::read_dir(tools).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("adb-") && name.ends_with(Arch::HOST.debian()) {
            let libraries = libraries(&entry.path())?;
            let program = entry.path().join(PROGRAM);
            let adb = Adb { program, libraries };
            // Its packages were chosen beside those that this machine had then.
            if adb.said(&["version"]).is_ok_and(|said| said.code == 0) {
                return Ok(Some(adb));
            }
        }
    }
    Ok(None)
}

fn libraries(root: &Path) -> Result<OsString> {
    let folders = packages::library_folders(root, Arch::HOST);
    env::join_paths(folders).context("the cache's path has a colon: move it")
}

fn install() -> Result<Adb> {
    eprintln!("unpacking Debian's adb into the cache");
    let host = apt::host_suite()?;
    let (security, backports) = (format!("{host}-security"), format!("{host}-backports"));
    // Testing and unstable have no such suites. Backports, since bookworm's own is from Android 10.
    let suites = match host.as_str() {
        "bookworm" => vec![host.as_str(), &security, &backports],
        "trixie" => vec![host.as_str(), &security],
        _ => vec![host.as_str()],
    };
    let package = packages::unpack("adb", &suites, Arch::HOST, &apt::installed()?)?;
    let adb = Adb {
        program: package.root.join(PROGRAM),
        libraries: libraries(&package.root)?,
    };
    let said = adb.said(&["version"])?;
    if said.code != 0 {
        bail!(
            "adb {} does not start: {}",
            package.version,
            words::last_line(&said.all())
        );
    }
    Ok(adb)
}

/// A device that answers.
pub struct Device {
    adb: Adb,
    pub serial: String,
}

impl Device {
    fn said(&self, args: &[&str]) -> Result<Said> {
        let with_serial = ["-s", &self.serial].into_iter().chain(args.iter().copied());
        self.adb.said(&with_serial.collect::<Vec<_>>())
    }

    /// Runs a line of shell as whoever adbd is.
    pub fn shell(&self, line: &str) -> Result<Said> {
        let said = self.said(&["shell", "-T", line])?;
        match words::gone(&said.stderr) {
            Some(why) => bail!("{}: {why}", self.serial),
            None => Ok(said),
        }
    }

    /// Runs a line of shell as root.
    pub fn root_shell(&self, root: Root, line: &str) -> Result<Said> {
        self.shell(&root.line(line))
    }

    /// Runs a line of shell as root with our own standard streams, on a terminal if we have one.
    pub fn attach(&self, root: Root, line: &str, stdout: File) -> Result<ExitStatus> {
        let terminal = io::stdin().is_terminal() && stdout.is_terminal();
        let mut command = self.adb.command();
        command
            .args(["-s", &self.serial, "shell"])
            .args([if terminal { "-t" } else { "-T" }, &root.line(line)])
            .stdout(stdout);
        command
            .status()
            .with_context(|| format!("cannot start {}", self.adb.program.display()))
    }

    pub fn push(&self, file: &Path, to: &str) -> Result<()> {
        let from = file.to_str().context("a path that is not UTF-8")?;
        let said = self.said(&["push", from, to])?;
        match said.code {
            0 => Ok(()),
            _ => bail!(words::not_pushed(to, &said.all())),
        }
    }

    pub fn pull(&self, from: &str, to: &Path) -> Result<()> {
        let place = to.to_str().context("a path that is not UTF-8")?;
        let said = self.said(&["pull", from, place])?;
        match said.code {
            0 => Ok(()),
            _ => bail!(
                "cannot pull {from}, it is still on the device: {}",
                words::last_line(&said.all())
            ),
        }
    }
}
