//! A recording that begins in the middle of a session: what came before is taken off the totals.
//! Counters are differences in every row anyway; here is the rest.

use std::collections::HashMap;

use crate::model::{Session, Snapshot, Thread};

/// The session up to where the part begins.
pub struct Base {
    duration_ns: u64,
    threads: HashMap<(u32, u32), Thread>,
}

impl Base {
    pub fn new(at: &Snapshot) -> Self {
        let threads = at.threads.iter();
        Self {
            duration_ns: at.duration_ns,
            threads: threads.map(|t| ((t.tgid, t.tid), t.clone())).collect(),
        }
    }

    /// The session of the part: its clocks stand where it begins.
    pub fn session(&self, whole: &Session) -> Session {
        let mut part = whole.clone();
        part.armed_monotonic_ns += self.duration_ns;
        part.armed_boottime_ns += self.duration_ns;
        part.armed_realtime_ns += self.duration_ns;
        part
    }

    /// Threads that did nothing in the part are not in it. The largest values stay those since arming.
    pub fn rest(&self, now: &Snapshot) -> Snapshot {
        let mut part = now.clone();
        part.duration_ns = now.duration_ns.saturating_sub(self.duration_ns);
        part.threads.retain_mut(|thread| {
            let Some(before) = self.threads.get(&(thread.tgid, thread.tid)) else {
                return true;
            };
            let is_still = before == thread;
            thread.take_off(before);
            !is_still
        });
        part
    }
}
