//! `--max-overhead`: what the programs may run for. In: snapshots with the programs' run time. Out: how
//! many common faults are to be timed from now on, or that the programs have to go; and why.

use std::collections::VecDeque;

use crate::{model::Snapshot, sinks::top::Limited};

/// Intervals that the cost of the programs is judged by.
const JUDGED: usize = 3;
/// With each step so many times fewer common faults are timed.
const STEP: u32 = 4;
/// Timing fewer than one in this many saves nothing more: what is left is the count (docs/overhead.md).
const HARDEST: u32 = 64;

pub struct Limit {
    /// Of the time of all CPUs.
    percent: f64,
    cpus: u32,
    sample: u32,
    /// Time since arming, and what the programs had run for.
    seen: VecDeque<(u64, u64)>,
}

impl Limit {
    pub fn new(percent: f64, cpus: u32, sample: u32) -> Self {
        Self {
            percent,
            cpus,
            sample,
            seen: VecDeque::new(),
        }
    }

    /// What has to change after this snapshot.
    pub fn judge(&mut self, now: &Snapshot) -> Option<Limited> {
        let took = self.took(now).filter(|took| *took > self.percent)?;
        let why = format!(
            "the programs took {took:.1} % of all CPUs, more than --max-overhead {}%",
            self.percent
        );
        if self.sample >= HARDEST {
            return Some(Limited::Off(format!("off: {why}")));
        }
        self.sample = (self.sample * STEP).min(HARDEST);
        // What they cost so is to be seen afresh.
        self.seen.clear();
        Some(Limited::Sample(
            self.sample,
            format!("1 fault in {} timed: {why}", self.sample),
        ))
    }

    /// Percent of all CPUs, over the last intervals.
    fn took(&mut self, now: &Snapshot) -> Option<f64> {
        let now = (now.duration_ns, now.own_bpf_ns?);
        self.seen.push_back(now);
        if self.seen.len() <= JUDGED {
            return None;
        }
        let then = self.seen.pop_front()?;
        let time = now.0.saturating_sub(then.0).max(1) as f64 * f64::from(self.cpus.max(1));
        Some(now.1.saturating_sub(then.1) as f64 / time * 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, bpf_ms: u64) -> Snapshot {
        Snapshot {
            duration_ns: seconds * 1_000_000_000,
            own_bpf_ns: Some(bpf_ms * 1_000_000),
            ..Snapshot::empty()
        }
    }

    #[test]
    fn it_is_for_the_last_intervals_and_all_cpus() {
        let mut limit = Limit::new(2.0, 4, HARDEST);
        // A start that costs much is no reason: three intervals have to pass.
        for seconds in 0..3 {
            assert!(limit.judge(&at(seconds, seconds * 1_000)).is_none());
        }
        assert!(limit.judge(&at(3, 2_100)).is_some());
        // Three seconds of four CPUs are 12 s, and 2 % of them 240 ms.
        assert!(limit.judge(&at(4, 2_150)).is_some());
        assert!(limit.judge(&at(5, 2_200)).is_none());
        assert!(limit.judge(&at(6, 2_339)).is_none());
        let Some(Limited::Off(why)) = limit.judge(&at(7, 2_400)) else {
            panic!("not off");
        };
        assert!(
            why.starts_with("off: the programs took 2.1 % of all CPUs"),
            "{why}"
        );
        assert!(limit.judge(&Snapshot::empty()).is_none());
    }

    #[test]
    fn fewer_faults_are_timed_before_the_programs_go() {
        let mut limit = Limit::new(2.0, 1, 2);
        let mut seconds = 0;
        let mut done = Vec::new();
        while seconds < 20 {
            match limit.judge(&at(seconds, seconds * 100)) {
                Some(Limited::Sample(sample, why)) => {
                    assert!(why.starts_with(&format!("1 fault in {sample} timed: ")));
                    done.push((seconds, sample));
                }
                Some(Limited::Off(_)) => break,
                None => {}
            }
            seconds += 1;
        }
        // Each step is judged by intervals of its own.
        assert_eq!(done, [(3, 8), (7, 32), (11, 64)]);
        assert_eq!(seconds, 15);
    }
}
