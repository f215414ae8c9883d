//! `cargo xtask test`: checks, unit tests, and the matrix of virtual machines.
//!
//! In: the checkout. Out: a line per stage, the table of kernels and tests, and the summary line;
//! the exit code is 0 only if something ran and nothing failed.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::kernels::{Flavour, MATRIX};
use super::matrix::{Guests, Matrix};
use super::qemu::Qemu;
use super::table::{self, Cell};
use super::tools::Tools;
use super::vm;
use crate::apt::Apt;
use crate::arch::Arch;
use crate::step::{self, Done, Findings, Outcome, Stage};
use crate::{build, ci, fuzz, paths};

#[derive(clap::Args)]
pub struct Args {
    /// Also run what takes longer than the 45 minutes of a usual run.
    #[arg(long)]
    full: bool,
    /// Only these cells of the matrix, such as 6.12 or 7.3/aarch64; leaves the other checks out.
    #[arg(long, value_name = "SERIES[/ARCH]")]
    only: Vec<String>,
    /// Only these tests of the matrix.
    #[arg(long = "test", value_name = "NAME")]
    tests: Vec<String>,
    /// Only the checks that need no virtual machine.
    #[arg(long, conflicts_with = "only")]
    no_vm: bool,
    /// Do not build vmascope for the matrix: guests get what is in dist, if anything.
    #[arg(long)]
    no_build: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let cells = cells(&args.only, args.full)?;
    let mut done = Vec::new();
    if args.only.is_empty() && args.tests.is_empty() {
        done.extend(step::run_all(ci::stages()));
        if args.full {
            done.push(step::run_one(fuzz::stage()));
            done.push(step::run_one(ci::long_tests()));
        }
    }
    if !args.no_vm {
        machines(args, &cells, &mut done)?;
    }
    Ok(step::summary(&done))
}

/// The cells of a row of the matrix run at the same time.
struct Row {
    guests: Guests,
    archs: Vec<Arch>,
    /// Only the test that is made for phones: in a usual run the row is there for nothing else.
    phone_only: bool,
}

const fn guests(series: &'static str, flavour: Flavour) -> Guests {
    Guests {
        series,
        flavour,
        hooks: None,
    }
}

/// As on kernels without fentry, such as Android's.
const fn kprobe(series: &'static str) -> Guests {
    Guests {
        hooks: Some("kprobe"),
        ..guests(series, Flavour::Cloud)
    }
}

/// Beside the series of the matrix, in every run.
const RUNGS: [Guests; 1] = [kprobe("7.3")];

/// Rows that only a full run has: other flavours, and series beside those of the matrix.
const MORE: [Guests; 13] = [
    guests("6.12", Flavour::Std),
    guests("6.12", Flavour::Rt),
    guests("6.16", Flavour::Cloud),
    guests("6.17", Flavour::Cloud),
    guests("6.19", Flavour::Cloud),
    guests("7.0", Flavour::Cloud),
    guests("7.1", Flavour::Cloud),
    guests("7.2", Flavour::Cloud),
    guests("7.3", Flavour::Pages16k),
    guests("7.3", Flavour::Rt),
    kprobe("6.1"),
    kprobe("6.12"),
    kprobe("6.18"),
];

/// The rows and cells to run: those named, else the matrix, in a full run with more.
fn cells(only: &[String], full: bool) -> Result<Vec<Row>> {
    let all: Vec<Guests> = MATRIX
        .into_iter()
        .map(|series| guests(series, Flavour::Cloud))
        .chain(RUNGS)
        .chain(MORE)
        .collect();
    let mut wanted = Vec::new();
    for text in only {
        let (row, arch) = match text.split_once('/') {
            Some((row, arch)) => (row, Some(arch)),
            None => (text.as_str(), None),
        };
        let known = arch.is_none_or(|name| Arch::ALL.iter().any(|a| a.name() == name));
        if !known || !all.iter().any(|guests| guests.label() == row) {
            let rows: Vec<String> = all.iter().map(Guests::label).collect();
            bail!(
                "no cell {text} in the matrix: {} / x86_64, aarch64",
                rows.join(", ")
            );
        }
        wanted.push((row, arch));
    }
    let is_wanted = |at: usize, row: &str, flavour: Flavour, arch: Arch| {
        if wanted.is_empty() {
            return full || at < MATRIX.len() + RUNGS.len() || flavour == Flavour::Pages16k;
        }
        wanted
            .iter()
            .any(|(r, a)| *r == row && a.is_none_or(|a| a == arch.name()))
    };
    let rows = all.iter().enumerate().map(|(at, guests)| {
        let row = guests.label();
        let has = |arch: &Arch| guests.flavour != Flavour::Pages16k || *arch == Arch::Aarch64;
        let archs = Arch::ALL.into_iter().filter(has);
        Row {
            guests: *guests,
            archs: archs
                .filter(|arch| is_wanted(at, &row, guests.flavour, *arch))
                .collect(),
            phone_only: !full && only.is_empty() && guests.flavour == Flavour::Pages16k,
        }
    });
    Ok(rows.filter(|row| !row.archs.is_empty()).collect())
}

