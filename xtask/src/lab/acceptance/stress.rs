//! `demo stress`: threads do at random whatever locks and faults. Whatever happened, what is told of
//! it must be possible.

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};
use guest::plan::Step;

use super::{
    Test,
    queue::{Run, list},
};
use crate::lab::evidence::{Evidence, field, number};
use crate::step::Outcome;

const SHORT: Run = Run {
    test: "stress",
    what: "short",
};
const MINUTE: Run = Run {
    test: "stress-minute",
    what: "long",
};

pub const STRESS: Test = Test {
    name: "stress",
    full: false,
    bpftrace: false,
    steps: || steps(&SHORT, "8s", 120),
    check: |evidence| check(evidence, &SHORT),
};

pub const STRESS_MINUTE: Test = Test {
    name: "stress-minute",
    full: true,
    bpftrace: false,
    steps: || steps(&MINUTE, "60s", 400),
    check: |evidence| check(evidence, &MINUTE),
};

fn steps(run: &Run, duration: &str, limit: u64) -> Vec<Step> {
    let scenario = ["stress", "--threads", "8", "--duration", duration];
    run.steps("100", limit, &scenario)
}

fn check(evidence: &Evidence<'_>, run: &Run) -> Result<Outcome> {
    let seen = run.seen(evidence, "stress")?;
    ensure!(!seen.waits.is_empty(), "no wait was recorded");
    seen.adds_up()?;
    let mut waited = HashMap::<u64, u64>::new();
    for wait in &seen.waits {
        *waited.entry(field(wait, "tid")?).or_default() += field(wait, "wait_ns")?;
    }
    let mut some = 0;
    for thread in list(&seen.truth, "threads")? {
        let tid = number(thread, "/tid")?;
        let life = number(thread, "/end_ns")? - number(thread, "/start_ns")?;
        let sum = waited.get(&tid).copied().unwrap_or(0);
        ensure!(
            sum <= life,
            "thread {tid} lived {life} ns and waited {sum} ns"
        );
        some += sum;
        let report = seen.report["threads"]
            .as_array()
            .and_then(|all| all.iter().find(|t| t["tid"] == tid))
            .with_context(|| format!("thread {tid} is not in the report"))?;
        let counted = ["read", "write"].map(|m| number(report, &format!("/{m}/wait_sum_ns")));
        let mut all = 0;
        for ns in counted {
            all += ns?;
        }
        ensure!(
            all <= life,
            "thread {tid} lived {life} ns, waits of {all} ns were counted"
        );
    }
    ensure!(some > 0, "none of the scenario's threads waited");
    Ok(Outcome::Passed)
}
