//! Callers that are not what they seem (`xtask/guest/src/bin/callers.rs`): whose call it is, whose address
//! space, whose faults.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Test, no_losses, recorded::recorded};
use crate::lab::evidence::{Evidence, number};
use crate::step::Outcome;

/// mprotect by the C library, as programs and threads begin.
const OWN_MPROTECTS: u64 = 50;

pub const CALLERS: Test = Test {
    name: "callers",
    full: false,
    bpftrace: false,
    steps: || {
        let every = ["--mmap-lock", "all", "--min-us", "0"];
        recorded("callers", 120, &every, &["callers"])
    },
    check,
};

fn check(evidence: &Evidence<'_>) -> Result<Outcome> {
    let truth = evidence.truth("callers.record", "callers")?;
    let report = evidence.json("callers.report")?;
    no_losses(&report)?;
    calls(&truth, &report)?;
    evidence.ended_with("callers.export", 0)?;
    address_space(evidence, &truth)?;

    for child in truth["vforks"].as_array().context("no vforks")? {
        faults(child, &report)?;
    }
    let exec = &truth["exec"];
    let process = faults(exec, &report)?;
    let (all, touched) = (number(exec, "/faults")?, number(exec, "/touched")?);
    ensure!(all >= touched, "{touched} pages touched by {all} faults");
    ensure!(
        process["comm"] == "callers",
        "what a thread became is called {}",
        process["comm"]
    );
    Ok(Outcome::Passed)
}

/// By whatever door, it is mprotect.
fn calls(truth: &Value, report: &Value) -> Result<()> {
    let native = number(truth, "/mprotects")?;
    let called = native + truth["i386_mprotects"].as_u64().unwrap_or(0);
    let acquired = number(report, "/mmap_lock/write/by_op/mprotect/acquired")?;
    let seen = called.saturating_sub(number(report, "/loss/recursion_misses")?);
    ensure!(
        (seen..=called + OWN_MPROTECTS).contains(&acquired),
        "{called} calls of mprotect, {native} of them native: {acquired} acquisitions"
    );
    Ok(())
}

/// It stays its owner's, also while a child of vfork faults there.
fn address_space(evidence: &Evidence<'_>, truth: &Value) -> Result<()> {
    let pid = truth["pid"].to_string();
    let rows = evidence.rows("callers/waits.csv")?;
    let own = rows.iter().find(|row| row["tgid"] == pid);
    let mm = &own.context("no wait of the parent of vforks")?["mm"];
    let mut of_children = 0;
    for row in rows.iter().filter(|row| row["mm"] == *mm) {
        ensure!(
            row["mm_tgid"] == pid,
            "the address space of {pid} is said to be another's: {row:?}"
        );
        of_children += u32::from(row["tgid"] != pid);
    }
    ensure!(of_children > 0, "no child of vfork waited");
    Ok(())
}

/// A process's, as the kernel tells its parent: counted, or missed and told. And its row.
fn faults<'a>(child: &Value, report: &'a Value) -> Result<&'a Value> {
    let (pid, kernel) = (number(child, "/pid")?, number(child, "/faults")?);
    let processes = report["processes"].as_array().context("no processes")?;
    let row = processes.iter().find(|row| row["tgid"] == pid);
    let row = row.with_context(|| format!("process {pid} is not in the report"))?;
    let ours = number(row, "/minor")? + number(row, "/major")?;
    let missed = number(row, "/missed")?;
    ensure!(
        ours + missed == kernel,
        "process {pid} had {kernel} faults, {ours} were counted and {missed} missed"
    );
    Ok(row)
}
