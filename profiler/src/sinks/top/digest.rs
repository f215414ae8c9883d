//! What the single events of each process come to: whose operations waited and for how long, whom it
//! made wait, why its slow faults were slow, and in how big VMAs. Counters do not tell this by process.
//! In: events. Bounded: the processes with the least time are forgotten.

use std::collections::BTreeMap;

use profiler_common::words::{Mode, Op};

use crate::model::{FaultEvent, WaitEvent};

/// Processes remembered once there are a quarter more.
const PROCESSES: usize = 1_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub count: u64,
    pub sum_ns: u64,
    pub max_ns: u64,
}

impl Sum {
    fn add(&mut self, ns: u64) {
        self.count += 1;
        self.sum_ns += ns;
        self.max_ns = self.max_ns.max(ns);
    }
}

/// Of one process.
#[derive(Clone, Debug, Default)]
pub struct Digest {
    /// What its threads waited for, and to do what.
    pub waits: BTreeMap<(Mode, Op), Sum>,
    /// What they did while others waited for them: the time blamed on them.
    pub blamed: BTreeMap<Option<Op>, Sum>,
    /// Why faults left the common path: `retry`, `io`.
    pub reasons: BTreeMap<(&'static str, &'static str), Sum>,
    /// Slow faults by their VMA's size, from 2^n bytes on.
    pub sizes: BTreeMap<u32, Sum>,
    weight_ns: u64,
}

#[derive(Clone, Default)]
pub struct Digests(BTreeMap<u32, Digest>);

impl Digests {
    pub fn of(&self, tgid: u32) -> Option<&Digest> {
        self.0.get(&tgid)
    }

    pub fn fault(&mut self, fault: &FaultEvent) {
        let ns = fault.duration_ns();
        let digest = self.get(fault.tgid, ns);
        let reasons = [
            fault.fallback.map(|r| ("fallback", r.name())),
            fault.retry.map(|r| ("retry", r.name())),
            fault.held.map(|r| ("held", r.name())),
        ];
        for reason in reasons.into_iter().flatten() {
            digest.reasons.entry(reason).or_default().add(ns);
        }
        // Not every kernel shows the VMA.
        if let Some(size) = fault.vm_end.saturating_sub(fault.vm_start).checked_ilog2() {
            digest.sizes.entry(size).or_default().add(ns);
        }
    }

    pub fn wait(&mut self, wait: &WaitEvent) {
        let ns = wait.duration_ns();
        let waits = &mut self.get(wait.tgid, ns).waits;
        waits.entry((wait.mode, wait.op)).or_default().add(ns);
        let ns = wait.blame.blamed_ns;
        if let Some(holder) = wait.holder.as_ref().filter(|h| h.tid != 0 && ns > 0) {
            let blamed = &mut self.get(holder.tgid, ns).blamed;
            blamed.entry(holder.op).or_default().add(ns);
        }
    }

    fn get(&mut self, tgid: u32, ns: u64) -> &mut Digest {
        let digest = self.0.entry(tgid).or_default();
        digest.weight_ns += ns;
        digest
    }

    /// After a batch.
    pub fn forget_least(&mut self) {
        if self.0.len() <= PROCESSES + PROCESSES / 4 {
            return;
        }
        let mut by_weight: Vec<_> = self.0.iter().map(|(t, d)| (d.weight_ns, *t)).collect();
        by_weight.sort_unstable();
        for (_, tgid) in &by_weight[..by_weight.len() - PROCESSES] {
            self.0.remove(tgid);
        }
    }
}
