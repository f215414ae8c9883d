//! Exit codes of `record -- CMD`: the command's own, a shell's for signals and for commands that
//! cannot be run; an interrupted recording is whole; who may not trace is told what to do.

use anyhow::{Context as _, Result, ensure};
use guest::plan::Step;

use super::Test;
use crate::lab::evidence::Evidence;
use crate::step::Outcome;

pub const EXIT_CODES: Test = Test {
    name: "exit-codes",
    full: false,
    bpftrace: false,
    steps,
    check,
};

const CODES: [(&str, i32, &[&str]); 5] = [
    ("exit-codes.true", 0, &["true"]),
    ("exit-codes.false", 1, &["false"]),
    ("exit-codes.absent", 127, &["/nonexistent"]),
    ("exit-codes.data", 126, &["/etc/passwd"]),
    ("exit-codes.killed", 137, &["sh", "-c", "kill -KILL $$"]),
];

/// Interrupts vmascope as soon as its child runs, and waits for its end.
const INTERRUPT: &str = "while ! [ -e /tmp/child-runs ]; do sleep 0.1; done; sleep 1; \
                         kill -INT $(pidof vmascope); while pidof vmascope; do sleep 0.1; done";

fn steps() -> Vec<Step> {
    let record = |name: &str, output: &str, command: &[&str]| {
        let words = ["vmascope", "record", "-o", output, "--"];
        Step::new(name, 60, &[words.as_slice(), command].concat())
    };
    let mut steps: Vec<Step> = CODES
        .iter()
        .map(|(name, _, command)| record(name, "/tmp/codes.db", command))
        .collect();
    let child = ["sh", "-c", "touch /tmp/child-runs; exec sleep 100"];
    let mut interrupted = record("exit-codes.interrupted", "/out/interrupted.db", &child);
    interrupted.background = true;
    steps.push(interrupted);
    steps.push(Step::new(
        "exit-codes.interrupt",
        90,
        &["sh", "-c", INTERRUPT],
    ));
    let report = [
        "vmascope",
        "report",
        "/out/interrupted.db",
        "--format",
        "json",
    ];
    steps.push(Step::new("exit-codes.report", 60, &report));
    let mut user = record("exit-codes.user", "/tmp/user.db", &["true"]);
    user.uid = 1000;
    steps.push(user);
    steps
}

fn check(evidence: &Evidence<'_>) -> Result<Outcome> {
    for (step, code, _) in CODES {
        evidence.ended_with(step, code)?;
    }
    evidence.ended_with("exit-codes.interrupt", 0)?;
    evidence.ended_with("exit-codes.interrupted", 130)?;
    let report = evidence.json("exit-codes.report")?;
    ensure!(
        report["complete"] == true,
        "the interrupted recording is not whole"
    );
    ensure!(
        evidence
            .stderr("exit-codes.interrupted")?
            .contains("recording: "),
        "an interrupt left no summary"
    );

    let code = evidence.result("exit-codes.user")?.code();
    ensure!(
        [1, 3, 125].contains(&code),
        "without privileges the exit code is {code}"
    );
    let said = evidence.stderr("exit-codes.user")?;
    let line = said.trim();
    ensure!(
        line.lines().count() == 1,
        "without privileges it says {said:?}"
    );
    let remedy = ["root", "sudo", "CAP_"]
        .iter()
        .find(|word| line.contains(**word));
    remedy.with_context(|| format!("no remedy in {line:?}"))?;
    Ok(Outcome::Passed)
}
