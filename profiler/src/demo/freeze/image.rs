//! A file system that may be frozen: a private ext4 on a loop device, with nothing else on it.
//!
//! In: a folder for the image. Out: an ext4 over that folder, seen by this process and its children
//! alone, and gone with the last of them; the image has no name any more.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::{
        fd::{AsRawFd as _, RawFd},
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::demo::{
    mount::{detach, mount, private},
    now_ns, sleep_until,
};

const SIZE: u64 = 64 << 20;
/// Where e2fsprogs has its tools, also where PATH does not say so.
const FOLDERS: [&str; 5] = ["", "/sbin/", "/usr/sbin/", "/bin/", "/system/bin/"];
const TOOLS: [&str; 2] = ["mke2fs", "mkfs.ext4"];
/// All that a fresh ext4 has in it.
const FRESH: &str = "lost+found";

// Of include/uapi/linux/fs.h: `_IOWR('X', 119, int)` and the next.
const FIFREEZE: u64 = 0xc004_5877;
const FITHAW: u64 = 0xc004_5878;
// Of include/uapi/linux/loop.h.
const LOOP_CONFIGURE: u64 = 0x4c0a;
const LOOP_CTL_GET_FREE: u64 = 0x4c82;
const AUTOCLEAR: u32 = 4;

pub struct Image {
    at: PathBuf,
    root: File,
}

impl Image {
    pub fn make(folder: &Path) -> Result<Self> {
        let at = folder
            .canonicalize()
            .with_context(|| format!("cannot use {}", folder.display()))?;
        private().context("freezing a file system of our own needs root")?;
        let path = at.join(format!("vmascope-freeze-{}", std::process::id()));
        let image = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        let made = image
            .set_len(SIZE)
            .with_context(|| format!("cannot size {}", path.display()))
            .and_then(|()| format(&path));
        // From now on it is there for those who have it open.
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        made?;
        let (name, device) = attach(&image)?;
        let number = device
            .metadata()
            .context("cannot look at the loop device")?;
        let flags = libc::MS_NOSUID | libc::MS_NODEV;
        mount(&name, &at, "ext4", flags, "").with_context(|| {
            format!(
                "cannot mount an ext4 over {}: has this kernel ext4?",
                at.display()
            )
        })?;
        let root = File::open(&at).context("cannot open the fresh file system")?;
        let image = Self { at, root };
        image.is_ours_alone(number.rdev())?;
        Ok(image)
    }

    /// A file of so many bytes, written to the device.
    pub fn file(&self, name: &str, len: usize) -> Result<File> {
        let mut file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(self.at.join(name))
            .context("cannot make a file on the fresh file system")?;
        file.write_all(&vec![b'v'; len])
            .and_then(|()| file.sync_all())
            .context("cannot write to the fresh file system")?;
        Ok(file)
    }

    pub fn freeze(&self) -> io::Result<()> {
        ioctl(self.root.as_raw_fd(), FIFREEZE)
    }

    /// EINVAL: it is not frozen.
    pub fn thaw(&self) -> io::Result<()> {
        ioctl(self.root.as_raw_fd(), FITHAW)
    }

    /// Freezing stops everybody who writes: so nobody else's file system, and mounted nowhere else.
    fn is_ours_alone(&self, device: u64) -> Result<()> {
        let meta = self.root.metadata().context("cannot look at the mount")?;
        ensure!(
            meta.dev() == device,
            "{} is not the file system that was just made: not freezing it",
            self.at.display()
        );
        let number = format!("{}:{}", libc::major(device), libc::minor(device));
        let mounts =
            fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
        let count = mounts
            .lines()
            .filter(|line| line.split(' ').nth(2) == Some(number.as_str()))
            .count();
        ensure!(
            count == 1,
            "the file system that was just made is mounted {count} times: not freezing it"
        );
        for entry in fs::read_dir(&self.at).context("cannot list the mount")? {
            let name = entry.context("cannot list the mount")?.file_name();
            ensure!(
                name == FRESH,
                "{} lies on the file system that was just made: not freezing it",
                name.display()
            );
        }
        Ok(())
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        detach(&self.at);
    }
}

