//! Fault latency by path and waits by lock since arming: one bar for each power of two. Below, the same
//! over time.

use profiler_common::{hist::lower, words::Mode};
use ratatui::text::{Line, Span};

use super::{heat, part};
use crate::{
    model::{Figure, Hist},
    report::units::{short, time},
    sinks::top::app::App,
};

/// From 256 ns on, the last one open.
const FIRST: u32 = 8;
const BUCKETS: usize = 28;

pub fn draw(app: &App, width: usize, height: usize) -> Vec<Line<'static>> {
    let look = app.look;
    let mut lines = Vec::new();
    let now = app.rates.last();
    if app.session.has(Figure::FaultLatency) {
        for path in app.paths() {
            let hist = &now.path(path).latency;
            lines.push(row(app, &format!("fault {}", path.name()), hist, width));
        }
    }
    let is_known = |mode: &&Mode| app.session.has(Figure::waits(**mode));
    for mode in Mode::ALL.iter().filter(is_known) {
        let hist = &now.locks[*mode as usize].wait;
        lines.push(row(app, &format!("wait {}", mode.name()), hist, width));
    }
    if lines.is_empty() {
        lines.push(Line::styled(
            "(no time is measured on this kernel)",
            look.dim(),
        ));
        return lines;
    }
    let bars = part(&scale(), BUCKETS);
    let head = format!(
        "{:18}  {bars}  {:>8}  {:>8}  {:>8}",
        "SINCE ARMING", "count", "p50", "p99"
    );
    lines.insert(0, Line::styled(part(&head, width), look.head()));
    let over_time = heat::draw(app, width, height.saturating_sub(lines.len()));
    if over_time.is_empty() && app.heat_first.is_some() {
        // It was asked for, and there is no room for both.
        return heat::draw(app, width, height);
    }
    lines.extend(over_time);
    lines
}

/// Where 1 us, 1 ms and 1 s are.
fn scale() -> String {
    let mut out = vec![' '; BUCKETS];
    for (ns, text) in [(1e3, "1us"), (1e6, "1ms"), (1e9, "1s")] {
        let at = f64::log2(ns) as usize - FIRST as usize;
        for (c, to) in text.chars().zip(out.iter_mut().skip(at)) {
            *to = c;
        }
    }
    out.into_iter().collect()
}

fn row(app: &App, name: &str, hist: &Hist, width: usize) -> Line<'static> {
    let mut buckets = [0u64; BUCKETS];
    for (slot, n) in hist.slots.iter().enumerate().filter(|(_, n)| **n > 0) {
        let at = lower(slot).max(1).ilog2().saturating_sub(FIRST) as usize;
        buckets[at.min(BUCKETS - 1)] += n;
    }
    let total: u64 = buckets.iter().sum();
    // The scale is logarithmic: a single slow fault is what one looks for.
    let bar = |n: &u64| {
        if *n == 0 {
            0.0
        } else {
            1.0 + (*n as f64).log2()
        }
    };
    let bars = app.look.bars(buckets.iter().map(bar), BUCKETS);
    let empty = |(c, n): (char, &u64)| if *n == 0 { ' ' } else { c };
    let bars: String = bars.chars().zip(&buckets).map(empty).collect();
    let quantile = |q| hist.quantile(q).map_or("-".into(), time);
    let figures = format!(
        "  {:>8}  {:>8}  {:>8}",
        short(total),
        quantile(0.5),
        quantile(0.99),
    );
    let room = width.saturating_sub(18 + 2 + BUCKETS);
    Line::from(vec![
        Span::raw(format!("{}  ", part(name, 18))),
        Span::styled(bars, app.look.trend()),
        Span::raw(part(&figures, room)),
    ])
}
