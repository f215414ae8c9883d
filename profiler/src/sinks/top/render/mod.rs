//! Drawing: the state onto a frame and nothing else, so that tests can look at every screen.

mod columns;
mod help;
mod tables;

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
};

use super::app::{App, State};
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
    let mut lines = vec![title(app, width)];
    lines.extend(verdict(app, width, area.height));
    lines.push(Line::default());
    lines.extend(tables::faults(app, width));
    lines.push(Line::default());
    lines.extend(tables::locks(app, width));
    lines.push(Line::default());
    // The last line is the footer's; what does not fit above it is cut.
    let room = usize::from(inner.height).saturating_sub(1);
    lines.extend(tables::processes(
        app,
        width,
        room.saturating_sub(lines.len()),
    ));
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
