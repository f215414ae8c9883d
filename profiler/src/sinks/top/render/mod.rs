//! Drawing: the state onto a frame and nothing else, so that tests can look at every screen.

mod chains;
mod columns;
mod doctor;
mod help;
mod histograms;
mod tables;
mod waits;
mod what_if;

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
};

use super::app::{App, State, View};
use crate::report::units::{bytes, clean, count, percent, time, wrap};

const KEYS: &[&str] = &[
    "q quit  ? help  space pause  s sort",
    "q quit  ? help",
    "? help",
];

/// Blank column on either side.
const MARGIN: u16 = 1;

pub fn draw(frame: &mut Frame<'_>, app: &App) {
    let area = frame.area();
    let inner = Rect {
        x: area.x + MARGIN.min(area.width),
        width: area.width.saturating_sub(2 * MARGIN),
        ..area
    };
    let width = usize::from(inner.width);
    // The last line is the footer's; what does not fit above it is cut.
    let room = usize::from(inner.height).saturating_sub(1);
    let mut lines = vec![title(app, width), tabs(app, width)];
    if app.view == View::Overview {
        lines.extend(verdict(app, width, area.height));
    }
    lines.push(Line::default());
    let left = room.saturating_sub(lines.len());
    lines.extend(body(app, width, left));
    lines.truncate(room);
    let buffer = frame.buffer_mut();
    for (line, y) in lines.iter().zip(inner.y..) {
        buffer.set_line(inner.x, y, line, inner.width);
    }
    if inner.height > 0 {
        let y = inner.y + inner.height - 1;
        buffer.set_line(inner.x, y, &footer(app, width), inner.width);
    }
    if app.help {
        help::draw(frame, app);
    }
}

fn body(app: &App, width: usize, height: usize) -> Vec<Line<'static>> {
    let mut lines = match app.view {
        View::Overview => {
            let mut lines = tables::faults(app, width);
            lines.push(Line::default());
            lines.extend(tables::locks(app, width));
            lines.push(Line::default());
            let left = height.saturating_sub(lines.len());
            lines.extend(tables::processes(app, width, left));
            return lines;
        }
        View::Processes => tables::processes(app, width, usize::MAX),
        View::Waits => waits::draw(app, width),
        View::Chains => chains::draw(app),
        View::Histograms => histograms::draw(app, width),
        View::WhatIf => what_if::draw(app, width),
        View::Doctor => doctor::draw(app, width),
    };
    // Scrolling ends where the last line is at the foot; a table's head stays.
    let fixed = usize::from(matches!(app.view, View::Processes | View::Waits));
    let beyond = lines.len().saturating_sub(height);
    let skipped = app.scroll.min(beyond);
    lines.drain(fixed.min(lines.len())..(fixed + skipped).min(lines.len()));
    lines
}

/// All views by name, or only the one that is shown.
fn tabs(app: &App, width: usize) -> Line<'static> {
    let all: usize = View::ALL.iter().map(|v| v.name().len() + 4).sum();
    let mut spans = Vec::new();
    for (i, view) in View::ALL.iter().enumerate() {
        let shown = *view == app.view;
        let style = if shown {
            app.look.head()
        } else {
            app.look.dim()
        };
        let name = if shown || all <= width + 2 {
            view.name()
        } else {
            ""
        };
        let text = format!("{} {name}", i + 1);
        spans.push(Span::styled(format!("{}  ", text.trim_end()), style));
    }
    Line::from(spans)
}

/// As wide as a column: cut, or filled with blanks.
fn part(text: &str, width: usize) -> String {
    let cut: String = text.chars().take(width).collect();
    format!("{cut:<width$}")
}

fn text(text: &str, width: usize) -> Vec<Line<'static>> {
    let wrapped = wrap(text, width, "");
    wrapped.lines().map(|l| Line::from(l.to_owned())).collect()
}

fn title(app: &App, width: usize) -> Line<'static> {
    let s = &app.session;
    let host = clean(&s.host.name);
    let kernel = format!("{} {}", s.host.kernel, s.host.arch);
    let target = format!("target {}", clean(&s.target));
    let at = time(app.duration_ns);
    let right = match (app.state(), app.paused()) {
        (State::Live, false) => Span::raw(at),
        (State::Live, true) => Span::styled(format!("paused at {at}"), app.look.wait()),
        (State::Playing, false) => Span::raw(format!("playing {at}")),
        (State::Playing, true) => Span::styled(format!("paused at {at}"), app.look.wait()),
        (State::Ended, _) => Span::styled(format!("end of recording {at}"), app.look.wait()),
    };
    let room = width.saturating_sub(right.width() + 1);
    let long = [
        format!("vmascope  {host}  {kernel}  {target}"),
        format!("vmascope  {host}  {target}"),
    ];
    let fits = long.into_iter().find(|left| left.chars().count() <= room);
    let left = fits.unwrap_or(format!("vmascope  {target}"));
    let left: String = left.chars().take(room).collect();
    let left = Span::styled(format!("{left:<room$} "), app.look.head());
    Line::from(vec![left, right])
}

/// Up to three lines; fewer where the screen is low.
fn verdict(app: &App, width: usize, height: u16) -> Vec<Line<'static>> {
    let wrapped = wrap(&app.verdict, width, "");
    let mut lines: Vec<_> = wrapped.lines().map(str::to_owned).collect();
    let most = if height < 16 { 1 } else { 3 };
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            *last = last.chars().take(width.saturating_sub(3)).collect();
            last.push_str("...");
        }
    }
    lines.into_iter().map(Line::from).collect()
}

fn footer(app: &App, width: usize) -> Line<'static> {
    let look = app.look;
    let loss = match app.lost {
        0 => Span::raw("loss 0"),
        n => Span::styled(format!("loss {}", count(n)), look.alarm()),
    };
    let cpu = percent((app.rates.own_cpu * 1e6) as u64, 1_000_000);
    let cost = format!(
        "   own cost {cpu} CPU, {}, maps {}",
        bytes(app.rss_bytes),
        bytes(app.session.map_bytes)
    );
    let mut spans = vec![loss];
    let used = spans[0].width();
    let fits = |used: usize, text: &str| used + text.len() < width;
    if fits(used, &cost) {
        let room = width - used - cost.len();
        spans.push(Span::styled(cost, look.dim()));
        let keys = KEYS.iter().find(|keys| keys.len() + 2 <= room);
        if let Some(keys) = keys {
            spans.push(Span::styled(format!("{keys:>room$}"), look.dim()));
        }
    }
    Line::from(spans)
}