fn machines(args: &Args, rows: &[Row], done: &mut Vec<Done>) -> Result<()> {
    let archs: Vec<Arch> = Arch::ALL
        .into_iter()
        .filter(|arch| rows.iter().any(|row| row.archs.contains(arch)))
        .collect();
    let mut matrix = None;
    let prepare = || -> Result<Findings> {
        let ready = set_up(args, &archs)?;
        matrix = Some(ready);
        Ok(Findings::one("guests can be started", Outcome::Passed))
    };
    let stage = Stage::new("lab: build and set-up", Duration::from_secs(600), prepare);
    done.push(step::run_one(stage));
    // The stage has printed why, and counts as failed.
    let Some(matrix) = matrix else {
        return Ok(());
    };
    if matrix.tests().next().is_none() {
        bail!("no test of the name {}", args.tests.join(", "));
    }
    let mut cells = Vec::new();
    for row in rows {
        let body = || {
            let found = run_row(&matrix, row)?;
            let findings = findings(&found);
            cells.extend(found);
            Ok(findings)
        };
        let budget = Duration::from_secs(if args.full { 1800 } else { 600 });
        let name = format!("guests with {}", row.guests.label());
        done.push(step::run_one(Stage::new(name, budget, body)));
    }
    println!("\n{}", table::render(&cells));
    Ok(())
}

fn set_up(args: &Args, archs: &[Arch]) -> Result<Matrix> {
    let mut programs = Vec::new();
    for arch in archs {
        if !args.no_build {
            programs.push((*arch, build::vmascope(*arch, true)?));
        } else if let Some(built) = vm::built(*arch) {
            programs.push((*arch, built));
        }
    }
    Ok(Matrix {
        qemu: Qemu::ensure()?,
        tools: Tools::ensure(archs)?,
        apt: Apt::new(&paths::cache()?)?,
        programs,
        out: paths::target().join("lab"),
        full: args.full,
        only_tests: args.tests.clone(),
    })
}

/// Runs the cells of a row side by side: each guest has its own threads of emulation, and waits
/// often enough for two of them to share two processors.
fn run_row(matrix: &Matrix, row: &Row) -> Result<Vec<Cell>> {
    std::thread::scope(|scope| {
        let cells: Vec<_> = row
            .archs
            .iter()
            .map(|arch| scope.spawn(|| matrix.cell(row.guests, *arch, row.phone_only)))
            .collect();
        cells
            .into_iter()
            .map(|cell| {
                cell.join()
                    .ok()
                    .context("a check of the test matrix panicked")
            })
            .collect()
    })
}

fn findings(cells: &[Cell]) -> Findings {
    let mut findings = Findings::default();
    for cell in cells {
        for (name, outcome) in &cell.outcomes {
            let what = format!("{name} on {} {}", cell.kernel, cell.arch);
            findings.push(what, outcome.clone());
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(only: &[&str], full: bool) -> Option<usize> {
        let only: Vec<String> = only.iter().map(|text| (*text).to_owned()).collect();
        let rows = cells(&only, full).ok()?;
        Some(rows.iter().map(|row| row.archs.len()).sum())
    }

    #[test]
    fn cells_are_chosen_by_row_and_arch() {
        assert_eq!(count(&[], false), Some(11));
        assert_eq!(count(&[], true), Some(35));
        assert_eq!(count(&["6.12"], false), Some(2));
        assert_eq!(count(&["6.12/aarch64", "7.3"], false), Some(3));
        assert_eq!(count(&["7.3-16k"], false), Some(1));
        assert_eq!(count(&["7.3-kprobe/aarch64"], false), Some(1));
        assert_eq!(count(&["5.10"], false), None);
        assert_eq!(count(&["6.12/mips"], false), None);
    }
}
