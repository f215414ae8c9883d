//! The ten questions of the debate on page-fault retries, each answered in sentences with numbers.
//! In: a report. Out: for each question its words and an answer; a figure this kernel or this mode
//! cannot give is said to be missing, and why.

use super::{
    Report,
    blame::VmaWrite,
    units::{bytes, clean, count, percent, time},
};
use crate::model::{Figure, Quality};

pub struct Answer {
    pub question: &'static str,
    pub answer: String,
}

pub fn answers(r: &Report) -> Vec<Answer> {
    let answer = |question, answer| Answer { question, answer };
    vec![
        answer("Does a writer block behind a fault in the same VMA?", q1(r)),
        answer("What does the retry cost, and what does it buy?", q2(r)),
        answer("What share of faults ends on mmap_lock?", q3(r)),
        answer("Priority inversions and chains?", q4(r)),
        answer("How uneven are the VMAs that fault?", q5(r)),
        answer("What state was the folio in at a retry?", q6(r)),
        answer("Anonymous against file memory?", q7(r)),
        answer("Which operation is the writer?", q8(r)),
        answer("How long is the I/O under a fault, by priority?", q9(r)),
        answer(
            "Did a kernel change help?",
            "One recording cannot tell: record before and after, and let `vmascope diff` compare them."
                .into(),
        ),
    ]
}

fn missing(r: &Report, figure: Figure) -> String {
    match r.signal(figure) {
        Some(s) if s.quality == Quality::Unavailable && !s.reason.is_empty() => {
            format!("Cannot be told here: {}.", s.reason)
        }
        _ => "Cannot be told here.".into(),
    }
}

fn exactness(r: &Report, figure: Figure) -> &'static str {
    match r.signal(figure).map(|s| s.quality) {
        Some(Quality::Exact) => "exact",
        _ => "approximate",
    }
}

fn lost(r: &Report) -> u64 {
    r.loss.0.iter().map(|(_, n)| n).sum()
}

fn plural(n: u64, what: &str) -> String {
    format!("{} {what}{}", count(n), if n == 1 { "" } else { "s" })
}

fn q1(r: &Report) -> String {
    let Some(v) = &r.vma_write else {
        return missing(r, Figure::VmaWriteWait);
    };
    let of = match (v.sections, v.locked) {
        (Some(sections), Some(locked)) => format!(
            " in {} that locked {}",
            plural(sections, "write section"),
            plural(locked, "VMA")
        ),
        (Some(sections), None) => format!(" in {}", plural(sections, "write section")),
        _ => String::new(),
    };
    let trust = format!(
        "hook {}, loss {}",
        exactness(r, Figure::VmaWriteWait),
        count(lost(r))
    );
    if v.waits == 0 {
        return format!("No: 0 VMA-writer waits{of} ({trust}).");
    }
    let Some(d) = &v.wait_ns else {
        return missing(r, Figure::VmaWriteWait);
    };
    format!(
        "Yes: {}{of}, {} in all, longest {} ({trust}). {}",
        plural(v.waits, "VMA-writer wait"),
        time(d.sum),
        time(d.max.unwrap_or(0)),
        blockers(v, r.min_us)
    )
}

fn blockers(v: &VmaWrite, min_us: u64) -> String {
    let by = v.blocked_by.0.iter().filter(|(_, n)| *n > 0);
    let by: Vec<_> = by.map(|(by, n)| format!("{by} {}", count(*n))).collect();
    if by.is_empty() {
        return format!("None was longer than {min_us} us.");
    }
    format!(
        "Those of {min_us} us and more were blocked by: {}. The fault was on a page being written in {}, elsewhere in the VMA in {}; it waited with its lock held in {}.",
        by.join(", "),
        count(v.same_page),
        count(v.other_part),
        held(v)
    )
}

/// `5 (page_mkwrite 3, reclaim 2)`
fn held(v: &VmaWrite) -> String {
    let all: u64 = v.blocked_by_held.0.iter().map(|(_, n)| n).sum();
    let seen = v.blocked_by_held.0.iter().filter(|(_, n)| *n > 0);
    let each: Vec<_> = seen
        .map(|(why, n)| format!("{why} {}", count(*n)))
        .collect();
    if each.is_empty() {
        return count(all);
    }
    format!("{} ({})", count(all), each.join(", "))
}

