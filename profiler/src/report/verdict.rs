//! The first sentence: what happened, whom it hurt, and how sure that is. Counts decide; single
//! events only put names to them.

use profiler_common::words::{Loss, Mode, Op, Path};

use super::units::{clean, count, percent, readers, time};
use crate::model::{Doing, Figure, Knows, Quality, Session, Snapshot, Thread, WaitEvent};

/// Losses that say no more than that a hook was skipped: what of it a figure lacks is told by the faults
/// that were missed.
const SKIPPED: [Loss; 3] = [
    Loss::RecursionMisses,
    Loss::UnmatchedEntry,
    Loss::UnmatchedExit,
];

/// `waits`: the longest seen, longest first; may be empty.
pub fn verdict(session: &Session, counts: &Snapshot, waits: &[WaitEvent]) -> String {
    let knows = Knows::of(session);
    format!(
        "In {}: {}; {}{}.",
        time(counts.duration_ns),
        faults(counts, &knows),
        writers(session, counts, &knows, waits),
        doubts(counts)
    )
}

/// What may make the figures too low: faults that were missed, hooks that were skipped, and what was lost
/// for any other reason.
fn doubts(counts: &Snapshot) -> String {
    let of = |loss: Loss| counts.losses[loss as usize];
    let missed: u64 = counts.threads.iter().map(Thread::missed).sum();
    let all = missed + counts.faults_total();
    // One run that is skipped can leave one end of a fault without the other, and need not.
    let unmatched = of(Loss::UnmatchedEntry) + of(Loss::UnmatchedExit);
    let skipped = of(Loss::RecursionMisses).max(unmatched);
    let times = format!("skipped {}", plural(skipped, "time"));
    let share = || {
        format!(
            "missed {} of {}",
            percent(missed, all),
            plural(all, "fault")
        )
    };
    let mut out = match (skipped > all / 1000, missed > 0) {
        (true, true) => format!("; hooks were {times} and {}", share()),
        (true, false) => format!("; hooks were {times}"),
        (false, true) => format!("; hooks {}", share()),
        (false, false) => String::new(),
    };
    let lost = counts.lost() - SKIPPED.map(of).iter().sum::<u64>();
    if lost > 0 {
        let lost = plural(lost, "loss event");
        out.push_str(&format!("; {lost}, so figures may be too low"));
    }
    out
}

fn faults(counts: &Snapshot, knows: &Knows) -> String {
    let (total, major) = (counts.faults_total(), counts.majors_total());
    if !knows.count {
        return "page faults cannot be counted here".into();
    }
    if total == 0 {
        return "no page fault".into();
    }
    let under_mmap_lock = [Path::Fallback, Path::Retry, Path::MmapLock].map(|p| counts.path(p));
    let mut out = if !knows.path {
        format!(
            "{} page faults, {} of them major (which lock they ended on cannot be told here)",
            count(total),
            count(major)
        )
    } else if !knows.vma_lock {
        format!(
            "{} page faults, {} of them major, all under mmap_lock (this kernel has no VMA lock)",
            count(total),
            count(major)
        )
    } else if major > 0 {
        let ended: u64 = under_mmap_lock.iter().map(|f| f.major).sum();
        format!("{} ended on mmap_lock", part(ended, major, "major fault"))
    } else {
        let ended: u64 = under_mmap_lock.iter().map(|f| f.count).sum();
        let part = part(ended, total, "minor fault");
        format!("no major fault; {part} ended on mmap_lock")
    };
    let waited = counts.locks[Mode::Read as usize].by_op[Op::Fault as usize];
    let it = if knows.path { "it" } else { "mmap_lock" };
    if knows.wait && knows.op {
        if waited.waits > 0 {
            let sum = time(waited.wait_sum_ns);
            out.push_str(&format!(", faults waited {sum} for {it}"));
        } else {
            out.push_str(&format!(", no fault waited for {it}"));
        }
    }
    out
}

/// `3.1 % of 12,345 major faults`, `none of 3 major faults`, `all 3 major faults`.
fn part(some: u64, all: u64, what: &str) -> String {
    let how_many = match some {
        0 => "none".to_owned(),
        _ if some == all => return format!("all {}", plural(all, what)),
        _ => percent(some, all),
    };
    format!("{how_many} of {}", plural(all, what))
}

fn plural(n: u64, what: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{} {what}{s}", count(n))
}

