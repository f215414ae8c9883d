//! `serve` beside `demo storm` and `demo conflict`: what a scraper reads is what the kernel counted, in
//! at most as many series as are promised, from a process without privileges. A Prometheus scrapes the pages
//! again, and is asked all that dashboards and rules ask.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use guest::plan::Step;

use super::Test;
use super::conflict::{came, constructed};
use super::queue::between;
use crate::lab::evidence::{Evidence, number};
use crate::prometheus::{self, Prometheus};
use crate::step::Outcome;

pub const SERVE: Test = Test {
    name: "serve",
    full: false,
    bpftrace: false,
    steps: || vec![Step::new("serve.run", 150, &["sh", "-c", SCRIPT])],
    check,
};

/// docs/serve.md, "Cardinality".
const SERIES: usize = 500;

/// Write sections are seen with `all` only, and what-if needs them; its figures are settled every ten
/// seconds. The scenario's truth goes to stdout.
const SCRIPT: &str = "set -e
mkdir -p /out/serve
ifconfig lo 127.0.0.1 up
vmascope serve -i 500ms --mmap-lock all & pid=$!
at=http://127.0.0.1:9464
until wget -qO /dev/null $at/readyz 2>/dev/null; do kill -0 $pid; sleep 0.3; done
wget -qO /out/serve/before $at/metrics
(n=100; while sleep 1; do n=$((n + 1)); wget -qO /out/serve/page.$n $at/metrics; done) & pages=$!
vmascope demo storm --threads 3 --duration 3s
if ! vmascope demo conflict --writers 2 --others 2; then echo no conflict >&2; fi
vmascope demo inversion --delay 300ms >&2 || echo no inversion >&2
sleep 13
kill $pages
wget -qO /out/serve/after $at/metrics
cp /proc/$pid/status /out/serve/status
kill $pid
wait $pid";

type Samples = BTreeMap<String, f64>;

/// By name and labels, as they stand in the text.
fn samples(evidence: &Evidence<'_>, file: &str) -> Result<Samples> {
    let text = evidence.text(&format!("serve/{file}"))?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').context("a line without a value")?;
            Ok((name.to_owned(), value.parse()?))
        })
        .collect()
}

fn sum(samples: &Samples, start: &str) -> f64 {
    let all = samples.iter().filter(|(name, _)| name.starts_with(start));
    all.map(|(_, value)| value).sum()
}

fn check(evidence: &Evidence<'_>) -> Result<Outcome> {
    evidence.ended_with("serve.run", 0)?;
    let truth = evidence.truth("serve.run", "storm")?;
    let (before, after) = (samples(evidence, "before")?, samples(evidence, "after")?);

    let threads = truth["threads"].as_array().context("no threads")?;
    let mut kernel = 0.0;
    for thread in threads {
        kernel += (number(thread, "/minor")? + number(thread, "/major")?) as f64;
    }
    let name = "vmascope_process_faults_total{process=\"vmascope\",container=\"\"}";
    let counted =
        after.get(name).context("the storm is not shown")? - before.get(name).unwrap_or(&0.0);
    // Beside its threads the storm has a beginning and an end, and so has the other scenario.
    ensure!(
        counted >= kernel && counted < kernel * 1.1 + 20_000.0,
        "{kernel} faults by getrusage, {counted} by {name}"
    );
    for (name, was) in &before {
        let grows = ["_total", "_bucket", "_count", "_sum"];
        let grows = grows
            .iter()
            .any(|end| name.split('{').next().is_some_and(|n| n.ends_with(end)));
        // Another process may be shown in its place.
        if grows && !name.contains("process=") {
            let is = after
                .get(name)
                .with_context(|| format!("{name} has gone"))?;
            ensure!(is >= was, "{name} was {was}, is {is}");
        }
    }
    ensure!(after.len() <= SERIES, "{} series", after.len());

    let waits = sum(&after, "vmascope_mmap_lock_wait_seconds_count");
    ensure!(waits > 0.0, "no wait for mmap_lock");
    let fallbacks = sum(&after, "vmascope_fallbacks_total{");
    let policies = after
        .keys()
        .filter(|name| name.starts_with("vmascope_what_if_lost_seconds_total{"));
    if evidence.per_vma_locks() {
        ensure!(fallbacks > 0.0, "no fallback");
        let policies = policies.count();
        let met = sum(&after, "vmascope_conflicts_total{op=\"mprotect\"}");
        // Two go by the folio that a fault found, which entries of functions do not tell.
        let least = if evidence.entries_only() { 3 } else { 5 };
        ensure!(policies >= least, "no what-if");
        ensure!(met >= 2.0, "{met} conflicts of two writers");
        let grown = |name: &str| sum(&after, name) - sum(&before, name);
        what_if(evidence, grown)?;
        // As in `freeze`, which needs a loop device: of an rwsem a reader in page_mkwrite is not seen
        // there.
        let sees_writers = evidence.kernel.modules.is_some()
            && evidence.vma_writers()
            && !(evidence.entries_only() && evidence.kernel.vma_lock() == "rwsem");
        for name in ["vmascope_inversions_total", "vmascope_chains_total"] {
            ensure!(
                grown(name) > 0.0 || !sees_writers,
                "{name} has not grown by an inversion"
            );
        }
    } else {
        ensure!(
            fallbacks == 0.0,
            "fallbacks from locks that this kernel has not"
        );
    }
    let status = evidence.text("serve/status")?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.context("no CapEff")?.trim();
    ensure!(
        effective.trim_matches('0').is_empty(),
        "it kept capabilities: {effective}"
    );
    dashboards(evidence)
}

/// What holding the lock would have cost the writers of `demo conflict`, if all of them came while its
/// fault waited: those who came late are not charged as constructed.
fn what_if(evidence: &Evidence<'_>, grown: impl Fn(&str) -> f64) -> Result<()> {
    let truth = evidence.truth("serve.run", "conflict")?;
    let came = came(&truth)?;
    ensure!(*came.end() > 0, "no writer came in time");
    if came.start() != came.end() {
        return Ok(());
    }
    for what in ["lost", "amplified"] {
        let name = format!("vmascope_what_if_{what}_seconds_total{{policy=\"hold_across_io\"}}");
        let truth = constructed(&truth, &format!("{what}_ns"))?;
        between(&name, (grown(&name) * 1e9) as u64, truth)?;
    }
    Ok(())
}

/// Every query of every dashboard and rule, on what this kernel gives.
fn dashboards(evidence: &Evidence<'_>) -> Result<Outcome> {
    let dir = evidence.out.join("serve");
    let pages = (101..).map(|n| dir.join(format!("page.{n}")));
    // The last one may have been cut short.
    let mut pages: Vec<_> = pages.take_while(|page| page.exists()).collect();
    pages.pop();
    pages.push(dir.join("after"));
    let prometheus = match Prometheus::ensure() {
        Ok(prometheus) => prometheus,
        Err(why) => return Ok(Outcome::Skipped(format!("all but dashboards: {why:#}"))),
    };
    prometheus::replay(&prometheus, &pages, &dir.join("prometheus"))?;
    Ok(Outcome::Passed)
}
