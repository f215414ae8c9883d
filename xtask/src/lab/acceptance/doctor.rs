//! `doctor`: each signal with its quality, and the hook that serves it or the reason why none does.

use anyhow::{Context as _, Result, ensure};
use guest::plan::Step;

use super::Test;
use crate::arch::Arch;
use crate::lab::evidence::Evidence;
use crate::step::Outcome;

pub const DOCTOR: Test = Test {
    name: "doctor",
    full: false,
    bpftrace: false,
    steps: || {
        vec![
            Step::new(
                "doctor.json",
                60,
                &["vmascope", "doctor", "--format", "json"],
            ),
            Step::new("doctor.text", 60, &["vmascope", "doctor"]),
        ]
    },
    check,
};

fn check(evidence: &Evidence<'_>) -> Result<Outcome> {
    let session = evidence.json("doctor.json")?;
    evidence.ended_with("doctor.text", 0)?;
    let text = evidence.stdout("doctor.text")?;
    let signals = session["signals"].as_array().context("no signals")?;
    ensure!(!signals.is_empty(), "no signals");
    for signal in signals {
        let word = |key: &str| signal[key].as_str().unwrap_or_default();
        let (name, hook, reason) = (word("name"), word("hook"), word("reason"));
        let explained = match word("quality") {
            "exact" => !hook.is_empty(),
            "approximate" => !hook.is_empty() && !reason.is_empty(),
            "unavailable" => !reason.is_empty(),
            _ => false,
        };
        ensure!(!name.is_empty() && explained, "not explained: {signal}");
        ensure!(text.contains(name), "{name} is not in the text");
    }
    let kernel = evidence.kernel;
    let design = kernel.vma_lock();
    ensure!(
        session["vma_lock"] == design,
        "the VMA lock is {}, not {design}",
        session["vma_lock"]
    );
    ensure!(
        session["tier"] == "full",
        "the tier is {}, not full",
        session["tier"]
    );
    // arm64 has no trampolines before 6.4: programs load there, and cannot be attached.
    let kprobes =
        evidence.entries_only() || (kernel.series == "6.1" && kernel.arch == Arch::Aarch64);
    let wanted = if kprobes { "kprobe" } else { "fentry" };
    let served = signals.iter().any(|signal| {
        let word = |key: &str| signal[key].as_str().unwrap_or_default();
        word("name").starts_with("fault") && word("hook").contains(wanted)
    });
    ensure!(served, "no fault signal is served by {wanted}");
    Ok(Outcome::Passed)
}
