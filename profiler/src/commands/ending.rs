//! What ends a measurement. In: a child, a duration, SIGINT and SIGTERM. Out: when it is over, and how the
//! child ended; until then signals are passed on to the child.

use std::{
    process::ExitStatus,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep_until},
};

use crate::child::{ChildError, Held, Running};

/// What a child has to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);

pub struct Ending {
    child: Option<Running>,
    interrupt: Signal,
    terminate: Signal,
    /// When the time is over.
    at: Instant,
    /// The child has been told that it is.
    asked: bool,
    interrupts: u32,
}

impl Ending {
    /// Lets the child go.
    pub fn new(child: Option<Held>, duration: Option<Duration>) -> Result<Self> {
        note_who_interrupts().context("cannot catch SIGINT")?;
        let interrupt = signal(SignalKind::interrupt()).context("cannot catch SIGINT")?;
        let terminate = signal(SignalKind::terminate()).context("cannot catch SIGTERM")?;
        let far = Duration::from_secs(u32::MAX.into());
        Ok(Self {
            child: child.map(Held::release),
            interrupt,
            terminate,
            at: Instant::now() + duration.unwrap_or(far),
            asked: false,
            interrupts: 0,
        })
    }

    pub fn has_child(&self) -> bool {
        self.child.is_some()
    }

    /// Resolves when it is over. May be dropped before, and asked again.
    pub async fn comes(&mut self) -> Option<Result<ExitStatus, ChildError>> {
        loop {
            tokio::select! {
                ended = ended(&mut self.child) => return Some(ended),
                () = sleep_until(self.at) => match &self.child {
                    None => return None,
                    // The child is asked to end, then made to, as timeout(1) does.
                    Some(child) => {
                        child.signal(if self.asked { libc::SIGKILL } else { libc::SIGTERM });
                        self.asked = true;
                        self.at = Instant::now() + PATIENCE;
                    }
                },
                _ = self.interrupt.recv() => {
                    self.interrupts += 1;
                    match &self.child {
                        None => return None,
                        Some(child) if self.interrupts > 1 => child.signal(libc::SIGKILL),
                        Some(child) => pass_on_interrupt(child),
                    }
                }
                _ = self.terminate.recv() => match &self.child {
                    None => return None,
                    Some(child) => child.signal(libc::SIGTERM),
                },
            }
        }
    }
}

async fn ended(child: &mut Option<Running>) -> Result<ExitStatus, ChildError> {
    match child {
        Some(child) => child.ended().await,
        None => std::future::pending().await,
    }
}

/// A terminal's Ctrl-C goes to all of its foreground group, which the child is in too unless it left: with
/// ours it would get two, and many a program takes the second as "at once".
fn pass_on_interrupt(child: &Running) {
    let by_somebody = BY_SOMEBODY.swap(false, Ordering::Relaxed);
    // SAFETY: no pointers; of a child that is gone there is no group.
    let is_in_our_group = unsafe { libc::getpgid(child.pid as libc::pid_t) == libc::getpgid(0) };
    if by_somebody || !is_in_our_group {
        child.signal(libc::SIGINT);
    }
}

/// A SIGINT has come from a process, not from the kernel on behalf of a terminal.
static BY_SOMEBODY: AtomicBool = AtomicBool::new(false);

/// Before tokio catches it: tokio's handler calls the one it finds first, and does not tell what a signal
/// came with.
fn note_who_interrupts() -> std::io::Result<()> {
    // A second time would undo what tokio has done.
    static ONCE: Once = Once::new();
    let mut done = 0;
    ONCE.call_once(|| {
        // SAFETY: plain integers, for which zeros mean nothing special.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = note as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        // SAFETY: the handler has the shape that SA_SIGINFO asks for, and only stores to an atomic.
        done = unsafe { libc::sigaction(libc::SIGINT, &raw const action, std::ptr::null_mut()) };
    });
    match done {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

extern "C" fn note(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives one to each handler that is set up with SA_SIGINFO.
    if unsafe { (*info).si_code } != libc::SI_KERNEL {
        BY_SOMEBODY.store(true, Ordering::Relaxed);
    }
}
