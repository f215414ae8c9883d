//! Stages of a test run: named, timed against a budget, passed, failed or skipped.
//!
//! In: closures. Out: a line per stage, a table at the end, and the summary line CI reads.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;

/// So many failures may have a second attempt; more are no accident of timing.
pub const AGAIN: usize = 3;

/// How a single check ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// Passed at the second attempt. One line: what was wrong at the first.
    Flaky(String),
    /// One line: what is wrong.
    Failed(String),
    /// One line: why it does not apply here.
    Skipped(String),
}

/// What a stage found: one entry per check it ran, in order.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    pub checks: Vec<(String, Outcome)>,
}

impl Findings {
    pub fn one(name: &str, outcome: Outcome) -> Self {
        Self {
            checks: vec![(name.to_owned(), outcome)],
        }
    }

    pub fn push(&mut self, name: impl Into<String>, outcome: Outcome) {
        self.checks.push((name.into(), outcome));
    }

    fn count(&self, want: fn(&Outcome) -> bool) -> usize {
        self.checks
            .iter()
            .filter(|(_, outcome)| want(outcome))
            .count()
    }

    pub fn passed(&self) -> usize {
        self.count(|o| matches!(o, Outcome::Passed | Outcome::Flaky(_)))
    }

    /// How many of the passed needed a second attempt.
    pub fn flaky(&self) -> usize {
        self.count(|o| matches!(o, Outcome::Flaky(_)))
    }

    pub fn failed(&self) -> usize {
        self.count(|o| matches!(o, Outcome::Failed(_)))
    }

    pub fn skipped(&self) -> usize {
        self.count(|o| matches!(o, Outcome::Skipped(_)))
    }
}

type Body<'a> = Box<dyn FnOnce() -> Result<Findings> + 'a>;

/// A named piece of a run. A body that returns an error counts as one failed check.
pub struct Stage<'a> {
    name: String,
    budget: Duration,
    body: Body<'a>,
}

impl<'a> Stage<'a> {
    pub fn new(
        name: impl Into<String>,
        budget: Duration,
        body: impl FnOnce() -> Result<Findings> + 'a,
    ) -> Self {
        Self {
            name: name.into(),
            budget,
            body: Box::new(body),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The result of a stage that has run.
pub struct Done {
    pub name: String,
    pub budget: Duration,
    pub took: Duration,
    pub findings: Findings,
}

/// Runs the stages in order, all of them even when one fails, and prints each as it goes.
pub fn run_all(stages: Vec<Stage<'_>>) -> Vec<Done> {
    stages.into_iter().map(run_one).collect()
}

pub fn run_one(stage: Stage<'_>) -> Done {
    println!("--- {} (budget {})", stage.name, seconds(stage.budget));
    let start = Instant::now();
    let findings = (stage.body)()
        .unwrap_or_else(|error| Findings::one(&stage.name, Outcome::Failed(format!("{error:#}"))));
    let done = Done {
        name: stage.name,
        budget: stage.budget,
        took: start.elapsed(),
        findings,
    };
    for (name, outcome) in &done.findings.checks {
        match outcome {
            Outcome::Passed => {}
            Outcome::Flaky(why) => println!("flaky   {name}: {why}"),
            Outcome::Failed(why) => println!("FAILED  {name}: {why}"),
            Outcome::Skipped(why) => println!("skipped {name}: {why}"),
        }
    }
    println!("    {}", verdict(&done));
    done
}

/// Prints the table of stages and, as the last line, `N passed, N failed, N skipped`.
pub fn summary(done: &[Done]) -> ExitCode {
    println!("\nstage                      time   budget  result");
    let mut all = (0, 0, 0);
    let mut flaky = 0;
    for stage in done {
        println!(
            "{:<24} {:>6} {:>8}  {}",
            stage.name,
            seconds(stage.took),
            seconds(stage.budget),
            verdict(stage)
        );
        let f = &stage.findings;
        all = (all.0 + f.passed(), all.1 + f.failed(), all.2 + f.skipped());
        flaky += f.flaky();
    }
    if flaky > 0 {
        println!("\n{flaky} of those that passed did so at the second attempt");
    }
    println!("\n{} passed, {} failed, {} skipped", all.0, all.1, all.2);
    // A run in which nothing ran proves nothing.
    if all.1 == 0 && all.0 > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn verdict(done: &Done) -> String {
    let f = &done.findings;
    let word = match (f.failed(), f.passed()) {
        (0, 0) => "skipped",
        (0, _) => "passed",
        _ => "FAILED",
    };
    let late = if done.took > done.budget {
        ", over budget"
    } else {
        ""
    };
    format!(
        "{word} ({} passed, {} failed, {} skipped{late})",
        f.passed(),
        f.failed(),
        f.skipped()
    )
}

fn seconds(time: Duration) -> String {
    format!("{:.0}s", time.as_secs_f64().ceil())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(outcomes: Vec<Outcome>) -> Done {
        let mut findings = Findings::default();
        for outcome in outcomes {
            findings.push("check", outcome);
        }
        Done {
            name: "stage".into(),
            budget: Duration::from_secs(1),
            took: Duration::ZERO,
            findings,
        }
    }

    #[test]
    fn a_failure_is_red() {
        let red = done(vec![Outcome::Passed, Outcome::Failed("x".into())]);
        assert_eq!(summary(&[red]), ExitCode::FAILURE);
    }

    #[test]
    fn all_skipped_is_red() {
        let red = done(vec![Outcome::Skipped("x".into())]);
        assert_eq!(summary(&[red]), ExitCode::FAILURE);
    }

    #[test]
    fn passed_is_green() {
        let green = done(vec![Outcome::Passed, Outcome::Skipped("x".into())]);
        assert_eq!(summary(&[green]), ExitCode::SUCCESS);
    }

    #[test]
    fn an_error_counts_as_a_failed_check() {
        let stage = Stage::new("s", Duration::from_secs(1), || anyhow::bail!("broken"));
        assert_eq!(run_one(stage).findings.failed(), 1);
    }
}
