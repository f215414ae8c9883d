//! The command after `--`: started, but held just before its exec until the probes are armed, so
//! that nothing it does is missed. In: a command. Out: its pid at once, its end later.
//!
//! `Command::spawn` returns only after the exec, and reports why it failed, so it runs on a thread
//! of its own, which also waits for the end. The child says its pid through a pipe, and the other
//! pipe's first byte lets it go.

use std::{
    ffi::OsStr,
    io::{self, PipeWriter, Read as _, Write as _, pipe},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    process::{Command, ExitStatus},
};

use thiserror::Error;
use tokio::sync::oneshot;

use crate::user::{Login, User};

#[derive(Debug, Error)]
pub enum ChildError {
    #[error("{command}: not found")]
    NotFound { command: String },
    #[error("{command}: cannot execute: {source}")]
    CannotExecute { command: String, source: io::Error },
    #[error("cannot start {command}: {source}")]
    Start { command: String, source: io::Error },
}

/// A child that has not been let go yet. Dropped, the child ends without running the command.
#[derive(Debug)]
pub struct Held {
    pub pid: u32,
    go: PipeWriter,
    /// Still means this child when its number means another.
    pidfd: OwnedFd,
    end: oneshot::Receiver<Result<ExitStatus, ChildError>>,
}

/// A child that runs, or has run.
#[derive(Debug)]
pub struct Running {
    pub pid: u32,
    pidfd: OwnedFd,
    end: oneshot::Receiver<Result<ExitStatus, ChildError>>,
}

/// As the user with that login, or as whoever we are.
pub fn spawn_held(
    command: &[impl AsRef<OsStr>],
    login: Option<&Login>,
) -> Result<Held, ChildError> {
    let program: &OsStr = command.first().map(AsRef::as_ref).unwrap_or_default();
    let name = program.to_string_lossy().into_owned();
    let failed = |source| ChildError::Start {
        command: name.clone(),
        source,
    };
    let (mut tell, told) = pipe().map_err(failed)?;
    let (hold, go) = pipe().map_err(failed)?;
    let mut cmd = Command::new(program);
    cmd.args(command.iter().skip(1));
    cmd.envs(login.into_iter().flat_map(Login::environment));
    let ids = login.map(|login| (login.user, login.groups.clone()));
    let (told_fd, hold_fd, go_fd) = (told.as_raw_fd(), hold.as_raw_fd(), go.as_raw_fd());
    // SAFETY: between fork and exec only async-signal-safe calls are made, on descriptors that the
    // parent keeps open until the spawn has returned.
    unsafe {
        cmd.pre_exec(move || {
            // The parent's end must not keep the child waiting should the parent die.
            libc::close(go_fd);
            if let Some((user, groups)) = &ids {
                become_user(*user, groups)?;
            }
            let pid = (libc::getpid() as u32).to_ne_bytes();
            if libc::write(told_fd, pid.as_ptr().cast(), pid.len()) != pid.len() as isize {
                return Err(io::Error::last_os_error());
            }
            let mut byte = 0u8;
            loop {
                match libc::read(hold_fd, (&raw mut byte).cast(), 1) {
                    1 => return Ok(()),
                    // The parent gave up: end without a trace.
                    0 => libc::_exit(125),
                    _ if *libc::__errno_location() == libc::EINTR => {}
                    _ => return Err(io::Error::last_os_error()),
                }
            }
        });
    }
    let (ended, mut end) = oneshot::channel();
    let command = name.clone();
    let thread = std::thread::Builder::new()
        .name("vmascope-child".into())
        .spawn(move || {
            let spawned = cmd.spawn();
            drop((told, hold));
            let status = spawned
                .map_err(|e| exec_error(&command, e))
                .and_then(|mut child| {
                    child
                        .wait()
                        .map_err(|source| ChildError::Start { command, source })
                });
            // Nobody waits any more where measuring failed.
            let _ = ended.send(status);
        })
        .map_err(failed)?;
    let mut pid = [0; 4];
    if let Err(source) = tell.read_exact(&mut pid) {
        // It did not come as far as its own code: no room to fork, or it may not become the user.
        let _ = thread.join();
        return Err(match end.try_recv() {
            Ok(Err(ChildError::CannotExecute { source, .. })) => failed(source),
            _ => failed(source),
        });
    }
    let pid = u32::from_ne_bytes(pid);
    // SAFETY: no pointers; the pid is that of the child, which is held and so not reaped.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
    let pidfd = i32::try_from(pidfd).ok().filter(|fd| *fd >= 0);
    let pidfd = pidfd.ok_or_else(|| failed(io::Error::last_os_error()))?;
    // SAFETY: a fresh descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Held {
        pid,
        go,
        pidfd,
        end,
    })
}

