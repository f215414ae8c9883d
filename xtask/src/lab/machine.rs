//! One virtual machine: put together, started, listened to, ended.
//!
//! In: a kernel, files, a plan. Out: the guest's report and the files of its /out. A guest that
//! ends without its report and its verdict line is an error with the end of its console.

use std::fs::{self, File};
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Component, Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use guest::plan::{Disk, PLAN_PATH, PORT, Plan, Report, Step, VERDICT};
use guest::wire::{self, Kind};

use super::disk;
use super::initramfs::Archive;
use super::kernels::Kernel;
use super::modules::Tree;
use super::qemu::{self, Accel, Qemu};
use crate::arch::Arch;
use crate::paths;

/// From the start of QEMU to the first word of the guest. Usually 5 to 15 s; a loaded machine that
/// runs two of them may need many times that.
const BOOT: Duration = Duration::from_secs(300);
/// What a step may take beyond its own limit, which the guest keeps.
const MARGIN: Duration = Duration::from_secs(90);
/// What the verdict line says when all is well.
const DONE: &str = "done";
/// Lines of console shown with a failure.
const TAIL: usize = 40;

/// Loaded where the kernel does not have them built in: the port, the disk, and what the demos use.
const MODULES: [&str; 11] = [
    "virtio_pci",
    "virtio_console",
    "nvme",
    "crc32c_generic",
    "ext4",
    "dm_delay",
    "loop",
    "fuse",
    // Before 6.12 zram finds its compressor by name, and nothing in a guest loads modules by name.
    "lzo",
    "lzo_rle",
    "zram",
];

/// A file for the guest.
pub struct GuestFile {
    pub path: String,
    pub mode: u32,
    pub bytes: Vec<u8>,
}

/// What a machine is made of.
pub struct Machine<'a> {
    pub qemu: &'a Qemu,
    pub kernel: &'a Kernel,
    /// The guest's /init and its busybox.
    pub init: &'a Path,
    pub busybox: &'a Path,
    pub files: Vec<GuestFile>,
    pub smp: u32,
    pub mem_mib: u32,
    pub accel: Accel,
    pub disk_latency_ms: u32,
    /// A second disk, at /slow, with this delay; 0 for none.
    pub slow_disk_ms: u32,
    pub disk_iops: Option<u32>,
    /// A network of the guest and us alone, if there is one.
    pub network: Option<Network>,
}

/// A way from this host into the guest, and nowhere else.
pub struct Network {
    /// On our loopback; leads to `GUEST_PORT` of the guest.
    pub port: u16,
    /// Told the name of each step that begins.
    pub steps: Sender<String>,
}

/// Where the guest listens: adbd's port.
const GUEST_PORT: u16 = 5555;

/// What a guest that ended well leaves.
#[derive(Debug)]
pub struct Ended {
    pub report: Report,
    /// From the start of QEMU to the guest's first word.
    pub boot: Duration,
    pub total: Duration,
}

/// Where the output of streaming steps goes.
pub struct Streams<'a> {
    pub stdout: &'a mut dyn Write,
    pub stderr: &'a mut dyn Write,
}

