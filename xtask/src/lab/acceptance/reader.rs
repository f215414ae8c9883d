//! `demo reader`: another process reads the smaps of a busy one. Its waits on the lock of somebody
//! else's address space, and those it causes there, are labelled with both.

use anyhow::ensure;

use super::{Test, queue::Run};
use crate::lab::evidence::{field, number};
use crate::step::Outcome;

const RUN: Run = Run {
    test: "reader",
    what: "smaps",
};

pub const READER: Test = Test {
    name: "reader",
    full: false,
    bpftrace: false,
    steps: || RUN.steps("100", 120, &["reader", "--duration", "3s"]),
    check: |evidence| {
        let seen = RUN.seen(evidence, "reader")?;
        seen.adds_up()?;
        let (reader, pid) = (
            number(&seen.truth, "/reader/tgid")?,
            number(&seen.truth, "/pid")?,
        );
        let (mut on_it, mut by_it) = (0, 0);
        for wait in &seen.waits {
            if field(wait, "tgid")? == reader && field(wait, "mm_tgid").unwrap_or(0) == pid {
                on_it += 1;
            }
            let of_the_reader = field(wait, "holder_tgid").unwrap_or(0) == reader;
            if field(wait, "tgid")? == pid && of_the_reader && wait["holder_op"] == "proc" {
                by_it += 1;
            }
        }
        ensure!(
            on_it + by_it > 0,
            "no wait with both processes in {} waits",
            seen.waits.len()
        );
        ensure!(by_it > 0, "nobody was seen to wait for the reader");
        Ok(Outcome::Passed)
    },
};
