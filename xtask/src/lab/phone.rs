//! A guest as a phone: a real adbd in it, and `cargo xtask android` on this side.
//!
//! In: the forwarded port, the folder of the cell. Out: results in the form of steps of the guest, and
//! their files beside those that the guest sends.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use guest::plan::StepResult;

use super::acceptance::android::{DONE, HOST_STEP};
use super::machine::{GuestFile, die_with_us};
use crate::android::Adb;
use crate::apt::Installed;
use crate::arch::Arch;
use crate::{packages, paths};

/// Until adb's server answers.
const START: Duration = Duration::from_secs(30);

/// Debian's adbd for a guest, with its libraries.
pub fn adbd(arch: Arch) -> Result<Vec<GuestFile>> {
    let suites = ["trixie", "trixie-security"];
    packages::unpack("adbd", &suites, arch, &Installed::default())?
        .for_guest("usr/lib/android-sdk/platform-tools/adbd", "/bin/adbd")
}

/// A port of our loopback that nobody uses just now.
pub fn free_port() -> Result<u16> {
    let any = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(any.local_addr().context("no free port")?.port())
}

/// What happens outside of the guest.
pub struct Outside {
    adb: Adb,
    /// Leads to adbd.
    pub port: u16,
    arch: Arch,
    /// vmascope for this host.
    program: PathBuf,
    out: PathBuf,
}

impl Outside {
    pub fn new(arch: Arch, program: PathBuf, out: &Path) -> Result<Self> {
        Ok(Self {
            adb: Adb::ensure()?,
            port: free_port()?,
            arch,
            program,
            out: out.to_path_buf(),
        })
    }

    /// Waits for the guest's adbd, acts, and lets the guest go on. A guest that never comes so far
    /// has said why itself.
    pub fn attend(&self, begun: &Receiver<String>) -> Result<Vec<StepResult>> {
        if !begun.iter().any(|step| step == HOST_STEP) {
            return Ok(Vec::new());
        }
        let server = Server::start(&self.adb)?;
        let results = self.act(&server);
        let serial = self.serial();
        let mut done = server.client(&self.adb);
        done.args(["-s", &serial, "shell", &format!("touch {DONE}")]);
        done.stdin(Stdio::null())
            .output()
            .context("cannot start adb")?;
        results
    }

    fn serial(&self) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    fn act(&self, server: &Server) -> Result<Vec<StepResult>> {
        let android = |name: &str, args: &str| self.android(server, name, args);
        let mut results = vec![
            android("android.usage", "-- no-such-command")?,
            android("android.target", "--target x86_64 -- doctor")?,
        ];
        for (record, scenario) in [
            (
                "android.storm.record",
                "--min-us 100 -o storm.db -- vmascope demo storm --threads 3 --duration 3s",
            ),
            (
                "android.freeze.record",
                "--mmap-lock all --min-us 100 -o freeze.db -- vmascope demo freeze --delay 1s",
            ),
        ] {
            results.push(android(record, &format!("-- record -d 60 {scenario}"))?);
        }
        let crash = [
            "record",
            "-i",
            "200ms",
            "-o",
            "crash.db",
            "--",
            "sh",
            "-c",
            "sleep 3; kill -9 $PPID",
        ];
        let mut command = self.xtask(server, &["--"]);
        command.args(crash);
        results.push(self.run("android.crash.record", command)?);

        for (name, args) in [
            ("android.storm.report", "report storm.db --format json"),
            (
                "android.storm.export",
                "export storm.db --csv android.storm",
            ),
            ("android.freeze.report", "report freeze.db --format json"),
            (
                "android.freeze.export",
                "export freeze.db --csv android.freeze",
            ),
            ("android.crash.report", "report crash.db --format json"),
        ] {
            let mut command = Command::new(&self.program);
            command.args(args.split(' '));
            results.push(self.run(name, command)?);
        }
        Ok(results)
    }

    fn android(&self, server: &Server, name: &str, args: &str) -> Result<StepResult> {
        let args: Vec<&str> = args.split(' ').collect();
        self.run(name, self.xtask(server, &args))
    }

    /// This very program, as its user would call it.
    fn xtask(&self, server: &Server, args: &[&str]) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command
            .args(["android", "--serial", &self.serial(), "--no-build"])
            .args(args)
            .env("ANDROID_ADB_SERVER_PORT", server.port.to_string());
        command
    }

    /// Runs a command in the cell's folder with its output in files, as the guest does.
    fn run(&self, name: &str, mut command: Command) -> Result<StepResult> {
        let file = |what: &str| {
            let path = self.out.join(format!("{name}.{what}"));
            File::create(&path).with_context(|| format!("cannot write {}", path.display()))
        };
        let start = Instant::now();
        let status = command
            .current_dir(&self.out)
            .stdin(Stdio::null())
            .stdout(file("stdout")?)
            .stderr(file("stderr")?)
            .status()
            .with_context(|| format!("cannot start {name} for {}", self.arch))?;
        Ok(StepResult {
            name: name.to_owned(),
            exit_code: status.code(),
            duration_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
            ..StepResult::default()
        })
    }
}

/// An adb server of our own, ended when dropped: the user's may be another version, and has devices
/// that are none of our business.
struct Server {
    child: Child,
    port: u16,
    home: PathBuf,
}

impl Server {
    fn start(adb: &Adb) -> Result<Self> {
        let port = free_port()?;
        // It makes its key there.
        let home = paths::temp_beside(&std::env::temp_dir().join("vmascope-adb"));
        paths::make_dir(&home)?;
        let log = File::create(home.join("log")).context("cannot write adb's messages")?;
        let mut command = adb.command();
        command
            .args(["-P", &port.to_string(), "server", "nodaemon"])
            .env("HOME", &home)
            .envs([("ADB_USB", "0"), ("ADB_EMU", "0"), ("ADB_MDNS", "0")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot write adb's messages")?)
            .stderr(log);
        die_with_us(&mut command);
        let child = command.spawn().context("cannot start adb's server")?;
        let mut server = Self { child, port, home };
        server.answers()?;
        Ok(server)
    }

    fn answers(&mut self) -> Result<()> {
        let start = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            if self.child.try_wait()?.is_some() || start.elapsed() > START {
                let log = fs::read_to_string(self.home.join("log")).unwrap_or_default();
                bail!("adb's server does not start: {}", log.trim());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn client(&self, adb: &Adb) -> Command {
        let mut command = adb.command();
        command.args(["-P", &self.port.to_string()]);
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // All fail only if it has ended, or was cleaned up, already.
        self.child.kill().ok();
        self.child.wait().ok();
        fs::remove_dir_all(&self.home).ok();
    }
}
