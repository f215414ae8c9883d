//! The processes that do most, by name. In: the threads of each snapshot. Out: a bounded number of
//! series whose values only grow; what all others do is in one more, `other`.

use std::collections::{BTreeMap, HashMap};

use profiler_common::words::Mode;

use crate::model::Thread;

/// A name that is shown gives its place to one that did this many times as much.
const MARGIN: f64 = 2.0;
/// What was done an interval ago counts this much less.
const FADE: f64 = 0.9;
/// Names that were shown once and whose sums are kept, should they come back.
const KEPT: usize = 1_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub faults: u64,
    pub fault_ns: u64,
    /// Indexed by `Mode`.
    pub wait_ns: [u64; Mode::COUNT],
}

impl Sums {
    fn of(t: &Thread) -> Self {
        Self {
            // As `getrusage` counts them: hooks may miss some.
            faults: t.minor + t.major,
            fault_ns: t.sum_ns,
            wait_ns: t.wait_sum_ns,
        }
    }

    /// What came in after `before`; never less than nothing.
    fn since(&self, before: &Self) -> Self {
        let mut wait_ns = self.wait_ns;
        for (now, then) in wait_ns.iter_mut().zip(before.wait_ns) {
            *now = now.saturating_sub(then);
        }
        Self {
            faults: self.faults.saturating_sub(before.faults),
            fault_ns: self.fault_ns.saturating_sub(before.fault_ns),
            wait_ns,
        }
    }

    fn add(&mut self, more: &Self) {
        self.faults += more.faults;
        self.fault_ns += more.fault_ns;
        for (sum, n) in self.wait_ns.iter_mut().zip(more.wait_ns) {
            *sum += n;
        }
    }

    /// What makes a process worth looking at: the time it spent.
    fn weight(&self) -> f64 {
        (self.fault_ns + self.wait_ns.iter().sum::<u64>()) as f64 + self.faults as f64
    }
}

/// Processes of one name in one container are one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    pub comm: String,
    /// Empty: none.
    pub container: String,
}

pub struct Processes {
    top: usize,
    /// Threads as they were in the last snapshot. One that has exited may be in two.
    before: HashMap<(u32, u32), Sums>,
    /// How much each name did lately.
    weights: HashMap<Name, f64>,
    /// By name, whether it is shown now; what it did while it was shown.
    sums: BTreeMap<Name, (bool, Sums)>,
    other: Sums,
}

impl Processes {
    pub fn new(top: usize) -> Self {
        Self {
            top,
            before: HashMap::new(),
            weights: HashMap::new(),
            sums: BTreeMap::new(),
            other: Sums::default(),
        }
    }

    pub fn fold(&mut self, threads: &[Thread]) {
        let leaders: HashMap<u32, &Thread> = threads
            .iter()
            .filter(|t| t.tid == t.tgid)
            .map(|t| (t.tgid, t))
            .collect();
        let mut by_process: HashMap<u32, (&Thread, Sums)> = HashMap::new();
        let mut present = HashMap::with_capacity(threads.len());
        for t in threads {
            let (key, now) = ((t.tgid, t.tid), Sums::of(t));
            let before = self.before.get(&key).copied().unwrap_or_default();
            let leader = leaders.get(&t.tgid).copied().unwrap_or(t);
            let (_, news) = by_process
                .entry(t.tgid)
                .or_insert((leader, Sums::default()));
            news.add(&now.since(&before));
            present.insert(key, now);
        }
        self.before = present;
        let mut news: HashMap<Name, Sums> = HashMap::new();
        for (leader, new) in by_process.into_values() {
            let name = Name {
                comm: leader.comm.clone(),
                container: leader.container.clone(),
            };
            news.entry(name).or_default().add(&new);
        }
        self.weigh(&news);
        self.choose();
        for (name, new) in news {
            match self.sums.get_mut(&name) {
                Some((true, sum)) => sum.add(&new),
                _ => self.other.add(&new),
            }
        }
    }

    fn weigh(&mut self, news: &HashMap<Name, Sums>) {
        for weight in self.weights.values_mut() {
            *weight *= FADE;
        }
        self.weights.retain(|_, weight| *weight >= 1.0);
        for (name, new) in news {
            let new = new.weight();
            if new > 0.0 {
                *self.weights.entry(name.clone()).or_default() += new;
            }
        }
    }

    fn weight(&self, name: &Name) -> f64 {
        self.weights.get(name).copied().unwrap_or(0.0)
    }

