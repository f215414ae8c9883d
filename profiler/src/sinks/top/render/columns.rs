//! Tables that give up columns, the least important first, until they fit the width; a trend takes
//! what is left over.

use std::collections::VecDeque;

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use crate::sinks::top::look::Look;

/// A trend narrower than this says nothing.
const TREND: usize = 12;
/// Columns as spare as this make room for it.
const LESS_THAN_A_TREND: u8 = 2;
const GAP: usize = 2;

pub struct Column {
    pub head: String,
    pub width: usize,
    /// The highest goes first.
    pub spare: u8,
}

pub fn column(head: &str, width: usize, spare: u8) -> Column {
    Column {
        head: head.into(),
        width,
        spare,
    }
}

pub struct Row<'a> {
    pub name: String,
    pub cells: Vec<(String, Style)>,
    pub trend: Option<&'a VecDeque<f64>>,
}

/// `head` and `name` stand over the first column, which is `name_width` wide.
pub fn table(
    look: Look,
    head: &str,
    name_width: usize,
    columns: &[Column],
    rows: &[Row<'_>],
    width: usize,
) -> Vec<Line<'static>> {
    let used = |shown: &[usize]| {
        let columns = shown.iter().map(|c| columns[*c].width + GAP);
        name_width + columns.sum::<usize>()
    };
    let give_up = |shown: &mut Vec<usize>, least: u8| {
        let spare = |at: &usize| columns[shown[*at]].spare;
        let at = (0..shown.len()).max_by_key(spare);
        let at = at.filter(|at| spare(at) >= least);
        at.map(|at| shown.remove(at)).is_some()
    };
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    while used(&shown) > width && give_up(&mut shown, 0) {}
    let room = |shown: &[usize]| width.saturating_sub(used(shown) + GAP);
    let mut trend = 0;
    if rows.iter().any(|r| r.trend.is_some()) {
        let mut fewer = shown.clone();
        while room(&fewer) < TREND && give_up(&mut fewer, LESS_THAN_A_TREND) {}
        if room(&fewer) >= TREND {
            trend = room(&fewer);
            shown = fewer;
        }
    }
    let first = |text: &str| {
        let clipped: String = text.chars().take(name_width.min(width)).collect();
        format!("{clipped:<name_width$}")
    };
    let mut heads = first(head);
    for c in &shown {
        let Column { head, width, .. } = &columns[*c];
        heads.push_str(&format!("{:GAP$}{head:>width$}", ""));
    }
    if trend > 0 {
        heads.push_str(&format!("{:GAP$}{:>trend$}", "", "trend"));
    }
    let mut lines = vec![Line::styled(heads, look.head())];
    for row in rows {
        let mut spans = vec![Span::raw(first(&row.name))];
        for c in &shown {
            let width = columns[*c].width;
            if let Some((text, style)) = row.cells.get(*c) {
                spans.push(Span::styled(format!("{:GAP$}{text:>width$}", ""), *style));
            }
        }
        if let Some(values) = row.trend.filter(|_| trend > 0) {
            let bars = look.bars(values.iter().copied(), trend);
            spans.push(Span::styled(format!("{:GAP$}{bars}", ""), look.trend()));
        }
        lines.push(Line::from(spans));
    }
    lines
}