/// Who waited to change an address space: for its lock, and for those of its VMAs.
fn writers(session: &Session, counts: &Snapshot, knows: &Knows, waits: &[WaitEvent]) -> String {
    let known = [(Mode::VmaWrite, knows.vma_write), (Mode::Write, knows.wait)];
    let seen: Vec<Mode> = known
        .iter()
        .filter_map(|(mode, known)| known.then_some(*mode))
        .collect();
    let total = |mode: Mode| counts.locks[mode as usize].total();
    let waited: Vec<Mode> = seen
        .iter()
        .copied()
        .filter(|mode| total(*mode).waits > 0)
        .collect();
    let mut parts = Vec::new();
    if let Some(longest) = waited.iter().max_by_key(|m| total(**m).wait_max_ns) {
        let sum = |mode: &Mode| {
            let (waits, ns) = (total(*mode).waits, total(*mode).wait_sum_ns);
            format!("{} of {}", plural(waits, called(*mode)), time(ns))
        };
        let sums: Vec<_> = waited.iter().map(sum).collect();
        let worst = worst_writer(counts, *longest, waits, waited.len() > 1);
        parts.push(format!(
            "{} in all, worst writer: {worst}",
            sums.join(" and ")
        ));
    } else if !seen.is_empty() {
        parts.push(nobody(session, counts, knows, &seen));
    }
    if !knows.wait {
        parts.push(unseen(session));
    }
    parts.join("; ")
}

fn called(mode: Mode) -> &'static str {
    match mode {
        Mode::Read => "mmap_lock read wait",
        Mode::Write => "mmap_lock write wait",
        Mode::VmaWrite => "VMA-writer wait",
    }
}

fn unseen(session: &Session) -> String {
    match session.signal(Figure::MmapLockWait) {
        Some(s) if !s.reason.is_empty() => {
            format!("waits for mmap_lock cannot be seen ({})", s.reason)
        }
        _ => "waits for mmap_lock cannot be seen here".into(),
    }
}

/// That no writer waited is as sure as the least of the hooks that would have seen it.
fn nobody(session: &Session, counts: &Snapshot, knows: &Knows, seen: &[Mode]) -> String {
    let none = |mode: &Mode| format!("0 {}s", called(*mode));
    let none: Vec<_> = seen.iter().rev().map(none).collect();
    let sections = if knows.acquired {
        let acquired = counts.locks[Mode::Write as usize].total().acquired;
        format!(" in {}", plural(acquired, "write section"))
    } else {
        String::new()
    };
    let exact = |mode: &Mode| {
        session.signal(Figure::waits(*mode)).map(|s| s.quality) == Some(Quality::Exact)
    };
    let hook = if seen.iter().all(exact) {
        "exact"
    } else {
        "approximate"
    };
    let lost = count(counts.lost());
    format!("{}{sections}, loss {lost}, hook {hook}", none.join(" and "))
}

/// The longest wait of a mode: by its event if that was kept, else by the counters.
fn worst_writer(counts: &Snapshot, mode: Mode, waits: &[WaitEvent], of_both: bool) -> String {
    let longest = counts.locks[mode as usize].total().wait_max_ns;
    let lock = match mode {
        _ if !of_both => "",
        Mode::VmaWrite => " for a VMA",
        _ => " for mmap_lock",
    };
    let event = waits
        .iter()
        .filter(|w| w.mode == mode)
        .max_by_key(|w| w.duration_ns());
    match event.filter(|w| w.duration_ns() >= longest) {
        Some(w) => format!(
            "{} in {} ({}), waited {}{lock}{}",
            w.op.name(),
            clean(&w.comm),
            w.tid,
            time(w.duration_ns()),
            behind(w)
        ),
        // Events under the threshold, or lost, leave the counters to tell.
        None => {
            let who = by_counters(counts, mode, longest);
            format!("{who}, waited {}{lock}", time(longest))
        }
    }
}

fn behind(w: &WaitEvent) -> String {
    let vma = w.mode == Mode::VmaWrite;
    match &w.holder {
        None => String::new(),
        Some(h) if h.tid == 0 && vma => String::new(),
        Some(h) if h.tid == 0 => format!(", held by {}", readers(h.readers)),
        Some(h) if vma => {
            let doing = h.doing.map(Doing::name).or(h.op.map(Op::name));
            let doing = doing.map_or(String::new(), |d| format!(" in {d}"));
            format!(", blocked by {} ({}){doing}", clean(&h.comm), h.tid)
        }
        Some(h) => format!(", held by {} ({})", clean(&h.comm), h.tid),
    }
}

/// The operation, and the thread if it is still known.
fn by_counters(counts: &Snapshot, mode: Mode, longest: u64) -> String {
    let (at, side) = (mode as usize, &counts.locks[mode as usize]);
    let op = Op::ALL
        .iter()
        .max_by_key(|op| side.by_op[**op as usize].wait_max_ns)
        .map_or("other", |op| op.name());
    let thread = counts.threads.iter().max_by_key(|t| t.wait_max_ns[at]);
    match thread.filter(|t| t.wait_max_ns[at] >= longest) {
        Some(t) => format!("{op} in {} ({})", clean(&t.comm), t.tid),
        None => op.to_owned(),
    }
}
