//! The loop that `record` and a live `report` share: arm, let the child go, collect until the end.
//! In: a loaded session. Out: every batch and every interval's snapshot to a `Keep`, the last counts, the
//! child's exit code.

use std::{process::ExitStatus, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::ending::Ending;
use crate::{
    child::{ChildError, Held},
    error::{one_line, say},
    model::{Batch, Snapshot},
    session::Live,
};

/// Single events leave memory this often; a recording loses at most this much in a crash.
const DRAIN: Duration = Duration::from_millis(250);

/// What becomes of the data.
pub trait Keep {
    fn events(&mut self, batch: Batch) -> Result<()>;
    fn interval(&mut self, snapshot: &Snapshot) -> Result<()>;
    /// Nothing more is wanted.
    fn has_enough(&self) -> bool {
        false
    }
    /// SIGUSR1 has come.
    fn called(&mut self) {}
}

pub struct Ended {
    /// The last counts; an error where not all could be measured or kept. A child has ended all the same.
    pub counted: Result<Snapshot>,
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
    let mut user = signal(SignalKind::user_defined1()).context("cannot catch SIGUSR1")?;
    let mut ending = Ending::new(child, duration)?;
    let call = live.call();
    let start = Instant::now();
    let mut polls = interval_at(start + interval, interval);
    let mut drains = interval_at(start + DRAIN, DRAIN);
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    drains.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let child = loop {
        let kept = tokio::select! {
            child = ending.comes() => break child,
            _ = polls.tick() => polled(&mut live, keep),
            _ = drains.tick() => drained(&mut live, keep),
            () = call.notified() => drained(&mut live, keep),
            _ = user.recv() => {
                keep.called();
                Ok(())
            }
        };
        if let Err(why) = kept {
            return Ok(given_up(why, live, ending).await);
        }
        if keep.has_enough() {
            break None;
        }
    };
    Ok(Ended {
        counted: stopped(live, keep),
        child,
    })
}

fn polled(live: &mut Live, keep: &mut dyn Keep) -> Result<()> {
    keep.interval(&live.snapshot()?)
}

fn drained(live: &mut Live, keep: &mut dyn Keep) -> Result<()> {
    live.events().into_iter().try_for_each(|b| keep.events(b))
}

fn stopped(live: Live, keep: &mut dyn Keep) -> Result<Snapshot> {
    let (_, snapshot, rest) = live.stop()?;
    rest.into_iter().try_for_each(|b| keep.events(b))?;
    Ok(snapshot)
}

/// The command is somebody's work: it goes on, though nothing is measured any more, and is waited for.
async fn given_up(why: anyhow::Error, live: Live, mut ending: Ending) -> Ended {
    drop(live);
    let mut child = None;
    if ending.has_child() {
        say(&format!(
            "{}: the command runs on, unmeasured",
            one_line(&why)
        ));
        child = ending.comes().await;
    }
    Ended {
        counted: Err(why),
        child,
    }
}
