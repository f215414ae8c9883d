//! `record --stacks`: where in the kernel waiters and holders stood, by the names of its functions.

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};
use guest::plan::Step;

use super::{Test, queue::Run};
use crate::lab::evidence::{Evidence, field, number};
use crate::step::Outcome;

const RUN: Run = Run {
    test: "stacks",
    what: "stress",
};

pub const STACKS: Test = Test {
    name: "stacks",
    full: false,
    bpftrace: false,
    steps,
    check,
};

fn steps() -> Vec<Step> {
    let scenario = ["stress", "--threads", "4", "--duration", "2s"];
    RUN.recorded_with(&["--stacks"], "100", 120, &scenario)
}

/// A system call's waiter stands in that system call, and a fault's in the fault.
const PLACES: [(&str, &[&str]); 4] = [
    ("mprotect", &["mprotect"]),
    ("munmap", &["munmap"]),
    ("mmap", &["mmap"]),
    ("fault", &["fault", "do_mem_abort"]),
];

fn check(evidence: &Evidence<'_>) -> Result<Outcome> {
    let seen = RUN.seen(evidence, "stress")?;
    let stacks: HashMap<u64, String> = evidence
        .rows("stacks.stress/stacks.csv")?
        .into_iter()
        .map(|row| Ok((field(&row, "id")?, row["frames"].clone())))
        .collect::<Result<_>>()?;
    ensure!(!stacks.is_empty(), "no stack was kept");
    let (mut placed, mut holders, mut misplaced) = (0, 0, Vec::new());
    for wait in &seen.waits {
        let frames = |column: &str| -> Result<Option<&String>> {
            if wait[column].is_empty() {
                return Ok(None);
            }
            let id = field(wait, column)?;
            stacks
                .get(&id)
                .map(Some)
                .with_context(|| format!("no stack {id}"))
        };
        holders += u64::from(frames("holder_stack")?.is_some());
        let Some(stack) = frames("stack")? else {
            continue;
        };
        let ours = stack.split(';').find(|frame| frame.starts_with("bpf_"));
        ensure!(
            ours.is_none(),
            "a stack that ends in our own programs: {stack}"
        );
        if let Some((_, names)) = PLACES.iter().find(|(op, _)| *op == wait["op"]) {
            if names.iter().any(|name| stack.contains(name)) {
                placed += 1;
            } else {
                misplaced.push(format!("a wait in {} has the stack {stack}", wait["op"]));
            }
        }
    }
    // A fault of kernel mode whose begin was skipped is part of its system call, as far as is seen.
    let skipped = number(&seen.report, "/loss/recursion_misses")?;
    let of_faults = misplaced.iter().all(|wait| wait.contains("fault"));
    ensure!(
        misplaced.is_empty() || (of_faults && misplaced.len() as u64 <= skipped),
        "{skipped} runs were skipped, but {}",
        misplaced.join("; ")
    );
    let waits = seen.waits.len() as u64;
    ensure!(
        placed * 2 > waits,
        "{placed} of {waits} waits have a stack that can be judged"
    );
    ensure!(holders > 0, "no holder has a stack");
    Ok(Outcome::Passed)
}