fn ioctl(fd: RawFd, request: u64) -> io::Result<()> {
    // SAFETY: these two take no argument, whatever their numbers say.
    match unsafe { libc::ioctl(fd, request as _, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn format(image: &Path) -> Result<()> {
    let lazy = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
    let wanted = [
        "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-E", lazy,
    ];
    // Busybox's knows no types. What it makes is an ext4 without a journal, as far as a mount goes.
    let plain = ["-F", "-b", "4096"];
    let mut said = None;
    for tool in TOOLS {
        for folder in FOLDERS {
            for options in [wanted.as_slice(), plain.as_slice()] {
                let done = Command::new(format!("{folder}{tool}"))
                    .args(options)
                    .arg(image)
                    .stdin(Stdio::null())
                    .output();
                match done {
                    Ok(done) if done.status.success() => return Ok(()),
                    Ok(done) => {
                        let text = String::from_utf8_lossy(&done.stderr).into_owned();
                        let last = text.trim().lines().last().unwrap_or_default().to_owned();
                        said.get_or_insert(last);
                    }
                    Err(_) => break,
                }
            }
        }
    }
    match said {
        Some(said) => bail!("mke2fs cannot make a file system: {said}"),
        None => bail!("no mke2fs or mkfs.ext4 here: install e2fsprogs"),
    }
}

/// `struct loop_info64` and `struct loop_config` of include/uapi/linux/loop.h.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    numbers: [u64; 5],
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    names: [u8; 64 + 64 + 32],
    init: [u64; 2],
    reserved: [u64; 8],
}

/// Gives the image a loop device, which goes when nobody uses it any more.
fn attach(image: &File) -> Result<(String, File)> {
    let missing = "no loop device can be had: this kernel lacks the module loop";
    let control = File::options()
        .read(true)
        .write(true)
        .open("/dev/loop-control")
        .context(missing)?;
    let config = LoopConfig {
        fd: image.as_raw_fd() as u32,
        block_size: 0,
        numbers: [0; 5],
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: AUTOCLEAR,
        names: [0; 160],
        init: [0; 2],
        reserved: [0; 8],
    };
    // Somebody else may take the free one first.
    for _ in 0..20 {
        // SAFETY: it takes no argument.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) };
        if number < 0 {
            return Err(io::Error::last_os_error()).context(missing);
        }
        // Android has them in a folder of their own.
        for name in ["/dev/loop", "/dev/block/loop"].map(|name| format!("{name}{number}")) {
            let Ok(device) = File::options().read(true).write(true).open(&name) else {
                continue;
            };
            // SAFETY: the request takes a pointer to that struct.
            let done =
                unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) };
            if done == 0 {
                return Ok((name, device));
            }
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EBUSY) {
                return Err(error).with_context(|| format!("cannot set {name} up"));
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
    bail!("no free loop device appeared below /dev")
}

/// A process that thaws the file system when its time has come, whatever became of ours.
pub struct Watchdog {
    pid: i32,
}

impl Watchdog {
    /// To be called while this process has one thread.
    pub fn start(image: &Image, after: Duration) -> Result<Self> {
        let until = now_ns() + after.as_nanos() as u64;
        // SAFETY: this process has one thread, so the child may do anything; it leaves by _exit.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()).context("cannot fork"),
            0 => {
                // What ends our process must not end this one, nor may it keep pipes open.
                // SAFETY: numbers; the descriptors are ours, and nobody uses them here.
                unsafe {
                    libc::setsid();
                    libc::dup2(image.root.as_raw_fd(), 0);
                    libc::syscall(libc::SYS_close_range, 1, u32::MAX, 0);
                }
                sleep_until(until);
                ioctl(0, FITHAW).ok();
                // SAFETY: ends the process, without the parent's clean-up.
                unsafe { libc::_exit(0) }
            }
            pid => Ok(Self { pid }),
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // SAFETY: our own child, which nobody else waits for; it may have ended.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_config_is_the_kernel_s() {
        assert_eq!(size_of::<LoopConfig>(), 304);
        assert_eq!(std::mem::offset_of!(LoopConfig, flags), 8 + 52);
    }
}
