//! The acceptance tests: what a guest runs, and what must have come of it.
//!
//! A test is one file here and one line in `ALL`. Its steps run in every guest; its check runs on
//! the host, over the files and results that came back.

mod anatomy;
pub mod android;
mod app_start;
pub mod callers;
mod conflict;
mod doctor;
mod exit_codes;
mod file;
mod freeze;
mod lab;
mod majors;
mod mishaps;
mod queue;
mod reader;
mod recorded;
mod rungs;
mod serve;
mod stacks;
mod storm;
mod stress;
mod swap;
pub mod top;
mod touch;
mod userfault;
mod walk;

use anyhow::{Context as _, Result, ensure};
use guest::plan::Step;
use serde_json::Value;

use super::evidence::Evidence;
use crate::step::Outcome;

pub struct Test {
    pub name: &'static str,
    /// Only in a full run, or when named.
    pub full: bool,
    /// Guests whose kernel has per-VMA locks get bpftrace.
    pub bpftrace: bool,
    /// Every step's name begins with the test's and a dot.
    pub steps: fn() -> Vec<Step>,
    /// An error means that the test failed; `Skipped` that it does not apply to this kernel.
    pub check: fn(&Evidence<'_>) -> Result<Outcome>,
}

pub const ALL: &[Test] = &[
    lab::UNAME,
    lab::DISK,
    lab::RUNNER,
    doctor::DOCTOR,
    touch::TOUCH,
    storm::STORM,
    storm::SOAK,
    rungs::RUNGS_TEST,
    exit_codes::EXIT_CODES,
    file::FILE,
    userfault::USERFAULT,
    swap::SWAP,
    anatomy::ANATOMY,
    majors::MAJORS,
    freeze::FREEZE,
    freeze::INVERSION,
    conflict::CONFLICT,
    conflict::CONFLICT_ALL,
    conflict::FORK,
    reader::READER,
    stacks::STACKS,
    callers::CALLERS,
    serve::SERVE,
    app_start::APP_START,
    mishaps::HOTPLUG,
    mishaps::SIGSTOP,
    mishaps::DIES,
    top::TOP,
    stress::STRESS,
    stress::STRESS_MINUTE,
    // Last: its adbd runs to the end.
    android::ANDROID,
];

/// What can be lost without a fault of ours: a preemptible kernel does not run a program that was
/// preempted on the same CPU. The skipped runs must explain the rest.
const SKIPPED: &str = "recursion_misses";
const FOLLOWS: [&str; 3] = ["unmatched_entry", "unmatched_exit", "hold_overflow"];

/// However few faults there were, so many may be missed.
const MISSED: u64 = 10;

/// Where threads fork and exec a few holds of a third lock are seen at times, and told. That reclaim
/// looks at other address spaces meanwhile would explain it, but was not shown.
const HOLDS: (&str, u64) = ("hold_overflow", 10);

/// Where two kernel stacks have the same place in the map of stacks one is not kept: the wait is.
const STACKS: (&str, u64) = ("stack_collision", 20);
/// Where a thread takes a lock in a loop, more holders may pass a waiter whose processor stands still
/// than are remembered: the wait is kept.
const FORGOTTEN: (&str, u64) = ("blame_forgotten", 5);

/// Wants a report that lost nothing, or whose losses are explained, fault by fault.
fn no_losses(report: &Value) -> Result<()> {
    let losses = report["loss"]
        .as_object()
        .context("the report has no losses")?;
    let skipped = losses.get(SKIPPED).and_then(Value::as_u64).unwrap_or(0);
    let lost: Vec<String> = losses
        .iter()
        .filter(|(reason, count)| {
            let few = |(known, most)| *reason == known && count.as_u64() <= Some(most);
            let explained = *reason == SKIPPED
                || [HOLDS, STACKS, FORGOTTEN].into_iter().any(few)
                || (FOLLOWS.contains(&reason.as_str()) && count.as_u64() <= Some(2 * skipped));
            **count != 0 && !explained
        })
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    ensure!(lost.is_empty(), "lost: {}", lost.join(", "));
    if let Some(check) = report.pointer("/cross_check/threads") {
        let missed = check["difference"]
            .as_i64()
            .unwrap_or(i64::MAX)
            .unsigned_abs();
        // A skipped run costs its own fault, and at most the one it was to be told from.
        ensure!(
            missed <= 2 * skipped,
            "{missed} faults missed, but only {skipped} program runs were skipped"
        );
        // Only where both of a fault's hooks were skipped, or those of two that came together.
        let all = check["kernel"].as_u64().unwrap_or(0);
        ensure!(
            missed * 50 <= all + 50 * MISSED,
            "{missed} of {all} faults missed"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_carry_the_name_of_their_test() {
        let mut seen = std::collections::BTreeSet::new();
        for test in ALL {
            for step in (test.steps)() {
                assert!(step.name.starts_with(&format!("{}.", test.name)));
                assert!(step.timeout_s > 0, "{} has no limit", step.name);
                assert!(seen.insert(step.name.clone()), "{} twice", step.name);
            }
        }
    }

    #[test]
    fn a_loss_is_named() {
        let report = serde_json::json!({"loss": {"ring_full": 0, "map_full": 2}});
        let error = no_losses(&report).unwrap_err();
        assert_eq!(error.to_string(), "lost: map_full 2");
        assert!(no_losses(&serde_json::json!({"loss": {"ring_full": 0}})).is_ok());
        let skipped = |missed: i64| {
            serde_json::json!({
                "loss": {"recursion_misses": 5, "unmatched_exit": 3},
                "cross_check": {"threads": {"kernel": 1000, "difference": -missed}},
            })
        };
        assert!(no_losses(&skipped(10)).is_ok());
        assert!(no_losses(&skipped(11)).is_err());
        assert!(no_losses(&serde_json::json!({"loss": {"unmatched_exit": 1}})).is_err());
        assert!(no_losses(&serde_json::json!({})).is_err());
    }
}
