//! `demo freeze`, `inversion`: a fault that hangs with its VMA locked, a writer of that VMA behind it,
//! and everybody else behind the writer. Who is blamed, by how much, and how the chain hangs
//! together.

use anyhow::{Context as _, Result, ensure};
use guest::plan::Step;
use serde_json::Value;

use super::{
    Test,
    queue::{Run, Seen, blamed_on, is, lasts, list},
};
use crate::lab::evidence::{Evidence, field, number};
use crate::step::Outcome;

const SHORT: Run = run("freeze", "short");
const LONG: Run = run("freeze", "long");
const HIGH: Run = run("inversion", "fifo");
const PLAIN: Run = run("inversion", "plain");

const fn run(test: &'static str, what: &'static str) -> Run {
    Run { test, what }
}

pub const FREEZE: Test = Test {
    name: "freeze",
    full: false,
    bpftrace: false,
    steps: || {
        let of = |run: &Run, args: &[&str]| run.steps("100", 120, &[&["freeze"], args].concat());
        [
            of(&SHORT, &["--delay", "200ms"]),
            of(&LONG, &["--delay", "1s", "--waiters", "20", "--munmap"]),
        ]
        .concat()
    },
    check: |evidence| {
        if let Some(skipped) = without_loop(evidence) {
            return Ok(skipped);
        }
        for run in [&SHORT, &LONG] {
            let seen = run.seen(evidence, "freeze")?;
            if let Some(skipped) = unseen(evidence, &seen)? {
                return Ok(skipped);
            }
            check(evidence, &seen).with_context(|| run.what)?;
        }
        Ok(Outcome::Passed)
    },
};

pub const INVERSION: Test = Test {
    name: "inversion",
    full: false,
    bpftrace: false,
    steps: || -> Vec<Step> {
        let of = |run: &Run, args: &[&str]| {
            let scenario = ["inversion", "--delay", "300ms"];
            run.steps("100", 120, &[&scenario, args].concat())
        };
        [of(&HIGH, &[]), of(&PLAIN, &["--plain"])].concat()
    },
    check: inversion,
};

/// The scenario freezes a file system of its own, on a loop device.
fn without_loop(evidence: &Evidence<'_>) -> Option<Outcome> {
    let why = "Debian has no modules of this kernel: no loop device";
    let skipped = Outcome::Skipped(why.to_owned());
    evidence.kernel.modules.is_none().then_some(skipped)
}

/// A VMA's rwsem is known by its reader, a fault on a slow path; of page_mkwrite's the entry alone is not
/// hooked. That is said.
fn unseen(evidence: &Evidence<'_>, seen: &Seen) -> Result<Option<Outcome>> {
    if !evidence.vma_writers() {
        let quality = &seen.report["signals"]["vma_write_wait"]["quality"];
        ensure!(quality == "unavailable", "it is said to be {quality}");
        let why = "PREEMPT_RT: writers that wait for a VMA's rwsem are not seen";
        return Ok(Some(Outcome::Skipped(why.to_owned())));
    }
    if !evidence.entries_only() || evidence.kernel.vma_lock() != "rwsem" {
        return Ok(None);
    }
    let said = |signal: &str, word: &str| {
        let reason = seen.report["signals"][signal]["reason"].as_str();
        reason.is_some_and(|reason| reason.contains(word))
    };
    ensure!(
        said("vma_write_wait", "a fault on a slow path")
            && said("held_wait", "no hook for page_mkwrite"),
        "no reason is told"
    );
    let why = "an rwsem whose reader is in page_mkwrite is not told from others";
    Ok(Some(Outcome::Skipped(why.to_owned())))
}

fn thread<'a>(truth: &'a Value, name: &str) -> Result<&'a Value> {
    list(truth, "threads")?
        .iter()
        .find(|row| row["name"] == name)
        .with_context(|| format!("no {name} in {truth}"))
}

/// A, B, C and D of the truth.
fn cast(truth: &Value) -> Result<[&Value; 4]> {
    let of = |letter: &str| thread(truth, &format!("vma-freeze-{letter}"));
    Ok([of("a")?, of("b")?, of("c")?, of("d")?])
}

