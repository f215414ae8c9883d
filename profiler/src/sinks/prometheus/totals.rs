//! What single events have come to since the start: windows, conflicts, chains, inversions, and what
//! other policies would have saved and cost. In: batches. Out: sums that only grow; what they are made
//! of is forgotten as soon as it is settled.

use std::collections::{BTreeMap, HashSet, VecDeque};

use profiler_common::words::{Mode, Op};

use crate::{
    model::{Batch, Knows, WaitEvent},
    report::{
        blocked_by,
        what_if::{self, Evidence},
    },
};

/// Policies are judged on what came in during this time, or sooner where much comes.
const SETTLE_NS: u64 = 10_000_000_000;
/// A fault ends soon after its window has closed; until then nobody knows what it waited. Not longer
/// than this.
const LATE_NS: u64 = 2_000_000_000;
/// Who came while a window was open may have come this long before its end.
const MEMORY_NS: u64 = 60_000_000_000;
/// Of each kind of event, however many come.
const EVENTS: usize = 20_000;
/// Chains that further waits may join.
const ROOTS: usize = 1_024;

#[derive(Clone, Debug, Default)]
pub struct Sums {
    pub windows: u64,
    /// Indexed by `Op`.
    pub conflicts: [u64; Op::COUNT],
    pub chains: u64,
    pub inversions: u64,
    /// VMA-writer waits by what was in the way.
    pub blocked_by: BTreeMap<&'static str, u64>,
    /// By the name of the policy.
    pub policies: BTreeMap<String, Cost>,
    /// Windows that were judged without the end of their fault: nothing saved is counted of them.
    pub unended: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub saved_ns: u64,
    pub lost_ns: u64,
    pub amplified_ns: u64,
}

#[derive(Default)]
pub struct Totals {
    pub sums: Sums,
    exact: bool,
    evidence: Evidence,
    /// Ids of VMA waits that faults with their lock caused.
    held_roots: Vec<u64>,
    chains: VecDeque<u64>,
    settled_ns: u64,
    /// Of what came.
    latest_ns: u64,
}

impl Totals {
    pub fn new(knows: &Knows) -> Self {
        Self {
            exact: knows.vma_write_exact,
            evidence: Evidence::of(knows),
            ..Self::default()
        }
    }

    pub fn fold(&mut self, batch: Batch) {
        let closed = batch.windows.iter().map(|w| w.close_ns);
        let ended = batch.faults.iter().map(|f| f.end_ns);
        self.latest_ns = closed.chain(ended).fold(self.latest_ns, u64::max);
        self.sums.windows += batch.windows.len() as u64;
        for wait in &batch.waits {
            self.wait(wait);
        }
        let exact = self.exact;
        let conflicts = batch.conflicts.into_iter().filter(|c| c.exact == exact);
        for conflict in conflicts {
            self.sums.conflicts[conflict.op as usize] += 1;
            self.evidence.conflicts.push(conflict);
        }
        self.evidence.windows.extend(batch.windows);
        self.evidence.arrivals.extend(batch.arrivals);
        for fault in &batch.faults {
            self.evidence.fault(fault);
        }
        if self.is_full() {
            self.judge(self.latest_ns, self.cut(self.latest_ns));
        }
        latest(&mut self.evidence.arrivals);
        latest(&mut self.held_roots);
        if self.is_full() {
            self.judge(self.latest_ns, self.latest_ns);
        }
    }

    fn wait(&mut self, wait: &WaitEvent) {
        self.evidence.held.waited(wait, &mut self.held_roots);
        self.sums.inversions += u64::from(wait.blame.inversion);
        let root = wait.blame.root_wait;
        if wait.blame.depth > 2 && !self.chains.contains(&root) {
            self.sums.chains += 1;
            self.chains.push_back(root);
            if self.chains.len() > ROOTS {
                self.chains.pop_front();
            }
        }
        if wait.mode == Mode::VmaWrite {
            *self.sums.blocked_by.entry(blocked_by(wait)).or_default() += 1;
        }
    }

    fn is_full(&self) -> bool {
        let Evidence {
            windows,
            conflicts,
            arrivals,
            faults,
            ..
        } = &self.evidence;
        let most = [windows.len(), conflicts.len(), arrivals.len(), faults.len()];
        most.into_iter().any(|n| n > EVENTS)
    }

    /// Judges the windows that have closed, now and then.
    pub fn settle(&mut self, now_ns: u64) {
        if now_ns >= self.settled_ns + SETTLE_NS {
            self.settled_ns = now_ns;
            self.judge(now_ns, self.cut(now_ns));
        }
    }

    /// Up to where every fault has ended.
    fn cut(&self, now_ns: u64) -> u64 {
        let Evidence {
            windows, faults, ..
        } = &self.evidence;
        let waiting = windows.iter().filter(|w| !faults.contains_key(&w.fault()));
        let first = waiting.map(|w| w.close_ns.saturating_sub(1)).min();
        first.unwrap_or(now_ns).max(now_ns.saturating_sub(LATE_NS))
    }

    /// All windows that closed until then, together: a writer that meets several of them is charged
    /// once.
    fn judge(&mut self, now_ns: u64, until: u64) {
        let windows = std::mem::take(&mut self.evidence.windows);
        let (open, closed): (Vec<_>, _) = windows.into_iter().partition(|w| w.close_ns > until);
        let faults = &self.evidence.faults;
        let unended = closed.iter().filter(|w| !faults.contains_key(&w.fault()));
        self.sums.unended += unended.count() as u64;
        self.evidence.windows = closed;
        for (name, policy) in what_if::policies(&self.evidence).0 {
            let Some(policy) = policy else { continue };
            let sum = self.sums.policies.entry(name).or_default();
            sum.saved_ns += policy.saved_ns;
            sum.lost_ns += policy.lost_ns;
            sum.amplified_ns += policy.amplified_ns;
        }
        let ids: HashSet<u64> = open.iter().map(|w| w.id).collect();
        let since = now_ns.saturating_sub(MEMORY_NS);
        self.evidence.conflicts.retain(|c| ids.contains(&c.window));
        self.evidence.arrivals.retain(|a| a.at_ns > since);
        self.evidence.faults.retain(|_, f| f.end_ns > until);
        self.evidence.held = what_if::Held::default();
        self.evidence.windows = open;
    }
}

/// The oldest matter least.
fn latest<T>(all: &mut Vec<T>) {
    if all.len() > EVENTS {
        all.drain(..all.len() - EVENTS / 2);
    }
}
