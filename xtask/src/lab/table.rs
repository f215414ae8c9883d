//! The table at the end of a test run: kernels down, tests across, reasons below.
//!
//! In: an outcome for each test in each cell. Out: text.

use std::fmt::Write as _;

use crate::step::Outcome;

/// One kernel on one architecture, and how each test ended there.
pub struct Cell {
    pub kernel: String,
    pub arch: String,
    pub outcomes: Vec<(String, Outcome)>,
}

const fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Flaky(_) => "flaky",
        Outcome::Failed(_) => "FAILED",
        Outcome::Skipped(_) => "n/a",
    }
}

pub fn render(cells: &[Cell]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in cells.iter().flat_map(|cell| &cell.outcomes) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let mut lines = vec![
        ["kernel", "arch"]
            .into_iter()
            .chain(names.iter().copied())
            .collect(),
    ];
    let mut reasons = String::new();
    for cell in cells {
        let mut line: Vec<&str> = vec![&cell.kernel, &cell.arch];
        for name in &names {
            let found = cell.outcomes.iter().find(|(n, _)| n == name);
            line.push(found.map_or("-", |(_, outcome)| word(outcome)));
        }
        lines.push(line);
        for (name, outcome) in &cell.outcomes {
            if let Outcome::Flaky(why) | Outcome::Failed(why) | Outcome::Skipped(why) = outcome {
                let (kernel, arch, word) = (&cell.kernel, &cell.arch, word(outcome));
                // Writing to a String cannot fail.
                writeln!(reasons, "{word:<6}  {name} on {kernel} {arch}: {why}").ok();
            }
        }
    }
    let mut text = align(&lines);
    if !reasons.is_empty() {
        text.push('\n');
        text.push_str(&reasons);
    }
    text
}

fn align(lines: &[Vec<&str>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|text| text.len()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let mut row = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            write!(row, "{cell:<width$}  ").ok();
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_every_cell_and_every_reason() {
        let cell = |kernel: &str, outcomes: Vec<(&str, Outcome)>| Cell {
            kernel: kernel.to_owned(),
            arch: "aarch64".to_owned(),
            outcomes: outcomes
                .into_iter()
                .map(|(n, o)| (n.to_owned(), o))
                .collect(),
        };
        let text = render(&[
            cell(
                "6.1",
                vec![
                    ("touch", Outcome::Passed),
                    ("storm", Outcome::Skipped("no locks".into())),
                ],
            ),
            cell(
                "7.2 for 7.3",
                vec![("touch", Outcome::Failed("4999 faults".into()))],
            ),
        ]);
        let wanted = "kernel       arch     touch   storm\n\
                      6.1          aarch64  passed  n/a\n\
                      7.2 for 7.3  aarch64  FAILED  -\n\
                      \n\
                      n/a     storm on 6.1 aarch64: no locks\n\
                      FAILED  touch on 7.2 for 7.3 aarch64: 4999 faults\n";
        assert_eq!(text, wanted);
    }
}