pub fn check(evidence: &Evidence<'_>, seen: &Seen) -> Result<()> {
    seen.adds_up()?;
    let [a, b, c, d] = cast(&seen.truth)?;
    let (a_tid, b_tid) = (number(a, "/tid")?, number(b, "/tid")?);
    let thawed = number(&seen.truth, "/thawed_ns")?;
    let wait = seen.wait_of(b)?;
    let op = b["call"].as_str().context("B made no call")?;
    is(wait, "op", op)?;
    is(wait, "holder_op", "fault")?;
    // Without hooks at the ends of functions this wait is not seen, and that is said.
    let unseen = seen.report["signals"]["held_wait"]["reason"]
        .as_str()
        .is_some_and(|why| why.contains("no hook for page_mkwrite"));
    if !unseen {
        is(wait, "holder_doing", "page_mkwrite")?;
    }
    blamed_on(wait, a_tid)?;
    lasts(wait, b, thawed)?;
    let root = &wait["id"];
    is(wait, "root_wait", root)?;
    is(wait, "depth", "2")?;
    if evidence.per_vma_locks() {
        is(wait, "lock", "vma")?;
        is(wait, "same_page", "0")?;
        ensure!(
            field(wait, "vm_start")? <= number(&seen.truth, "/start")?
                && field(wait, "vm_end")? >= number(&seen.truth, "/end")?,
            "not the VMA of the scenario: {wait:?}"
        );
    } else {
        is(wait, "lock", "mmap_lock")?;
    }

    // Without VMA locks the fault holds mmap_lock itself, and all queue behind it.
    let (behind, depth) = if evidence.per_vma_locks() {
        (b_tid, "3")
    } else {
        (a_tid, "2")
    };
    let threads = list(&seen.truth, "threads")?;
    let convoy = threads
        .iter()
        .filter(|t| t["role"] == "convoy" && t["call"] == "mmap");
    for call in [c, d].into_iter().chain(convoy) {
        let wait = seen.wait_of(call)?;
        is(wait, "lock", "mmap_lock")?;
        blamed_on(wait, behind).with_context(|| call["name"].to_string())?;
        is(wait, "depth", depth)?;
        lasts(wait, call, thawed)?;
        if evidence.per_vma_locks() {
            is(wait, "root_wait", root)?;
            is(wait, "holder_op", op)?;
            is(wait, "holder_doing", "lock")?;
        }
    }

    // Nobody else is accused of what happened while it was frozen.
    let from = number(&seen.truth, "/frozen_ns")?;
    let to = thawed + 1_000_000_000;
    for wait in seen.long_waits(from, to)? {
        let long = field(wait, "wait_ns")? > 100_000_000;
        let holder = field(wait, "holder_tid").unwrap_or(0);
        ensure!(
            !long || [a_tid, b_tid].contains(&holder),
            "somebody else is accused: {wait:?}"
        );
    }
    if evidence.per_vma_locks() {
        let depth = number(&seen.report, "/chains/max_depth")?;
        ensure!(depth >= 3, "the report's deepest chain is {depth}");
    } else {
        ensure!(
            seen.report["vma_write"].is_null(),
            "VMA writers without VMA locks"
        );
    }
    Ok(())
}

fn inversion(evidence: &Evidence<'_>) -> Result<Outcome> {
    if let Some(skipped) = without_loop(evidence) {
        return Ok(skipped);
    }
    let high = HIGH.seen(evidence, "inversion")?;
    if let Some(skipped) = unseen(evidence, &high)? {
        return Ok(skipped);
    }
    let [a, b, ..] = cast(&high.truth)?;
    let wait = high.wait_of(b)?;
    blamed_on(wait, number(a, "/tid")?)?;
    is(wait, "inversion", "1")?;
    // kernel/sched/core.c, __normal_prio: 99 - rt_priority, 120 + nice.
    is(wait, "prio", &(99 - number(b, "/rt_priority")?).to_string())?;
    is(
        wait,
        "holder_prio",
        &(120 + number(a, "/nice")?).to_string(),
    )?;
    let flagged = number(&high.report, "/inversions/count")?;
    ensure!(flagged > 0, "the report knows of no inversion");

    let plain = PLAIN.seen(evidence, "inversion")?;
    for call in cast(&plain.truth)?.into_iter().skip(1) {
        is(plain.wait_of(call)?, "inversion", "0")?;
    }
    Ok(Outcome::Passed)
}
