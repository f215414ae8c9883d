//! The policies side by side, on the latest events that are remembered.

use ratatui::{style::Style, text::Line};

use super::columns::{Row, column, table};
use crate::{
    model::Figure,
    report::units::{clean, short, time},
    sinks::top::app::App,
};

pub fn draw(app: &App, width: usize) -> Vec<Line<'static>> {
    if !app.session.has(Figure::WhatIf) {
        let why = app.session.signal(Figure::WhatIf).map(|s| clean(&s.reason));
        let text = format!(
            "other policies cannot be judged here: {}",
            why.unwrap_or_default()
        );
        return super::text(&text, width);
    }
    let plain = |text: String| (text, Style::new());
    let rows: Vec<_> = app
        .policies
        .0
        .iter()
        .map(|(name, p)| Row {
            name: name.replace("no_drop_uptodate_no_writeback", "no_drop_clean"),
            cells: match p {
                Some(p) => vec![
                    plain(short(p.count)),
                    plain(time(p.saved_ns)),
                    plain(time(p.lost_ns)),
                    plain(time(p.amplified_ns)),
                    plain(p.lost_p99_ns.map_or("-".into(), time)),
                    plain(short(p.inversions)),
                    plain(p.bound.into()),
                ],
                None => vec![plain("-".into()); 7],
            },
            trend: None,
        })
        .collect();
    let columns = [
        column("faults", 7, 0),
        column("saved", 8, 0),
        column("lost", 8, 0),
        column("amplified", 9, 1),
        column("lost p99", 8, 2),
        column("inv.", 4, 3),
        column("bound", 11, 4),
    ];
    let mut lines = table(app.look, "POLICY", 16, &columns, &rows, width);
    lines.push(Line::default());
    lines.extend(super::text(
        "saved: what faults would wait less. lost: what writers would wait more. \
         amplified: what others would wait behind those writers. no_drop_clean: \
         no_drop_uptodate_no_writeback. Over the last 10,000 windows at least.",
        width,
    ));
    lines
}
