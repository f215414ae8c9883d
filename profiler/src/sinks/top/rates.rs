//! What two snapshots differ by, per second: the figures on the screen and their short history.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use profiler_common::words::{Mode, Path};

use crate::model::{Hist, Process, Snapshot, Standing, exited};

/// Points kept for the trends: as wide as terminals get.
const HISTORY: usize = 240;

#[derive(Clone, Debug, Default)]
pub struct PathRate {
    /// Since arming.
    pub total: u64,
    pub per_s: f64,
    pub major_per_s: f64,
    pub latency: Hist,
    pub trend: VecDeque<f64>,
}

#[derive(Clone, Debug, Default)]
pub struct LockRate {
    pub acquired_per_s: f64,
    pub waits_per_s: f64,
    /// Of one thread's time; more than 1 when several wait at once.
    pub waiting: f64,
    pub wait: Hist,
    pub trend: VecDeque<f64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ProcessRate {
    pub tgid: u32,
    pub comm: String,
    pub standing: Standing,
    pub faults_per_s: f64,
    pub major_per_s: f64,
    /// Faults that ended under `mmap_lock`.
    pub mmap_lock_per_s: f64,
    /// Time waited for `mmap_lock`, of one thread's time, by mode.
    pub waiting: [f64; Mode::COUNT],
}

#[derive(Clone, Debug)]
pub struct Rates {
    pub all: PathRate,
    pub paths: Vec<PathRate>,
    pub locks: [LockRate; Mode::COUNT],
    pub processes: Vec<ProcessRate>,
    /// Of one CPU.
    pub own_cpu: f64,
    /// Run time of the programs, of one CPU; `None` where the kernel does not count it.
    pub own_bpf: Option<f64>,
    last: Arc<Snapshot>,
    /// Processes as they were when threads were last told of: recordings tell only at their end.
    seen: BTreeMap<u32, Process>,
    seen_ns: u64,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            all: PathRate::default(),
            paths: vec![PathRate::default(); Path::COUNT],
            locks: Default::default(),
            processes: Vec::new(),
            own_cpu: 0.0,
            own_bpf: None,
            last: Arc::new(Snapshot::empty()),
            seen: BTreeMap::new(),
            seen_ns: 0,
        }
    }
}

fn per(n: u64, then: u64, seconds: f64) -> f64 {
    n.saturating_sub(then) as f64 / seconds
}

fn push(trend: &mut VecDeque<f64>, value: f64) {
    if trend.len() == HISTORY {
        trend.pop_front();
    }
    trend.push_back(value);
}

/// Between two moments; never zero, so that a rate stays a number.
fn seconds(now_ns: u64, then_ns: u64) -> f64 {
    now_ns.saturating_sub(then_ns).max(1) as f64 / 1e9
}

impl Rates {
    /// All that was counted until now.
    pub fn last(&self) -> &Snapshot {
        &self.last
    }

    pub fn advance(&mut self, now: Arc<Snapshot>) {
        let then = std::mem::replace(&mut self.last, Arc::clone(&now));
        let s = seconds(now.duration_ns, then.duration_ns);
        let mut all = Hist::default();
        for (rate, (now, then)) in self
            .paths
            .iter_mut()
            .zip(now.faults.iter().zip(&then.faults))
        {
            rate.total = now.count;
            rate.per_s = per(now.count, then.count, s);
            rate.major_per_s = per(now.major, then.major, s);
            rate.latency = now.latency.since(&then.latency);
            all.add(&rate.latency);
            push(&mut rate.trend, rate.per_s);
        }
        self.all.total = now.faults_total();
        self.all.per_s = self.paths.iter().map(|p| p.per_s).sum();
        self.all.major_per_s = self.paths.iter().map(|p| p.major_per_s).sum();
        self.all.latency = all;
        push(&mut self.all.trend, self.all.per_s);
        for (rate, (now, then)) in self.locks.iter_mut().zip(now.locks.iter().zip(&then.locks)) {
            let (total, before) = (now.total(), then.total());
            rate.acquired_per_s = per(total.acquired, before.acquired, s);
            rate.waits_per_s = per(total.waits, before.waits, s);
            rate.waiting = per(total.wait_sum_ns, before.wait_sum_ns, s) / 1e9;
            rate.wait = now.wait.since(&then.wait);
            push(&mut rate.trend, rate.waiting);
        }
        self.own_cpu = per(now.own_cpu_ns, then.own_cpu_ns, s) / 1e9;
        let bpf = now.own_bpf_ns.zip(then.own_bpf_ns.or(Some(0)));
        self.own_bpf = bpf.map(|(now, then)| per(now, then, s) / 1e9);
        self.processes(&now);
    }

    fn processes(&mut self, now: &Snapshot) {
        if now.threads.is_empty() {
            return;
        }
        let s = seconds(now.duration_ns, self.seen_ns);
        let none = Process::default();
        let all: BTreeMap<u32, Process> =
            now.processes().into_iter().map(|p| (p.tgid, p)).collect();
        let rate = |p: &Process| {
            let then = self.seen.get(&p.tgid).unwrap_or(&none);
            let under_mmap_lock = |p: &Process| {
                [Path::Fallback, Path::Retry, Path::MmapLock]
                    .map(|w| p.on_path(w))
                    .iter()
                    .sum()
            };
            ProcessRate {
                tgid: p.tgid,
                comm: p.comm.clone(),
                standing: p.standing,
                faults_per_s: per(p.faults(), then.faults(), s),
                major_per_s: per(p.major, then.major, s),
                mmap_lock_per_s: per(under_mmap_lock(p), under_mmap_lock(then), s),
                waiting: std::array::from_fn(|m| {
                    per(p.wait_sum_ns[m], then.wait_sum_ns[m], s) / 1e9
                }),
            }
        };
        // What processes that are gone have done together is no rate.
        let listed = all.values().filter(|p| p.tgid != exited::REST.0);
        self.processes = listed.map(rate).collect();
        self.seen = all;
        self.seen_ns = now.duration_ns;
    }
}
