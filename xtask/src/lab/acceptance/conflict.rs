//! `demo conflict`, `fork`: writers that come while a fault waits for storage. How many would have
//! met it, what they would have lost, and which policy wins.

use std::{collections::BTreeSet, ops::RangeInclusive};

use anyhow::{Context as _, Result, ensure};
use guest::plan::Step;
use serde_json::Value;

use super::{
    Test,
    queue::{Run, Seen, between, counted, is, list, near},
};
use crate::lab::evidence::{Evidence, field, number};
use crate::step::Outcome;

/// A run, and the scenario's arguments.
struct Case(Run, &'static [&'static str]);

const fn case(what: &'static str, args: &'static [&'static str]) -> Case {
    let test = "conflict";
    Case(Run { test, what }, args)
}

const fn more(what: &'static str, args: &'static [&'static str]) -> Case {
    let test = "conflict-all";
    Case(Run { test, what }, args)
}

const CASES: &[Case] = &[
    case("one", &["--writers", "1", "--others", "100"]),
    case(
        "ten-split",
        &["--writers", "10", "--others", "100", "--split"],
    ),
    case("hundred", &["--writers", "100", "--others", "100"]),
    case(
        "ten-by-one",
        &["--writers", "10", "--others", "100", "--from", "one"],
    ),
    case(
        "hundred-by-one-split",
        &[
            "--writers",
            "100",
            "--others",
            "100",
            "--from",
            "one",
            "--split",
        ],
    ),
];
/// The combinations that are left.
const MORE: &[Case] = &[
    more(
        "one-split",
        &["--writers", "1", "--others", "100", "--split"],
    ),
    more(
        "one-by-one",
        &["--writers", "1", "--others", "100", "--from", "one"],
    ),
    more("ten", &["--writers", "10", "--others", "100"]),
    more(
        "ten-by-one-split",
        &[
            "--writers",
            "10",
            "--others",
            "100",
            "--from",
            "one",
            "--split",
        ],
    ),
    more(
        "hundred-split",
        &["--writers", "100", "--others", "100", "--split"],
    ),
    more(
        "hundred-by-one",
        &["--writers", "100", "--others", "100", "--from", "one"],
    ),
];
/// Nobody comes: holding the lock costs nothing.
const TIE: Case = case("tie", &["--writers", "0", "--others", "0"]);
/// The retry has to wait for a writer elsewhere: holding the lock wins.
const BUSY: Case = case(
    "busy",
    &["--writers", "0", "--others", "0", "--busy", "150ms"],
);
const DELAY: &str = "600ms";

pub const CONFLICT: Test = Test {
    name: "conflict",
    full: false,
    bpftrace: false,
    steps: || CASES.iter().chain([&TIE, &BUSY]).flat_map(steps).collect(),
    check,
};

pub const CONFLICT_ALL: Test = Test {
    name: "conflict-all",
    full: true,
    bpftrace: false,
    steps: || MORE.iter().flat_map(steps).collect(),
    check: |evidence| each(evidence, MORE),
};

fn steps(Case(run, args): &Case) -> Vec<Step> {
    let scenario = ["conflict", "--delay", DELAY];
    run.steps("100", 120, &[&scenario, *args].concat())
}

fn figure(seen: &Seen, policy: &str, what: &str) -> Result<u64> {
    number(&seen.report, &format!("/what_if/{policy}/{what}"))
}

/// Where there is nothing to tell, it is said, and why.
fn untold(evidence: &Evidence<'_>, report: &Value) -> Result<Option<Outcome>> {
    let none = report["what_if"].is_null();
    ensure!(
        none != evidence.per_vma_locks(),
        "what_if is {}",
        report["what_if"]
    );
    if !none {
        return Ok(None);
    }
    let reason = report["signals"]["what_if"]["reason"].as_str();
    let reason = reason.filter(|reason| !reason.is_empty());
    let reason = reason.context("what_if is null, and no reason is told")?;
    Ok(Some(Outcome::Skipped(reason.to_owned())))
}

fn check(evidence: &Evidence<'_>) -> Result<Outcome> {
    let done = each(evidence, CASES)?;
    if done != Outcome::Passed {
        return Ok(done);
    }
    let tie = TIE.0.seen(evidence, "conflict")?;
    let of = |what| figure(&tie, "hold_across_io", what);
    near("lost in a tie", of("lost_ns")? + of("amplified_ns")?, 0)?;
    near("saved in a tie", of("saved_ns")?, 0)?;

    let busy = BUSY.0.seen(evidence, "conflict")?;
    let of = |what| figure(&busy, "hold_across_io", what);
    let (saved, lost) = (of("saved_ns")?, of("lost_ns")? + of("amplified_ns")?);
    ensure!(saved > lost, "busy: saved {saved}, lost {lost}");
    let most = of("saved_at_most_ns")?;
    ensure!(saved <= most, "busy: saved {saved}, at most {most}");
    Ok(Outcome::Passed)
}

/// Many writers and nothing to gain: holding the lock loses.
fn each(evidence: &Evidence<'_>, cases: &[Case]) -> Result<Outcome> {
    for Case(run, args) in cases {
        let seen = run.seen(evidence, "conflict")?;
        if let Some(skipped) = untold(evidence, &seen.report)? {
            return Ok(skipped);
        }
        met(&seen, args).with_context(|| run.what)?;
        let lost = figure(&seen, "hold_across_io", "lost_ns")?
            + figure(&seen, "hold_across_io", "amplified_ns")?;
        let saved = figure(&seen, "hold_across_io", "saved_at_most_ns")?;
        ensure!(lost > saved, "{}: saved {saved}, lost {lost}", run.what);
    }
    Ok(Outcome::Passed)
}

/// How many writers came while the fault waited, by their own clocks: those that were through before
/// storage answered did, those that began after the fault's end did not.
pub fn came(truth: &Value) -> Result<RangeInclusive<u64>> {
    let (answered, end) = (
        number(truth, "/io/answered_ns")?,
        number(truth, "/fault/end_ns")?,
    );
    let (mut surely, mut perhaps) = (0, 0);
    for call in list(truth, "calls")?
        .iter()
        .filter(|c| c["role"] == "writer")
    {
        surely += u64::from(number(call, "/end_ns")? <= answered);
        perhaps += u64::from(number(call, "/start_ns")? < end);
    }
    Ok(surely..=perhaps)
}

fn met(seen: &Seen, args: &[&str]) -> Result<()> {
    let writers: u64 = args[1].parse()?;
    let came = came(&seen.truth)?;
    ensure!(
        came.start() * 10 >= writers * 8,
        "of {writers} writers {came:?} came in time"
    );
    // Two policies go by the folio that a fault found, which entries of functions do not tell.
    let sees_folios = !seen.report["faults"]["folio_state"].is_null();
    let by_folio = &seen.report["what_if"]["no_drop_uptodate"];
    ensure!(
        by_folio.is_null() != sees_folios,
        "by folios that are not seen: {by_folio}"
    );
    let folio = if sees_folios { "not_uptodate" } else { "" };
    let faulter = number(&seen.truth, "/fault/tid")?;
    for window in &seen.windows {
        if field(window, "tid")? == faulter {
            is(window, "kind", "file")?;
            is(window, "folio_state", folio)?;
        }
    }
    let conflicts = &seen.report["conflicts"];
    let mut all = true;
    let mut count = |what: &str| -> Result<()> {
        let n = number(conflicts, &format!("/{what}"))?;
        all &= n == writers;
        counted(&seen.report, what, n, came.clone())
    };
    count("inferred")?;
    count("by_op/mprotect")?;
    if seen.report["signals"]["vma_write_wait"]["quality"] == "exact" {
        count("exact")?;
        count("both")?;
    }
    // Who was not seen to come, or came late, is not charged as constructed.
    for what in ["lost_ns", "amplified_ns"].iter().filter(|_| all) {
        let truth = constructed(&seen.truth, what)?;
        between(what, figure(seen, "hold_across_io", what)?, truth)?;
    }
    Ok(())
}

/// What holding the lock would have cost. The scenario counts to the storage's answer, but the fault
/// keeps its lock until it runs again: on a busy machine 52 ms later.
pub fn constructed(truth: &Value, what: &str) -> Result<RangeInclusive<u64>> {
    let least = number(truth, &format!("/hold_across_io/{what}"))?;
    let late = number(truth, "/fault/end_ns")?.saturating_sub(number(truth, "/io/answered_ns")?);
    let calls = list(truth, "calls")?.iter();
    let tids: Result<BTreeSet<u64>> = calls.map(|call| number(call, "/tid")).collect();
    let threads = match what {
        "lost_ns" => 1,
        _ => tids?.len() as u64,
    };
    Ok(least..=least + late * threads)
}

/// A run, its faulters, and how long storage takes: all must wait before the fork, a quarter of it on.
const FORKS: &[(Run, &str, &str)] = &[
    (fork("one"), "1", "400ms"),
    (fork("eight"), "8", "800ms"),
    (fork("many"), "32", "2s"),
];

const fn fork(what: &'static str) -> Run {
    Run { test: "fork", what }
}

pub const FORK: Test = Test {
    name: "fork",
    full: false,
    bpftrace: false,
    steps: || -> Vec<Step> {
        let steps = |(run, faulters, delay): &(Run, &str, &str)| {
            let scenario = ["fork", "--delay", *delay, "--faulters", *faulters];
            run.steps("100", 120, &scenario)
        };
        FORKS.iter().flat_map(steps).collect()
    },
    check: |evidence| {
        for (run, faulters, _) in FORKS {
            let seen = run.seen(evidence, "fork")?;
            if let Some(skipped) = untold(evidence, &seen.report)? {
                return Ok(skipped);
            }
            let faulters: u64 = faulters.parse()?;
            // A preemptible kernel skips programs that were preempted on the same CPU, also those that
            // open a window, and says how many.
            let windows = number(&seen.report, "/windows/count")?;
            let skipped = number(&seen.report, "/loss/recursion_misses")?;
            ensure!(
                windows > 0 && windows + skipped >= faulters,
                "{faulters} faults waited, {windows} windows were seen, {skipped} programs skipped"
            );
            let forks = number(&seen.report, "/conflicts/by_op/fork")?;
            counted(
                &seen.report,
                "windows overlapped by fork",
                forks,
                windows.min(faulters)..=faulters,
            )?;
            let truth = number(&seen.truth, "/hold_across_io/lost_ns")?;
            let lost = number(&seen.report, "/what_if/hold_across_io/lost_by_op/fork")?;
            near("lost by fork", lost, truth).with_context(|| run.what)?;
        }
        Ok(Outcome::Passed)
    },
};
