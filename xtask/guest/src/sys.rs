//! System calls of the init that the standard library has no name for.
//!
//! Each is a thin wrapper that turns errno into `io::Error`.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::Duration;

/// Turns a return value of -1 into the error of errno.
pub fn check(value: i64) -> io::Result<i64> {
    if value == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(value)
    }
}

pub fn cstring(text: &str) -> io::Result<CString> {
    CString::new(text).map_err(io::Error::other)
}

pub fn mount(source: &str, target: &str, kind: &str, data: &str) -> io::Result<()> {
    let (source, target) = (cstring(source)?, cstring(target)?);
    let (kind, data) = (cstring(kind)?, cstring(data)?);
    // SAFETY: all four are NUL-terminated strings that outlive the call.
    let done = unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            0,
            data.as_ptr().cast(),
        )
    };
    check(done.into()).map(drop)
}

pub fn unmount(target: &str) -> io::Result<()> {
    let target = cstring(target)?;
    // SAFETY: a NUL-terminated string that outlives the call.
    check(unsafe { libc::umount2(target.as_ptr(), 0) }.into()).map(drop)
}

/// Loads a module from an open file.
pub fn load_module(file: &File) -> io::Result<()> {
    let no_options: &CStr = c"";
    // SAFETY: finit_module(2) takes a descriptor, a NUL-terminated string and flags.
    let done = unsafe {
        libc::syscall(
            libc::SYS_finit_module,
            file.as_raw_fd(),
            no_options.as_ptr(),
            0,
        )
    };
    check(done).map(drop)
}

/// A descriptor that becomes readable when the process ends.
pub fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open(2) takes a pid and flags.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the call above made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// How a child ended.
pub struct Ended {
    pub pid: i32,
    pub status: i32,
}

/// Takes one dead child, whoever it was; `None` when there is none just now.
pub fn reap() -> Option<Ended> {
    let mut status = 0;
    // SAFETY: a place for the status.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    (pid > 0).then_some(Ended { pid, status })
}

/// Waits until one of the descriptors can be read or has ended; false on a timeout.
pub fn wait_readable(fds: &[i32], limit: Duration) -> io::Result<Vec<bool>> {
    let mut polled: Vec<libc::pollfd> = fds
        .iter()
        .map(|fd| libc::pollfd {
            fd: *fd,
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    let ms = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    let count = libc::nfds_t::try_from(polled.len()).map_err(io::Error::other)?;
    // SAFETY: the pointer and the count describe the vector above.
    let done = unsafe { libc::poll(polled.as_mut_ptr(), count, ms) };
    match check(done.into()) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(vec![false; fds.len()]),
        Err(error) => Err(error),
        Ok(_) => Ok(polled.iter().map(|fd| fd.revents != 0).collect()),
    }
}

/// Sends a signal to a process group.
pub fn kill_group(pid: i32, signal: i32) {
    // SAFETY: kill(2) takes two numbers; a group that is gone already is no error here.
    unsafe { libc::kill(-pid, signal) };
}

/// `uname -r`.
pub fn release() -> String {
    // SAFETY: an all-zero utsname is a valid value of that plain struct.
    let mut name: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live local variable.
    unsafe { libc::uname(&mut name) };
    // SAFETY: uname(2) ends the text with a NUL, and zeroed memory is one NUL after another.
    let release = unsafe { CStr::from_ptr(name.release.as_ptr()) };
    release.to_string_lossy().into_owned()
}

/// Writes everything back and switches the machine off.
pub fn power_off() -> ! {
    // SAFETY: sync(2) takes nothing; reboot(2) takes a number, and this process is init.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF);
    }
    // A machine without a power switch: the host ends it after the verdict.
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}
