//! The first sentence: what happened, whom it hurt, and how sure that is. Counts decide; single
//! events only put names to them.

use profiler_common::words::{Mode, Op, Path};

use super::{
    build::Knows,
    units::{clean, count, glued, percent, time},
};
use crate::model::{Quality, Session, Snapshot, WaitEvent};

/// `waits`: the longest seen, longest first; may be empty.
pub fn verdict(session: &Session, counts: &Snapshot, waits: &[WaitEvent]) -> String {
    let knows = Knows::of(session);
    let lost = counts.lost();
    let mut out = format!(
        "In {}: {}; {}",
        glued(&time(counts.duration_ns)),
        faults(counts, &knows),
        writers(session, counts, &knows, waits)
    );
    if lost > 0 {
        out.push_str(&format!(
            "; {} losses, so figures may be too low",
            count(lost)
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
        format!(
            "{} of {} major faults ended on mmap_lock",
            glued(&percent(ended, major)),
            count(major)
        )
    } else {
        let ended: u64 = under_mmap_lock.iter().map(|f| f.count).sum();
        format!(
            "no major fault; {} of {} minor faults ended on mmap_lock",
            glued(&percent(ended, total)),
            count(total)
        )
    };
    let waited = counts.locks[Mode::Read as usize].by_op[Op::Fault as usize];
    let it = if knows.path { "it" } else { "mmap_lock" };
    if knows.wait && knows.op {
        if waited.waits > 0 {
            let sum = glued(&time(waited.wait_sum_ns));
            out.push_str(&format!(", faults waited {sum} for {it}"));
        } else {
            out.push_str(&format!(", no fault waited for {it}"));
        }
    }
    out
}

fn writers(session: &Session, counts: &Snapshot, knows: &Knows, waits: &[WaitEvent]) -> String {
    if !knows.wait {
        let why = session.signal("mmap_lock_wait").map(|s| s.reason.as_str());
        return match why {
            Some(why) if !why.is_empty() => format!("waits for mmap_lock cannot be seen ({why})"),
            _ => "waits for mmap_lock cannot be seen here".into(),
        };
    }
    let side = &counts.locks[Mode::Write as usize];
    let total = side.total();
    if total.waits > 0 {
        return worst_writer(counts, waits);
    }
    let sections = if knows.acquired {
        format!(" in {} write sections", count(total.acquired))
    } else {
        String::new()
    };
    let hook = match session.signal("mmap_lock_wait").map(|s| s.quality) {
        Some(Quality::Exact) => "exact",
        _ => "approx.",
    };
    let lost = count(counts.lost());
    format!("0 mmap_lock write waits{sections}, loss {lost}, hook {hook}")
}

fn worst_writer(counts: &Snapshot, waits: &[WaitEvent]) -> String {
    let at = Mode::Write as usize;
    let side = &counts.locks[at];
    let longest = side.total().wait_max_ns;
    let total = side.total();
    let all = format!(
        "{} mmap_lock write {} of {} in all",
        count(total.waits),
        if total.waits == 1 { "wait" } else { "waits" },
        glued(&time(total.wait_sum_ns))
    );
    let event = waits
        .iter()
        .filter(|w| w.mode == Mode::Write)
        .max_by_key(|w| w.duration_ns());
    // Events over the threshold, or lost, leave the counters to tell.
    if let Some(w) = event.filter(|w| w.duration_ns() >= longest) {
        let holder = match &w.holder {
            Some(h) if h.reader => format!(", held by {} ({}) reading", clean(&h.comm), h.tid),
            Some(h) => format!(", held by {} ({})", clean(&h.comm), h.tid),
            None => String::new(),
        };
        return format!(
            "{all}, worst writer: {} in {} ({}), waited {}{holder}",
            w.op.name(),
            clean(&w.comm),
            w.tid,
            glued(&time(w.duration_ns()))
        );
    }
    let op = Op::ALL
        .iter()
        .max_by_key(|op| side.by_op[**op as usize].wait_max_ns)
        .map_or("other", |op| op.name());
    let waited = glued(&time(longest));
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