/// Groups first: who has become somebody may not choose them any more. Not left to `Command`, which would
/// do so before it calls us, and takes all groups away.
fn become_user(user: User, groups: &[u32]) -> io::Result<()> {
    // SAFETY: system calls, allowed between fork and exec, and a list with its length.
    let done = unsafe {
        libc::setgroups(groups.len(), groups.as_ptr()) == 0
            && libc::setgid(user.gid) == 0
            && libc::setuid(user.uid) == 0
    };
    match done {
        true => Ok(()),
        false => Err(io::Error::last_os_error()),
    }
}

impl Held {
    /// Lets the child exec.
    pub fn release(mut self) -> Running {
        // A child killed while it was held shows in its status.
        let _ = self.go.write_all(&[1]);
        Running {
            pid: self.pid,
            pidfd: self.pidfd,
            end: self.end,
        }
    }
}

impl Running {
    /// Resolves when the child has ended, or could not be executed.
    pub async fn ended(&mut self) -> Result<ExitStatus, ChildError> {
        (&mut self.end).await.unwrap_or_else(|_| {
            Err(ChildError::Start {
                command: "the child".into(),
                source: io::ErrorKind::BrokenPipe.into(),
            })
        })
    }

    /// Sends a signal to the child alone, not to its group.
    pub fn signal(&self, signal: i32) {
        let no_info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: a descriptor that is open, and no information to read. A child that is gone
        // already needs no signal.
        unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.pidfd.as_raw_fd(),
                signal,
                no_info,
                0,
            )
        };
    }
}

/// A shell's exit code for a child's end.
pub fn exit_code(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => code as u8,
        (None, Some(signal)) => 128u8.wrapping_add(signal as u8),
        (None, None) => 125,
    }
}

fn exec_error(command: &str, source: io::Error) -> ChildError {
    let command = command.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => ChildError::NotFound { command },
        _ => ChildError::CannotExecute { command, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(command: &[&str]) -> Result<u8, ChildError> {
        let mut child = spawn_held(command, None)?.release();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(child.ended()).map(exit_code)
    }

    #[test]
    fn exit_codes_are_the_shell_s() {
        assert_eq!(run(&["true"]).unwrap(), 0);
        assert_eq!(run(&["false"]).unwrap(), 1);
        assert_eq!(run(&["sh", "-c", "kill -9 $$"]).unwrap(), 137);
        assert!(matches!(
            run(&["/nonexistent"]),
            Err(ChildError::NotFound { .. })
        ));
        assert!(matches!(
            run(&["/etc/passwd"]),
            Err(ChildError::CannotExecute { .. })
        ));
    }

    #[test]
    fn a_held_child_does_nothing_until_released() {
        let marker = std::env::temp_dir().join(format!("vmascope-held-{}", std::process::id()));
        let command = ["touch".to_owned(), marker.display().to_string()];
        let held = spawn_held(&command, None).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!marker.exists());
        let mut child = held.release();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(child.ended()).unwrap();
        assert!(marker.exists());
        std::fs::remove_file(marker).unwrap();
    }

    #[test]
    fn a_held_child_that_is_given_up_never_runs() {
        let marker = std::env::temp_dir().join(format!("vmascope-dropped-{}", std::process::id()));
        let command = ["touch".to_owned(), marker.display().to_string()];
        let pid = spawn_held(&command, None).unwrap().pid;
        for _ in 0..100 {
            if !std::path::Path::new(&format!("/proc/{pid}")).exists() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(!marker.exists());
    }
}
