//! Where snapshots come from: a running session, or a recording played at its own speed.

use std::{
    iter::Peekable,
    sync::{
        Arc,
        mpsc::{Receiver, TryRecvError},
    },
    time::Duration,
};

use crate::{
    model::{ArrivalEvent, Batch, ConflictEvent, FaultEvent, Snapshot, WaitEvent, WindowEvent},
    recording::{self, Events, Intervals, Recording},
};

/// A picture, and the single events since the one before.
pub struct Update {
    pub snapshot: Arc<Snapshot>,
    pub events: Vec<Batch>,
}

pub enum Feed<'a> {
    Live(Receiver<Update>),
    Recorded(Box<Playback<Intervals<'a>>>, Box<RecordedEvents<'a>>),
}

#[derive(Debug, PartialEq)]
pub enum Next {
    Nothing,
    Snapshot(Arc<Snapshot>),
    End,
}

impl Feed<'_> {
    /// The latest that is due; `passed` since the last call.
    /// Events go to `events`, every one.
    pub fn next(
        &mut self,
        passed: Duration,
        paused: bool,
        events: &mut Vec<Batch>,
    ) -> recording::Result<Next> {
        match self {
            Feed::Live(updates) => Ok(latest(updates, events)),
            Feed::Recorded(..) if paused => Ok(Next::Nothing),
            Feed::Recorded(playback, recorded) => {
                let next = playback.advance(passed)?;
                if let Next::Snapshot(snapshot) = &next {
                    events.push(recorded.until(snapshot.at_ns)?);
                }
                Ok(next)
            }
        }
    }
}

fn latest(updates: &Receiver<Update>, events: &mut Vec<Batch>) -> Next {
    let mut latest = Next::Nothing;
    loop {
        match updates.try_recv() {
            Ok(update) => {
                latest = Next::Snapshot(update.snapshot);
                events.extend(update.events);
            }
            Err(TryRecvError::Disconnected) if latest == Next::Nothing => return Next::End,
            Err(_) => return latest,
        }
    }
}

/// The single events of a recording, in the order they were written.
pub struct RecordedEvents<'a> {
    waits: Peekable<Events<'a, WaitEvent>>,
    faults: Peekable<Events<'a, FaultEvent>>,
    windows: Peekable<Events<'a, WindowEvent>>,
    arrivals: Peekable<Events<'a, ArrivalEvent>>,
    conflicts: Peekable<Events<'a, ConflictEvent>>,
}

impl<'a> RecordedEvents<'a> {
    pub fn of(recording: &'a Recording) -> Self {
        Self {
            waits: recording.waits().peekable(),
            faults: recording.faults().peekable(),
            windows: recording.windows().peekable(),
            arrivals: recording.arrivals().peekable(),
            conflicts: recording.conflicts().peekable(),
        }
    }

    fn until(&mut self, at_ns: u64) -> recording::Result<Batch> {
        Ok(Batch {
            waits: due(&mut self.waits, |e| e.end_ns <= at_ns)?,
            faults: due(&mut self.faults, |e| e.end_ns <= at_ns)?,
            windows: due(&mut self.windows, |e| e.close_ns <= at_ns)?,
            arrivals: due(&mut self.arrivals, |e| e.at_ns <= at_ns)?,
            conflicts: due(&mut self.conflicts, |e| e.at_ns <= at_ns)?,
            ..Batch::default()
        })
    }
}

fn due<T, I>(events: &mut Peekable<I>, is_due: impl Fn(&T) -> bool) -> recording::Result<Vec<T>>
where
    I: Iterator<Item = recording::Result<T>>,
{
    let mut out = Vec::new();
    // An error is due at once.
    while let Some(next) = events.next_if(|e| e.as_ref().ok().is_none_or(&is_due)) {
        out.push(next?);
    }
    Ok(out)
}

/// Gives out snapshots when as much time has passed as had when they were taken.
pub struct Playback<I> {
    snapshots: I,
    next: Option<Snapshot>,
    position_ns: u64,
}

impl<I: Iterator<Item = recording::Result<Snapshot>>> Playback<I> {
    pub fn new(snapshots: I) -> Self {
        Self {
            snapshots,
            next: None,
            position_ns: 0,
        }
    }

    pub fn advance(&mut self, passed: Duration) -> recording::Result<Next> {
        let passed = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX);
        self.position_ns = self.position_ns.saturating_add(passed);
        let mut due = Next::Nothing;
        loop {
            let next = match self.next.take() {
                Some(next) => next,
                None => match self.snapshots.next() {
                    Some(next) => next?,
                    None if due == Next::Nothing => return Ok(Next::End),
                    None => return Ok(due),
                },
            };
            if next.duration_ns > self.position_ns {
                self.next = Some(next);
                return Ok(due);
            }
            due = Next::Snapshot(Arc::new(next));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn at(seconds: u64) -> Snapshot {
        Snapshot {
            duration_ns: seconds * 1_000_000_000,
            ..Snapshot::empty()
        }
    }

    fn update(seconds: u64) -> Update {
        Update {
            snapshot: Arc::new(at(seconds)),
            events: Vec::new(),
        }
    }

    #[test]
    fn a_recording_plays_at_its_own_speed() {
        let mut p = Playback::new([1, 2, 3, 4].into_iter().map(|s| Ok(at(s))));
        let mut go = |ms| p.advance(Duration::from_millis(ms)).unwrap();
        assert_eq!(go(900), Next::Nothing);
        assert_eq!(go(200), Next::Snapshot(Arc::new(at(1))));
        assert_eq!(go(2_000), Next::Snapshot(Arc::new(at(3))));
        assert_eq!(go(100), Next::Nothing);
        assert_eq!(go(10_000), Next::Snapshot(Arc::new(at(4))));
        assert_eq!(go(0), Next::End);
    }

    #[test]
    fn live_the_latest_wins_and_the_last_is_shown() {
        let (tx, rx) = channel();
        let mut feed = Feed::Live(rx);
        let mut next = || feed.next(Duration::ZERO, true, &mut Vec::new()).unwrap();
        assert_eq!(next(), Next::Nothing);
        tx.send(update(1)).unwrap();
        tx.send(update(2)).unwrap();
        drop(tx);
        assert_eq!(next(), Next::Snapshot(Arc::new(at(2))));
        assert_eq!(next(), Next::End);
    }
}
