//! What another kernel policy would have cost: a pure function of what one recording on a stock
//! kernel holds. In: windows, conflicts, arrivals, the faults they belong to, and the waits that
//! were. Out: for each policy what faults would gain and writers would lose, to first order: nobody
//! behaves otherwise because somebody else waits longer or shorter.
//!
//! A writer that meets a window would hold `mmap_lock` and wait until the window closes. Writers of
//! one address space cannot wait side by side, so the blocked intervals are united; in each, every
//! thread is charged once: the first writer what it loses, everybody else who asks for the lock
//! meanwhile the amplification.

use std::collections::{BTreeMap, HashMap};

use profiler_common::words::{FolioState, HeldWait, Kind, Mode, Op};
use serde::{Serialize, Serializer};

use super::{Named, build::named};
use crate::model::{ArrivalEvent, ConflictEvent, Doing, FaultEvent, Knows, WaitEvent, WindowEvent};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// Faults it would treat otherwise.
    pub count: u64,
    /// Waits of these faults for `mmap_lock` that would not be: a lower bound of the gain.
    pub saved_ns: u64,
    /// From the end of their waits for I/O to their own: an upper bound of it.
    pub saved_at_most_ns: u64,
    pub saved_max_ns: u64,
    /// By the writers that meet a window first.
    pub lost_ns: u64,
    pub lost_p50_ns: Option<u64>,
    pub lost_p99_ns: Option<u64>,
    pub lost_max_ns: Option<u64>,
    /// By everybody who waits behind them.
    pub amplified_ns: u64,
    /// Pairs of write section and window.
    pub conflicts: u64,
    /// Writers that would wait for a fault of a less important thread.
    pub inversions: u64,
    /// Indexed by `Kind`.
    #[serde(serialize_with = "by_kind")]
    pub saved_by_kind: [u64; Kind::COUNT],
    pub lost_by_op: BTreeMap<&'static str, u64>,
    /// `measured`, `estimate` or `lower bound`.
    pub bound: &'static str,
    pub assumption: &'static str,
}

fn by_kind<S: Serializer>(ns: &[u64; Kind::COUNT], s: S) -> Result<S::Ok, S::Error> {
    named(Kind::ALL, Kind::name, |kind| ns[kind as usize]).serialize(s)
}

/// What a recording holds of it.
#[derive(Clone, Default)]
pub struct Evidence {
    pub windows: Vec<WindowEvent>,
    /// Of one kind: by the VMAs that were locked, or by the ranges of system calls.
    pub conflicts: Vec<ConflictEvent>,
    pub arrivals: Vec<ArrivalEvent>,
    /// Those that retried, by thread and start.
    pub faults: HashMap<(u32, u64), Retried>,
    pub held: Held,
    /// Who held `mmap_lock` cannot be told: what others lost behind them is not in `held`.
    pub holders_unseen: bool,
    /// Nor the folio that a fault found, which some policies go by.
    pub folios_unseen: bool,
}

#[derive(Clone, Copy)]
pub struct Retried {
    pub end_ns: u64,
    pub mmap_wait_ns: u64,
}

/// Faults that waited with their lock as kernels do today, and who waited for them.
#[derive(Clone, Default)]
pub struct Held {
    pub faults: u64,
    /// VMA writers, and those behind them.
    pub writers: Charged,
    /// Waits for an `mmap_lock` that a retried fault held for reading while it waited for I/O.
    pub tried_io: Charged,
}

#[derive(Clone, Default)]
pub struct Charged {
    pub waits: Vec<u64>,
    pub amplified_ns: u64,
    pub inversions: u64,
    pub by_op: BTreeMap<&'static str, u64>,
}

impl Charged {
    fn charge(&mut self, wait: &WaitEvent) {
        self.waits.push(wait.blame.blamed_ns);
        self.inversions += u64::from(wait.blame.inversion);
        *self.by_op.entry(wait.op.name()).or_default() += wait.blame.blamed_ns;
    }
}

