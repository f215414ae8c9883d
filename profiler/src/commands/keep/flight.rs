//! `record --ring 60s`: the last seconds are kept in memory, and written when a trigger says so or
//! SIGUSR1 comes. In memory: single events, at most [`EVENTS`] of them, and some of the snapshots.
//!
//! A file holds what led to its trigger and what came until the next interval. Then nothing is
//! written for as long as the ring is, but for a signal, so that a bad minute is not a thousand files.

use std::{
    collections::VecDeque,
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use anyhow::Result;

use super::{Keep, Numbered, Recorder, Trigger, Written};
use crate::{
    cli::Record,
    model::{Batch, Session, Snapshot},
    recording::Writer,
    user,
};

/// Some hundred megabytes at most.
const EVENTS: usize = 200_000;
/// Snapshots in a ring: each has every histogram and every thread.
const SNAPSHOTS: u32 = 8;

pub struct Flight {
    names: Numbered,
    session: Session,
    ring: Duration,
    triggers: Vec<Trigger>,
    /// As they came, with the time since arming when they did.
    batches: VecDeque<(u64, Batch)>,
    events: usize,
    /// From the first on, counts are told; the distance is an eighth of the ring.
    snapshots: VecDeque<Snapshot>,
    now_ns: u64,
    /// Events up to here were forgotten for want of room.
    forgotten_to_ns: u64,
    asked: Option<&'static str>,
    quiet_until_ns: u64,
    ignored: u64,
    files: Vec<PathBuf>,
}

impl Flight {
    pub fn new(args: &Record, ring: Duration, session: &Session) -> Result<Self> {
        Ok(Self {
            names: Numbered::new(&args.output)?,
            session: session.clone(),
            ring,
            triggers: args.trigger.clone(),
            batches: VecDeque::new(),
            events: 0,
            snapshots: VecDeque::from([Snapshot::empty()]),
            now_ns: 0,
            forgotten_to_ns: 0,
            asked: None,
            quiet_until_ns: 0,
            ignored: 0,
            files: Vec::new(),
        })
    }

    fn forget_old(&mut self) {
        let ring_ns = ns(self.ring);
        let from = self.now_ns.saturating_sub(ring_ns);
        // The one before it has the counts that the ring begins with.
        while self.snapshots.get(1).is_some_and(|s| s.duration_ns <= from) {
            self.snapshots.pop_front();
        }
        let from = self.snapshots.front().map_or(0, |s| s.duration_ns);
        while let Some((at, batch)) = self.batches.front()
            && (*at <= from || self.events > EVENTS)
        {
            if *at > from {
                self.forgotten_to_ns = *at;
            }
            self.events -= batch.len();
            self.batches.pop_front();
        }
    }

    fn write(&mut self, why: &str, now: &Snapshot) -> Result<()> {
        let path = self.names.take();
        let (Some(base), batches) = (self.snapshots.front(), std::mem::take(&mut self.batches))
        else {
            return Ok(());
        };
        let mut writer = Writer::create_part(&path, &self.session, base)?;
        for (_, batch) in &batches {
            writer.events(batch)?;
        }
        for snapshot in self.snapshots.iter().skip(1) {
            writer.interval(snapshot)?;
        }
        writer.finish(now)?;
        user::give(&path)?;
        let from = base.duration_ns.max(self.forgotten_to_ns);
        let seconds = now.duration_ns.saturating_sub(from) as f64 / 1e9;
        let short = if self.forgotten_to_ns > base.duration_ns {
            format!(" ({EVENTS} events are kept at most: counts reach further back)")
        } else {
            String::new()
        };
        // The recording is what counts, even if nobody reads this.
        let _ = writeln!(
            io::stderr(),
            "vmascope: {why}: the last {seconds:.1} s{short} are in {}",
            path.display()
        );
        self.files.push(path);
        self.events = 0;
        self.snapshots = VecDeque::from([now.clone()]);
        self.quiet_until_ns = now.duration_ns + ns(self.ring);
        Ok(())
    }
}

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Keep for Flight {
    fn events(&mut self, batch: Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        if self.triggers.iter().any(|t| t.is_in(&batch)) {
            if self.now_ns < self.quiet_until_ns {
                self.ignored += 1;
            } else {
                self.asked = self.asked.or(Some("triggered"));
            }
        }
        self.events += batch.len();
        let at = batch
            .latest_ns()
            .saturating_sub(self.session.armed_monotonic_ns);
        self.now_ns = self.now_ns.max(at);
        self.batches.push_back((at, batch));
        self.forget_old();
        Ok(())
    }

    fn interval(&mut self, now: &Snapshot) -> Result<()> {
        self.now_ns = self.now_ns.max(now.duration_ns);
        if let Some(why) = self.asked.take() {
            return self.write(why, now);
        }
        let last = self.snapshots.back().map_or(0, |s| s.duration_ns);
        if now.duration_ns.saturating_sub(last) >= ns(self.ring / SNAPSHOTS) {
            self.snapshots.push_back(now.clone());
        }
        self.forget_old();
        Ok(())
    }

    fn called(&mut self) {
        self.asked = Some("SIGUSR1");
    }
}

impl Recorder for Flight {
    fn finish(mut self: Box<Self>, now: &Snapshot) -> Result<Written> {
        if let Some(why) = self.asked.take() {
            self.write(why, now)?;
        }
        let count = self.files.len();
        let mut note = match count {
            0 => "nothing was written: no trigger fired, and no SIGUSR1 came".to_owned(),
            1 => "1 recording:".to_owned(),
            n => format!("{n} recordings; the latest:"),
        };
        if self.ignored > 0 {
            note.insert_str(
                0,
                &format!("{} triggers soon after another; ", self.ignored),
            );
        }
        Ok(Written {
            files: self.files,
            note: Some(note),
        })
    }
}
