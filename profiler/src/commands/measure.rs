//! The loop that `record` and a live `report` share: arm, let the child go, collect until the end.
//! In: a loaded session. Out: every batch and every interval's snapshot to a `Keep`, the child's
//! exit code.

use std::{process::ExitStatus, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};

use crate::{
    child::{ChildError, Held, Running},
    model::{Batch, Snapshot},
    session::Live,
};

/// Single events leave memory this often; a recording loses at most this much in a crash.
const DRAIN: Duration = Duration::from_millis(250);
/// With a terminal, Ctrl-C reaches the child by itself; one that is still there after this long
/// was not meant by the terminal.
const GRACE: Duration = Duration::from_millis(500);
/// What a child has to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);

/// What becomes of the data.
pub trait Keep {
    fn events(&mut self, batch: Batch) -> Result<()>;
    fn interval(&mut self, snapshot: &Snapshot) -> Result<()>;
    /// Asked after each interval: nothing more is wanted.
    fn has_enough(&self) -> bool {
        false
    }
    /// SIGUSR1 has come.
    fn called(&mut self) {}
}

pub struct Ended {
    pub snapshot: Snapshot,
    /// Of the child, if there was one.
    pub child: Option<Result<ExitStatus, ChildError>>,
}

/// Measures until the child ends, the duration is over, or a signal says so.
pub fn measure(
    live: Live,
    child: Option<Held>,
    duration: Option<Duration>,
    interval: Duration,
    keep: &mut dyn Keep,
) -> Result<Ended> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(until_the_end(live, child, duration, interval, keep))
}

/// The same, beside whatever else a runtime has to do.
pub async fn until_the_end(
    mut live: Live,
    child: Option<Held>,
    duration: Option<Duration>,
    interval: Duration,
    keep: &mut dyn Keep,
) -> Result<Ended> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot catch SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot catch SIGTERM")?;
    let mut user = signal(SignalKind::user_defined1()).context("cannot catch SIGUSR1")?;
    let call = live.call();
    let mut child = child.map(Held::release);
    let start = Instant::now();
    let mut polls = interval_at(start + interval, interval);
    let mut drains = interval_at(start + DRAIN, DRAIN);
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    drains.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let far = start + Duration::from_secs(u32::MAX.into());
    let mut stop_at = duration.map_or(far, |d| start + d);
    let mut forward_at = far;
    let mut interrupts = 0;
    let mut asked = false;
    let mut status = None;
    loop {
        tokio::select! {
            _ = polls.tick() => {
                keep.interval(&live.snapshot()?)?;
                if keep.has_enough() {
                    break;
                }
            }
            _ = drains.tick() => live.events().into_iter().try_for_each(|b| keep.events(b))?,
            () = call.notified() => live.events().into_iter().try_for_each(|b| keep.events(b))?,
            ended = ended(&mut child) => {
                status = Some(ended);
                break;
            }
            () = sleep_until(stop_at) => match &child {
                None => break,
                // The time is over: the child is asked to end, then made to, as timeout(1) does.
                Some(child) => {
                    child.signal(if asked { libc::SIGKILL } else { libc::SIGTERM });
                    asked = true;
                    stop_at = Instant::now() + PATIENCE;
                }
            },
            () = sleep_until(forward_at) => {
                forward_at = far;
                if let Some(child) = &child {
                    child.signal(libc::SIGINT);
                }
            }
            _ = user.recv() => keep.called(),
            _ = interrupt.recv() => {
                interrupts += 1;
                match &child {
                    None => break,
                    Some(child) if interrupts > 1 => child.signal(libc::SIGKILL),
                    Some(_) => forward_at = Instant::now() + if on_terminal() { GRACE } else { Duration::ZERO },
                }
            }
            _ = terminate.recv() => match &child {
                None => break,
                Some(child) => child.signal(libc::SIGTERM),
            },
        }
    }
    let (_, snapshot, rest) = live.stop()?;
    rest.into_iter().try_for_each(|b| keep.events(b))?;
    Ok(Ended {
        snapshot,
        child: status,
    })
}

async fn ended(child: &mut Option<Running>) -> Result<ExitStatus, ChildError> {
    match child {
        Some(child) => child.ended().await,
        None => std::future::pending().await,
    }
}

/// Our process group is the terminal's: Ctrl-C reaches the child too.
fn on_terminal() -> bool {
    // SAFETY: no pointers; without a terminal the call fails with -1.
    unsafe { libc::tcgetpgrp(libc::STDIN_FILENO) == libc::getpgrp() }
}
