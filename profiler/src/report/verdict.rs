//! The first sentence: what happened, whom it hurt, and how sure that is. Counts decide; single
//! events only put names to them.

use profiler_common::words::{Mode, Op, Path};

use super::{
    build::Knows,
    units::{clean, count, percent, time},
};
use crate::model::{Doing, OpStats, Quality, Session, Snapshot, Thread, WaitEvent};

/// `waits`: the longest seen, longest first; may be empty.
pub fn verdict(session: &Session, counts: &Snapshot, waits: &[WaitEvent]) -> String {
    let knows = Knows::of(session);
    let lost = counts.lost();
    let mut out = format!(
        "In {}: {}; {}",
        time(counts.duration_ns),
        faults(counts, &knows),
        writers(session, counts, &knows, waits)
    );
    let missed: u64 = counts.threads.iter().map(Thread::missed).sum();
    if missed > 0 {
        let all = missed + counts.faults_total();
        let share = percent(missed, all);
        out.push_str(&format!(
            "; hooks missed {share} of {}",
            plural(all, "fault")
        ));
    } else if lost > 0 {
        out.push_str(&format!(
            "; {}, so figures may be too low",
            plural(lost, "loss event")
        ));
    }
    out.push('.');
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

fn writers(session: &Session, counts: &Snapshot, knows: &Knows, waits: &[WaitEvent]) -> String {
    if !knows.wait {
        let why = session.signal("mmap_lock_wait").map(|s| s.reason.as_str());
        return match why {
            Some(why) if !why.is_empty() => format!("waits for mmap_lock cannot be seen ({why})"),
            _ => "waits for mmap_lock cannot be seen here".into(),
        };
    }
    let total = counts.locks[Mode::Write as usize].total();
    let vma = counts.locks[Mode::VmaWrite as usize].total();
    if vma.waits > 0 {
        return vma_writer(&vma, waits);
    }
    if total.waits > 0 {
        return worst_writer(counts, waits);
    }
    let sections = if knows.acquired {
        format!(" in {}", plural(total.acquired, "write section"))
    } else {
        String::new()
    };
    let hook = match session.signal("mmap_lock_wait").map(|s| s.quality) {
        Some(Quality::Exact) => "exact",
        _ => "approximate",
    };
    let lost = count(counts.lost());
    let which = if knows.vma_write {
        "0 mmap_lock write waits and 0 VMA-writer waits"
    } else {
        "0 mmap_lock write waits"
    };
    format!("{which}{sections}, loss {lost}, hook {hook}")
}

fn vma_writer(total: &OpStats, waits: &[WaitEvent]) -> String {
    let all = format!(
        "{} of {} in all",
        plural(total.waits, "VMA-writer wait"),
        time(total.wait_sum_ns)
    );
    let worst = waits.iter().find(|w| w.mode == Mode::VmaWrite);
    let Some(w) = worst.filter(|w| w.duration_ns() >= total.wait_max_ns) else {
        return format!("{all}, longest {}", time(total.wait_max_ns));
    };
    let blocked = match &w.holder {
        Some(h) if h.tid != 0 => {
            let doing = h.doing.map(Doing::name).or(h.op.map(Op::name));
            let doing = doing.map_or(String::new(), |d| format!(" in {d}"));
            format!(", blocked by {} ({}){doing}", clean(&h.comm), h.tid)
        }
        _ => String::new(),
    };
    format!(
        "{all}, worst writer: {} in {} ({}), waited {}{blocked}",
        w.op.name(),
        clean(&w.comm),
        w.tid,
        time(w.duration_ns())
    )
}

fn worst_writer(counts: &Snapshot, waits: &[WaitEvent]) -> String {
    let at = Mode::Write as usize;
    let side = &counts.locks[at];
    let longest = side.total().wait_max_ns;
    let total = side.total();
    let all = format!(
        "{} of {} in all",
        plural(total.waits, "mmap_lock write wait"),
        time(total.wait_sum_ns)
    );
    let event = waits
        .iter()
        .filter(|w| w.mode == Mode::Write)
        .max_by_key(|w| w.duration_ns());
    // Events over the threshold, or lost, leave the counters to tell.
    if let Some(w) = event.filter(|w| w.duration_ns() >= longest) {
        let holder = match &w.holder {
            Some(h) if h.tid == 0 => ", held by readers".into(),
            Some(h) => format!(", held by {} ({})", clean(&h.comm), h.tid),
            None => String::new(),
        };
        return format!(
            "{all}, worst writer: {} in {} ({}), waited {}{holder}",
            w.op.name(),
            clean(&w.comm),
            w.tid,
            time(w.duration_ns())
        );
    }
    let op = Op::ALL
        .iter()
        .max_by_key(|op| side.by_op[**op as usize].wait_max_ns)
        .map_or("other", |op| op.name());
    let waited = time(longest);
    let thread = counts.threads.iter().max_by_key(|t| t.wait_max_ns[at]);
    match thread.filter(|t| t.wait_max_ns[at] >= longest) {
        Some(t) => format!(
            "{all}, worst writer: {op} in {} ({}), waited {waited}",
            clean(&t.comm),
            t.tid
        ),
        None => format!("{all}, worst writer: {op}, waited {waited}"),
    }
}
