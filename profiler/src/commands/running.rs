//! Recorders that run detached. There is no file to keep: each is a process that leads its session and
//! whose command line is `vmascope record --detach`. In: /proc. Out: what it records, and where to.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{self, Path, PathBuf},
    time::Duration,
};

use clap::Parser as _;

use super::{asked, detach::log_of, keep};
use crate::{
    cli::{Cli, Command, Record},
    kernel::host,
};

pub struct Running {
    pub pid: u32,
    pub args: Record,
    /// In the recorder's own folder.
    pub output: PathBuf,
    pub log: PathBuf,
    pub since: Duration,
    /// Still means this process when its number means another.
    pidfd: OwnedFd,
}

/// Of all users, as far as we may look; by pid.
pub fn all() -> Vec<Running> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut all: Vec<_> = processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(one)
        .collect();
    all.sort_by_key(|r| r.pid);
    all
}

fn one(pid: u32) -> Option<Running> {
    // SAFETY: no pointers.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
    let pidfd = i32::try_from(pidfd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: a fresh descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    // The caller that waits until counting begins has the same command line.
    // SAFETY: no pointers.
    if unsafe { libc::getsid(pid as libc::pid_t) } != pid as libc::pid_t {
        return None;
    }
    let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = words.strip_suffix(b"\0")?.split(|byte| *byte == 0);
    let words = words.map(std::ffi::OsStr::from_bytes);
    let Some(Command::Record(args)) = Cli::try_parse_from(words).ok()?.command else {
        return None;
    };
    if !args.detach {
        return None;
    }
    let folder = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
    Some(Running {
        pid,
        output: folder.join(args.csv.as_ref().unwrap_or(&args.output)),
        log: folder.join(log_of(&args)),
        since: host::since_start(pid)?,
        args,
        pidfd,
    })
}

/// Also of what is not there: no file of a row of recordings has the name that was given.
fn place(name: &Path) -> PathBuf {
    let name = path::absolute(name).unwrap_or_else(|_| name.to_owned());
    if let Ok(place) = fs::canonicalize(&name) {
        return place;
    }
    match (name.parent().map(fs::canonicalize), name.file_name()) {
        (Some(Ok(folder)), Some(file)) => folder.join(file),
        _ => name,
    }
}

impl Running {
    pub fn is(&self, name: &Path) -> bool {
        name.to_str() == Some(&self.pid.to_string()) || place(name) == place(&self.output)
    }

    /// The recording it writes, or wrote last; `None`: it writes none, or has not yet.
    pub fn recording(&self) -> Option<PathBuf> {
        let args = &self.args;
        let is_row = args.ring.or(args.max_age).is_some() || args.max_size.is_some();
        match is_row {
            _ if args.csv.is_some() => None,
            true => keep::latest(&self.output, self.since),
            false => Some(self.output.clone()),
        }
    }

    /// In a line.
    pub fn said(&self) -> String {
        let p = &self.args.probing;
        let names = |what: &str, names: &[String]| format!("{what} {}", names.join(","));
        let paths = |paths: &[PathBuf]| paths.iter().map(|p| p.display().to_string()).collect();
        let numbers = |n: &[u32]| n.iter().map(ToString::to_string).collect::<Vec<_>>();
        let target = if !self.args.command.is_empty() && !self.args.all {
            asked::command_target(&self.args.command)
        } else if !p.pid.is_empty() {
            names("pid", &numbers(&p.pid))
        } else if !p.cgroup.is_empty() {
            let paths: Vec<_> = paths(&p.cgroup);
            names("cgroup", &paths)
        } else if !p.container.is_empty() {
            names("container", &p.container)
        } else if !p.uid.is_empty() {
            names("uid", &numbers(&p.uid))
        } else if let Some(package) = &p.package {
            format!("package {package}")
        } else {
            "system".into()
        };
        let (since, output) = (self.since.as_secs(), self.output.display());
        format!("{output}: process {} for {since} s, {target}", self.pid)
    }

    /// Not SIGINT: what a shell starts in the background, a command of the recorder too, may ignore that.
    pub fn terminate(&self) -> io::Result<()> {
        let no_info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: a descriptor that is open, and no information to read.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.pidfd.as_raw_fd(),
                libc::SIGTERM,
                no_info,
                0,
            )
        };
        match sent {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Whether it is gone after so long at most.
    pub fn ends_within(&self, time: Duration) -> bool {
        let mut wanted = libc::pollfd {
            fd: self.pidfd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one descriptor, as said.
        unsafe { libc::poll(&raw mut wanted, 1, time.as_millis() as i32) == 1 }
    }
}
