//! The acceptance tests: what a guest runs, and what must have come of it.
//!
//! A test is one file here and one line in `ALL`. Its steps run in every guest; its check runs on
//! the host, over the files and results that came back.

mod doctor;
mod exit_codes;
mod lab;
mod storm;
mod touch;

use anyhow::{Context as _, Result, ensure};
use guest::plan::Step;
use serde_json::Value;

use super::evidence::Evidence;
use crate::step::Outcome;

pub struct Test {
    pub name: &'static str,
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
    exit_codes::EXIT_CODES,
];

/// Wants a report that lost nothing.
fn no_losses(report: &Value) -> Result<()> {
    let losses = report["loss"]
        .as_object()
        .context("the report has no losses")?;
    let lost: Vec<String> = losses
        .iter()
        .filter(|(_, count)| **count != 0)
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    ensure!(lost.is_empty(), "lost: {}", lost.join(", "));
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
        assert!(no_losses(&serde_json::json!({})).is_err());
    }
}
