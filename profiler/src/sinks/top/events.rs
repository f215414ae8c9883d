//! What the single events have come to so far: the worst waits, the chains they form, and what
//! other policies would have cost. In: batches. Bounded: the oldest or least is forgotten first.

use std::collections::{BTreeMap, VecDeque};

use super::digest::Digests;
use crate::{
    model::{Batch, HolderInfo, Knows, Snapshot, WaitEvent},
    report::{
        Named,
        what_if::{self, Evidence, Policy},
    },
};

/// Waits in the list, longest first.
pub const WORST: usize = 200;
/// Chains in the list, those with the most waiting time first.
const CHAINS: usize = 50;
/// Waits that a chain can still be followed through.
const RECENT: usize = 4_096;
/// Windows, arrivals, conflicts and retried faults that policies are judged by.
const EVIDENCE: usize = 10_000;
const LINKS: usize = 16;

/// Threads that wait for each other, by the wait at the bottom.
#[derive(Clone, Debug)]
pub struct Chain {
    pub root: u64,
    pub depth: u32,
    pub waits: u64,
    pub blocked_ns: u64,
    pub inversion: bool,
    /// The longest path, the outermost waiter first.
    pub links: Vec<WaitEvent>,
}

impl Chain {
    /// Whom all of them wait for.
    pub fn blocker(&self) -> Option<&HolderInfo> {
        self.links.last().and_then(|w| w.holder.as_ref())
    }
}

#[derive(Clone, Default)]
pub struct Events {
    pub worst: Vec<WaitEvent>,
    pub chains: Vec<Chain>,
    pub digests: Digests,
    recent: BTreeMap<u64, WaitEvent>,
    evidence: Evidence,
    /// Starts of the retried faults in `evidence`, oldest first.
    faults: VecDeque<(u32, u64)>,
    /// Ids of VMA waits that were due to faults with their lock.
    roots: Vec<u64>,
    exact: bool,
}

impl Events {
    pub fn new(knows: &Knows) -> Self {
        Self {
            exact: knows.vma_write_exact,
            evidence: Evidence::of(knows),
            ..Self::default()
        }
    }

    /// What was seen is forgotten; what comes is folded as before.
    pub fn clear(&mut self) {
        let mut evidence = std::mem::take(&mut self.evidence);
        evidence.clear();
        *self = Self {
            exact: self.exact,
            evidence,
            ..Self::default()
        };
    }

    pub fn fold(&mut self, batch: &Batch) {
        for fault in &batch.faults {
            self.digests.fault(fault);
            if fault.retry.is_some() {
                self.faults.push_back((fault.tid, fault.start_ns));
            }
            self.evidence.fault(fault);
        }
        while self.faults.len() > EVIDENCE {
            if let Some(oldest) = self.faults.pop_front() {
                self.evidence.faults.remove(&oldest);
            }
        }
        for wait in &batch.waits {
            self.digests.wait(wait);
            self.waited(wait);
        }
        self.digests.forget_least();
        self.worst
            .sort_by_key(|w| std::cmp::Reverse(w.duration_ns()));
        self.worst.truncate(WORST);
        self.chains.sort_by_key(|c| std::cmp::Reverse(c.blocked_ns));
        self.chains.truncate(CHAINS);
        let exact = self.exact;
        let conflicts = batch.conflicts.iter();
        self.evidence
            .conflicts
            .extend(conflicts.filter(|c| c.exact == exact).cloned());
        self.evidence.windows.extend_from_slice(&batch.windows);
        self.evidence.arrivals.extend_from_slice(&batch.arrivals);
        keep(&mut self.evidence.windows);
        keep(&mut self.evidence.conflicts);
        keep(&mut self.evidence.arrivals);
        keep(&mut self.roots);
    }

    fn waited(&mut self, wait: &WaitEvent) {
        self.evidence.held.waited(wait, &mut self.roots);
        // Totals are all that is kept of most of them.
        keep(&mut self.evidence.held.writers.waits);
        keep(&mut self.evidence.held.tried_io.waits);
        if wait.blame.depth > 2 {
            self.chain(wait);
        }
        let least = self.worst.get(WORST - 1).map_or(0, WaitEvent::duration_ns);
        if wait.duration_ns() > least {
            self.worst.push(wait.clone());
        }
        self.recent.insert(wait.id, wait.clone());
        if self.recent.len() > RECENT {
            self.recent.pop_first();
        }
    }

    fn chain(&mut self, wait: &WaitEvent) {
        let root = wait.blame.root_wait;
        let at = self.chains.iter().position(|c| c.root == root);
        let at = at.unwrap_or_else(|| {
            self.chains.push(Chain {
                root,
                depth: 0,
                waits: 1,
                blocked_ns: self.recent.get(&root).map_or(0, WaitEvent::duration_ns),
                inversion: false,
                links: Vec::new(),
            });
            self.chains.len() - 1
        });
        let mut links = vec![wait.clone()];
        while links.len() < LINKS
            && let Some(next) = links.last().and_then(|w| w.blame.blocker_wait)
            && let Some(next) = self.recent.get(&next)
        {
            links.push(next.clone());
        }
        let chain = &mut self.chains[at];
        chain.waits += 1;
        chain.blocked_ns += wait.duration_ns();
        chain.inversion |= wait.blame.inversion;
        if wait.blame.depth > chain.depth {
            chain.depth = wait.blame.depth;
            chain.links = links;
        }
    }

    /// A wait that is still remembered.
    pub fn wait(&self, id: u64) -> Option<&WaitEvent> {
        self.recent
            .get(&id)
            .or_else(|| self.worst.iter().find(|w| w.id == id))
    }

    /// The policies on what is remembered; `now` tells of faults that waited with their lock.
    pub fn policies(&self, now: &Snapshot) -> Named<Option<Policy>> {
        let faults = now.anatomy.held_waits.iter().sum();
        what_if::policies_with(&self.evidence, faults)
    }
}

/// The latest [`EVIDENCE`].
fn keep<T>(all: &mut Vec<T>) {
    if all.len() > 2 * EVIDENCE {
        all.drain(..all.len() - EVIDENCE);
    }
}
