//! The last seconds of a session, in memory, ready to become a recording. In: batches and snapshots, as
//! they come. Out: a file when asked for. In memory: single events, at most so many, and some of the
//! snapshots.

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    time::Duration,
};

use super::{Result, Writer};
use crate::model::{Batch, Session, Snapshot, StackEvent, Thread};

/// Snapshots in a span: each has every histogram.
const SNAPSHOTS: u32 = 8;

pub struct LastSeconds {
    session: Session,
    span: Duration,
    most: usize,
    /// As they came, with the time since arming when they did.
    batches: VecDeque<(u64, Batch)>,
    events: usize,
    /// All of the session, at most as many as the kernel keeps: they come with the first wait that speaks
    /// of them, which may be long forgotten.
    stacks: Vec<StackEvent>,
    /// From here on, counts are told.
    base: Snapshot,
    /// Later ones, an eighth of the span from each other: with the threads that are not as in the one
    /// before, which are few where many have come and gone.
    later: VecDeque<Snapshot>,
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
            stacks: Vec::new(),
            base: Snapshot::empty(),
            later: VecDeque::new(),
            now_ns: 0,
            forgotten_to_ns: 0,
        }
    }

    /// From now on one common fault in so many is timed.
    pub fn sampled(&mut self, sample: u32) {
        self.session.sample = sample;
    }

    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    pub fn events(&mut self, mut batch: Batch) {
        if batch.is_empty() {
            return;
        }
        trim(&mut batch);
        self.stacks.append(&mut batch.stacks);
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
        let last = self.later.back().unwrap_or(&self.base).duration_ns;
        if now.duration_ns.saturating_sub(last) >= ns(self.span / SNAPSHOTS) {
            let mut kept = now.clone();
            // What others did before the span is not known apart: they are those that did least.
            kept.threads
                .retain(|t| t.tid != 0 && self.known(t) != Some(t));
            kept.threads.shrink_to_fit();
            self.later.push_back(kept);
            self.base.threads.retain(|t| {
                let found = now.threads.binary_search_by_key(&id(t), id);
                found.is_ok()
            });
        }
        self.forget_old();
    }

    /// As it was last kept.
    fn known(&self, thread: &Thread) -> Option<&Thread> {
        let all = self.later.iter().rev().chain([&self.base]);
        all.map(|s| &s.threads).find_map(|threads| {
            threads
                .binary_search_by_key(&id(thread), id)
                .ok()
                .map(|at| &threads[at])
        })
    }

    fn forget_old(&mut self) {
        let from = self.now_ns.saturating_sub(ns(self.span));
        // The one before it has the counts that the span begins with.
        while let Some(next) = self.later.pop_front_if(|s| s.duration_ns <= from) {
            let before = std::mem::replace(&mut self.base, next);
            let later = std::mem::take(&mut self.base.threads);
            self.base.threads = merged(before.threads, later);
        }
        let from = self.base.duration_ns;
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

    /// Up to `now`.
    pub fn write(&self, path: &Path, now: &Snapshot) -> Result<Span> {
        let mut writer = Writer::create_part(path, &self.session, &self.base)?;
        writer.stacks(&self.stacks)?;
        for (_, batch) in &self.batches {
            writer.events(batch)?;
        }
        let before_now = |s: &&Snapshot| s.duration_ns < now.duration_ns;
        for snapshot in self.later.iter().filter(before_now) {
            writer.interval(snapshot)?;
        }
        let mut now = now.clone();
        now.threads.retain(|t| t.tid != 0);
        writer.finish(&now)?;
        let from = self.base.duration_ns.max(self.forgotten_to_ns);
        Ok(Span {
            seconds: now.duration_ns.saturating_sub(from) as f64 / 1e9,
            cut: (self.forgotten_to_ns > self.base.duration_ns).then_some(self.most),
        })
    }

    /// What was written up to `now` is not to be written again.
    pub fn begin_anew(&mut self, now: &Snapshot) {
        self.batches.clear();
        self.events = 0;
        self.later.clear();
        self.base.clone_from(now);
    }
}

/// By this they are in order.
fn id(thread: &Thread) -> (u32, u32) {
    (thread.tgid, thread.tid)
}

fn merged(base: Vec<Thread>, later: Vec<Thread>) -> Vec<Thread> {
    let all = base.into_iter().chain(later).map(|t| (id(&t), t));
    all.collect::<BTreeMap<_, _>>().into_values().collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::WindowEvent, recording::Recording};
    use profiler_common::words::Kind;

    /// A window, for something that happens then.
    fn batch(at_ns: u64, stacks: Vec<StackEvent>) -> Batch {
        let window = WindowEvent {
            id: at_ns,
            attempt_ns: at_ns,
            io_ns: at_ns,
            close_ns: at_ns,
            mm: 1,
            tid: 2,
            tgid: 2,
            comm: "a".into(),
            prio: 120,
            address: 0,
            vm_start: 0,
            vm_end: 4096,
            kind: Kind::Anon,
            retry: None,
            folio: None,
        };
        Batch {
            windows: vec![window],
            stacks,
            ..Batch::default()
        }
    }

    #[test]
    fn each_file_has_the_stacks_of_waits_that_are_forgotten() {
        let dir = std::env::temp_dir().join(format!("vmascope-stacks-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let stack = |id: u32| StackEvent {
            id,
            frames: format!("a;b{id}"),
        };
        let mut last = LastSeconds::new(&Session::blank(), Duration::from_secs(60), 2);
        last.events(batch(1, vec![stack(1), stack(2)]));
        for at in 2..9 {
            last.events(batch(at, Vec::new()));
        }
        let mut now = Snapshot::empty();
        for (name, count) in [("a.db", 2), ("b.db", 3)] {
            now.duration_ns += 10;
            last.write(&dir.join(name), &now).unwrap();
            last.begin_anew(&now);
            let recording = Recording::open(&dir.join(name)).unwrap();
            let sql = recording.sql();
            let stacks: u32 = sql
                .query_row("SELECT count(*) FROM stacks", (), |row| row.get(0))
                .unwrap();
            assert_eq!(stacks, count, "{name}");
            last.events(batch(now.duration_ns + 1, vec![stack(3)]));
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}