impl Held {
    /// In the order in which waits ended; `is_root` knows the ids of the VMA waits charged so far.
    pub fn waited(&mut self, wait: &WaitEvent, roots: &mut Vec<u64>) {
        let doing = wait.holder.as_ref().and_then(|h| h.doing);
        match (wait.mode, doing) {
            (Mode::VmaWrite, Some(Doing::Held(_))) => {
                self.writers.charge(wait);
                roots.push(wait.id);
            }
            (Mode::Write, Some(Doing::Held(HeldWait::TriedIo))) => self.tried_io.charge(wait),
            (Mode::Read | Mode::Write, _) if roots.binary_search(&wait.blame.root_wait).is_ok() => {
                self.writers.amplified_ns += wait.blame.blamed_ns;
            }
            _ => {}
        }
    }
}

impl Evidence {
    /// None yet, of a kernel that tells this much.
    pub fn of(knows: &Knows) -> Self {
        Self {
            holders_unseen: !knows.holder,
            folios_unseen: !knows.folio_state,
            ..Self::default()
        }
    }

    pub fn clear(&mut self) {
        *self = Self {
            holders_unseen: self.holders_unseen,
            folios_unseen: self.folios_unseen,
            ..Self::default()
        };
    }

    pub fn fault(&mut self, f: &FaultEvent) {
        if f.retry.is_some() {
            let retried = Retried {
                end_ns: f.end_ns,
                mmap_wait_ns: f.mmap_wait_ns,
            };
            self.faults.insert((f.tid, f.start_ns), retried);
        }
    }
}

const LOWER: &str = "faults on the VMAs a blocked writer has locked are not recorded: amplified time is a lower bound";

/// `None`: what the policy goes by is not seen.
pub fn policies(evidence: &Evidence) -> Named<Option<Policy>> {
    policies_with(evidence, evidence.held.faults)
}

/// With the number of faults that waited with their lock counted elsewhere.
pub fn policies_with(evidence: &Evidence, held_faults: u64) -> Named<Option<Policy>> {
    let all = |_: &WindowEvent| true;
    let uptodate = |w: &WindowEvent| {
        matches!(
            w.folio,
            Some(FolioState::Uptodate | FolioState::UptodateWriteback)
        )
    };
    let clean = |w: &WindowEvent| w.folio == Some(FolioState::Uptodate);
    let mainline = Policy {
        count: evidence.windows.len() as u64,
        bound: "measured",
        assumption: "as it is: the lock is given up, the retry is under mmap_lock",
        ..Policy::default()
    };
    let mut retry_vma = saved(evidence, all);
    charge(&mut retry_vma, &evidence.held.tried_io);
    retry_vma.bound = "estimate";
    retry_vma.assumption = "the VMA lock can be had again; writers that waited for the I/O of a second attempt still do, now for the VMA";
    let mut held_today = Policy {
        count: held_faults,
        bound: "measured",
        assumption: "faults that wait with their lock today, and the writers of that VMA that waited for them",
        ..Policy::default()
    };
    charge(&mut held_today, &evidence.held.writers);
    if evidence.holders_unseen {
        retry_vma.bound = "lower bound";
        retry_vma.assumption = "the VMA lock can be had again; who waits for the I/O of a second attempt is not seen here";
        held_today.bound = "lower bound";
        held_today.assumption = "faults that wait with their lock today, and the writers of that VMA that waited for them; who waited behind those is not seen here";
    }
    let by_folio = !evidence.folios_unseen;
    let policy = |name: &str, policy| (name.to_owned(), policy);
    Named(vec![
        policy("mainline", Some(mainline)),
        policy("retry_vma", Some(retry_vma)),
        policy(
            "no_drop_uptodate",
            by_folio.then(|| held(evidence, uptodate)),
        ),
        policy(
            "no_drop_uptodate_no_writeback",
            by_folio.then(|| held(evidence, clean)),
        ),
        policy("hold_across_io", Some(held(evidence, all))),
        policy("held_today", Some(held_today)),
    ])
}

