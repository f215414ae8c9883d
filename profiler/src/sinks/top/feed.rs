//! Where snapshots come from: a running session, or a recording played at its own speed.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, TryRecvError},
    },
    time::Duration,
};

use crate::{
    model::Snapshot,
    recording::{self, Intervals},
};

pub enum Feed<'a> {
    Live(Receiver<Arc<Snapshot>>),
    Recorded(Box<Playback<Intervals<'a>>>),
}

#[derive(Debug, PartialEq)]
pub enum Next {
    Nothing,
    Snapshot(Arc<Snapshot>),
    End,
}

impl Feed<'_> {
    /// The latest that is due; `passed` since the last call.
    pub fn next(&mut self, passed: Duration, paused: bool) -> recording::Result<Next> {
        match self {
            Feed::Live(snapshots) => Ok(latest(snapshots)),
            Feed::Recorded(_) if paused => Ok(Next::Nothing),
            Feed::Recorded(playback) => playback.advance(passed),
        }
    }
}

fn latest(snapshots: &Receiver<Arc<Snapshot>>) -> Next {
    let mut latest = Next::Nothing;
    loop {
        match snapshots.try_recv() {
            Ok(snapshot) => latest = Next::Snapshot(snapshot),
            Err(TryRecvError::Disconnected) if latest == Next::Nothing => return Next::End,
            Err(_) => return latest,
        }
    }
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
        let mut next = || feed.next(Duration::ZERO, true).unwrap();
        assert_eq!(next(), Next::Nothing);
        tx.send(Arc::new(at(1))).unwrap();
        tx.send(Arc::new(at(2))).unwrap();
        drop(tx);
        assert_eq!(next(), Next::Snapshot(Arc::new(at(2))));
        assert_eq!(next(), Next::End);
    }
}