fn q2(r: &Report) -> String {
    let Some(policies) = &r.what_if else {
        return missing(r, Figure::WhatIf);
    };
    let windows = r.windows.as_ref();
    let mut out = match windows {
        Some(w) if w.count > 0 => format!(
            "{} gave up the VMA lock to wait, for {} in all (longest {}).",
            plural(w.count, "fault"),
            time(w.open_ns.sum),
            time(w.open_ns.max.unwrap_or(0))
        ),
        _ => {
            return match policies.get("held_today") {
                Some(Some(p)) if p.conflicts > 0 => format!(
                    "No fault gave up its VMA lock to wait for I/O. Of those that waited with it, {} held up writers: these lost {}, and those behind them {} (measured).",
                    p.count,
                    time(p.lost_ns),
                    time(p.amplified_ns)
                ),
                _ => "No fault gave up its VMA lock to wait for I/O: nothing to gain, nothing to lose."
                    .into(),
            };
        }
    };
    let met = r.conflicts.as_ref().map_or(0, |c| c.count);
    out.push_str(&format!(
        " {} meanwhile (a write section that locked such a VMA).",
        plural(met, "conflict")
    ));
    if let Some(Some(p)) = policies.get("hold_across_io") {
        out.push_str(&format!(
            " With the lock held, faults would have saved {} to {}; writers would have lost {}, and at least {} those behind them (estimate).",
            time(p.saved_ns),
            time(p.saved_at_most_ns.max(p.saved_ns)),
            time(p.lost_ns),
            time(p.amplified_ns)
        ));
    }
    if let Some(Some(p)) = policies.get("retry_vma") {
        out.push_str(&format!(
            " Retries under the VMA lock would have saved {}.",
            time(p.saved_ns)
        ));
    }
    out
}

fn q3(r: &Report) -> String {
    let f = &r.faults;
    let (Some(total), Some(major), Some(paths), Some(majors)) =
        (f.total, f.major, &f.by_path, &f.major_by_path)
    else {
        return missing(r, Figure::FaultPath);
    };
    let under = |of: &super::Named<Option<u64>>| -> u64 {
        let on = |path| of.get(path).copied().flatten().unwrap_or(0);
        on("fallback") + on("retry") + on("mmap_lock")
    };
    if total == 0 {
        return "No fault.".into();
    }
    let of_majors = match major {
        0 => "No major fault;".to_owned(),
        _ => format!(
            "{} of {} ended under mmap_lock,",
            percent(under(majors), major),
            plural(major, "major fault")
        ),
    };
    let mut out = format!(
        "{of_majors} {} of {} did.",
        percent(under(paths), total),
        plural(total, "fault"),
    );
    out.push_str(&waited_for_it(r));
    out
}

fn waited_for_it(r: &Report) -> String {
    let Some(ops) = r.mmap_lock.read.by_op.as_ref() else {
        return String::new();
    };
    let Some(o) = ops.get("fault") else {
        let seen = r.mmap_lock.read.waits.is_some();
        return if seen { " No fault waited for it." } else { "" }.into();
    };
    match (o.waits, o.wait_sum_ns, o.wait_max_ns) {
        (Some(0), ..) => " No fault waited for it.".into(),
        (Some(n), Some(sum), Some(max)) => format!(
            " Faults waited for it {}, {} in all, longest {}.",
            plural(n, "time"),
            time(sum),
            time(max)
        ),
        _ => String::new(),
    }
}

fn q4(r: &Report) -> String {
    let (Some(chains), Some(inversions)) = (&r.chains, &r.inversions) else {
        return no_chains(r);
    };
    let mut out = if chains.count == 0 {
        "No chain: nobody waited for a thread that was waiting itself.".to_owned()
    } else {
        format!(
            "{}, up to {} threads deep, {} of thread time blocked.",
            plural(chains.count, "chain"),
            chains.max_depth,
            time(chains.blocked_ns)
        )
    };
    if let Some(worst) = chains.top.first() {
        let doing = match (worst.root.op, worst.root.doing) {
            (_, Some(doing)) => format!(" in {doing}"),
            (Some(op), None) => format!(" in {op}"),
            _ => String::new(),
        };
        out.push_str(&format!(
            " Worst: {} ({}, prio {}){doing} held up {}, {} in all.",
            clean(&worst.root.comm),
            worst.root.tid,
            worst.root.prio,
            plural(worst.waits, "wait"),
            time(worst.blocked_ns)
        ));
    }
    out.push_str(&if inversions.count == 0 {
        " No priority inversion.".into()
    } else {
        format!(
            " {}: {} waited for less important threads.",
            plural(inversions.count, "priority inversion"),
            time(inversions.blocked_ns)
        )
    });
    if let Some(holder) = r.signal(Figure::MmapLockHolder)
        && holder.quality == Quality::Approximate
    {
        let why = &holder.reason;
        out.push_str(&format!(" Who held mmap_lock is approximate: {why}."));
    }
    out
}

/// Where it is not seen who holds `mmap_lock`, it may be seen who is in a VMA.
fn no_chains(r: &Report) -> String {
    let mut out = if r.schema < 2 {
        "Cannot be told: a recording of schema 1 has no blame.".into()
    } else {
        missing(r, Figure::MmapLockHolder)
    };
    if let Some(v) = r.vma_write.as_ref().filter(|v| v.waits > 0) {
        out.push_str(&match v.inversions.count {
            0 => " No wait for a VMA was behind a less important thread.".into(),
            n => format!(
                " Waits for a VMA behind a less important thread: {}, {} in all.",
                count(n),
                time(v.inversions.blocked_ns)
            ),
        });
    }
    out
}

