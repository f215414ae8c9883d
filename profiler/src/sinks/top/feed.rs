//! Where snapshots come from: a running session, or a recording played at its own speed or another.

use std::{
    iter::Peekable,
    sync::{
        Arc,
        mpsc::{Receiver, TryRecvError},
    },
    time::Duration,
};

use crate::{
    model::{
        ArrivalEvent, Batch, ConflictEvent, FaultEvent, Segment, Snapshot, WaitEvent, WindowEvent,
    },
    recording::{self, Events, Intervals, Recording},
};

/// A picture, and the single events since the one before.
pub struct Update {
    pub snapshot: Arc<Snapshot>,
    pub events: Vec<Batch>,
    /// What `--max-overhead` has changed after it.
    pub limited: Option<Limited>,
}

/// The programs cost more than they may; in words, why that is done.
pub enum Limited {
    /// From now on one common fault in so many is timed.
    Sample(u32, String),
    /// They were taken off: the picture is the last one.
    Off(String),
}

pub enum Feed<'a> {
    Live(Receiver<Update>),
    Recorded(Box<Player<'a>>),
}

#[derive(Debug, PartialEq)]
pub enum Next {
    Nothing,
    Snapshot(Arc<Snapshot>),
    /// Nothing will come any more.
    End,
}

/// What came since the last call. A recording gives one picture at a time: there may be another.
#[derive(Default)]
pub struct News {
    pub snapshot: Option<Arc<Snapshot>>,
    pub events: Vec<Batch>,
    pub limited: Option<Limited>,
    pub end: bool,
}

impl Feed<'_> {
    /// So much of the recording's time has passed.
    pub fn pass(&mut self, time: Duration) {
        if let Feed::Recorded(player) = self {
            player.playback.pass(time);
        }
    }

    pub fn next(&mut self) -> recording::Result<News> {
        let mut news = News::default();
        match self {
            Feed::Live(updates) => latest(updates, &mut news),
            Feed::Recorded(player) => player.next(&mut news)?,
        }
        Ok(news)
    }

    /// Goes to `seconds` from here. True: what was seen is to be forgotten, as it comes again.
    pub fn seek(&mut self, seconds: i64) -> recording::Result<bool> {
        match self {
            Feed::Live(_) => Ok(false),
            Feed::Recorded(player) => Ok(player.seek(seconds)),
        }
    }

    pub fn segments(&self, wait: u64) -> recording::Result<Vec<Segment>> {
        match self {
            Feed::Live(_) => Ok(Vec::new()),
            Feed::Recorded(player) => player.recording.segments(wait),
        }
    }
}

/// Only the last picture counts; of the events, every one.
fn latest(updates: &Receiver<Update>, news: &mut News) {
    loop {
        match updates.try_recv() {
            Ok(update) => {
                news.snapshot = Some(update.snapshot);
                news.events.extend(update.events);
                news.limited = update.limited.or(news.limited.take());
            }
            Err(e) => {
                news.end = e == TryRecvError::Disconnected && news.snapshot.is_none();
                return;
            }
        }
    }
}

/// A recording, and how far it was played.
pub struct Player<'a> {
    recording: &'a Recording,
    length_ns: u64,
    playback: Playback<Intervals<'a>>,
    events: RecordedEvents<'a>,
}

impl<'a> Player<'a> {
    pub fn new(recording: &'a Recording, length_ns: u64) -> Self {
        Self {
            recording,
            length_ns,
            playback: Playback::new(recording.intervals()),
            events: RecordedEvents::of(recording),
        }
    }

    fn next(&mut self, news: &mut News) -> recording::Result<()> {
        match self.playback.due()? {
            Next::Nothing => {}
            Next::Snapshot(snapshot) => {
                news.events.push(self.events.until(snapshot.at_ns)?);
                news.snapshot = Some(snapshot);
            }
            Next::End => news.end = true,
        }
        Ok(())
    }

    fn seek(&mut self, seconds: i64) -> bool {
        let by = Duration::from_secs(seconds.unsigned_abs());
        if seconds >= 0 {
            self.playback.pass(by);
            return false;
        }
        let at = self.playback.position_ns.min(self.length_ns);
        let to = at.saturating_sub(by.as_nanos() as u64);
        *self = Self::new(self.recording, self.length_ns);
        self.playback.pass(Duration::from_nanos(to));
        true
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

    pub fn pass(&mut self, time: Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.position_ns = self.position_ns.saturating_add(time);
    }

    /// The next one whose time has come.
    pub fn due(&mut self) -> recording::Result<Next> {
        let next = match self.next.take() {
            Some(next) => next,
            None => match self.snapshots.next() {
                Some(next) => next?,
                None => return Ok(Next::End),
            },
        };
        if next.duration_ns > self.position_ns {
            self.next = Some(next);
            return Ok(Next::Nothing);
        }
        Ok(Next::Snapshot(Arc::new(next)))
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
            limited: None,
        }
    }

    #[test]
    fn a_recording_plays_at_its_own_speed() {
        let mut p = Playback::new([1, 2, 3, 4].into_iter().map(|s| Ok(at(s))));
        let mut go = |ms| {
            p.pass(Duration::from_millis(ms));
            p.due().unwrap()
        };
        assert_eq!(go(900), Next::Nothing);
        assert_eq!(go(200), Next::Snapshot(Arc::new(at(1))));
        assert_eq!(go(2_000), Next::Snapshot(Arc::new(at(2))));
        assert_eq!(go(0), Next::Snapshot(Arc::new(at(3))));
        assert_eq!(go(100), Next::Nothing);
        assert_eq!(go(10_000), Next::Snapshot(Arc::new(at(4))));
        assert_eq!(go(0), Next::End);
    }

    #[test]
    fn live_the_latest_wins_and_the_last_is_shown() {
        let (tx, rx) = channel();
        let mut feed = Feed::Live(rx);
        let mut next = || feed.next().unwrap();
        let nothing = next();
        assert!(nothing.snapshot.is_none() && !nothing.end);
        tx.send(update(1)).unwrap();
        tx.send(update(2)).unwrap();
        drop(tx);
        let last = next();
        assert_eq!(last.snapshot, Some(Arc::new(at(2))));
        assert!(!last.end && next().end);
    }
}
