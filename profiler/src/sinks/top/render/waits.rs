//! The longest single waits so far: who waited for which lock, who held it, doing what.

use ratatui::text::{Line, Span};

use super::part;
use crate::{
    model::{Doing, Figure, HolderInfo, WaitEvent},
    report::units::{clean, readers, time},
    sinks::top::app::App,
};
use profiler_common::words::{Mode, Op};

pub fn draw(app: &App, width: usize) -> Vec<Line<'static>> {
    let look = app.look;
    if !app.session.has(Figure::MmapLockWait) {
        let why = app.session.signal(Figure::MmapLockWait).map(|s| &*s.reason);
        let why = clean(why.unwrap_or_default());
        return super::text(&format!("waits cannot be seen here: {why}"), width);
    }
    // The holder's column has what the others leave.
    let wide = width >= 100;
    let who = if wide { 26 } else { 15 };
    let rest = width.saturating_sub(8 + 2 + who + 2 + 10 + 2 + 9 + 2);
    let row = |wait: &str, waiter: &str, lock: &str, op: &str, holder: &str| {
        format!(
            "{wait:>8}  {}  {lock:<10}  {}  {}",
            part(waiter, who),
            part(op, 9),
            part(holder, rest)
        )
    };
    let head = row("WAITED", "WAITER", "LOCK", "FOR", "HELD BY");
    let mut lines = vec![Line::styled(head, look.head())];
    for w in app.waits() {
        let waiter = name(&w.comm, w.tid, wide);
        let text = row(
            &time(w.duration_ns()),
            &waiter,
            lock(w),
            w.op.name(),
            &by(w, wide),
        );
        let inverted = w.blame.inversion;
        let style = if inverted {
            look.alarm()
        } else {
            Default::default()
        };
        lines.push(Line::from(Span::styled(text, style)));
    }
    if lines.len() == 1 {
        let why = if app.is_narrowed() && !app.events().worst.is_empty() {
            "(none of that name)".into()
        } else {
            format!("(no wait of {} us or more yet)", app.session.min_us)
        };
        lines.push(Line::styled(why, look.dim()));
    }
    lines
}

pub fn lock(wait: &WaitEvent) -> &'static str {
    match wait.mode {
        Mode::Read => "mmap read",
        Mode::Write => "mmap write",
        Mode::VmaWrite => "vma write",
    }
}

/// Numbers of threads where there is room.
fn name(comm: &str, tid: u32, wide: bool) -> String {
    if wide {
        format!("{} ({tid})", clean(comm))
    } else {
        clean(comm)
    }
}

fn by(wait: &WaitEvent, wide: bool) -> String {
    match &wait.holder {
        None => "-".into(),
        Some(h) if h.tid == 0 => readers(h.readers),
        Some(h) => format!("{}{}", name(&h.comm, h.tid, wide), what(h, wide)),
    }
}

pub fn holder(h: &HolderInfo) -> String {
    match h.tid {
        0 => readers(h.readers),
        tid => format!("{} ({tid})", clean(&h.comm)),
    }
}

/// The more telling of the two where there is room for one.
fn what(h: &HolderInfo, wide: bool) -> String {
    match h.doing {
        Some(Doing::Held(wait)) if !wide => format!(", {}", wait.name()),
        _ => doing(h),
    }
}

/// `, fault, swap_sync`
pub fn doing(h: &HolderInfo) -> String {
    let words = [h.op.map(Op::name), h.doing.map(Doing::name)];
    let words = words.into_iter().flatten();
    words.map(|w| format!(", {w}")).collect()
}