fn q5(r: &Report) -> String {
    let Some(sizes) = &r.vma_size else {
        return missing(r, Figure::VmaSize);
    };
    let (faults, waits): (u64, u64) = (
        sizes.iter().map(|s| s.faults).sum(),
        sizes.iter().map(|s| s.wait_ns).sum(),
    );
    if faults == 0 {
        return "No fault was looked at.".into();
    }
    // The smallest size above which half of the faults are.
    let (mut above, mut waited) = (0, 0);
    for size in sizes.iter().rev() {
        above += size.faults;
        waited += size.wait_ns;
        if above >= faults.div_ceil(2) {
            let slow = match waits {
                0 => "; none was seen to wait".into(),
                _ => format!(" and {} of what slow faults waited", percent(waited, waits)),
            };
            return format!(
                "VMAs of {} and more took {} of the faults{slow}.",
                bytes(size.min_pages.saturating_mul(r.host.page_size)),
                percent(above, faults)
            );
        }
    }
    String::new()
}

fn q6(r: &Report) -> String {
    let (Some(states), Some(attempts)) = (&r.faults.reasons.folio_state, r.faults.retry_attempts)
    else {
        return missing(r, Figure::FolioState);
    };
    let of = |name| states.get(name).copied().unwrap_or(0);
    let seen: u64 = states.0.iter().map(|(_, n)| n).sum();
    if attempts == 0 {
        return "No fault retried.".into();
    }
    format!(
        "Of {} that gave up their lock, {} looked a folio up: not uptodate {}, uptodate {}, uptodate but under writeback {} (sampled).",
        plural(attempts, "attempt"),
        count(seen),
        count(of("not_uptodate")),
        count(of("uptodate")),
        count(of("uptodate_writeback"))
    )
}

fn q7(r: &Report) -> String {
    let Some(kinds) = &r.faults.by_kind else {
        return missing(r, Figure::FaultKind);
    };
    let total: u64 = kinds.0.iter().map(|(_, n)| n).sum();
    let share: Vec<_> = kinds
        .0
        .iter()
        .filter(|(_, n)| *n > 0)
        .map(|(kind, n)| format!("{kind} {}", percent(*n, total)))
        .collect();
    let mut out = if share.is_empty() {
        "No fault.".to_owned()
    } else {
        format!("Faults: {}.", share.join(", "))
    };
    let slow = r.faults.reasons.components_by_kind_ns.iter();
    let waited: Vec<_> = slow
        .flat_map(|kinds| &kinds.0)
        .filter(|(_, c)| c.faults > 0)
        .map(|(kind, c)| format!("{kind} {}", time(c.total - c.rest)))
        .collect();
    if !waited.is_empty() {
        out.push_str(&format!(" Slow faults waited: {}.", waited.join(", ")));
    }
    out
}

fn q8(r: &Report) -> String {
    let side = &r.mmap_lock.write;
    let Some(ops) = &side.by_op else {
        return missing(r, Figure::MmapLockOp);
    };
    let mut by: Vec<_> = ops
        .0
        .iter()
        .map(|(op, o)| (o.wait_sum_ns.unwrap_or(0), o.hold_sum_ns, op.as_str()))
        .filter(|(waited, held, _)| *waited > 0 || held.is_some_and(|ns| ns > 0))
        .collect();
    by.sort_by_key(|(waited, held, _)| std::cmp::Reverse((*waited, *held)));
    if by.is_empty() {
        return no_writer(r);
    }
    let each: Vec<_> = by
        .iter()
        .take(5)
        .map(|(waited, held, op)| match held {
            Some(held) => format!("{op} waited {}, held {}", time(*waited), time(*held)),
            None => format!("{op} waited {}", time(*waited)),
        })
        .collect();
    format!("By what they waited for mmap_lock: {}.", each.join("; "))
}

/// Where only waits are seen, a writer that took a free lock is not.
fn no_writer(r: &Report) -> String {
    let side = &r.mmap_lock.write;
    if side.acquired.is_some() || side.hold_ns.is_some() {
        return "Nobody was seen to write.".into();
    }
    if side.waits.is_none() {
        return missing(r, Figure::MmapLockWait);
    }
    let why = r.signal(Figure::MmapLockAcquired);
    let why = why.map(|s| s.reason.as_str());
    let why = match why {
        Some(why) if !why.is_empty() => format!(": {why}"),
        _ => String::new(),
    };
    format!("No writer waited for mmap_lock. Writers that did not wait are not seen here{why}.")
}

fn q9(r: &Report) -> String {
    let Some(classes) = &r.faults.reasons.io_wait_ns else {
        return missing(r, Figure::IoWait);
    };
    let each: Vec<_> = classes
        .0
        .iter()
        .filter(|(_, d)| d.count > 0)
        .map(|(class, d)| {
            let at = |ns: Option<u64>| time(ns.unwrap_or(0));
            format!(
                "{class} {}: p50 {}, p99 {}, max {}",
                count(d.count),
                at(d.p50),
                at(d.p99),
                at(d.max)
            )
        })
        .collect();
    if each.is_empty() {
        return "No fault waited for I/O.".into();
    }
    format!("{}.", each.join("; "))
}
