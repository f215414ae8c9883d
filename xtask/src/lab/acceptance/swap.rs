//! `demo swap`: pages from compressed memory come while the fault holds its lock, pages from a disk
//! after it gave its lock up.

use anyhow::{Result, ensure};

use super::Test;
use super::walk::{Run, Seen, all_are, io_ns, own_ns, sum, within};
use crate::lab::evidence::{Evidence, Row, number};
use crate::lab::matrix::SLOW_DISK_MS;
use crate::step::Outcome;

const PAGES: u64 = 24;
const ZRAM: Run = Run {
    test: "swap",
    what: "zram",
};
const DISK: Run = Run {
    test: "swap",
    what: "disk",
};

pub const SWAP: Test = Test {
    name: "swap",
    full: false,
    bpftrace: false,
    steps: || {
        let pages = PAGES.to_string();
        let zram = ["swap", "--zram", "--pages", &pages];
        let disk = ["swap", "--path", "/slow/swap", "--pages", &pages];
        [ZRAM.steps(&zram), DISK.steps(&disk)].concat()
    },
    check,
};

fn check(evidence: &Evidence<'_>) -> Result<Outcome> {
    if evidence.kernel.modules.is_none() {
        let why = "Debian has no modules of this kernel: neither zram nor a slow disk";
        return Ok(Outcome::Skipped(why.to_owned()));
    }
    let seen = ZRAM.seen(evidence, "swap")?;
    let rows = swapped(&seen)?;
    all_are(&rows, "path", evidence.usual_path())?;
    if seen.has("held_wait")? {
        all_are(&rows, "held_wait", "swap_sync")?;
        all_are(&rows, "retry_reason", "")?;
        let (held, own) = (sum(&rows, "held_wait_ns")?, own_ns(&seen.truth)?);
        let timed = held > 0 || seen.sees_entries_only("held_wait");
        ensure!(timed && held <= own, "held for {held} of {own} ns");
    }

    let seen = DISK.seen(evidence, "swap")?;
    let rows = swapped(&seen)?;
    let delay = PAGES * u64::from(SLOW_DISK_MS) * 1_000_000;
    let own = own_ns(&seen.truth)?;
    // 6.1 swaps a page in without giving its lock up where it reads just one, from any device.
    if !evidence.per_vma_locks() {
        all_are(&rows, "path", "mmap_lock")?;
        if seen.has("held_wait")? {
            all_are(&rows, "held_wait", "swap_sync")?;
            if !seen.sees_entries_only("held_wait") {
                within("held wait", sum(&rows, "held_wait_ns")?, delay, own)?;
            }
        }
        return Ok(Outcome::Passed);
    }
    all_are(&rows, "path", "retry")?;
    if seen.has("retry_reason")? {
        all_are(&rows, "retry_reason", "swap_in")?;
        all_are(&rows, "held_wait", "")?;
    }
    if seen.has("io_wait")? {
        within("I/O wait", io_ns(&rows)?, delay, own)?;
    }
    Ok(Outcome::Passed)
}

fn swapped(seen: &Seen) -> Result<Vec<&Row>> {
    let rows = seen.faults(&seen.truth)?;
    ensure!(
        rows.len() as u64 == PAGES && number(&seen.truth, "/major")? == PAGES,
        "demo swap says {}",
        seen.truth
    );
    all_are(&rows, "kind", "swap")?;
    Ok(rows)
}
