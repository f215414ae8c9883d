//! The last seconds of a session, in memory, ready to become a recording. In: batches and snapshots, as
//! they come. Out: a file when asked for. In memory: single events, at most so many, and some of the
//! snapshots.

use std::{collections::VecDeque, path::Path, time::Duration};

use super::{Result, Writer};
use crate::model::{Batch, Session, Snapshot};

/// Snapshots in a span: each has every histogram and every thread.
const SNAPSHOTS: u32 = 8;

pub struct LastSeconds {
    session: Session,
    span: Duration,
    most: usize,
    /// As they came, with the time since arming when they did.
    batches: VecDeque<(u64, Batch)>,
    events: usize,
    /// From the first on, counts are told; the distance is an eighth of the span.
    snapshots: VecDeque<Snapshot>,
    /// The latest, kept or not.
    now: Snapshot,
    now_ns: u64,
    /// Events up to here were forgotten for want of room.
    forgotten_to_ns: u64,
}

/// How far back a file reaches.
pub struct Span {
    seconds: f64,
    /// Events were forgotten: so many are kept.
    cut: Option<usize>,
}

impl Span {
    /// `59.8 s (20000 events are kept at most: counts reach further back)`
    pub fn said(&self) -> String {
        let cut = self.cut.map_or(String::new(), |most| {
            format!(" ({most} events are kept at most: counts reach further back)")
        });
        format!("{:.1} s{cut}", self.seconds)
    }
}

impl LastSeconds {
    /// Of at most `most` events.
    pub fn new(session: &Session, span: Duration, most: usize) -> Self {
        Self {
            session: session.clone(),
            span,
            most,
            batches: VecDeque::new(),
            events: 0,
            snapshots: VecDeque::from([Snapshot::empty()]),
            now: Snapshot::empty(),
            now_ns: 0,
            forgotten_to_ns: 0,
        }
    }

    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    pub fn events(&mut self, mut batch: Batch) {
        if batch.is_empty() {
            return;
        }
        trim(&mut batch);
        self.events += batch.len();
        let at = batch
            .latest_ns()
            .saturating_sub(self.session.armed_monotonic_ns);
        self.now_ns = self.now_ns.max(at);
        self.batches.push_back((at, batch));
        self.forget_old();
    }

    pub fn interval(&mut self, now: &Snapshot) {
        self.now_ns = self.now_ns.max(now.duration_ns);
        self.now.clone_from(now);
        let last = self.snapshots.back().map_or(0, |s| s.duration_ns);
        if now.duration_ns.saturating_sub(last) >= ns(self.span / SNAPSHOTS) {
            self.snapshots.push_back(now.clone());
        }
        self.forget_old();
    }

    fn forget_old(&mut self) {
        let from = self.now_ns.saturating_sub(ns(self.span));
        // The one before it has the counts that the span begins with.
        while self.snapshots.get(1).is_some_and(|s| s.duration_ns <= from) {
            self.snapshots.pop_front();
        }
        let from = self.snapshots.front().map_or(0, |s| s.duration_ns);
        while let Some((at, batch)) = self.batches.front()
            && (*at <= from || self.events > self.most)
        {
            if *at > from {
                self.forgotten_to_ns = *at;
            }
            self.events -= batch.len();
            self.batches.pop_front();
        }
    }

    /// Up to the latest snapshot.
    pub fn write(&self, path: &Path) -> Result<Span> {
        let empty = Snapshot::empty();
        let base = self.snapshots.front().unwrap_or(&empty);
        let mut writer = Writer::create_part(path, &self.session, base)?;
        for (_, batch) in &self.batches {
            writer.events(batch)?;
        }
        let before_now = |s: &&Snapshot| s.duration_ns < self.now.duration_ns;
        for snapshot in self.snapshots.iter().skip(1).filter(before_now) {
            writer.interval(snapshot)?;
        }
        writer.finish(&self.now)?;
        let from = base.duration_ns.max(self.forgotten_to_ns);
        Ok(Span {
            seconds: self.now.duration_ns.saturating_sub(from) as f64 / 1e9,
            cut: (self.forgotten_to_ns > base.duration_ns).then_some(self.most),
        })
    }

    /// What was written is not to be written again.
    pub fn begin_anew(&mut self) {
        self.batches.clear();
        self.events = 0;
        self.snapshots = VecDeque::from([self.now.clone()]);
    }
}

/// Holds are not written, and room for more events is not needed any more.
fn trim(batch: &mut Batch) {
    batch.holds = Vec::new();
    batch.faults.shrink_to_fit();
    batch.waits.shrink_to_fit();
    batch.windows.shrink_to_fit();
    batch.arrivals.shrink_to_fit();
}

pub fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
