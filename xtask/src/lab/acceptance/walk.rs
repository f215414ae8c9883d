//! What the tests of one kind of fault share: a scenario that walks over pages is recorded with
//! every fault kept, and the recorded faults are held against the scenario's own truth.

use anyhow::{Context as _, Result, ensure};
use guest::plan::Step;
use serde_json::Value;

use super::{no_losses, recorded::recorded};
use crate::lab::evidence::{Evidence, Row, field, number};

/// What a busy emulated guest may be off by.
const SLACK_NS: u64 = 20_000_000;
const SLACK_PERCENT: u64 = 5;

/// One recorded run of a scenario, named after the test and a word for the run.
pub struct Run {
    pub test: &'static str,
    pub what: &'static str,
}

impl Run {
    fn name(&self) -> String {
        format!("{}.{}", self.test, self.what)
    }

    pub fn step(&self, what: &str) -> String {
        format!("{}.{what}", self.name())
    }

    /// Record, report, export.
    pub fn steps(&self, scenario: &[&str]) -> Vec<Step> {
        let every = ["--min-us", "0", "--sample", "1"];
        let demo = [&["vmascope", "demo"], scenario].concat();
        recorded(&self.name(), 120, &every, &demo)
    }

    pub fn seen(&self, evidence: &Evidence<'_>, scenario: &str) -> Result<Seen> {
        let truth = evidence.truth(&self.step("record"), scenario)?;
        let report = evidence.json(&self.step("report"))?;
        no_losses(&report)?;
        evidence.ended_with(&self.step("export"), 0)?;
        let rows = evidence.rows(&format!("{}/faults.csv", self.name()))?;
        Ok(Seen {
            truth,
            report,
            rows,
        })
    }
}

/// The truth, and what was made of it.
pub struct Seen {
    pub truth: Value,
    pub report: Value,
    rows: Vec<Row>,
}

impl Seen {
    /// The faults of a walk: one for each page, by that thread, no more and no fewer.
    pub fn faults(&self, walk: &Value) -> Result<Vec<&Row>> {
        let tid = number(walk, "/tid")?;
        let range = number(walk, "/start")?..number(walk, "/end")?;
        // What was done to the pages before is not part of it.
        let time = number(walk, "/began_ns")?..number(walk, "/ended_ns")?;
        let mut found = Vec::new();
        for row in &self.rows {
            // Before the mapping was made, another one may have had the same addresses.
            let mapping = field(row, "vm_start")?..field(row, "vm_end")?;
            let is_ours = mapping.start <= range.start && range.end <= mapping.end;
            let is_then = time.contains(&field(row, "start_ns")?);
            let is_there = range.contains(&field(row, "address")?);
            if is_ours && is_then && is_there && field(row, "tid")? == tid {
                found.push(row);
            }
        }
        let count = found.len() as u64;
        let counted = number(walk, "/minor")? + number(walk, "/major")?;
        ensure!(
            count == counted,
            "thread {tid} had {counted} faults, {count} were recorded"
        );
        let major = found
            .iter()
            .filter(|row| row.get("major").is_some_and(|m| m == "1"));
        let (major, counted) = (major.count() as u64, number(walk, "/major")?);
        ensure!(
            major == counted,
            "thread {tid} had {counted} major faults, {major} were recorded"
        );
        Ok(found)
    }

    /// Whether this kernel lets a signal be had; if not, the report must say why.
    pub fn has(&self, signal: &str) -> Result<bool> {
        let signals = &self.report["signals"];
        let quality = signals[signal]["quality"]
            .as_str()
            .with_context(|| format!("no signal {signal} in {signals}"))?;
        let reason = signals[signal]["reason"].as_str().unwrap_or_default();
        ensure!(
            quality != "unavailable" || !reason.is_empty(),
            "{signal} is unavailable, and nothing says why"
        );
        Ok(quality != "unavailable")
    }

    /// Whether the report says of a signal that it knows when something begins, but not for how long.
    pub fn sees_entries_only(&self, signal: &str) -> bool {
        self.report["signals"][signal]["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("entries only"))
    }
}

/// Wants the same word in a column of each row.
pub fn all_are(rows: &[&Row], column: &str, wanted: &str) -> Result<()> {
    for row in rows {
        let found = row
            .get(column)
            .with_context(|| format!("no column {column}"))?;
        ensure!(
            found == wanted,
            "{column} of a fault is {found:?}, not {wanted:?}: {row:?}"
        );
    }
    Ok(())
}

pub fn sum(rows: &[&Row], column: &str) -> Result<u64> {
    rows.iter()
        .map(|row| match row.get(column).map(String::as_str) {
            Some("") => Ok(0),
            _ => field(row, column),
        })
        .sum()
}

/// Waiting for I/O, until the thread ran again. The two parts are told apart by the scheduler's own
/// figure, which on some kernels takes sleep for delay when it migrates a thread that just slept.
pub fn io_ns(rows: &[&Row]) -> Result<u64> {
    Ok(sum(rows, "io_wait_ns")? + sum(rows, "run_delay_ns")?)
}

/// What a thread saw of its faults, by its own clock.
pub fn own_ns(walk: &Value) -> Result<u64> {
    let times = walk["fault_ns"].as_array().context("no fault_ns")?;
    Ok(times.iter().filter_map(Value::as_u64).sum())
}

/// Wants a measured wait to be at least what the one who was waited for says, and no more than what
/// the one who waited saw by its own clock: between them lies only who had to be woken.
pub fn within(what: &str, measured: u64, caused: u64, own: u64) -> Result<()> {
    let slack = SLACK_NS.max(caused * SLACK_PERCENT / 100);
    ensure!(
        (caused.saturating_sub(slack)..=own).contains(&measured),
        "{what}: measured {}, the cause took {}, the waiting thread saw {}",
        ms(measured),
        ms(caused),
        ms(own)
    );
    Ok(())
}

fn ms(ns: u64) -> String {
    format!("{:.1} ms", ns as f64 / 1e6)
}
