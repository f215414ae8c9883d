//! `demo storm`: faults beside a writer. What was measured adds up, thread by thread, to what the
//! kernel itself counted, and the waits are there with their operation.

use anyhow::{Context as _, Result, bail, ensure};
use guest::plan::Step;
use serde_json::Value;

use super::{Test, no_losses, recorded::recorded};
use crate::lab::evidence::{Evidence, field, number};
use crate::step::Outcome;

pub const STORM: Test = Test {
    name: "storm",
    full: false,
    bpftrace: false,
    steps: || steps("storm", "100", "3", "3s", 180),
    check: |evidence| check(evidence, "storm"),
};

/// The same for longer and with more threads: what goes wrong rarely, goes wrong here.
pub const SOAK: Test = Test {
    name: "soak",
    full: true,
    bpftrace: false,
    steps: || steps("soak", "1000", "8", "90s", 400),
    check: |evidence| check(evidence, "soak"),
};

/// The main thread, and what the kernel does in an address space by itself.
const STRANGERS: usize = 3;

/// Under emulation nearly every fault takes 10 us, the usual threshold of `min_us`: as single events
/// they would come faster than a busy guest can write them down.
fn steps(test: &str, min_us: &str, threads: &str, duration: &str, limit: u64) -> Vec<Step> {
    let storm = ["vmascope", "demo", "storm", "--threads", threads];
    let storm = [&storm[..], &["--duration", duration]].concat();
    recorded(test, limit, &["--min-us", min_us], &storm)
}

pub fn check(evidence: &Evidence<'_>, test: &str) -> Result<Outcome> {
    let truth = evidence.truth(&format!("{test}.record"), "storm")?;
    let report = evidence.json(&format!("{test}.report"))?;
    threads(&truth, &report, late(evidence, &report)?)?;
    no_losses(&report)?;

    let path = |name: &str| number(&report, &format!("/faults/by_path/{name}"));
    if evidence.per_vma_locks() {
        ensure!(path("vma_lock")? > 0, "no fault under the VMA lock");
        ensure!(path("fallback")? > 0, "no fault fell back to mmap_lock");
        let writers = number(&report, "/faults/fallbacks/write_active")?;
        ensure!(writers > 0, "no fallback because of a writer");
    } else {
        ensure!(path("mmap_lock")? > 0, "no fault under mmap_lock");
        let vma_lock = report.pointer("/faults/by_path/vma_lock");
        let none = vma_lock.is_none_or(|n| n.is_null() || *n == 0);
        ensure!(
            none,
            "faults under VMA locks that this kernel has not: {vma_lock:?}"
        );
    }

    for side in ["read", "write"] {
        let waits = number(&report, &format!("/mmap_lock/{side}/waits"))?;
        ensure!(waits > 0, "no {side} wait for mmap_lock");
        let by_op = &report["mmap_lock"][side]["by_op"];
        let ops = by_op.as_object().context("no waits by operation")?;
        let sum = ops
            .values()
            .filter_map(|op| op["waits"].as_u64())
            .sum::<u64>();
        ensure!(
            sum == waits,
            "{waits} {side} waits, but {sum} by operation: {by_op}"
        );
    }
    let mprotects = number(&truth, "/mprotects")?;
    let acquired = &report["mmap_lock"]["write"]["by_op"]["mprotect"]["acquired"];
    // Where only waits are seen there is no such figure.
    if let Some(acquired) = acquired.as_u64() {
        ensure!(
            acquired >= mprotects,
            "{mprotects} calls of mprotect, {acquired} acquisitions"
        );
    }

    evidence.ended_with(&format!("{test}.export"), 0)?;
    let waits = evidence.rows(&format!("{test}/waits.csv"))?;
    let threads = truth["threads"].as_array().map_or(0, Vec::len);
    ensure!(!waits.is_empty(), "no single wait was recorded");
    // A fault whose begin was skipped cannot be told from other work at an exception's end.
    let mut unnamed = number(&report, "/loss/recursion_misses")?;
    for row in waits {
        let op = row.get("op").map_or("", String::as_str);
        if op.is_empty() || (op == "other" && unnamed == 0) {
            bail!("a wait without an operation: {row:?}");
        }
        unnamed -= u64::from(op == "other");
        // Nothing where the holder is not known.
        let readers = match row.get("holder_readers").map(String::as_str) {
            Some("") => 0,
            _ => field(&row, "holder_readers")? as usize,
        };
        ensure!(
            readers <= threads + STRANGERS,
            "of {threads} threads {readers} held the lock for reading: {row:?}"
        );
    }
    Ok(Outcome::Passed)
}

/// A program that is preempted has others on its CPU skipped: also those of the first faults of a thread
/// that came by preempting it, which then begins to count late. On PREEMPT_RT that may go on.
pub fn late(evidence: &Evidence<'_>, report: &Value) -> Result<u64> {
    const FIRST: u64 = 2;
    let skipped = number(report, "/loss/recursion_misses")?;
    Ok(match evidence.kernel.is_rt() {
        true => skipped,
        false => skipped.min(FIRST),
    })
}

/// Minor and major faults of each thread, as getrusage gave them to the thread itself; where the kernel
/// skipped programs, a thread may have begun to count so many late.
pub fn threads(truth: &Value, report: &Value, skipped: u64) -> Result<()> {
    let list = |value: &Value, what: &str| {
        value["threads"]
            .as_array()
            .cloned()
            .with_context(|| format!("no threads in {what}"))
    };
    let measured = list(report, "the report")?;
    for thread in list(truth, "the truth")? {
        let tid = number(&thread, "/tid")?;
        let found = measured
            .iter()
            .find(|row| row["tid"] == tid)
            .with_context(|| format!("thread {tid} is not in the report"))?;
        for kind in ["/minor", "/major"] {
            let (kernel, ours) = (number(&thread, kind)?, number(found, kind)?);
            ensure!(
                kernel >= ours && kernel - ours <= skipped,
                "thread {tid} ({}) had {kernel} {} faults, {ours} were counted",
                thread["role"].as_str().unwrap_or("thread"),
                kind.trim_start_matches('/')
            );
        }
    }
    Ok(())
}
