//! One wait: who waited for what, and its time cut into segments by who held the lock, doing what.

use ratatui::text::Line;

use super::{
    part, share,
    waits::{doing, holder, lock},
};
use crate::{
    model::{Segment, SegmentBy, WaitEvent},
    report::units::{bytes, clean, time},
    sinks::top::app::App,
};

/// Waits followed from one blocker to the next.
const LINKS: usize = 8;

pub fn draw(app: &App, width: usize) -> Vec<Line<'static>> {
    let Some(wait) = &app.opened else {
        return vec![Line::styled("(the wait is forgotten)", app.look.dim())];
    };
    let look = app.look;
    let head = format!(
        "{} ({}) waited {} on {}, for {}",
        clean(&wait.comm),
        wait.tid,
        time(wait.duration_ns()),
        lock(wait),
        wait.op.name()
    );
    let mut lines = vec![Line::styled(part(&head, width), look.head())];
    for text in facts(app, wait) {
        lines.extend(super::text(&text, width));
    }
    lines.push(Line::default());
    lines.extend(segments(app, wait, width));
    lines.push(Line::default());
    lines.push(Line::styled("WHAT ITS HOLDER WAITED FOR", look.head()));
    lines.extend(behind(app, wait, width));
    lines
}

fn facts(app: &App, w: &WaitEvent) -> Vec<String> {
    let since = |ns: u64| time(ns.saturating_sub(app.session.armed_monotonic_ns));
    let mut facts = vec![format!(
        "from {} to {} since arming, on CPU {}, priority {}{}",
        since(w.start_ns),
        since(w.end_ns),
        w.cpu,
        w.prio,
        if w.acquired { "" } else { ", in vain" }
    )];
    if let Some(tgid) = w.mm_tgid.filter(|tgid| *tgid != w.tgid) {
        facts.push(format!("in the address space of process {tgid}"));
    }
    let range = |what: &str, (start, end): (u64, u64)| {
        let size = bytes(end.saturating_sub(start));
        format!("{what} {start:#x}-{end:#x}, {size}")
    };
    facts.extend(w.vma.map(|r| range("for the lock of the VMA", r)));
    facts.extend(w.range.map(|r| range("the operation is about", r)));
    if w.blame.inversion {
        facts.push("inversion: somebody less important was in the way".into());
    }
    match w.blame.same_page {
        Some(true) => facts.push("the fault in the way was on a page of that range".into()),
        Some(false) => facts.push("the fault in the way was on another page".into()),
        None => {}
    }
    facts
}

fn segments(app: &App, wait: &WaitEvent, width: usize) -> Vec<Line<'static>> {
    let row = |at: &str, ns: &str, share: &str, who: &str| {
        part(&format!("{at:>9}  {ns:>8}  {share:>7}  {who}"), width)
    };
    let head = row("AT", "HELD", "SHARE", "BY WHOM, DOING WHAT");
    let mut lines = vec![Line::styled(head, app.look.head())];
    for s in &wait.blame.segments {
        let at = format!("+{}", time(s.start_ns.saturating_sub(wait.start_ns)));
        let of = share(s.blamed_ns as f64 / 1e9, wait.duration_ns() as f64 / 1e9);
        lines.push(Line::raw(row(&at, &time(s.blamed_ns), &of, &who(s))));
    }
    if wait.blame.segments.is_empty() {
        let why = match &wait.holder {
            Some(h) => format!("(not cut: {}{} at its start)", holder(h), doing(h)),
            None => "(nobody is known to have held it)".into(),
        };
        lines.push(Line::styled(part(&why, width), app.look.dim()));
    }
    lines
}

fn who(segment: &Segment) -> String {
    let stretches = match segment.stretches {
        0 | 1 => String::new(),
        n => format!(", {n} times"),
    };
    match &segment.by {
        SegmentBy::Holder(h) => {
            format!("{} prio {}{}{stretches}", holder(h), h.prio, doing(h))
        }
        SegmentBy::Readers => format!("readers that are not known by name{stretches}"),
        SegmentBy::Others => format!("others, with little time each{stretches}"),
        SegmentBy::Handoff => "nobody: free, and the waiter did not run yet".into(),
        SegmentBy::Unknown => format!("unknown{stretches}"),
    }
}

/// What the one who was in the way waited for itself, and so on.
fn behind(app: &App, wait: &WaitEvent, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let mut links = 0;
    let mut next = wait.blame.blocker_wait;
    while links < LINKS
        && let Some(w) = next.and_then(|id| app.events().wait(id))
    {
        let by = w.holder.as_ref();
        lines.extend(super::text(
            &format!(
                "{} ({}) waited {} on {}, for {}, held by {}{}",
                clean(&w.comm),
                w.tid,
                time(w.duration_ns()),
                lock(w),
                w.op.name(),
                by.map_or("-".into(), holder),
                by.map_or(String::new(), doing),
            ),
            width,
        ));
        links += 1;
        next = w.blame.blocker_wait.filter(|id| *id != w.id);
    }
    if lines.is_empty() {
        let why = match wait.blame.blocker_wait {
            Some(_) => "(a wait that is not remembered)",
            None => "(no wait of whoever was in the way)",
        };
        lines.push(Line::styled(why, app.look.dim()));
    }
    lines
}
