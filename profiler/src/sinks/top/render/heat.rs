//! Latency over time: a column for each interval, a row for each length, the slowest on top; the more
//! there were, the darker. As many maps as there is room for, the chosen one first.

use profiler_common::words::Mode;
use ratatui::text::{Line, Span};

use crate::{
    model::Figure,
    report::units::short,
    sinks::top::{
        app::App,
        heat::{FLOORS, Heat},
    },
};

/// In front of a row: `100 ms `.
const LABEL: usize = 8;
/// Rows to a decade are two where there is room, else one.
const COARSE: usize = FLOORS.len() / 2;
/// A map's head, and the blank line before it.
const AROUND: usize = 2;

pub fn draw(app: &App, width: usize, height: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let known: Vec<usize> = (0..Heat::MAPS).filter(|map| is_known(app, *map)).collect();
    let first = app.heat_first.unwrap_or(0);
    let chosen = known.iter().position(|map| *map >= first);
    let order = known.iter().cycle().skip(chosen.unwrap_or(0));
    for map in order.take(known.len()) {
        let room = height.saturating_sub(lines.len() + AROUND);
        let step = match room {
            n if n >= FLOORS.len() => 1,
            n if n >= COARSE => 2,
            _ => break,
        };
        lines.push(Line::default());
        lines.extend(one(app, *map, step, width));
    }
    lines
}

fn is_known(app: &App, map: usize) -> bool {
    match map {
        0 => app.session.has(Figure::FaultLatency),
        _ => Mode::ALL
            .get(map - 1)
            .is_some_and(|mode| app.session.has(Figure::waits(*mode))),
    }
}

fn one(app: &App, map: usize, step: usize, width: usize) -> Vec<Line<'static>> {
    let what = match map {
        0 => "FAULTS".to_owned(),
        _ => Mode::ALL
            .get(map - 1)
            .map_or(String::new(), |m| format!("WAITS {}", m.name())),
    };
    let columns = app.heat.columns(map);
    let shown = width.saturating_sub(LABEL).min(columns.len());
    let columns: Vec<_> = columns.iter().skip(columns.len() - shown).collect();
    let cell = |column: usize, row: usize| columns[column][row..row + step].iter().sum::<u64>();
    let rows: Vec<usize> = (0..FLOORS.len()).step_by(step).rev().collect();
    let cells = (0..shown).flat_map(|c| rows.iter().map(move |r| (c, *r)));
    let most = cells.map(|(c, r)| cell(c, r)).max().unwrap_or(0);
    let head = format!(
        "{what} OVER TIME, one column an interval, {} at most   Enter: next",
        short(most)
    );
    let mut lines = vec![Line::styled(super::part(&head, width), app.look.head())];
    for row in rows {
        let shades: String = (0..shown)
            .map(|c| app.look.shade(cell(c, row), most))
            .collect();
        let room = width.saturating_sub(LABEL);
        lines.push(Line::from(vec![
            Span::styled(format!("{:>1$} ", floor(row), LABEL - 1), app.look.dim()),
            Span::styled(format!("{shades:>room$}"), app.look.trend()),
        ]));
    }
    lines
}

/// `30 us`: what it begins with; the first row has all below as well.
fn floor(row: usize) -> String {
    let ns = FLOORS[row];
    let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
    let unit = units.into_iter().find(|(size, _)| ns >= *size);
    let (size, unit) = unit.unwrap_or((1, "ns"));
    format!("{} {unit}", ns / size)
}
