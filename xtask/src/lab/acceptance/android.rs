//! vmascope over adb, as on a phone: pushed to a real adbd, recorded there, pulled, and read on this
//! host. What the recordings say is held against the same truths as elsewhere.
//!
//! The steps only keep adbd running; `lab::phone` does the rest from outside, and leaves what it did
//! beside the files of the guest, as if they were steps of it.

use anyhow::{Context as _, Result, ensure};
use guest::plan::Step;

use super::{Test, freeze, queue, recorded::recorded_by, storm};
use crate::arch::Arch;
use crate::lab::evidence::Evidence;
use crate::lab::kernels::Flavour;
use crate::step::Outcome;

pub const ANDROID: Test = Test {
    name: "android",
    full: false,
    bpftrace: false,
    steps,
    check,
};

/// The step during which the host acts, and the file by which it ends the step.
pub const HOST_STEP: &str = "android.host";
pub const DONE: &str = "/data/local/tmp/done";

/// The kernels that stand for phones: pages of 4 KiB, and of 16 KiB.
pub fn fits(series: &str, flavour: Flavour, arch: Arch) -> bool {
    arch == Arch::Aarch64
        && (flavour == Flavour::Pages16k || (series == "6.12" && flavour == Flavour::Cloud))
}

fn steps() -> Vec<Step> {
    let wait = format!("until test -e {DONE}; do sleep 0.2; done");
    let mut steps = package_steps();
    steps.extend(adbd_steps());
    steps.push(Step::new(HOST_STEP, 600, &["sh", "-c", &wait]));
    steps
}

/// `--package`: an app is a user. It starts when all is armed; root does the same beside it.
fn package_steps() -> Vec<Step> {
    let record = "mkdir -p /data/system; \
        echo 'org.example.app 1000 0 /data/user/0/org.example.app default none 0 0 1 @null' > /data/system/packages.list; \
        vmascope record --package org.example.app --min-us 100 -d 15 -o /out/android.package.db & \
        until test -e /out/android.package.db; do sleep 0.1; done; \
        vmascope demo storm --threads 2 --duration 2s >&2 & \
        su user -c 'exec vmascope demo storm --threads 3 --duration 3s'; wait";
    recorded_by("android.package", 120, &["sh", "-c", record])
}

/// Brings the network up, and an adbd that listens.
pub fn adbd_steps() -> Vec<Step> {
    let sh = |name: &str, limit: u64, line: &str| {
        Step::new(&format!("android.{name}"), limit, &["sh", "-c", line])
    };
    // The address is what QEMU forwards to. 15B3 is 5555.
    let network = "mkdir -p /data/local/tmp; ip link set lo up; ip link set eth0 up; \
                   ip addr add 10.0.2.15/24 dev eth0";
    let mut adbd = sh("adbd", 600, "exec adbd");
    adbd.background = true;
    let listens = "until grep -q ':15B3 .* 0A ' /proc/net/tcp /proc/net/tcp6; do sleep 0.1; done";
    vec![sh("network", 30, network), adbd, sh("listens", 60, listens)]
}

fn check(evidence: &Evidence<'_>) -> Result<Outcome> {
    package(evidence).context("--package")?;
    for step in ["android.network", "android.listens", HOST_STEP] {
        evidence.ended_with(step, 0)?;
    }
    // An unknown command ends with 2 on the device; the program is pushed once, however often it runs.
    evidence.ended_with("android.usage", 2)?;
    ensure!(
        evidence.stderr("android.usage")?.contains("pushed "),
        "it was not pushed at first"
    );
    let again = evidence.stderr("android.storm.record")?;
    ensure!(!again.contains("pushed "), "pushed again: {again}");
    evidence.ended_with("android.target", 1)?;
    let refused = evidence.stderr("android.target")?;
    ensure!(
        refused.contains("the device is aarch64, not x86_64"),
        "another architecture is not refused: {refused}"
    );

    storm::check(evidence, "android.storm").context("storm")?;
    let run = queue::Run {
        test: "android",
        what: "freeze",
    };
    freeze::check(evidence, &run.seen(evidence, "freeze")?).context("freeze")?;

    // The recorder was killed: what it left comes as it is, and can be read.
    evidence.ended_with("android.crash.record", 128 + 9)?;
    let pulled = evidence.stderr("android.crash.record")?;
    ensure!(
        pulled.contains("pulled crash.db ") && pulled.contains("pulled crash.db-wal "),
        "not all of a crashed recording was pulled: {pulled}"
    );
    let report = evidence.json("android.crash.report")?;
    ensure!(
        report["faults"]["total"].is_u64(),
        "nothing in the crashed recording"
    );
    Ok(Outcome::Passed)
}

fn package(evidence: &Evidence<'_>) -> Result<()> {
    storm::check(evidence, "android.package")?;
    let app = evidence.truth("android.package.record", "storm")?;
    let report = evidence.json("android.package.report")?;
    for thread in queue::list(&report, "threads")? {
        ensure!(thread["tgid"] == app["pid"], "not of the app: {thread}");
    }
    Ok(())
}
