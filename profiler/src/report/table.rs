//! Tables of the text report: as wide as their content, at most [`WIDTH`].

use super::units::{count, short as shorten};

pub const WIDTH: usize = 80;
/// The usual width of a first column.
pub const FIRST: usize = 19;

/// Rows under a head; the first column is flush left, the others flush right.
pub struct Table {
    pub rows: Vec<Vec<Cell>>,
}

pub enum Cell {
    Text(String),
    /// In full where all columns fit, else to three digits.
    Count(u64),
}

impl Cell {
    fn show(&self, short: bool) -> String {
        match self {
            Cell::Text(text) => text.clone(),
            Cell::Count(n) if short => shorten(*n),
            Cell::Count(n) => count(*n),
        }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Cell::Text(text)
    }
}

impl From<u64> for Cell {
    fn from(n: u64) -> Self {
        Cell::Count(n)
    }
}

impl From<Option<u64>> for Cell {
    fn from(n: Option<u64>) -> Self {
        n.map_or(Cell::Text("-".into()), Cell::Count)
    }
}

impl Table {
    pub fn new<const N: usize>(head: [&str; N]) -> Self {
        Self {
            rows: vec![head.map(|name| Cell::Text(name.into())).into()],
        }
    }

    pub fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    pub fn render(&self) -> String {
        let full = self.render_with(false);
        if full.lines().all(|line| line.chars().count() <= WIDTH) {
            return full;
        }
        self.render_with(true)
    }

    fn render_with(&self, short: bool) -> String {
        let show = |row: &Vec<Cell>| row.iter().map(|c| c.show(short)).collect::<Vec<_>>();
        let rows: Vec<_> = self.rows.iter().map(show).collect();
        let columns = rows.first().map_or(0, Vec::len);
        let width = |c: usize| {
            let cells = rows.iter().filter_map(|row| row.get(c));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let mut widths: Vec<_> = (0..columns).map(width).collect();
        // Figures in neighbouring tables stand under each other where there is room.
        let used = widths.iter().sum::<usize>() + 2 * columns.saturating_sub(1);
        if let Some(first) = widths.first_mut() {
            *first += WIDTH.saturating_sub(used).min(FIRST.saturating_sub(*first));
        }
        let mut out = String::new();
        for row in rows {
            let mut line = String::new();
            for (c, (cell, width)) in row.iter().zip(&widths).enumerate() {
                match c {
                    0 => line.push_str(&format!("{cell:<width$}")),
                    _ => line.push_str(&format!("  {cell:>width$}")),
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}
