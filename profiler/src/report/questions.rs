//! The ten questions of the debate on page-fault retries, each answered in sentences with numbers.
//! In: a report. Out: for each question its words and an answer; a figure this kernel or this mode
//! cannot give is said to be missing, and why.

use super::{
    Report,
    blame::VmaWrite,
    units::{bytes, clean, count, percent, time},
};
use crate::model::Quality;

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

fn missing(r: &Report, signal: &str) -> String {
    let why = r.signals.get(signal).map(|s| s.reason.as_str());
    match why {
        Some(why) if !why.is_empty() => format!("Cannot be told here: {why}."),
        _ => "Cannot be told here.".into(),
    }
}

fn exactness(r: &Report, signal: &str) -> &'static str {
    match r.signals.get(signal).map(|s| s.quality) {
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
        return missing(r, "vma_write_wait");
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
        exactness(r, "vma_write_wait"),
        count(lost(r))
    );
    if v.waits == 0 {
        return format!("No: 0 VMA-writer waits{of} ({trust}).");
    }
    let Some(d) = &v.wait_ns else {
        return missing(r, "vma_write_wait");
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
    if v.blocked_by.is_empty() {
        return format!("None was longer than {min_us} us.");
    }
    let by: Vec<_> = v
        .blocked_by
        .iter()
        .map(|(by, n)| format!("{by} {}", count(*n)))
        .collect();
    format!(
        "Those of {min_us} us and more were blocked by: {}. The fault was on a page being written in {}, elsewhere in the VMA in {}; it waited with its lock held in {}.",
        by.join(", "),
        count(v.same_page),
        count(v.other_part),
        count(v.blocked_by_io)
    )
}

fn q2(r: &Report) -> String {
    let Some(policies) = &r.what_if else {
        return missing(r, "what_if");
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
            return "No fault gave up its VMA lock to wait: nothing to gain, nothing to lose."
                .into();
        }
    };
    let met = r.conflicts.as_ref().map_or(0, |c| c.count);
    out.push_str(&format!(
        " {} meanwhile (a write section that locked such a VMA).",
        plural(met, "conflict")
    ));
    if let Some(p) = policies.get("hold_across_io") {
        out.push_str(&format!(
            " With the lock held, faults would have saved {} to {}; writers would have lost {}, and at least {} those behind them (estimate).",
            time(p.saved_ns),
            time(p.saved_at_most_ns.max(p.saved_ns)),
            time(p.lost_ns),
            time(p.amplified_ns)
        ));
    }
    if let Some(p) = policies.get("retry_vma") {
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
        return missing(r, "fault_path");
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
    let waits = r.mmap_lock.read.by_op.as_ref().and_then(|o| o.get("fault"));
    if let Some(o) = waits
        && let (Some(n), Some(sum), Some(max)) = (o.waits, o.wait_sum_ns, o.wait_max_ns)
    {
        out.push_str(&format!(
            " Faults waited for it {} times, {} in all, longest {}.",
            count(n),
            time(sum),
            time(max)
        ));
    } else if r.mmap_lock.read.waits.is_some() {
        out.push_str(" No fault waited for it.");
    }
    out
}

fn q4(r: &Report) -> String {
    let (Some(chains), Some(inversions)) = (&r.chains, &r.inversions) else {
        return missing(r, "mmap_lock_wait");
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
    out
}

fn q5(r: &Report) -> String {
    let Some(sizes) = &r.vma_size else {
        return missing(r, "vma_size");
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
            return format!(
                "VMAs of {} and more took {} of the faults and {} of what slow faults waited.",
                bytes(size.min_pages.saturating_mul(r.host.page_size)),
                percent(above, faults),
                percent(waited, waits)
            );
        }
    }
    String::new()
}

fn q6(r: &Report) -> String {
    let (Some(states), Some(attempts)) = (&r.faults.reasons.folio_state, r.faults.retry_attempts)
    else {
        return missing(r, "folio_state");
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
        return missing(r, "fault_kind");
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
    if let Some(slow) = &r.faults.reasons.components_by_kind_ns
        && !slow.0.is_empty()
    {
        let waited: Vec<_> = slow
            .0
            .iter()
            .map(|(kind, c)| format!("{kind} {}", time(c.total - c.rest)))
            .collect();
        out.push_str(&format!(" Slow faults waited: {}.", waited.join(", ")));
    }
    out
}

fn q8(r: &Report) -> String {
    let side = &r.mmap_lock.write;
    let Some(ops) = &side.by_op else {
        return missing(r, "mmap_lock_op");
    };
    let mut by: Vec<_> = ops
        .0
        .iter()
        .map(|(op, o)| (o.wait_sum_ns.unwrap_or(0), o.hold_sum_ns, op.as_str()))
        .filter(|(waited, held, _)| *waited > 0 || held.is_some_and(|ns| ns > 0))
        .collect();
    by.sort_by_key(|(waited, held, _)| std::cmp::Reverse((*waited, *held)));
    if by.is_empty() {
        return "Nobody was seen to write.".into();
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

fn q9(r: &Report) -> String {
    let Some(classes) = &r.faults.reasons.io_wait_ns else {
        return missing(r, "io_wait");
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