fn charge(policy: &mut Policy, charged: &Charged) {
    policy.conflicts = charged.waits.len() as u64;
    policy.inversions = charged.inversions;
    policy.amplified_ns = charged.amplified_ns;
    policy.lost_by_op.clone_from(&charged.by_op);
    lost(policy, charged.waits.clone());
}

fn lost(policy: &mut Policy, mut each: Vec<u64>) {
    each.sort_unstable();
    let at = |share: f64| {
        let rank = (share * each.len() as f64).ceil() as usize;
        each.get(rank.max(1) - 1).copied()
    };
    policy.lost_ns = each.iter().sum();
    (policy.lost_p50_ns, policy.lost_p99_ns) = (at(0.5), at(0.99));
    policy.lost_max_ns = each.last().copied();
}

/// The retries that the faults of these windows would be spared.
fn saved(evidence: &Evidence, of: impl Fn(&WindowEvent) -> bool) -> Policy {
    let mut policy = Policy::default();
    for w in evidence.windows.iter().filter(|w| of(w)) {
        policy.count += 1;
        let Some(fault) = evidence.faults.get(&w.fault()) else {
            continue;
        };
        policy.saved_ns += fault.mmap_wait_ns;
        policy.saved_at_most_ns += fault.end_ns.saturating_sub(w.close_ns);
        policy.saved_max_ns = policy.saved_max_ns.max(fault.mmap_wait_ns);
        policy.saved_by_kind[w.kind as usize] += fault.mmap_wait_ns;
    }
    policy
}

/// Those windows' faults keep their VMA lock.
fn held(evidence: &Evidence, of: impl Fn(&WindowEvent) -> bool) -> Policy {
    let mut policy = saved(evidence, &of);
    policy.bound = "lower bound";
    policy.assumption = LOWER;
    let windows: HashMap<u64, &WindowEvent> = evidence
        .windows
        .iter()
        .filter(|w| of(w))
        .map(|w| (w.id, w))
        .collect();
    let mut by_mm = HashMap::<u64, Vec<(&ConflictEvent, &WindowEvent)>>::new();
    for c in &evidence.conflicts {
        if let Some(w) = windows.get(&c.window) {
            policy.conflicts += 1;
            by_mm.entry(w.mm).or_default().push((c, w));
        }
    }
    let mut arrivals = HashMap::<u64, Vec<&ArrivalEvent>>::new();
    for a in evidence.arrivals.iter().filter(|a| !a.retry) {
        arrivals.entry(a.mm).or_default().push(a);
    }
    let mut each = Vec::new();
    for (mm, mut met) in by_mm {
        met.sort_by_key(|(c, _)| c.at_ns);
        let arrived = arrivals.entry(mm).or_default();
        arrived.sort_by_key(|a| a.at_ns);
        for blocked in intervals(&met) {
            let lost = blocked.end_ns.saturating_sub(blocked.start_ns);
            each.push(lost);
            *policy.lost_by_op.entry(blocked.op.name()).or_default() += lost;
            policy.inversions += u64::from(blocked.inversion);
            policy.amplified_ns += amplified(&blocked, arrived);
        }
    }
    lost(&mut policy, each);
    policy
}

/// A writer waits for windows to close, and holds `mmap_lock` meanwhile.
struct Blocked {
    start_ns: u64,
    end_ns: u64,
    tid: u32,
    op: Op,
    inversion: bool,
}

/// `met`, in order of time, as intervals that do not overlap.
fn intervals(met: &[(&ConflictEvent, &WindowEvent)]) -> Vec<Blocked> {
    let mut out: Vec<Blocked> = Vec::new();
    for (c, w) in met {
        match out.last_mut() {
            Some(last) if c.at_ns < last.end_ns => {
                last.end_ns = last.end_ns.max(w.close_ns);
                last.inversion |= c.tid == last.tid && c.prio < w.prio;
            }
            _ => out.push(Blocked {
                start_ns: c.at_ns,
                end_ns: w.close_ns,
                tid: c.tid,
                op: c.op,
                inversion: c.prio < w.prio,
            }),
        }
    }
    out
}

