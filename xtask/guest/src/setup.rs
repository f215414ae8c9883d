//! Makes a usable system out of an initramfs: file systems, modules, the scratch disk, the port.
//!
//! In: the plan. Out: mounts, and the port to the host; an error names the thing that failed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use guest::plan::{Disk, PORT};

use crate::{delay, sys};

/// How long a device may take to appear after its driver was loaded.
const APPEAR: Duration = Duration::from_secs(30);

fn named(what: &str, error: &io::Error) -> String {
    format!("{what}: {error}")
}

/// Mounts what every program may expect. What a kernel does not have is left out: the programs
/// that need it will say so themselves.
pub fn file_systems() -> Result<(), String> {
    for (source, target, kind, data, needed) in [
        ("proc", "/proc", "proc", "", true),
        ("sys", "/sys", "sysfs", "", true),
        ("dev", "/dev", "devtmpfs", "", true),
        ("tmp", "/tmp", "tmpfs", "mode=1777", true),
        ("run", "/run", "tmpfs", "mode=755", true),
        ("out", "/out", "tmpfs", "mode=1777", true),
        ("shm", "/dev/shm", "tmpfs", "mode=1777", true),
        ("pts", "/dev/pts", "devpts", "mode=620,gid=5", false),
        ("tracefs", "/sys/kernel/tracing", "tracefs", "", false),
        ("debugfs", "/sys/kernel/debug", "debugfs", "", false),
        ("bpf", "/sys/fs/bpf", "bpf", "", false),
        ("cgroup2", "/sys/fs/cgroup", "cgroup2", "", false),
    ] {
        // What lies in sysfs cannot be made; the mount then tells.
        fs::create_dir_all(target).ok();
        match sys::mount(source, target, kind, data) {
            Err(error) if needed => return Err(named(&format!("mount {target}"), &error)),
            _ => {}
        }
    }
    fs::write("/proc/sys/kernel/hostname", "lab").map_err(|e| named("hostname", &e))?;
    for (target, link) in [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
    ] {
        symlink(target, link).map_err(|e| named(link, &e))?;
    }
    Ok(())
}

/// Gives every applet of busybox its name in /bin.
pub fn applets() -> Result<(), String> {
    let status = Command::new("/bin/busybox")
        .args(["--install", "-s", "/bin"])
        .status()
        .map_err(|e| named("/bin/busybox", &e))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("busybox --install: {status}"))
    }
}

pub fn modules(paths: &[String]) -> Result<(), String> {
    for path in paths {
        let file = File::open(path).map_err(|e| named(path, &e))?;
        match sys::load_module(&file) {
            Err(error) if error.raw_os_error() != Some(libc::EEXIST) => {
                return Err(named(&format!("load {path}"), &error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Mounts a scratch disk, behind a delay if asked for.
pub fn disk(disk: &Disk) -> Result<(), String> {
    appear(Path::new(&disk.device))?;
    let device = if disk.delay_ms == 0 {
        disk.device.clone()
    } else {
        let slow = delay::make(&disk.device, disk.delay_ms)
            .map_err(|e| named("device-mapper delay", &e))?;
        appear(Path::new(&slow))?;
        slow
    };
    let at = &disk.at;
    fs::create_dir_all(at).map_err(|e| named(at, &e))?;
    sys::mount(&device, at, "ext4", "")
        .map_err(|e| named(&format!("mount {device} at {at}"), &e))?;
    fs::set_permissions(at, fs::Permissions::from_mode(0o1777)).map_err(|e| named(at, &e))
}

fn appear(path: &Path) -> Result<(), String> {
    let start = Instant::now();
    while !path.exists() {
        if start.elapsed() > APPEAR {
            return Err(format!("{} did not appear", path.display()));
        }
        sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Opens the port to the host.
pub fn port() -> Result<File, String> {
    let start = Instant::now();
    loop {
        if let Some(device) = find_port() {
            return File::options()
                .write(true)
                .open(&device)
                .map_err(|e| named(&device, &e));
        }
        if start.elapsed() > APPEAR {
            return Err(format!(
                "no virtio-serial port {PORT}: the kernel needs CONFIG_VIRTIO_PCI and CONFIG_VIRTIO_CONSOLE"
            ));
        }
        sleep(Duration::from_millis(10));
    }
}

fn find_port() -> Option<String> {
    fs::read_dir("/sys/class/virtio-ports")
        .ok()?
        .flatten()
        .find(|entry| {
            fs::read_to_string(entry.path().join("name")).is_ok_and(|name| name.trim() == PORT)
        })
        .map(|entry| format!("/dev/{}", entry.file_name().to_string_lossy()))
        .filter(|device| Path::new(device).exists())
}