    fn choose(&mut self) {
        let mut hidden: Vec<(Name, f64)> = self
            .weights
            .iter()
            .filter(|(name, _)| self.sums.get(*name).is_none_or(|(shown, _)| !shown))
            .map(|(name, weight)| (name.clone(), *weight))
            .collect();
        hidden.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        for (name, weight) in hidden.into_iter().take(self.top) {
            let shown = self.sums.iter().filter(|(_, (shown, _))| *shown);
            let shown: Vec<(Name, f64)> = shown
                .map(|(name, _)| (name.clone(), self.weight(name)))
                .collect();
            if shown.len() >= self.top {
                let least = shown.iter().min_by(|a, b| a.1.total_cmp(&b.1));
                match least {
                    Some((least, least_weight)) if weight > MARGIN * least_weight => {
                        if let Some((shown, _)) = self.sums.get_mut(least) {
                            *shown = false;
                        }
                    }
                    _ => break,
                }
            }
            self.sums.entry(name).or_default().0 = true;
        }
        while self.sums.len() > KEPT.max(self.top) {
            let hidden = self.sums.iter().find(|(_, (shown, _))| !shown);
            let Some(name) = hidden.map(|(name, _)| name.clone()) else {
                break;
            };
            if let Some((_, sums)) = self.sums.remove(&name) {
                self.other.add(&sums);
            }
        }
    }

    /// By name; `other` last.
    pub fn shown(&self) -> Vec<(Name, Sums)> {
        let shown = self.sums.iter().filter(|(_, (shown, _))| *shown);
        let mut all: Vec<_> = shown
            .map(|(name, (_, sums))| (name.clone(), *sums))
            .collect();
        let other = Name {
            comm: "other".to_owned(),
            container: String::new(),
        };
        all.push((other, self.other));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(tgid: u32, comm: &str, faults: u64, exited: bool) -> Thread {
        let mut t = Thread {
            tid: tgid,
            tgid,
            comm: comm.into(),
            exited,
            ..Thread::default()
        };
        t.minor = faults;
        t
    }

    fn faults(p: &Processes, name: &str) -> Option<u64> {
        let shown = p.shown();
        let found = shown.iter().find(|(n, _)| n.comm == name);
        found.map(|(_, sums)| sums.faults)
    }

    #[test]
    fn processes_of_one_name_are_one_series_that_outlives_them() {
        let mut p = Processes::new(10);
        p.fold(&[thread(1, "a", 5, false), thread(2, "a", 7, false)]);
        assert_eq!(faults(&p, "a"), Some(12));
        p.fold(&[thread(1, "a", 6, true), thread(2, "a", 7, false)]);
        p.fold(&[thread(1, "a", 6, true), thread(2, "a", 7, false)]);
        p.fold(&[thread(2, "a", 9, false)]);
        // The number of a process that has gone may be another's.
        p.fold(&[thread(1, "a", 2, false), thread(2, "a", 9, false)]);
        assert_eq!(faults(&p, "a"), Some(17));
        assert_eq!(faults(&p, "other"), Some(0));
        // The same name elsewhere is another.
        let mut elsewhere = thread(3, "a", 4, false);
        elsewhere.container = "3f1d0d6a5c9b".into();
        p.fold(&[thread(2, "a", 9, false), elsewhere]);
        let shown = p.shown();
        let of: Vec<u64> = shown.iter().map(|(_, sums)| sums.faults).collect();
        assert_eq!(of, [17, 4, 0]);
    }

    #[test]
    fn the_busiest_are_shown_and_nothing_is_counted_twice() {
        let mut p = Processes::new(2);
        let mut counts = [100, 50, 1, 0];
        let mut last: BTreeMap<Name, u64> = BTreeMap::new();
        for round in 0..60u64 {
            counts[0] += 100;
            counts[1] += if round < 10 { 50 } else { 0 };
            counts[2] += 1;
            counts[3] += if round > 20 { 500 } else { 0 };
            let names = ["a", "b", "c", "d"];
            let threads: Vec<_> = (1..)
                .zip(names.iter().zip(counts))
                .map(|(tgid, (name, n))| thread(tgid, name, n, false))
                .collect();
            p.fold(&threads);
            let shown = p.shown();
            assert!(shown.len() <= 3);
            for (name, sums) in &shown {
                let before = last.insert(name.clone(), sums.faults).unwrap_or(0);
                assert!(sums.faults >= before, "{name:?} went down");
            }
        }
        assert!(faults(&p, "d").is_some() && faults(&p, "b").is_none());
        assert_eq!(last.values().sum::<u64>(), counts.iter().sum::<u64>());
    }
}
