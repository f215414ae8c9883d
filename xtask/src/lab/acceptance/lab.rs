//! Tests of the lab itself: without them a green table would prove little.

use std::path::Path;

use anyhow::{Result, bail};
use guest::plan::Step;

use super::Test;
use crate::lab::evidence::Evidence;
use crate::step::Outcome;

/// The guest runs the kernel that was asked for.
pub const UNAME: Test = Test {
    name: "uname",
    full: false,
    bpftrace: false,
    steps: || vec![Step::new("uname.run", 30, &["uname", "-rm"])],
    check: |evidence| {
        evidence.ended_with("uname.run", 0)?;
        let said = evidence.stdout("uname.run")?;
        let kernel = evidence.kernel;
        let wanted = (format!("{}.", kernel.series), kernel.arch.name());
        match said.trim().split_once(' ') {
            Some((release, machine)) if release.starts_with(&wanted.0) && machine == wanted.1 => {
                Ok(Outcome::Passed)
            }
            _ => bail!(
                "the guest is {}, not {} on {}",
                said.trim(),
                wanted.0,
                wanted.1
            ),
        }
    },
};

/// The scratch disk takes data and gives it back.
pub const DISK: Test = Test {
    name: "disk",
    full: false,
    bpftrace: false,
    steps: || {
        let script = "set -e; grep -q ' /data ext4 ' /proc/mounts; \
                      dd if=/dev/urandom of=/data/a bs=64k count=16 2>/dev/null; sync; \
                      echo 3 > /proc/sys/vm/drop_caches; cmp /data/a /data/a; mkdir /out/disk; \
                      cp /data/a /out/disk/copy; md5sum < /data/a; rm /data/a";
        vec![Step::new("disk.run", 60, &["sh", "-c", script])]
    },
    check: |evidence| {
        evidence.ended_with("disk.run", 0)?;
        let copy = evidence.out.join("disk/copy");
        let wanted = evidence.stdout("disk.run")?;
        let sum = crate::system::output(std::process::Command::new("md5sum").arg(&copy))?;
        let digest = |text: &str| text.split_whitespace().next().map(str::to_owned);
        if digest(&sum) != digest(&wanted) {
            bail!("a file changed on its way from the guest to the host");
        }
        Ok(Outcome::Passed)
    },
};

/// Exit codes, signals, timeouts, users and background steps are told as they are.
pub const RUNNER: Test = Test {
    name: "runner",
    full: false,
    bpftrace: false,
    steps: runner_steps,
    check: runner_check,
};

fn runner_steps() -> Vec<Step> {
    let sh = |name: &str, limit: u64, script: &str| Step::new(name, limit, &["sh", "-c", script]);
    let mut background = sh(
        "runner.background",
        60,
        "trap 'exit 5' TERM; while :; do sleep 0.1; done",
    );
    background.background = true;
    let mut user = sh("runner.user", 30, "id -u; exec cat /proc/1/environ");
    user.uid = 1000;
    vec![
        background,
        sh("runner.code", 30, "echo out; echo err >&2; exit 3"),
        sh("runner.signal", 30, "kill -KILL $$"),
        sh("runner.hang", 1, "sleep 100 & exec sleep 101"),
        sh("runner.killed", 30, "pidof sleep; pidof sh"),
        user,
        Step::new("runner.absent", 30, &["/no/such/program"]),
        Step::new("runner.data", 30, &["/etc/passwd"]),
    ]
}

fn runner_check(evidence: &Evidence<'_>) -> Result<Outcome> {
    for (step, code) in [
        ("runner.background", 5),
        ("runner.code", 3),
        ("runner.signal", 137),
        ("runner.absent", 127),
        ("runner.data", 126),
        ("runner.user", 1),
    ] {
        evidence.ended_with(step, code)?;
    }
    let same = |file: &str, wanted: &str| match evidence.text(file)? {
        text if text == wanted => Ok(()),
        text => bail!("{file} holds {text:?}, not {wanted:?}"),
    };
    same("runner.code.stdout", "out\n")?;
    same("runner.code.stderr", "err\n")?;
    same("runner.user.stdout", "1000\n")?;
    let hang = evidence.result("runner.hang")?;
    if !hang.timed_out || hang.duration_ms < 1000 {
        bail!("a step that hangs was not killed for it: {hang:?}");
    }
    if !evidence.text("runner.hang.hang")?.contains("sleep") {
        bail!("no trace of where a step hung");
    }
    // The background step is a shell that sleeps; the two sleeps of the hanging one are gone.
    let left = evidence.stdout("runner.killed")?;
    if left
        .lines()
        .next()
        .is_some_and(|pids| pids.split(' ').count() > 1)
    {
        bail!("a step that was killed left processes behind: {left:?}");
    }
    if Path::new(&evidence.out.join("runner.absent.stdout"))
        .metadata()?
        .len()
        > 0
    {
        bail!("a program that is not there said something");
    }
    Ok(Outcome::Passed)
}
