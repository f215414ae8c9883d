//! Every rung of the hook ladder by itself: what `auto` never tries on this kernel must work too,
//! because another kernel will need it.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use guest::plan::Step;
use serde_json::Value;

use super::{Test, no_losses, recorded::recorded};
use crate::arch::Arch;
use crate::lab::evidence::{Evidence, field, number};
use crate::step::Outcome;

const PAGES: u64 = 1000;
const RUNGS: [&str; 3] = ["fentry", "kprobe", "tracepoint"];
/// This kernel cannot provide what was asked for.
const KERNEL_CANNOT: i32 = 3;

pub const RUNGS_TEST: Test = Test {
    name: "rungs",
    full: false,
    bpftrace: false,
    steps,
    check: |evidence| {
        for rung in RUNGS {
            check(evidence, rung).with_context(|| format!("--hooks {rung}"))?;
        }
        Ok(Outcome::Passed)
    },
};

fn steps() -> Vec<Step> {
    let pages = PAGES.to_string();
    let touch = ["vmascope", "demo", "touch", "--pages", &pages];
    let steps = |rung: &&str| {
        let options = ["--hooks", rung, "--min-us", "0"];
        recorded(&format!("rungs.{rung}"), 120, &options, &touch)
    };
    RUNGS.iter().flat_map(steps).collect()
}

fn check(evidence: &Evidence<'_>, rung: &str) -> Result<()> {
    let step = |what: &str| format!("rungs.{rung}.{what}");
    let kernel = evidence.kernel;
    // Programs load there, and cannot be attached.
    if rung == "fentry" && kernel.arch == Arch::Aarch64 && kernel.series == "6.1" {
        evidence.ended_with(&step("record"), KERNEL_CANNOT)?;
        let said = evidence.stderr(&step("record"))?;
        ensure!(
            said.lines().count() == 1,
            "no single line of error: {said:?}"
        );
        return Ok(());
    }
    let truth = evidence.truth(&step("record"), "touch")?;
    let report = evidence.json(&step("report"))?;
    let path = evidence.usual_path();
    // The tracepoint rung cannot tell paths where it sees contended locks only.
    let counted = match &report["faults"]["by_path"] {
        Value::Null if rung == "tracepoint" => number(&report, "/faults/total")?,
        by_path => number(by_path, &format!("/{path}"))?,
    };
    ensure!(
        counted >= PAGES,
        "{PAGES} pages were touched, {counted} faults on path {path}"
    );
    if rung == "tracepoint" {
        // Faults through get_user_pages are not seen, nor is every one of them an event of its own.
        let quality = &report["signals"]["fault_count"]["quality"];
        ensure!(
            quality == "approximate",
            "the count of faults is said to be {quality}"
        );
        return Ok(());
    }
    no_losses(&report)?;
    evidence.ended_with(&step("export"), 0)?;
    let range = number(&truth, "/start")?..number(&truth, "/end")?;
    let (tid, page) = (number(&truth, "/tid")?, number(&truth, "/page_size")?);
    let mut pages = BTreeSet::new();
    for row in evidence.rows(&format!("rungs.{rung}/faults.csv"))? {
        let address = field(&row, "address")?;
        if !range.contains(&address) || field(&row, "tid")? != tid {
            continue;
        }
        let found = row.get("path").context("no column path")?;
        ensure!(
            found == path,
            "path of a fault is {found}, not {path}: {row:?}"
        );
        pages.insert(address / page);
    }
    let seen = pages.len() as u64;
    ensure!(
        seen == PAGES,
        "{PAGES} pages were touched, faults on {seen} were recorded"
    );
    Ok(())
}
