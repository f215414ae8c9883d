//! Drawing: the state onto a frame and nothing else, so that tests can look at every screen.

mod chains;
mod columns;
mod doctor;
mod heat;
mod help;
mod histograms;
mod process;
mod tables;
mod wait;
mod waits;
mod what_if;

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
};

use super::{
    app::App,
    view::{Page, State, View},
};
use crate::report::units::{bytes, clean, count, percent, time, wrap};

const KEYS: &[&str] = &[
    "q quit  ? help  space pause  / search  S save",
    "q quit  ? help  space pause",
    "q quit  ? help",
    "? help",
];

/// Blank column on either side.
const MARGIN: u16 = 1;
/// Below this the tables say nothing.
const LEAST: (u16, u16) = (40, 10);

pub fn draw(frame: &mut Frame<'_>, app: &App) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        return too_small(frame);
    }
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
    lines.push(Line::styled(part(&app.status(), width), app.look.wait()));
    let above = lines.len();
    let body = body(app, width, room.saturating_sub(above));
    lines.extend(body.lines);
    lines.truncate(room);
    let buffer = frame.buffer_mut();
    for (line, y) in lines.iter().zip(inner.y..) {
        buffer.set_line(inner.x, y, line, inner.width);
    }
    if let Some(at) = body.cursor.map(|at| at + above).filter(|at| *at < room) {
        let y = inner.y + at as u16;
        buffer.set_string(area.x, y, app.look.mark(), app.look.head());
        buffer.set_style(
            Rect {
                y,
                height: 1,
                ..inner
            },
            app.look.chosen(),
        );
    }
    if inner.height > 0 {
        let y = inner.y + inner.height - 1;
        buffer.set_line(inner.x, y, &footer(app, width), inner.width);
    }
    if app.help {
        help::draw(frame, app);
    }
}

fn too_small(frame: &mut Frame<'_>) {
    let area = frame.area();
    let (width, height) = LEAST;
    let text = format!(
        "too small: {}x{}, needs {width}x{height}",
        area.width, area.height
    );
    let lines = wrap(&text, area.width.into(), "");
    for (line, y) in lines.lines().zip(area.y..area.y + area.height) {
        let line = Line::raw(line);
        frame.buffer_mut().set_line(area.x, y, &line, area.width);
    }
}

/// The lines under the head, and which of them the cursor is on.
struct Body {
    lines: Vec<Line<'static>>,
    cursor: Option<usize>,
}

fn body(app: &App, width: usize, height: usize) -> Body {
    let (lines, fixed, place) = match (app.page, app.view) {
        (Page::Process(tgid), _) => (process::draw(app, tgid, width), 1, None),
        (Page::Wait, _) => (wait::draw(app, width), 1, None),
        (Page::List, View::Overview) => {
            let mut lines = tables::faults(app, width);
            lines.push(Line::default());
            lines.extend(tables::locks(app, width));
            lines.push(Line::default());
            let left = height.saturating_sub(lines.len());
            lines.extend(tables::processes(app, width, left));
            return Body {
                lines,
                cursor: None,
            };
        }
        (Page::List, View::Processes) => {
            let place = app.process.place(&app.process_rows());
            (tables::processes(app, width, usize::MAX), 1, place)
        }
        (Page::List, View::Waits) => {
            let place = app.wait.place(&app.wait_rows());
            (waits::draw(app, width), 1, place)
        }
        (Page::List, View::Chains) => (chains::draw(app), 0, None),
        (Page::List, View::Histograms) => (histograms::draw(app, width, height), 0, None),
        (Page::List, View::WhatIf) => (what_if::draw(app, width), 0, None),
        (Page::List, View::Doctor) => (doctor::draw(app, width), 0, None),
    };
    scrolled(lines, fixed, place, app.scroll, height)
}

/// Scrolling ends where the last line is at the foot; a table's head, the first `fixed` lines, stays.
/// The row of a cursor is in the middle as soon as it can be.
fn scrolled(
    mut lines: Vec<Line<'static>>,
    fixed: usize,
    place: Option<usize>,
    scroll: usize,
    height: usize,
) -> Body {
    let beyond = lines.len().saturating_sub(height);
    let wanted = match place {
        Some(place) => place.saturating_sub(height.saturating_sub(fixed) / 2),
        None => scroll,
    };
    let skipped = wanted.min(beyond);
    lines.drain(fixed.min(lines.len())..(fixed + skipped).min(lines.len()));
    Body {
        lines,
        cursor: place.map(|place| fixed + place - skipped),
    }
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
    let now = time(app.duration_ns);
    let at = match app.state() {
        State::Playing => format!("{now} / {}", time(app.length_ns)),
        State::Live | State::Off | State::Ended => now,
    };
    let speed = match app.speed_log2 {
        0 => String::new(),
        n if n < 0 => " x1/2".into(),
        n => format!(" x{}", 1u32 << n),
    };
    let right = match (app.state(), app.paused()) {
        (State::Live, false) => Span::raw(at),
        (State::Off, _) => Span::styled(format!("off since {at}"), app.look.alarm()),
        (State::Live | State::Playing, true) => {
            Span::styled(format!("paused at {at}"), app.look.wait())
        }
        (State::Playing, false) => Span::raw(format!("playing {at}{speed}")),
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
    let cpu = share(app.rates.own_cpu, 1.0);
    let bpf = app.rates.own_bpf.map_or("-".into(), |bpf| share(bpf, 1.0));
    let (own, maps) = (bytes(own_bytes(app)), bytes(app.session.map_bytes));
    let costs = [
        format!("   own cost {cpu} CPU, BPF {bpf}, {own}, maps {maps}"),
        format!("   own cost {cpu} CPU, {own}, maps {maps}"),
        String::new(),
    ];
    let mut spans = vec![loss];
    let used = spans[0].width();
    // What nobody knows is said only where it could be known.
    let first = usize::from(app.is_recording());
    // As much of either as fits; how to get help is never left out.
    let both = costs.iter().skip(first).find_map(|cost| {
        let room = width.checked_sub(used + cost.len())?;
        let keys = KEYS.iter().find(|keys| keys.len() + 2 <= room)?;
        Some((cost, format!("{keys:>room$}")))
    });
    if let Some((cost, keys)) = both {
        spans.push(Span::styled(format!("{cost}{keys}"), look.dim()));
    }
    Line::from(spans)
}

/// As `report` prints shares, of a time.
fn share(part: f64, whole: f64) -> String {
    percent((part * 1e6) as u64, (whole * 1e6) as u64)
}

/// Memory of its own: pages of maps are stated apart.
fn own_bytes(app: &App) -> u64 {
    let last = app.rates.last();
    last.own_rss_bytes.saturating_sub(last.own_mapped_bytes)
}
