//! `demo file`: cold pages on slow storage. Every major fault comes back to `mmap_lock` for the
//! sake of I/O, and the time it waited is the time the storage took.

use anyhow::{Context as _, Result, ensure};

use super::Test;
use super::walk::{Run, Seen, all_are, io_ns, own_ns, within};
use crate::lab::evidence::{Evidence, Row, number};
use crate::lab::matrix::SLOW_DISK_MS;
use crate::step::Outcome;

const PAGES: u64 = 24;
/// The built-in storage, which logs its answers.
const BUILT_IN: Run = Run {
    test: "file",
    what: "fuse",
};
/// A disk behind dm-delay.
const DISK: Run = Run {
    test: "file",
    what: "disk",
};

pub const FILE: Test = Test {
    name: "file",
    full: false,
    bpftrace: false,
    steps: || {
        let pages = PAGES.to_string();
        let built_in = [
            "file",
            "--pages",
            &pages,
            "--threads",
            "2",
            "--delay",
            "50ms",
        ];
        let disk = [
            "file",
            "--path",
            "/slow/cold",
            "--pages",
            &pages,
            "--random",
        ];
        [BUILT_IN.steps(&built_in), DISK.steps(&disk)].concat()
    },
    check,
};

fn check(evidence: &Evidence<'_>) -> Result<Outcome> {
    let seen = BUILT_IN.seen(evidence, "file")?;
    let rows = majors(&seen, evidence)?;
    let log = number(&seen.truth, "/io_ns")?;
    io_wait(&seen, &rows, "I/O wait, against the storage's log", log)?;
    if evidence.kernel.modules.is_none() {
        return Ok(Outcome::Passed);
    }
    let seen = DISK.seen(evidence, "file")?;
    let rows = majors(&seen, evidence)?;
    ensure!(
        rows.len() as u64 == PAGES,
        "{} major faults on {PAGES} pages",
        rows.len()
    );
    let delay = PAGES * u64::from(SLOW_DISK_MS) * 1_000_000;
    io_wait(&seen, &rows, "I/O wait, against the disk's delay", delay)?;
    Ok(Outcome::Passed)
}

fn io_wait(seen: &Seen, rows: &[&Row], what: &str, caused: u64) -> Result<()> {
    if !seen.has("io_wait")? {
        return Ok(());
    }
    let own = threads(seen)?.iter().map(own_ns).sum::<Result<u64>>()?;
    within(what, io_ns(rows)?, caused, own)
}

fn threads(seen: &Seen) -> Result<&Vec<serde_json::Value>> {
    seen.truth["threads"].as_array().context("no threads")
}

/// The major faults of all threads, as they must be.
fn majors<'a>(seen: &'a Seen, evidence: &Evidence<'_>) -> Result<Vec<&'a Row>> {
    let mut rows = Vec::new();
    for walk in threads(seen)? {
        rows.extend(seen.faults(walk)?);
    }
    all_are(&rows, "kind", "file")?;
    rows.retain(|row| row.get("major").is_some_and(|m| m == "1"));
    let (found, counted) = (rows.len() as u64, number(&seen.truth, "/major")?);
    ensure!(found == counted, "{counted} major faults, {found} recorded");
    all_are(&rows, "path", "retry")?;
    if seen.has("retry_reason")? {
        all_are(&rows, "retry_reason", "io")?;
        let retries = number(&seen.report, "/faults/retries/io")?;
        ensure!(
            retries >= counted,
            "{counted} faults waited for I/O, {retries} retries for it"
        );
    }
    let by_path = number(&seen.report, "/faults/major_by_path/retry")?;
    ensure!(
        by_path >= counted,
        "{counted} major faults came back, the report has {by_path}"
    );
    ensure!(
        !evidence.per_vma_locks() || number(&seen.report, "/faults/by_path/vma_lock")? > 0,
        "no fault under the VMA lock"
    );
    Ok(rows)
}
