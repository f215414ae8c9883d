//! What the tests of who waits for whom share: a scenario is recorded, and its waits, cut into
//! segments, are held against the scenario's own clocks.

use std::ops::RangeInclusive;

use anyhow::{Context as _, Result, ensure};
use guest::plan::Step;
use serde_json::Value;

use super::{no_losses, recorded::recorded};
use crate::lab::evidence::{Evidence, Row, field, number};

/// What a busy emulated guest may be off by.
const SLACK_NS: u64 = 20_000_000;
const SLACK_PERCENT: u64 = 5;
/// Of a wait, what must be blamed on who is in its way.
const BLAMED_PERCENT: u64 = 95;
/// Of a wait, what may pass between its release and its end.
const WOKEN_LATE_NS: u64 = 12_000_000;

/// One recorded run of a scenario, named after the test and a word for the run.
pub struct Run {
    pub test: &'static str,
    pub what: &'static str,
}

impl Run {
    fn name(&self) -> String {
        format!("{}.{}", self.test, self.what)
    }

    /// Record, report, export.
    pub fn steps(&self, min_us: &str, limit: u64, scenario: &[&str]) -> Vec<Step> {
        self.recorded_with(&[], min_us, limit, scenario)
    }

    /// The same, with more options.
    pub fn recorded_with(
        &self,
        options: &[&str],
        min_us: &str,
        limit: u64,
        scenario: &[&str],
    ) -> Vec<Step> {
        let all = ["--mmap-lock", "all", "--min-us", min_us];
        let demo = [&["vmascope", "demo"], scenario].concat();
        recorded(&self.name(), limit, &[&all, options].concat(), &demo)
    }

    pub fn seen(&self, evidence: &Evidence<'_>, scenario: &str) -> Result<Seen> {
        let name = self.name();
        let truth = evidence.truth(&format!("{name}.record"), scenario)?;
        let report = evidence.json(&format!("{name}.report"))?;
        no_losses(&report)?;
        evidence.ended_with(&format!("{name}.export"), 0)?;
        let rows = |table: &str| evidence.rows(&format!("{name}/{table}.csv"));
        Ok(Seen {
            truth,
            report,
            waits: rows("waits")?,
            segments: rows("segments")?,
            windows: rows("windows")?,
        })
    }
}

/// The truth, and what was made of it.
pub struct Seen {
    pub truth: Value,
    pub report: Value,
    pub waits: Vec<Row>,
    pub segments: Vec<Row>,
    pub windows: Vec<Row>,
}

impl Seen {
    /// The thread's longest wait that began during the call.
    pub fn wait_of(&self, call: &Value) -> Result<&Row> {
        let tid = number(call, "/tid")?;
        let time = number(call, "/start_ns")?..number(call, "/end_ns")?;
        let mut longest: Option<(u64, &Row)> = None;
        for row in &self.waits {
            let ns = field(row, "wait_ns")?;
            if field(row, "tid")? == tid
                && time.contains(&field(row, "start_ns")?)
                && longest.is_none_or(|(most, _)| ns > most)
            {
                longest = Some((ns, row));
            }
        }
        let (_, row) = longest.with_context(|| format!("no wait was recorded of {call}"))?;
        Ok(row)
    }

    /// The waits of the scenario's process from a millisecond on that lie in this time.
    pub fn long_waits(&self, from_ns: u64, to_ns: u64) -> Result<Vec<&Row>> {
        let mut found = Vec::new();
        for row in &self.waits {
            let inside = field(row, "start_ns")? >= from_ns && field(row, "end_ns")? <= to_ns;
            if inside && field(row, "wait_ns")? >= 1_000_000 {
                found.push(row);
            }
        }
        Ok(found)
    }

