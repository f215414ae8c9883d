//! The acceptance tests: what a guest runs, and what must have come of it.
//!
//! A test is one file here and one line in `ALL`. Its steps run in every guest; its check runs on
//! the host, over the files and results that came back.

mod lab;

use anyhow::Result;
use guest::plan::Step;

use super::evidence::Evidence;
use crate::step::Outcome;

pub struct Test {
    pub name: &'static str,
    /// Every step's name begins with the test's and a dot.
    pub steps: fn() -> Vec<Step>,
    /// An error means that the test failed; `Skipped` that it does not apply to this kernel.
    pub check: fn(&Evidence<'_>) -> Result<Outcome>,
}

pub const ALL: &[Test] = &[lab::UNAME, lab::DISK, lab::RUNNER];

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
}
