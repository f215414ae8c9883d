//! Chains of waits as trees: whom everybody waits for at the top, those behind it below.

use ratatui::text::Line;

use super::waits::{doing, holder, lock};
use crate::{
    model::Figure,
    report::units::{clean, count, time},
    sinks::top::app::App,
};

pub fn draw(app: &App) -> Vec<Line<'static>> {
    let look = app.look;
    let (branch, mark) = if look.unicode {
        ("└─ ", " ▲ inversion")
    } else {
        ("`- ", " ! inversion")
    };
    let mut lines = Vec::new();
    for c in app.chains() {
        let head = format!(
            "{} blocked, {} waits, {} threads deep",
            time(c.blocked_ns),
            count(c.waits),
            c.depth
        );
        lines.push(Line::styled(head, look.head()));
        if let Some(h) = c.blocker() {
            let text = format!("{} prio {}{}", holder(h), h.prio, doing(h));
            lines.push(Line::from(text));
        }
        for (deep, w) in c.links.iter().rev().enumerate() {
            let inverted = w.blame.inversion;
            let text = format!(
                "{:indent$}{branch}{} ({}) prio {}, {} on {}, {}{}",
                "",
                clean(&w.comm),
                w.tid,
                w.prio,
                w.op.name(),
                lock(w),
                time(w.duration_ns()),
                if inverted { mark } else { "" },
                indent = deep * 3,
            );
            let style = if inverted {
                look.alarm()
            } else {
                Default::default()
            };
            lines.push(Line::styled(text, style));
        }
        lines.push(Line::default());
    }
    if lines.is_empty() {
        let why = if app.session.has(Figure::MmapLockHolder) {
            "(no wait behind another wait yet)"
        } else {
            "(this kernel does not tell who holds mmap_lock: chains cannot be seen)"
        };
        lines.push(Line::styled(why, look.dim()));
    }
    lines
}
