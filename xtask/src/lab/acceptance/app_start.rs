//! `record --app-start`: armed before the launch, over when the app is idle. `cmd` and `am` are stand-ins
//! for Android's, and the app is a storm of its user; a storm of another user beside it does not count.

use anyhow::{Context as _, Result, ensure};
use guest::plan::Step;

use super::{Test, no_losses, storm};
use crate::lab::evidence::{Evidence, number};
use crate::step::Outcome;

pub const APP_START: Test = Test {
    name: "app-start",
    full: false,
    bpftrace: false,
    steps,
    check,
};

/// The app faults for three seconds, then sleeps, as an app that waits for a finger.
const RECORD: &str = "mkdir -p /data/system /tmp/android
echo 'org.example.app 1000 0 /data/user/0/org.example.app default none 0 0 1 @null' > /data/system/packages.list
cat > /tmp/android/cmd <<'END'
#!/bin/sh
test \"$*\" = 'package resolve-activity --brief org.example.app' || exit 1
echo 'priority=0 preferredOrder=0 match=0x108000 specificIndex=-1 isDefault=true'
echo org.example.app/.Main
END
cat > /tmp/android/am <<'END'
#!/bin/sh
echo \"$*\" >> /out/app-start.am
test $1 = start || exit 0
su user -c 'vmascope demo storm --threads 2 --duration 3s > /tmp/app.truth; exec sleep 30' > /dev/null 2>&1 &
sleep 1
printf 'Starting: Intent { cmp=org.example.app/.Main }\\nStatus: ok\\nLaunchState: COLD\\nTotalTime: 512\\nComplete\\n'
END
chmod 755 /tmp/android/*; chmod 1777 /tmp
vmascope demo storm --threads 1 --duration 4s > /dev/null &
PATH=/tmp/android:$PATH vmascope record --app-start org.example.app --min-us 1000 -o /out/app-start.db
r=$?
cat /tmp/app.truth >&2
exit $r";

fn steps() -> Vec<Step> {
    let step = |name: &str, argv: &[&str]| Step::new(&format!("app-start.{name}"), 120, argv);
    let file = "/out/app-start.db";
    let without =
        "PATH=/tmp/android:$PATH vmascope record --app-start org.example.other -o /tmp/none.db";
    vec![
        step("record", &["sh", "-c", RECORD]),
        step("report", &["vmascope", "report", file, "--format", "json"]),
        step(
            "again",
            &["vmascope", "report", file, "--format", "app-start"],
        ),
        step("without", &["sh", "-c", without]),
    ]
}

fn check(evidence: &Evidence<'_>) -> Result<Outcome> {
    evidence.ended_with("app-start.record", 0)?;
    let said = evidence.stderr("app-start.record")?;
    let truth = said.lines().find(|line| line.contains("\"scenario\""));
    let truth = serde_json::from_str(truth.context("the app told no truth")?)?;
    let report = evidence.json("app-start.report")?;
    storm::threads(&truth, &report, storm::late(evidence, &report)?)?;
    no_losses(&report)?;
    ensure!(
        said.contains("idle ") && said.contains("am start: COLD, TotalTime 512 ms"),
        "it does not say how it ended: {said}"
    );
    let seconds = number(&report, "/duration_ns")? as f64 / 1e9;
    ensure!(
        (3.0..25.0).contains(&seconds),
        "recorded for {seconds:.1} s"
    );
    let launched = evidence.text("app-start.am")?;
    ensure!(
        launched == "force-stop org.example.app\nstart -W -n org.example.app/.Main\n",
        "am was asked: {launched}"
    );
    let strangers = report["processes"]
        .as_array()
        .context("no processes")?
        .iter();
    let storms = strangers.filter(|p| p["comm"] == "vmascope").count();
    ensure!(storms == 1, "{storms} storms are in the report");

    let table = evidence.stdout("app-start.record")?;
    ensure!(
        table == evidence.stdout("app-start.again")?,
        "the report says something else"
    );
    let row = |name: &str| {
        let mut rows = table
            .lines()
            .map(|l| l.split_whitespace().collect::<Vec<_>>());
        rows.find(|r| r.first() == Some(&name))
            .with_context(|| format!("no {name} in {table}"))
    };
    // `none` where a kernel's tracepoints are not attached as asked.
    let reads = report["mmap_lock"]["read"]["acquired"].as_u64();
    let shown = row("read")?.get(1).map(|n| n.replace(',', ""));
    ensure!(
        shown == Some(reads.map_or("-".into(), |n| n.to_string())),
        "{reads:?} acquisitions, {shown:?} shown"
    );

    evidence.ended_with("app-start.without", 2)?;
    let said = evidence.stderr("app-start.without")?;
    ensure!(said.contains("no package `org.example.other`"), "{said}");
    Ok(Outcome::Passed)
}
