//! What single events have come to since the start: windows, conflicts, chains, inversions, and what
//! other policies would have saved and cost. In: batches. Out: sums that only grow; what they are made
//! of is forgotten as soon as it is settled.

use std::collections::{BTreeMap, VecDeque};

use profiler_common::words::{Mode, Op};

use crate::{
    model::{Batch, Knows},
    report::{
        blocked_by,
        what_if::{self, Evidence},
    },
};

/// Policies are judged on what came in during this time.
const SETTLE_NS: u64 = 10_000_000_000;
/// A fault ends soon after its window has closed; until then nobody knows what it waited.
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
        let exact = self.exact;
        self.sums.windows += batch.windows.len() as u64;
        for fault in &batch.faults {
            if self.evidence.faults.len() < EVENTS {
                self.evidence.fault(fault);
            }
        }
        for wait in &batch.waits {
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
        let conflicts = batch.conflicts.into_iter().filter(|c| c.exact == exact);
        for conflict in conflicts {
            self.sums.conflicts[conflict.op as usize] += 1;
            self.evidence.conflicts.push(conflict);
        }
        self.evidence.windows.extend(batch.windows);
        self.evidence.arrivals.extend(batch.arrivals);
        latest(&mut self.evidence.windows);
        latest(&mut self.evidence.conflicts);
        latest(&mut self.evidence.arrivals);
        latest(&mut self.held_roots);
    }

    /// Judges the windows that have closed, now and then.
    pub fn settle(&mut self, now_ns: u64) {
        if now_ns < self.settled_ns + SETTLE_NS {
            return;
        }
        self.settled_ns = now_ns;
        let until = now_ns.saturating_sub(LATE_NS);
        let windows = std::mem::take(&mut self.evidence.windows);
        let (open, closed): (Vec<_>, _) = windows.into_iter().partition(|w| w.close_ns > until);
        self.evidence.windows = closed;
        for (name, policy) in what_if::policies(&self.evidence).0 {
            let Some(policy) = policy else { continue };
            let sum = self.sums.policies.entry(name).or_default();
            sum.saved_ns += policy.saved_ns;
            sum.lost_ns += policy.lost_ns;
            sum.amplified_ns += policy.amplified_ns;
        }
        let is_open = |id: u64| open.iter().any(|w| w.id == id);
        let since = now_ns.saturating_sub(MEMORY_NS);
        self.evidence.conflicts.retain(|c| is_open(c.window));
        self.evidence.arrivals.retain(|a| a.at_ns > since);
        self.evidence.faults.retain(|_, f| f.end_ns > until);
        self.evidence.held = what_if::Held::default();
        self.evidence.windows = open;
    }
}

fn latest<T>(all: &mut Vec<T>) {
    if all.len() > EVENTS {
        all.drain(..all.len() - EVENTS / 2);
    }
}
