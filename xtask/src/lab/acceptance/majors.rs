//! How many major faults ended under `mmap_lock`, counted twice: by the profiler, and beside it by a
//! `bpftrace` script that shares nothing with it. The target is held until both are armed.

use anyhow::{Context as _, Result, ensure};
use guest::plan::Step;

use super::{Test, no_losses};
use crate::lab::evidence::{Evidence, number};
use crate::step::Outcome;

const PAGES: u64 = 200;

/// `FAULT_FLAG_VMA_LOCK` and `FAULT_FLAG_TRIED`, `VM_FAULT_MAJOR` and `VM_FAULT_RETRY`, which have
/// these values in every kernel of the matrix.
const COUNT: &str = "fexit:vmlinux:handle_mm_fault \
    /pid == PID && !(retval & 0x400) && ((retval & 0x4) || (args.flags & 0x20))/ \
    { if (args.flags & 0x1000) { @vma_lock = count(); } else { @mmap_lock = count(); } }";

/// The descriptor keeps the pipe open on both sides. A recording is there as soon as the probes are
/// armed; bpftrace starts its command when its own are.
const RUN: &str = r#"
set -e
cd /tmp
mkfifo majors.pipe
exec 3<> majors.pipe
# Threads of one real-time priority do not preempt each other: on a preemptible kernel a program that
# is preempted is skipped in the next thread, and either count would be short.
vmascope demo file --path /slow/majors --pages PAGES --threads 4 --random --fifo --hold \
    <&3 > /out/majors.truth &
pid=$!
vmascope record -p $pid --min-us 100000 -o /out/majors.db &
recorder=$!
while ! [ -e /out/majors.db ]; do kill -0 $recorder; sleep 0.1; done
cat > majors.go <<END
echo go > /tmp/majors.pipe
while kill -0 $pid && ! [ -s /out/majors.truth ]; do sleep 0.2; done
sleep 1
END
bpftrace -o /out/majors.bpftrace -c '/bin/sh /tmp/majors.go' -e "$(echo 'COUNT' | sed s/PID/$pid/)"
wait $pid
kill -INT $recorder || true
wait $recorder
"#;

pub const MAJORS: Test = Test {
    name: "majors",
    full: false,
    bpftrace: true,
    steps: || {
        let script = RUN
            .replace("PAGES", &PAGES.to_string())
            .replace("COUNT", COUNT);
        let report = ["vmascope", "report", "/out/majors.db", "--format", "json"];
        vec![
            Step::new("majors.run", 240, &["sh", "-c", &script]),
            Step::new("majors.report", 60, &report),
        ]
    },
    check,
};

fn check(evidence: &Evidence<'_>) -> Result<Outcome> {
    if !evidence.per_vma_locks() || evidence.kernel.modules.is_none() {
        let why = "only where there are VMA locks, and modules for a slow disk";
        return Ok(Outcome::Skipped(why.to_owned()));
    }
    evidence.ended_with("majors.run", 0)?;
    let report = evidence.json("majors.report")?;
    no_losses(&report)?;
    let truth: serde_json::Value = serde_json::from_str(&evidence.text("majors.truth")?)
        .context("what demo file printed is no JSON")?;
    // A preemptible kernel skips programs now and then, and says how often: each skipped run costs its
    // own fault, and at most the one it was to be told from. Without any, the difference is 0.
    let slack = 2 * number(&report, "/loss/recursion_misses")?;
    let (known, ours) = (number(&truth, "/major")?, number(&report, "/faults/major")?);
    ensure!(
        known == PAGES && ours.abs_diff(known) <= slack,
        "{PAGES} pages, {known} major faults by getrusage, {ours} in the report"
    );

    let text = evidence.text("majors.bpftrace")?;
    let count = |map: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(map));
        line.and_then(|count| count.trim().parse::<u64>().ok())
    };
    let theirs = count("@mmap_lock:").with_context(|| format!("bpftrace says {text:?}"))?;
    let path = |path: &str| number(&report, &format!("/faults/major_by_path/{path}"));
    let ended = path("retry")? + path("fallback")?;
    ensure!(
        ended.abs_diff(theirs) <= slack,
        "{ended} major faults ended on mmap_lock, bpftrace counted {theirs}"
    );
    let (vma_lock, theirs) = (path("vma_lock")?, count("@vma_lock:").unwrap_or(0));
    ensure!(
        vma_lock == theirs,
        "{vma_lock} major faults ended under the VMA lock, bpftrace counted {theirs}"
    );
    Ok(Outcome::Passed)
}