impl Machine<'_> {
    /// Boots, runs the steps, and puts the files of the guest's /out below `out`.
    pub fn run(&self, steps: &[Step], out: &Path, streams: &mut Streams<'_>) -> Result<Ended> {
        let work = Work::new()?;
        let console = work.dir.join("console");
        let outcome = self.run_in(&work.dir, steps, out, streams);
        outcome.map_err(|error| {
            let said = read_lossy(&console);
            let why = match verdict(&said) {
                Some(failed) if failed != DONE => format!("{error:#}; it says: {failed}"),
                _ => format!("{error:#}"),
            };
            let tail = tail(&(read_lossy(&work.dir.join("qemu")) + &said));
            anyhow!("the guest failed: {why}\nthe end of its console:\n{tail}")
        })
    }

    fn run_in(
        &self,
        work: &Path,
        steps: &[Step],
        out: &Path,
        streams: &mut Streams<'_>,
    ) -> Result<Ended> {
        let image = self.initramfs(steps)?;
        let initrd = work.join("initrd");
        fs::write(&initrd, image).with_context(|| format!("cannot write {}", initrd.display()))?;
        disk::make(&work.join("disk"), disk::SIZE_MIB)?;
        if self.slow_disk_ms != 0 {
            disk::make(&work.join("slow"), disk::SLOW_SIZE_MIB)?;
        }
        let listener =
            UnixListener::bind(work.join("port")).context("cannot listen for the guest")?;
        let start = Instant::now();
        let mut running = Running {
            child: self.start(work)?,
        };
        let stream = running.accept(&listener)?;
        let frames = receive(stream.try_clone().context("cannot use the guest's port")?);
        let mut session = Session {
            running: &mut running,
            steps,
            begun: self.network.as_ref().map(|network| &network.steps),
            out,
            streams,
            start,
            boot: None,
            file: None,
        };
        let report = session.listen(&frames)?;
        let boot = session.boot.unwrap_or_default();
        running.wait(MARGIN)?;
        stream.shutdown(Shutdown::Both).ok();
        if verdict(&read_lossy(&work.join("console"))) != Some(DONE) {
            bail!("no good verdict on its console");
        }
        Ok(Ended {
            report,
            boot,
            total: start.elapsed(),
        })
    }

    fn initramfs(&self, steps: &[Step]) -> Result<Vec<u8>> {
        let read =
            |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let mut archive = Archive::new();
        for folder in [
            "dev", "proc", "sys", "tmp", "run", "out", "data", "root", "bin", "sbin",
        ] {
            archive.folder(folder);
        }
        archive.character_device("dev/console", 5, 1);
        archive.file("init", 0o755, &read(self.init)?);
        archive.file("bin/busybox", 0o755, &read(self.busybox)?);
        for (path, text) in [
            (
                "etc/passwd",
                "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/tmp:/bin/sh\n",
            ),
            ("etc/group", "root:x:0:\nuser:x:1000:\n"),
            ("etc/hosts", "127.0.0.1 localhost\n"),
            ("etc/hostname", "lab\n"),
        ] {
            archive.file(path, 0o644, text.as_bytes());
        }
        let mut modules = Vec::new();
        if let Some(dir) = &self.kernel.modules {
            let mut wanted = MODULES.to_vec();
            wanted.extend(self.network.as_ref().map(|_| "virtio_net"));
            for module in Tree::open(dir)?.resolve(&wanted)? {
                let path = format!("modules/{}.ko", module.name);
                archive.file(&path, 0o644, &module.bytes);
                modules.push(format!("/{path}"));
            }
        }
        for file in &self.files {
            archive.file(&file.path, file.mode, &file.bytes);
        }
        let plan = Plan {
            modules,
            disks: self.disks(),
            steps: steps.to_vec(),
        };
        archive.file(PLAN_PATH, 0o644, &serde_json::to_vec_pretty(&plan)?);
        Ok(archive.finish())
    }

    fn disks(&self) -> Vec<Disk> {
        let disk = |number: u32, at: &str, delay_ms: u32| Disk {
            device: format!("/dev/nvme0n{number}"),
            at: at.to_owned(),
            delay_ms,
        };
        let slow = disk(2, "/slow", self.slow_disk_ms);
        let all = [disk(1, "/data", self.disk_latency_ms), slow];
        let count = if self.slow_disk_ms == 0 { 1 } else { 2 };
        all.into_iter().take(count).collect()
    }

    fn start(&self, work: &Path) -> Result<Child> {
        let guest = self.kernel.arch;
        let missing = || format!("no QEMU for {guest} guests");
        let mut command = self.qemu.command(guest).with_context(missing)?;
        let text = |path: &str| work.join(path).display().to_string();
        let iops = match self.disk_iops {
            Some(iops) => format!(",throttling.iops-total={iops}"),
            None => String::new(),
        };
        let smp = if self.accel == Accel::Icount {
            1
        } else {
            self.smp
        };
        command
            .args([
                "-nodefaults",
                "-no-user-config",
                "-no-reboot",
                "-display",
                "none",
            ])
            .args(qemu::machine_options(guest, self.accel))
            .args(["-smp", &smp.to_string(), "-m", &self.mem_mib.to_string()])
            .arg("-kernel")
            .arg(&self.kernel.image)
            .args(["-initrd", &text("initrd"), "-append", &command_line(guest)])
            .args(["-serial", &format!("file:{}", text("console"))])
            .args(["-chardev", &format!("socket,id=lab,path={}", text("port"))])
            .args(["-device", "virtio-serial-pci"])
            .args([
                "-device",
                &format!("virtserialport,chardev=lab,name={PORT}"),
            ])
            .arg("-drive")
            .arg(format!(
                "file={},if=none,id=scratch,format=raw,cache=unsafe,discard=unmap{iops}",
                text("disk")
            ))
            .args(["-device", "nvme,id=nvme,serial=scratch"])
            .args(["-device", "nvme-ns,drive=scratch,bus=nvme,nsid=1"]);
        if self.slow_disk_ms != 0 {
            let drive = format!(
                "file={},if=none,id=slow,format=raw,cache=unsafe",
                text("slow")
            );
            command.args(["-drive", &drive]);
            command.args(["-device", "nvme-ns,drive=slow,bus=nvme,nsid=2"]);
        }
        if let Some(Network { port, .. }) = self.network {
            let user =
                format!("user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:{GUEST_PORT}");
            command.args([
                "-netdev",
                &user,
                "-device",
                "virtio-net-pci,netdev=net,romfile=",
            ]);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(work.join("qemu")).context("cannot write QEMU's messages")?);
        die_with_us(&mut command);
        command
            .spawn()
            .with_context(|| format!("cannot start QEMU {}", self.qemu.version))
    }
}