    /// What must hold of every recording: each wait is the sum of its segments, nobody is blamed
    /// for their own wait, and no chain leads back to itself.
    pub fn adds_up(&self) -> Result<()> {
        let mut sums = std::collections::HashMap::<u64, u64>::new();
        let mut tids = std::collections::HashMap::<u64, u64>::new();
        for row in &self.waits {
            tids.insert(field(row, "id")?, field(row, "tid")?);
            ensure!(
                field(row, "end_ns")? > field(row, "start_ns")?,
                "a wait without an end: {row:?}"
            );
            if !row["blocker_wait"].is_empty() {
                let (id, blocker) = (field(row, "id")?, field(row, "blocker_wait")?);
                ensure!(blocker < id, "a cycle: {row:?}");
            }
        }
        for row in &self.segments {
            let wait = field(row, "wait")?;
            *sums.entry(wait).or_default() += field(row, "blamed_ns")?;
            if !row["tid"].is_empty() {
                ensure!(
                    tids.get(&wait) != Some(&field(row, "tid")?),
                    "a thread is blamed for its own wait: {row:?}"
                );
            }
        }
        for row in &self.waits {
            let (id, ns) = (field(row, "id")?, field(row, "wait_ns")?);
            let sum = sums.get(&id).copied().unwrap_or(0);
            ensure!(sum == ns, "wait {id} took {ns} ns, its segments {sum}");
        }
        Ok(())
    }
}

/// Wants nearly all of a wait to be blamed on this thread.
pub fn blamed_on(wait: &Row, tid: u64) -> Result<()> {
    ensure!(field(wait, "holder_tid")? == tid, "not on {tid}: {wait:?}");
    let (blamed, all) = (field(wait, "blamed_ns")?, field(wait, "wait_ns")?);
    // An emulated waiter may come round a tick or two after it was woken; nobody holds the lock meanwhile.
    let handoff = field(wait, "handoff_ns")?.min(WOKEN_LATE_NS);
    ensure!(
        (blamed + handoff) * 100 >= all * BLAMED_PERCENT,
        "{blamed} of {all} ns only: {wait:?}"
    );
    Ok(())
}

pub fn is(row: &Row, column: &str, wanted: &str) -> Result<()> {
    let found = row
        .get(column)
        .with_context(|| format!("no column {column}"))?;
    ensure!(
        found == wanted,
        "{column} is {found:?}, not {wanted:?}: {row:?}"
    );
    Ok(())
}

/// Within the tolerance of emulation.
pub fn near(what: &str, measured: u64, truth: u64) -> Result<()> {
    between(what, measured, truth..=truth)
}

/// The same, where the truth itself is known within bounds.
pub fn between(what: &str, measured: u64, truth: RangeInclusive<u64>) -> Result<()> {
    let slack = |bound: u64| SLACK_NS.max(bound * SLACK_PERCENT / 100);
    let (least, most) = truth.into_inner();
    ensure!(
        (least.saturating_sub(slack(least))..=most + slack(most)).contains(&measured),
        "{what}: measured {:.1} ms, constructed {:.1} to {:.1} ms",
        measured as f64 / 1e6,
        least as f64 / 1e6,
        most as f64 / 1e6
    );
    Ok(())
}

/// Wants a wait to last at least until its cause was over, and no longer than the one who waited saw
/// by its own clock: between them lies only who had to be woken.
pub fn lasts(wait: &Row, call: &Value, until_ns: u64) -> Result<()> {
    let start = number(call, "/start_ns")?;
    let (caused, own) = (until_ns - start, number(call, "/end_ns")? - start);
    let slack = SLACK_NS.max(caused * SLACK_PERCENT / 100);
    let measured = field(wait, "wait_ns")?;
    ensure!(
        (caused.saturating_sub(slack)..=own).contains(&measured),
        "measured {measured} ns, the cause took {caused}, the thread saw {own}: {wait:?}"
    );
    Ok(())
}

/// Wants a count in this range. A preemptible kernel does not run a program that was preempted on the
/// same CPU: what is missing must be no more than the runs it says it skipped.
pub fn counted(
    report: &Value,
    what: &str,
    measured: u64,
    truth: RangeInclusive<u64>,
) -> Result<()> {
    let skipped = number(report, "/loss/recursion_misses")?;
    ensure!(
        measured <= *truth.end() && measured + skipped >= *truth.start(),
        "{what}: measured {measured}, constructed {truth:?}, {skipped} program runs were skipped"
    );
    Ok(())
}

/// Of a list in the truth.
pub fn list<'a>(truth: &'a Value, name: &str) -> Result<&'a Vec<Value>> {
    truth[name]
        .as_array()
        .with_context(|| format!("no {name} in {truth}"))
}
