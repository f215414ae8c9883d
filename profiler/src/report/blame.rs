//! The part of the report on who made whom wait: VMA writers, chains, inversions, windows and
//! conflicts. In: the single events of a recording; the counts, where there are any. Out: figures.

use std::collections::{BTreeMap, HashMap};

use profiler_common::words::{HeldWait, Mode, Op};
use serde::Serialize;

use super::{
    Distribution, Named, OpReport,
    build::{distribution, named},
    stacks::{self, Stacks},
    what_if::{self, Evidence, Policy},
};
use crate::{
    model::{Doing, Hist, Knows, Snapshot, WaitEvent},
    recording::{self, ChainRow, Recording},
};

/// Chains told one by one.
const TOP: u32 = 10;
/// Links of one of them.
const LINKS: usize = 32;

#[derive(Clone, Debug, Serialize)]
pub struct VmaWrite {
    /// Write sections of `mmap_lock`; `null` where acquisitions are not seen.
    pub sections: Option<u64>,
    /// VMAs locked to be changed, where the kernel has a function for it.
    pub locked: Option<u64>,
    pub waits: u64,
    pub wait_ns: Option<Distribution>,
    pub by_op: Option<Named<OpReport>>,
    /// Single waits over the threshold, by what held the VMA: [`BLOCKERS`].
    pub blocked_by: Named<u64>,
    /// Those behind a fault that waited with its lock, by what it waited for.
    pub blocked_by_held: Named<u64>,
    /// All of these but reclaim, which is not I/O of the fault's own.
    pub blocked_by_io: u64,
    /// The fault was on a page that is written, or elsewhere in the VMA.
    pub same_page: u64,
    pub other_part: u64,
    /// Those behind a less important thread.
    pub inversions: Inversions,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Chains {
    pub count: u64,
    pub max_depth: u32,
    /// Waiting time of all threads in them.
    pub blocked_ns: u64,
    /// Most blocked time first.
    pub top: Vec<Chain>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Chain {
    pub depth: u32,
    pub waits: u64,
    pub blocked_ns: u64,
    pub root: Link,
    /// From the last waiter to the root.
    pub links: Vec<Link>,
}

/// A thread in a chain, and what it waited for; the root waits for no lock.
#[derive(Clone, Debug, Serialize)]
pub struct Link {
    pub tid: u32,
    pub tgid: u32,
    pub comm: String,
    pub prio: i32,
    pub lock: Option<&'static str>,
    pub op: Option<&'static str>,
    pub wait_ns: Option<u64>,
    /// What it was doing while it held the lock.
    pub doing: Option<&'static str>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Inversions {
    pub count: u64,
    pub blocked_ns: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Windows {
    pub count: u64,
    /// From the first wait on: the lock was given up before it.
    pub open_ns: Distribution,
    /// From the fault's start on: it was given up after it.
    pub open_at_most_ns: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Conflicts {
    /// The exact ones where there are any to be had, else those inferred.
    pub count: u64,
    pub exact: Option<u64>,
    pub inferred: u64,
    /// Those that both ways found.
    pub both: Option<u64>,
    pub by_op: BTreeMap<&'static str, u64>,
}

/// `None`: this kernel or this mode cannot tell.
#[derive(Clone, Debug, Default)]
pub struct Analysis {
    pub vma_write: Option<VmaWrite>,
    pub chains: Option<Chains>,
    pub inversions: Option<Inversions>,
    pub windows: Option<Windows>,
    pub conflicts: Option<Conflicts>,
    pub what_if: Option<Named<Option<Policy>>>,
    pub stacks: Option<Stacks>,
}

/// Waits are a chain from this depth on.
const CHAIN: u32 = 3;

/// Of a recording: one pass over each of its tables of single events.
pub(super) fn of(
    recording: &Recording,
    counts: &Snapshot,
    knows: &Knows,
) -> recording::Result<Analysis> {
    let mut evidence = Evidence::of(knows);
    evidence.held.faults = counts.anatomy.held_waits.iter().sum();
    let mut blocked = Blocked::default();
    let mut inversions = Inversions::default();
    let mut roots = Vec::new();
    let mut depth = 0;
    for wait in recording.telling_waits() {
        let wait = wait?;
        depth = depth.max(wait.blame.depth);
        if wait.mode == Mode::VmaWrite {
            blocked.count(&wait);
        }
        inversions.count(&wait);
        evidence.held.waited(&wait, &mut roots);
    }
    for window in recording.windows() {
        evidence.windows.push(window?);
    }
    for conflict in recording.conflicts() {
        evidence.conflicts.push(conflict?);
    }
    let windows = windows(&evidence);
    let conflicts = conflicts(&mut evidence, knows.vma_write_exact);
    if knows.what_if {
        for arrival in recording.arrivals() {
            evidence.arrivals.push(arrival?);
        }
        for fault in recording.faults() {
            evidence.fault(&fault?);
        }
    }
    Ok(Analysis {
        vma_write: knows.vma_write.then(|| vma_write(counts, knows, blocked)),
        chains: match depth {
            _ if !knows.holder => None,
            // To add them up takes longer than all the rest: not for nothing.
            0..CHAIN => Some(Chains::default()),
            _ => Some(chains(recording)?),
        },
        inversions: knows.holder.then_some(inversions),
        windows: knows.windows.then_some(windows),
        conflicts: knows.what_if.then_some(conflicts),
        what_if: knows.what_if.then(|| what_if::policies(&evidence)),
        stacks: stacks::of(recording)?,
    })
}

fn vma_write(counts: &Snapshot, knows: &Knows, blocked: Blocked) -> VmaWrite {
    let side = &counts.locks[Mode::VmaWrite as usize];
    let total = side.total();
    let op = |op: &Op| {
        let o = side.by_op[*op as usize];
        let report = OpReport {
            acquired: knows.vma_write_exact.then_some(o.acquired),
            waits: Some(o.waits),
            wait_sum_ns: Some(o.wait_sum_ns),
            wait_max_ns: Some(o.wait_max_ns),
            holds: None,
            hold_sum_ns: None,
            hold_max_ns: None,
        };
        (o.acquired + o.waits > 0).then(|| (op.name().to_owned(), report))
    };
    VmaWrite {
        sections: knows
            .acquired
            .then(|| counts.locks[Mode::Write as usize].total().acquired),
        locked: knows.vma_write_exact.then_some(total.acquired),
        waits: total.waits,
        wait_ns: Some(distribution(&side.wait)),
        by_op: Some(Named(Op::ALL.iter().filter_map(op).collect())),
        blocked_by: named(
            &BLOCKERS,
            |by| by,
            |by| blocked.by.get(by).copied().unwrap_or(0),
        ),
        blocked_by_held: named(HeldWait::ALL, HeldWait::name, |held| {
            blocked.held[held as usize]
        }),
        blocked_by_io: blocked.io,
        same_page: blocked.same_page,
        other_part: blocked.other_part,
        inversions: blocked.inversions,
    }
}

/// What can be in a VMA writer's way.
const BLOCKERS: [&str; 7] = [
    "fault", "madvise", "proc", "uffd", "binder", "other", "unknown",
];

/// What was in a VMA writer's way, one of [`BLOCKERS`].
pub(crate) fn blocked_by(wait: &WaitEvent) -> &'static str {
    let holder = wait.holder.as_ref();
    match holder.and_then(|h| h.op) {
        Some(Op::Fault) => "fault",
        Some(Op::Madvise) => "madvise",
        Some(Op::Proc) => "proc",
        Some(Op::Uffd) => "uffd",
        Some(Op::Binder) => "binder",
        Some(_) => "other",
        // Named, but what for is not known: it was on a slow path of a fault.
        None if holder.is_some_and(|h| h.tid != 0) => "fault",
        None => "unknown",
    }
}

/// VMA writers' single waits, counted.
#[derive(Default)]
struct Blocked {
    by: BTreeMap<&'static str, u64>,
    held: [u64; HeldWait::COUNT],
    io: u64,
    same_page: u64,
    other_part: u64,
    inversions: Inversions,
}

impl Blocked {
    fn count(&mut self, wait: &WaitEvent) {
        *self.by.entry(blocked_by(wait)).or_default() += 1;
        if let Some(Doing::Held(held)) = wait.holder.as_ref().and_then(|h| h.doing) {
            self.held[held as usize] += 1;
            self.io += u64::from(held != HeldWait::Reclaim);
        }
        match wait.blame.same_page {
            Some(true) => self.same_page += 1,
            Some(false) => self.other_part += 1,
            None => {}
        }
        self.inversions.count(wait);
    }
}

impl Inversions {
    fn count(&mut self, wait: &WaitEvent) {
        if wait.blame.inversion {
            self.count += 1;
            self.blocked_ns += wait.blame.blamed_ns;
        }
    }
}

fn chains(recording: &Recording) -> recording::Result<Chains> {
    let (count, max_depth, blocked_ns) = recording.chains_in_all()?;
    let mut top = Vec::new();
    for c in recording.worst_chains(TOP)? {
        top.extend(chain(recording, &c)?);
    }
    Ok(Chains {
        count,
        max_depth,
        blocked_ns,
        top,
    })
}

fn chain(recording: &Recording, c: &ChainRow) -> recording::Result<Option<Chain>> {
    let mut next = recording.deepest_wait(c.root)?;
    let mut links = Vec::new();
    let mut last = None;
    while let Some(wait) = next.take() {
        links.push(link(&wait));
        if links.len() < LINKS
            && let Some(id) = wait.blame.blocker_wait
        {
            next = recording.wait(id)?;
        }
        last = wait.holder;
    }
    Ok(last.map(|h| Chain {
        depth: c.depth,
        waits: c.waits,
        blocked_ns: c.blocked_ns,
        root: Link {
            tid: h.tid,
            tgid: h.tgid,
            comm: h.comm,
            prio: h.prio,
            lock: None,
            op: h.op.map(Op::name),
            wait_ns: None,
            doing: h.doing.map(Doing::name),
        },
        links,
    }))
}

fn link(wait: &WaitEvent) -> Link {
    let vma = wait.mode == Mode::VmaWrite;
    Link {
        tid: wait.tid,
        tgid: wait.tgid,
        comm: wait.comm.clone(),
        prio: wait.prio,
        lock: Some(if vma { "vma" } else { "mmap_lock" }),
        op: Some(wait.op.name()),
        wait_ns: Some(wait.duration_ns()),
        doing: None,
    }
}

fn windows(evidence: &Evidence) -> Windows {
    let mut open = Hist::default();
    let mut at_most = 0;
    for w in &evidence.windows {
        open.record(w.close_ns.saturating_sub(w.io_ns));
        at_most += w.close_ns.saturating_sub(w.attempt_ns);
    }
    Windows {
        count: open.count,
        open_ns: distribution(&open),
        open_at_most_ns: at_most,
    }
}

/// Leaves in the evidence the better of the two kinds.
fn conflicts(evidence: &mut Evidence, exact_is_known: bool) -> Conflicts {
    // A thread's sections of one window are told apart by their number only: the two ways see them
    // at different moments.
    let mut pairs = HashMap::<(u64, u32), [u64; 2]>::new();
    for c in &evidence.conflicts {
        pairs.entry((c.window, c.tid)).or_default()[usize::from(c.exact)] += 1;
    }
    let both = pairs.values().map(|[a, b]| a.min(b)).sum();
    let exact = evidence.conflicts.iter().filter(|c| c.exact).count() as u64;
    let inferred = evidence.conflicts.len() as u64 - exact;
    evidence.conflicts.retain(|c| c.exact == exact_is_known);
    let mut by_op = BTreeMap::new();
    for c in &evidence.conflicts {
        *by_op.entry(c.op.name()).or_default() += 1;
    }
    Conflicts {
        count: evidence.conflicts.len() as u64,
        exact: exact_is_known.then_some(exact),
        inferred,
        both: exact_is_known.then_some(both),
        by_op,
    }
}