fn command_line(guest: Arch) -> String {
    // An oops must end the machine, and a panic must not reboot it: -no-reboot makes it an exit.
    format!(
        "console={} loglevel=4 oops=panic panic=-1",
        qemu::console(guest)
    )
}

/// A killed xtask must not leave machines behind.
pub fn die_with_us(command: &mut Command) {
    // SAFETY: between fork and exec only prctl(2) is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}

/// A running QEMU, killed when dropped.
struct Running {
    child: Child,
}

impl Running {
    fn has_ended(&mut self) -> Result<bool> {
        Ok(self
            .child
            .try_wait()
            .context("cannot wait for QEMU")?
            .is_some())
    }

    fn accept(&mut self, listener: &UnixListener) -> Result<UnixStream> {
        listener
            .set_nonblocking(true)
            .context("cannot listen for the guest")?;
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream
                        .set_nonblocking(false)
                        .context("cannot use the guest's port")?;
                    return Ok(stream);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if self.has_ended()? {
                        bail!("QEMU ended before the guest started");
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Err(error).context("cannot listen for the guest"),
            }
        }
    }

    fn wait(&mut self, limit: Duration) -> Result<()> {
        let start = Instant::now();
        while !self.has_ended()? {
            if start.elapsed() > limit {
                bail!("it did not switch itself off");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

type Frame = std::io::Result<(Kind, Vec<u8>)>;

/// Reads frames on a thread of its own; the channel closes at the end of the stream.
fn receive(mut stream: UnixStream) -> Receiver<Frame> {
    let (sender, receiver) = mpsc::sync_channel(16);
    std::thread::spawn(move || {
        while let Some(frame) = wire::receive(&mut stream).transpose() {
            let last = frame.is_err();
            if sender.send(frame).is_err() || last {
                break;
            }
        }
    });
    receiver
}

/// The conversation with one guest.
struct Session<'a, 'b> {
    running: &'a mut Running,
    steps: &'a [Step],
    begun: Option<&'a Sender<String>>,
    out: &'a Path,
    streams: &'a mut Streams<'b>,
    start: Instant,
    boot: Option<Duration>,
    file: Option<(File, PathBuf)>,
}

impl Session<'_, '_> {
    /// Takes frames until the report.
    fn listen(&mut self, frames: &Receiver<Frame>) -> Result<Report> {
        let mut at = "booting".to_owned();
        let mut deadline = Instant::now() + BOOT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let (kind, bytes) = match frames.recv_timeout(left) {
                Ok(frame) => frame.with_context(|| format!("its words broke off while {at}"))?,
                Err(RecvTimeoutError::Timeout) => bail!("it hung while {at}"),
                Err(RecvTimeoutError::Disconnected) => {
                    // QEMU flushes the console as it ends.
                    self.running.wait(Duration::from_secs(5)).ok();
                    bail!("it died while {at}")
                }
            };
            match kind {
                Kind::Hello => {
                    self.boot = Some(self.start.elapsed());
                    at = "preparing the first step".to_owned();
                    deadline = Instant::now() + MARGIN;
                }
                Kind::Step => {
                    let name = String::from_utf8_lossy(&bytes).into_owned();
                    let limit = self.steps.iter().find(|step| step.name == name);
                    let limit = limit.map_or(0, |step| step.timeout_s);
                    at = format!("running {name}");
                    deadline = Instant::now() + Duration::from_secs(limit) + MARGIN;
                    // Whoever listened may have given up; the guest goes on.
                    self.begun.map(|begun| begun.send(name).ok());
                }
                Kind::Stdout => pass(self.streams.stdout, &bytes)?,
                Kind::Stderr => pass(self.streams.stderr, &bytes)?,
                Kind::File => {
                    self.open(&String::from_utf8_lossy(&bytes))?;
                    deadline = Instant::now() + MARGIN;
                }
                Kind::Data => self.write(&bytes)?,
                Kind::Report => {
                    let report: Report = serde_json::from_slice(&bytes)
                        .context("its report is not what was agreed on")?;
                    if let Some(error) = &report.error {
                        bail!("it could not run the plan: {error}");
                    }
                    return Ok(report);
                }
            }
        }
    }

    fn open(&mut self, name: &str) -> Result<()> {
        let name = Path::new(name);
        // The guest's word is not trusted with the host's files.
        if !name
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
        {
            bail!("it sent a file named {}", name.display());
        }
        let path = self.out.join(name);
        if let Some(parent) = path.parent() {
            paths::make_dir(parent)?;
        }
        let file =
            File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        self.file = Some((file, path));
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let (file, path) = self.file.as_mut().context("it sent data of no file")?;
        file.write_all(bytes)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

fn pass(to: &mut dyn Write, bytes: &[u8]) -> Result<()> {
    to.write_all(bytes)
        .and_then(|()| to.flush())
        .context("cannot pass the guest's output on")
}

/// What the last verdict line says.
fn verdict(console: &str) -> Option<&str> {
    let lines = console.lines().rev();
    lines
        .filter_map(|line| line.trim().strip_prefix(VERDICT))
        .map(str::trim)
        .next()
}

fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// The last lines, set off.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    let from = lines.len().saturating_sub(TAIL);
    match lines.get(from..).unwrap_or_default() {
        [] => "  (nothing)".to_owned(),
        end => end
            .iter()
            .map(|line| format!("  | {line}"))
            .collect::<Vec<_>>()
            .join("\n"),
    }
}

/// A folder of one machine, removed when dropped. Short: a socket's path holds 107 bytes.
struct Work {
    dir: PathBuf,
}

impl Work {
    const NAME: &str = "vmascope-vm";

    fn new() -> Result<Self> {
        Self::sweep();
        let dir = paths::temp_beside(&std::env::temp_dir().join(Self::NAME));
        paths::make_dir(&dir)?;
        Ok(Self { dir })
    }
}

impl Work {
    /// Removes what interrupted runs have left.
    fn sweep() {
        for entry in fs::read_dir(std::env::temp_dir())
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name();
            let owner = name
                .to_str()
                .and_then(|name| name.strip_prefix(Self::NAME)?.strip_prefix(".tmp-"))
                .and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
            if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                fs::remove_dir_all(entry.path()).ok();
            }
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.dir).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_verdict_counts() {
        let console =
            format!("boot\r\n{VERDICT} failed: x\r\n\n{VERDICT} done\r\n[ 1.0] reboot: off");
        assert_eq!(verdict(&console), Some("done"));
        assert_eq!(verdict("Kernel panic"), None);
    }
}
