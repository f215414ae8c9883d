//! `demo cow`, `thp` and `shmem`: faults that wait for nothing, told by their kind.

use anyhow::{Context as _, Result, ensure};

use super::Test;
use super::walk::{Run, all_are};
use crate::lab::evidence::Evidence;
use crate::step::Outcome;

/// The scenario, its pages, the kind of its faults.
const RUNS: [(Run, usize, &str); 3] = [
    (run("cow"), 500, "anon"),
    (run("thp"), 3, "anon"),
    (run("shmem"), 500, "shmem"),
];

const fn run(what: &'static str) -> Run {
    Run {
        test: "anatomy",
        what,
    }
}

pub const ANATOMY: Test = Test {
    name: "anatomy",
    full: false,
    bpftrace: false,
    steps: || {
        let steps = |(run, pages, _): &(Run, usize, _)| {
            run.steps(&[run.what, "--pages", &pages.to_string()])
        };
        RUNS.iter().flat_map(steps).collect()
    },
    check: |evidence| {
        for (run, pages, kind) in &RUNS {
            check(evidence, run, *pages, kind).with_context(|| run.what)?;
        }
        Ok(Outcome::Passed)
    },
};

fn check(evidence: &Evidence<'_>, run: &Run, pages: usize, kind: &str) -> Result<()> {
    if run.what == "thp" && evidence.kernel.is_rt() {
        // mm/Kconfig: TRANSPARENT_HUGEPAGE depends on !PREEMPT_RT. The scenario says so.
        let record = run.step("record");
        evidence.ended_with(&record, 1)?;
        let said = evidence.stderr(&record)?;
        ensure!(said.contains("no transparent huge pages"), "{said}");
        return Ok(());
    }
    let seen = run.seen(evidence, run.what)?;
    let rows = seen.faults(&seen.truth)?;
    ensure!(rows.len() == pages, "{} faults of {pages}", rows.len());
    all_are(&rows, "kind", kind)?;
    all_are(&rows, "major", "0")?;
    all_are(&rows, "path", evidence.usual_path())?;
    all_are(&rows, "retry_reason", "")
}
