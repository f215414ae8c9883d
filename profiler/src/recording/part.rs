//! A recording that begins in the middle of a session: what came before is taken off the totals.
//! Counters are differences in every row anyway; here is the rest.

use crate::model::{Session, Snapshot, Thread, exited};

/// The session up to where the part begins.
pub struct Base {
    duration_ns: u64,
    /// In order.
    threads: Vec<Thread>,
}

impl Base {
    pub fn new(at: &Snapshot) -> Self {
        Self {
            duration_ns: at.duration_ns,
            threads: at.threads.clone(),
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
        let then = exited::as_in(&self.threads, &now.threads);
        part.threads.retain_mut(|thread| {
            let Some(before) = then.get(&(thread.tgid, thread.tid)) else {
                return true;
            };
            thread.take_off(before);
            !thread.is_idle()
        });
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(tgid: u32, tid: u32, minor: u64) -> Thread {
        Thread {
            tgid,
            tid,
            minor,
            ..Thread::default()
        }
    }

    #[test]
    fn threads_that_lost_their_row_meanwhile_are_taken_off_where_they_are_counted() {
        let at = |threads: &[Thread]| Snapshot {
            threads: threads.to_vec(),
            ..Snapshot::empty()
        };
        let base = Base::new(&at(&[
            thread(0, 0, 1_000),
            thread(5, 5, 10),
            thread(5, 6, 20),
            thread(7, 7, 30),
            thread(8, 8, 40),
        ]));
        // Since then 6 and 7 have exited, each after 3 more faults; 8 did nothing.
        let now = at(&[
            thread(0, 0, 1_033),
            thread(5, 0, 23),
            thread(5, 5, 14),
            thread(8, 8, 40),
            thread(9, 9, 2),
        ]);
        assert_eq!(
            base.rest(&now).threads,
            [
                thread(0, 0, 3),
                thread(5, 0, 3),
                thread(5, 5, 4),
                thread(9, 9, 2)
            ]
        );
    }
}
