//! `demo touch`: N first touches are N faults, no more and no fewer, in that thread and range.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};

use super::{Test, no_losses, recorded::recorded};
use crate::lab::evidence::{Evidence, field, number};
use crate::step::Outcome;

const PAGES: u64 = 5000;

pub const TOUCH: Test = Test {
    name: "touch",
    full: false,
    bpftrace: false,
    steps: || {
        let pages = PAGES.to_string();
        let touch = ["vmascope", "demo", "touch", "--pages", &pages];
        recorded("touch", 120, &["--min-us", "0", "--sample", "1"], &touch)
    },
    check,
};

fn check(evidence: &Evidence<'_>) -> Result<Outcome> {
    let truth = evidence.truth("touch.record", "touch")?;
    let (tid, pid) = (number(&truth, "/tid")?, number(&truth, "/pid")?);
    let range = number(&truth, "/start")?..number(&truth, "/end")?;
    ensure!(
        number(&truth, "/pages")? == PAGES,
        "demo touch says {truth}"
    );
    let page = number(&truth, "/page_size")?;

    evidence.ended_with("touch.export", 0)?;
    let path = evidence.usual_path();
    let mut pages = BTreeSet::new();
    let mut inside = 0;
    for row in evidence.rows("touch/faults.csv")? {
        let address = field(&row, "address")?;
        // Before the mapping was made, another one may have had the same addresses.
        let mapping = field(&row, "vm_start")?..field(&row, "vm_end")?;
        let is_ours = mapping.start <= range.start && range.end <= mapping.end;
        if !range.contains(&address) || !is_ours {
            continue;
        }
        inside += 1;
        pages.insert(address / page);
        ensure!(
            field(&row, "tid")? == tid && field(&row, "tgid")? == pid,
            "a fault in the range by another thread: {row:?}"
        );
        for (column, wanted) in [("path", path), ("kind", "anon"), ("major", "0")] {
            let found = row
                .get(column)
                .with_context(|| format!("no column {column}"))?;
            ensure!(
                found == wanted,
                "{column} of a fault is {found}, not {wanted}: {row:?}"
            );
        }
    }
    ensure!(
        inside == PAGES && pages.len() as u64 == PAGES,
        "{PAGES} pages were touched, {inside} faults on {} pages were recorded",
        pages.len()
    );

    let report = evidence.json("touch.report")?;
    no_losses(&report)?;
    let total = number(&report, "/faults/total")?;
    ensure!(
        total >= PAGES,
        "the report counts {total} faults of {PAGES}"
    );
    let on_path = number(&report, &format!("/faults/by_path/{path}"))?;
    ensure!(
        on_path >= PAGES,
        "{on_path} faults of {PAGES} on path {path}"
    );
    Ok(Outcome::Passed)
}
