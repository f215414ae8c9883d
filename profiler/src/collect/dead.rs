//! Threads that have exited. In: their last counts. Out: those that did most, one by one, and the rest in
//! rows of their own (`model::exited`), so that a run of days needs no more memory than one of minutes.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    path::Path,
};

use crate::model::{
    Thread,
    exited::{self, Id},
};

/// Remembered one by one, if nothing else is said.
pub const MOST: usize = 4 * 1024;

pub struct Dead {
    most: usize,
    threads: BTreeMap<Id, Thread>,
}

impl Dead {
    pub fn new() -> Self {
        Self {
            most: MOST,
            threads: BTreeMap::new(),
        }
    }

    /// 0: each is told of once.
    pub fn remember(&mut self, most: usize) {
        self.most = most;
    }

    pub fn bury(&mut self, thread: Thread) {
        self.threads
            .entry((thread.tgid, thread.tid))
            .and_modify(|t| {
                t.absorb(&thread);
                t.comm.clone_from(&thread.comm);
            })
            .or_insert(thread);
    }

    /// To the living, all of whom are there.
    pub fn join(&mut self, living: &mut BTreeMap<Id, Thread>) {
        if self.most != 0 && self.threads.len() > self.most {
            self.fold(|tgid| {
                let threads = living.range((tgid, 0)..=(tgid, u32::MAX));
                threads.count() != 0 || Path::new(&format!("/proc/{tgid}")).exists()
            });
        }
        for (id, dead) in &self.threads {
            living
                .entry(*id)
                // The same one, by a last fault after the exit hook; or who has its number now.
                .and_modify(|t| t.absorb(dead))
                .or_insert_with(|| dead.clone());
        }
        if self.most == 0 {
            self.threads.clear();
        }
    }

    /// Keeps the half that was at faults and waits for longest.
    fn fold(&mut self, lives: impl Fn(u32) -> bool) {
        let mut seen = HashMap::new();
        let mut lives = |tgid| *seen.entry(tgid).or_insert_with(|| lives(tgid));
        let mut all: Vec<_> = self
            .threads
            .iter()
            .filter(|(id, _)| **id != exited::REST && !(id.1 == 0 && lives(id.0)))
            .map(|(id, t)| {
                (
                    t.sum_ns + t.wait_sum_ns.iter().sum::<u64>(),
                    t.faults(),
                    *id,
                )
            })
            .collect();
        all.sort_unstable_by_key(|row| Reverse(*row));
        for (_, _, id) in all.into_iter().skip(self.most / 2) {
            let Some(thread) = self.threads.remove(&id) else {
                continue;
            };
            let row = exited::row(id.0, |own| {
                id != own && (lives(id.0) || self.threads.contains_key(&own))
            });
            exited::add(&mut self.threads, row, &thread);
        }
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
            sum_ns: minor * 1_000,
            exited: true,
            ..Thread::default()
        }
    }

    /// Our own process lives, pid 1 is told to; nothing runs above the largest pid.
    const GONE: u32 = 1 << 30;

    #[test]
    fn those_that_did_most_stay_and_no_fault_is_lost() {
        let mut dead = Dead::new();
        dead.remember(100);
        let mut living = BTreeMap::from([((1, 1), thread(1, 1, 0))]);
        let mut sum = 0;
        for n in 0..1_000 {
            dead.bury(thread(1, 10 + n, u64::from(n)));
            dead.bury(thread(GONE + n, GONE + n, u64::from(n)));
            sum += 2 * u64::from(n);
            if n % 50 == 0 {
                let mut all = living.clone();
                dead.join(&mut all);
                assert!(all.len() <= 103, "{}", all.len());
            }
        }
        dead.join(&mut living);
        assert!(living.len() <= 53, "{}", living.len());
        assert_eq!(living.values().map(|t| t.minor).sum::<u64>(), sum);
        assert!(living.contains_key(&(1, 1_009)) && living.contains_key(&(GONE + 999, GONE + 999)));
        // What a living process's threads did stays with it.
        let of_one = living.range((1, 0)..(2, 0)).map(|(_, t)| t.minor);
        assert_eq!(of_one.sum::<u64>(), sum / 2);
        assert_eq!(living[&(1, 0)].comm, exited::NAME);
    }

    #[test]
    fn a_process_that_is_gone_in_the_end_is_among_the_rest() {
        let mut dead = Dead::new();
        dead.remember(2);
        for n in 0..3 {
            dead.bury(thread(1, 10 + n, 1));
        }
        dead.join(&mut BTreeMap::from([((1, 1), thread(1, 1, 0))]));
        assert!(dead.threads.contains_key(&(1, 0)));
        for n in 0..3 {
            dead.bury(thread(GONE, GONE + n, 5));
        }
        dead.fold(|_| false);
        assert!(!dead.threads.contains_key(&(1, 0)));
        let minors = dead.threads.values().map(|t| t.minor).sum::<u64>();
        assert_eq!((minors, dead.threads.len()), (18, 2));
    }
}
