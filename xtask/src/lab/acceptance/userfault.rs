//! `demo userfault`: faults that another thread answers late. Reason and time are those.

use anyhow::{Result, ensure};

use super::Test;
use super::walk::{Run, all_are, own_ns, sum, within};
use crate::lab::evidence::{Evidence, number};
use crate::step::Outcome;

const PAGES: u64 = 20;
const RUN: Run = Run {
    test: "userfault",
    what: "late",
};

pub const USERFAULT: Test = Test {
    name: "userfault",
    full: false,
    bpftrace: false,
    steps: || {
        RUN.steps(&[
            "userfault",
            "--delay",
            "20ms",
            "--pages",
            &PAGES.to_string(),
        ])
    },
    check,
};

fn check(evidence: &Evidence<'_>) -> Result<Outcome> {
    let seen = RUN.seen(evidence, "userfault")?;
    let rows = seen.faults(&seen.truth)?;
    ensure!(rows.len() as u64 == PAGES, "demo says {}", seen.truth);
    all_are(&rows, "kind", "anon")?;
    all_are(&rows, "path", "retry")?;
    if seen.has("retry_reason")? {
        all_are(&rows, "retry_reason", "userfault")?;
        let retries = number(&seen.report, "/faults/retries/userfault")?;
        ensure!(retries == PAGES, "{retries} retries for userfaultfd");
    }
    if seen.has("userfault_wait")? {
        let known = number(&seen.truth, "/wait_ns")?;
        let own = own_ns(&seen.truth)?;
        let rows = sum(&rows, "userfault_wait_ns")?;
        within("userfault wait", rows, known, own)?;
        let all = number(&seen.report, "/faults/components_ns/userfault_wait")?;
        ensure!(
            all == rows,
            "userfault wait is {all} ns in the report, {rows} ns by fault"
        );
    }
    Ok(Outcome::Passed)
}
