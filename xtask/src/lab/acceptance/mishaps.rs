//! What happens to a run: a processor goes and comes back, the recorder stands still, a target is killed.
//! Each time a storm goes on, whose threads know their faults; nothing wrong is reported, losses are.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    Test, no_losses,
    recorded::{recorded, recorded_by},
    storm,
};
use crate::lab::evidence::{Evidence, field, number};
use crate::step::Outcome;

/// The recorder's end is the step's.
const PLUG: &str = "cpu=/sys/devices/system/cpu/cpu1/online
vmascope record --min-us 1000 -o /out/hotplug.db -- vmascope demo storm --threads 3 --duration 8s &
r=$!
fds() { echo \"open files $1: $(ls /proc/$r/fd | wc -l)\" >&2; }
while ! [ -e /out/hotplug.db ]; do sleep 0.1; done; sleep 1; fds before
for i in 1 2; do
    echo 0 > $cpu && echo gone: $(cat /sys/devices/system/cpu/online) >&2; sleep 1
    echo 1 > $cpu && echo back: $(cat /sys/devices/system/cpu/online) >&2; sleep 1.2
done; fds after
wait $r";

const STOP: &str = "
vmascope record --min-us 1000 -o /out/sigstop.db -- vmascope demo storm --threads 3 --duration 8s &
r=$!
while ! [ -e /out/sigstop.db ]; do sleep 0.1; done; sleep 1
kill -STOP $r; sleep 5; kill -CONT $r
wait $r";

/// `time` gives the kernel's own count of the storm that is killed.
const KILL: &str = "
time -v vmascope demo storm --threads 2 --duration 60s & t=$!
vmascope demo storm --threads 2 --duration 4s & s=$!
sleep 2
for p in $(pidof vmascope); do
    tr '\\0' ' ' < /proc/$p/cmdline | grep -q '^vmascope demo .* 60s' && kill -KILL $p
done
wait $t
wait $s";

const STOPPED_S: f64 = 4.5;

pub const HOTPLUG: Test = Test {
    name: "hotplug",
    full: false,
    bpftrace: false,
    steps: || recorded_by("hotplug", 180, &["sh", "-c", PLUG]),
    check: hotplug,
};

pub const SIGSTOP: Test = Test {
    name: "sigstop",
    full: false,
    bpftrace: false,
    steps: || recorded_by("sigstop", 180, &["sh", "-c", STOP]),
    check: sigstop,
};

pub const DIES: Test = Test {
    name: "dies",
    full: false,
    bpftrace: false,
    steps: || recorded("dies", 180, &["--min-us", "1000"], &["sh", "-c", KILL]),
    check: dies,
};

/// The storm's threads by their own clocks, and the whole by the kernel's.
fn adds_up(evidence: &Evidence<'_>, test: &str) -> Result<Value> {
    let truth = evidence.truth(&format!("{test}.record"), "storm")?;
    let report = evidence.json(&format!("{test}.report"))?;
    let skipped = number(&report, "/loss/recursion_misses")?;
    storm::threads(&truth, &report, skipped)?;
    evidence.ended_with(&format!("{test}.export"), 0)?;
    let rows = evidence.rows(&format!("{test}/fault_paths.csv"))?;
    let by_interval = rows.iter().map(|row| field(row, "count"));
    let by_interval = by_interval.sum::<Result<u64>>()?;
    let total = number(&report, "/faults/total")?;
    ensure!(
        by_interval == total,
        "{by_interval} faults by interval, {total} in all"
    );
    Ok(report)
}

fn hotplug(evidence: &Evidence<'_>) -> Result<Outcome> {
    let said = evidence.stderr("hotplug.record")?;
    let (gone, back) = (
        said.matches("gone: 0\n").count(),
        said.matches("back: 0-1\n").count(),
    );
    if said.contains("cpu1/online: nonexistent directory")
        || said.contains("Operation not supported")
    {
        return Ok(Outcome::Skipped(
            "no processor of this kernel can go".into(),
        ));
    }
    ensure!(
        (gone, back) == (2, 2),
        "a processor went {gone} times and came back {back} times"
    );
    let files = |when| {
        let told = said.split(&format!("open files {when}: ")).nth(1)?;
        told.lines().next()?.trim().parse::<u32>().ok()
    };
    let before = files("before").context("no count of open files before")?;
    let after = files("after").context("no count of open files after")?;
    // Two are open for a moment, now and then; a processor's software events are two.
    ensure!(
        after < before + 2 * back as u32,
        "{before} open files before, {after} after a processor came back {back} times"
    );
    let mut report = adds_up(evidence, "hotplug")?;
    if evidence.entries_only() {
        // Software events end with their CPU. Until its own are back faults have no end: they are told as
        // lost, or missed.
        let most = number(&report, "/faults/total")? / 20;
        for told in ["/loss/unmatched_exit", "/cross_check/threads/difference"] {
            let told = report.pointer_mut(told).context("not told")?;
            let count = told.as_i64().unwrap_or(i64::MAX).unsigned_abs();
            ensure!(count < most, "{count} faults had no end");
            *told = 0.into();
        }
    }
    no_losses(&report)?;
    Ok(Outcome::Passed)
}

fn sigstop(evidence: &Evidence<'_>) -> Result<Outcome> {
    let mut report = adds_up(evidence, "sigstop")?;
    // Events come faster than the ring has room for five seconds of them; that much is told.
    let ring_full = report.pointer_mut("/loss/ring_full");
    *ring_full.context("no loss ring_full")? = 0.into();
    no_losses(&report)?;
    let intervals = evidence.rows("sigstop/intervals.csv")?;
    let mut longest = 0;
    let mut last = 0;
    for row in &intervals {
        let now = field(row, "since_armed_ns")?;
        longest = longest.max(now.saturating_sub(last));
        last = now;
    }
    let longest = longest as f64 / 1e9;
    ensure!(
        longest > STOPPED_S,
        "the longest interval is of {longest:.1} s: nobody stood still"
    );
    Ok(Outcome::Passed)
}

fn dies(evidence: &Evidence<'_>) -> Result<Outcome> {
    let report = adds_up(evidence, "dies")?;
    no_losses(&report)?;
    let pid = number(&evidence.truth("dies.record", "storm")?, "/pid")?;
    let said = evidence.stderr("dies.record")?;
    ensure!(
        said.contains("terminated by signal 9"),
        "nothing was killed"
    );
    let kernel = ["Minor (reclaiming a frame)", "Major (requiring I/O)"].map(|kind| {
        let line = said.lines().find(|line| line.contains(kind));
        let (_, count) = line
            .context("time told nothing")?
            .rsplit_once(' ')
            .context("odd")?;
        count.parse::<u64>().context("no count")
    });
    let [minor, major] = kernel;
    let threads = report["threads"].as_array().context("no threads")?;
    let faulter = threads
        .iter()
        .find(|t| t["comm"] == "storm-faulter" && t["tgid"] != pid);
    let killed = &faulter.context("the storm that was killed is not in the report")?["tgid"];
    let of_it: Vec<_> = threads.iter().filter(|t| t["tgid"] == *killed).collect();
    ensure!(of_it.len() == 4, "it had four threads, not {}", of_it.len());
    for (what, kernel) in [("minor", minor?), ("major", major?)] {
        let ours: u64 = of_it.iter().filter_map(|t| t[what].as_u64()).sum();
        ensure!(
            ours == kernel,
            "it had {kernel} {what} faults, {ours} were counted"
        );
    }
    ensure!(
        of_it.iter().all(|t| t["exited"] == true),
        "a thread that was killed lives on"
    );
    Ok(Outcome::Passed)
}
