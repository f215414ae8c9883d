//! The table at the end of a test run: tests down, kernels across, reasons below.
//!
//! In: an outcome for each test in each cell. Out: text.

use std::fmt::Write as _;

use crate::step::Outcome;

/// One kernel on one architecture, and how each test ended there.
pub struct Column {
    pub kernel: String,
    pub arch: String,
    pub outcomes: Vec<(String, Outcome)>,
}

pub fn render(columns: &[Column]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in columns.iter().flat_map(|column| &column.outcomes) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let first = names
        .iter()
        .map(|name| name.len())
        .max()
        .unwrap_or(0)
        .max(4);
    let widths: Vec<usize> = columns
        .iter()
        .map(|column| column.kernel.len().max(column.arch.len()).max(6))
        .collect();
    let mut text = String::new();
    let mut line = |head: &str, cells: Vec<&str>| {
        let mut row = format!("{head:<first$}");
        for (cell, width) in cells.iter().zip(&widths) {
            // Writing to a String cannot fail.
            write!(row, "  {cell:<width$}").ok();
        }
        text.push_str(row.trim_end());
        text.push('\n');
    };
    line("", columns.iter().map(|c| c.kernel.as_str()).collect());
    line("test", columns.iter().map(|c| c.arch.as_str()).collect());
    let mut reasons = String::new();
    for name in names {
        let mut cells = Vec::new();
        for column in columns {
            let found = column.outcomes.iter().find(|(n, _)| n == name);
            let (word, why) = match found.map(|(_, outcome)| outcome) {
                None => ("-", None),
                Some(Outcome::Passed) => ("passed", None),
                Some(Outcome::Failed(why)) => ("FAILED", Some(why)),
                Some(Outcome::Skipped(why)) => ("n/a", Some(why)),
            };
            cells.push(word);
            if let Some(why) = why {
                let (kernel, arch) = (&column.kernel, &column.arch);
                writeln!(reasons, "{word:<6}  {name} on {kernel} {arch}: {why}").ok();
            }
        }
        line(name, cells);
    }
    if !reasons.is_empty() {
        text.push('\n');
        text.push_str(&reasons);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_every_cell_and_every_reason() {
        let column = |kernel: &str, outcomes: Vec<(&str, Outcome)>| Column {
            kernel: kernel.to_owned(),
            arch: "aarch64".to_owned(),
            outcomes: outcomes
                .into_iter()
                .map(|(n, o)| (n.to_owned(), o))
                .collect(),
        };
        let text = render(&[
            column(
                "6.1",
                vec![
                    ("touch", Outcome::Passed),
                    ("storm", Outcome::Skipped("no locks".into())),
                ],
            ),
            column(
                "7.2 for 7.3",
                vec![("touch", Outcome::Failed("4999 faults".into()))],
            ),
        ]);
        let wanted = "       6.1      7.2 for 7.3\n\
                      test   aarch64  aarch64\n\
                      touch  passed   FAILED\n\
                      storm  n/a      -\n\
                      \n\
                      FAILED  touch on 7.2 for 7.3 aarch64: 4999 faults\n\
                      n/a     storm on 6.1 aarch64: no locks\n";
        assert_eq!(text, wanted);
    }
}