/// What the threads that arrive while it is blocked lose, each from its first arrival on.
fn amplified(blocked: &Blocked, arrived: &[&ArrivalEvent]) -> u64 {
    let from = arrived.partition_point(|a| a.at_ns <= blocked.start_ns);
    let mut charged = vec![blocked.tid];
    let mut sum = 0;
    for a in arrived[from..]
        .iter()
        .take_while(|a| a.at_ns < blocked.end_ns)
    {
        if !charged.contains(&a.tid) {
            charged.push(a.tid);
            sum += blocked.end_ns - a.at_ns;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use profiler_common::words::RetryReason;

    const MM: u64 = 7;

    fn window(id: u64, tid: u32, io_ns: u64, close_ns: u64) -> WindowEvent {
        WindowEvent {
            id,
            attempt_ns: io_ns - 1,
            io_ns,
            close_ns,
            mm: MM,
            tid,
            tgid: 1,
            comm: "faulter".into(),
            prio: 130,
            address: 0x1000,
            vm_start: 0x1000,
            vm_end: 0x9000,
            kind: Kind::File,
            retry: Some(RetryReason::Io),
            folio: Some(FolioState::NotUptodate),
        }
    }

    fn conflict(window: u64, tid: u32, at_ns: u64) -> ConflictEvent {
        ConflictEvent {
            window,
            at_ns,
            tid,
            tgid: 1,
            comm: "writer".into(),
            prio: 120,
            op: Op::Mprotect,
            exact: true,
        }
    }

    fn arrival(tid: u32, at_ns: u64, retry: bool) -> ArrivalEvent {
        ArrivalEvent {
            at_ns,
            section_ns: 0,
            mm: MM,
            tid,
            tgid: 1,
            comm: "other".into(),
            prio: 120,
            mode: Mode::Read,
            op: Op::Proc,
            start: 0,
            end: 0,
            retry,
        }
    }

    fn policy(evidence: &Evidence, name: &str) -> Policy {
        policies(evidence).get(name).unwrap().clone().unwrap()
    }

    fn hold(evidence: &Evidence) -> Policy {
        policy(evidence, "hold_across_io")
    }

    #[test]
    fn each_thread_pays_once_per_interval() {
        let evidence = Evidence {
            windows: vec![window(1, 10, 100, 1000)],
            conflicts: vec![conflict(1, 20, 300), conflict(1, 21, 400)],
            arrivals: vec![
                arrival(20, 300, false),
                arrival(21, 400, false),
                arrival(22, 500, false),
                arrival(22, 600, false),
                arrival(23, 700, true),
                arrival(24, 1200, false),
            ],
            ..Evidence::default()
        };
        let p = hold(&evidence);
        assert_eq!(
            (p.conflicts, p.lost_ns, p.amplified_ns),
            (2, 700, 600 + 500)
        );
        assert_eq!((p.inversions, p.saved_ns), (1, 0));
        assert_eq!(p.lost_by_op["mprotect"], 700);
    }

    #[test]
    fn one_writer_behind_many_windows_waits_for_the_last() {
        let windows: Vec<_> = (1..=8)
            .map(|i| window(i, i as u32, 100, 500 + i * 100))
            .collect();
        let conflicts = (1..=8).map(|i| conflict(i, 20, 400 + i)).collect();
        let p = hold(&Evidence {
            windows,
            conflicts,
            ..Evidence::default()
        });
        assert_eq!((p.conflicts, p.lost_ns, p.amplified_ns), (8, 1300 - 401, 0));
    }

    #[test]
    fn what_a_retry_waited_for_is_saved() {
        let mut evidence = Evidence {
            windows: vec![window(1, 10, 100, 1000)],
            ..Evidence::default()
        };
        let retried = Retried {
            end_ns: 1900,
            mmap_wait_ns: 800,
        };
        evidence.faults.insert((10, 99), retried);
        let p = hold(&evidence);
        assert_eq!((p.saved_ns, p.saved_at_most_ns, p.lost_ns), (800, 900, 0));
        let none = policy(&evidence, "no_drop_uptodate");
        assert_eq!((none.count, none.saved_ns), (0, 0));
    }
}
