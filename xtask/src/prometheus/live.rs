//! A real Prometheus scrapes a real daemon under a real load, and every query is asked: of all panels, of
//! all variables, of all rules and alerts. The daemon is killed once in between.
//!
//! In: dashboards, rules, the profiler. Out: findings. Two servers scrape the same daemon, one with native
//! histograms.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::api::Span;
use super::judged::Judged;
use super::queries::Dashboard;
use super::server::{NATIVE, Running, Server, free_port, now_s, start, until_ready};
use super::tool::Prometheus;
use crate::step::{Findings, Outcome};
use crate::{paths, system, toolchain};

/// Per host, as dashboards/README.md has it.
const SERIES: f64 = 500.0;
/// Each life of the daemon has one.
const STORM: &str = "7s";
/// Two scrapes, and the rules after them.
const SETTLED: Duration = Duration::from_secs(3);
pub fn check(
    prometheus: &Prometheus,
    dashboards: &[Dashboard],
    findings: &mut Findings,
) -> Result<()> {
    let program = profiler()?;
    let dir = paths::target().join("tmp/prometheus");
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    paths::make_dir(&dir)?;
    let from_s = now_s()?;
    let target = free_port()?;
    let first = daemon(&program, &dir, target)?;
    let servers = [
        Server::start(prometheus, &dir, target, "classic", "1s")?,
        Server::start(prometheus, &dir, target, NATIVE, "1s")?,
    ];
    load(&program, &dir)?;
    sleep(SETTLED);
    let killed_s = now_s()?;
    drop(first);
    let _second = daemon(&program, &dir, target)?;
    load(&program, &dir)?;
    sleep(SETTLED);
    let span = Span {
        from_s,
        to_s: now_s()?,
    };
    for server in &servers {
        let mut judged = Judged::new(server, span)?;
        judged.all(dashboards)?;
        judged.tell(findings);
        let outcome = |wrong: Result<()>| match wrong {
            Ok(()) => Outcome::Passed,
            Err(why) => Outcome::Failed(format!("{why:#}")),
        };
        let name = server.name;
        findings.push(
            format!("{name}: no counter goes down but where the daemon was killed"),
            outcome(resets(server, killed_s, 0.0).and_then(|()| resets(server, span.to_s, 1.0))),
        );
        findings.push(
            format!("{name}: histograms are {name}"),
            outcome(is_of_its_kind(server, span.to_s)),
        );
        findings.push(
            format!("{name}: what is unavailable is absent"),
            outcome(judged.absent()),
        );
    }
    let most = servers[0].api.numbers(
        "max_over_time(scrape_samples_scraped{job=\"vmascope\"}[5m])",
        span.to_s,
    )?;
    let within = !most.is_empty() && most.iter().all(|n| *n > 0.0 && *n <= SERIES);
    let name = format!("a host has at most {SERIES} series");
    let outcome = if within {
        Outcome::Passed
    } else {
        Outcome::Failed(format!("{most:?}"))
    };
    findings.push(name, outcome);
    Ok(())
}

/// As the tests of the profiler use it: nothing is built anew for this.
fn profiler() -> Result<PathBuf> {
    let mut build = toolchain::cargo()?;
    build.args(["build", "--quiet", "--package", "profiler"]);
    system::run(build.args(["--bin", "vmascope"]))?;
    Ok(paths::target().join("debug/vmascope"))
}

fn daemon(program: &Path, dir: &Path, at: SocketAddr) -> Result<Running> {
    let log = dir.join("serve.log");
    let mut command = Command::new(program);
    command.args(["serve", "--listen", &at.to_string()]);
    let mut running = start(&mut command, &log)?;
    until_ready(&mut running, at, "/readyz", &log)?;
    Ok(running)
}

/// Faults of one process beside its writer, and faults of another that wait for slow storage.
fn load(program: &Path, dir: &Path) -> Result<()> {
    let log = dir.join("demo.log");
    let mut storm = Command::new(program);
    storm.args(["demo", "storm", "--duration", STORM]);
    let mut file = Command::new(program);
    file.args(["demo", "file", "--random", "--pages", "100"]);
    let mut all = vec![start(&mut storm, &log)?];
    // Slow storage is a file system of ours, which containers may not have.
    if Path::new("/dev/fuse").exists() {
        all.push(start(&mut file, &log)?);
    }
    for running in &mut all {
        let status = running.0.wait()?;
        ensure!(status.success(), "a stimulus failed: see {}", log.display());
    }
    Ok(())
}

/// The daemon is killed with its counters high: each counter begins anew then, and at no other time.
fn resets(server: &Server, at_s: f64, restarts: f64) -> Result<()> {
    let names = server.api.names("__name__", "{job=\"vmascope\"}")?;
    let counts = |name: &&String| {
        ["_total", "_count", "_sum", "_bucket"]
            .iter()
            .any(|end| name.ends_with(end))
            // Native histograms have no suffix.
            || (name.starts_with("vmascope_") && name.ends_with("_seconds"))
    };
    let names: Vec<&String> = names.iter().filter(counts).collect();
    let faults = "vmascope_faults_total";
    ensure!(names.iter().any(|n| *n == faults), "no {faults}");
    for name in names {
        let query = format!("max(resets({name}{{job=\"vmascope\"}}[10m]))");
        let found = server.api.numbers(&query, at_s)?;
        // Those that come with their first event may have come later.
        let most = found.first().copied().unwrap_or(0.0);
        ensure!(most <= restarts, "{name} went down {most} times");
    }
    let found = server
        .api
        .numbers(&format!("max(resets({faults}[10m]))"), at_s)?;
    ensure!(
        found == [restarts],
        "{faults} began anew {found:?} times, the daemon {restarts}"
    );
    Ok(())
}

/// Else two servers would show the same thing twice.
fn is_of_its_kind(server: &Server, at_s: f64) -> Result<()> {
    let has = |query: &str| Ok::<_, anyhow::Error>(!server.api.numbers(query, at_s)?.is_empty());
    let native = has("histogram_count(vmascope_fault_duration_seconds)")?;
    let classic = has("vmascope_fault_duration_seconds_bucket")?;
    ensure!(
        (native, classic) == (server.name == NATIVE, server.name != NATIVE),
        "native: {native}, classic: {classic}"
    );
    Ok(())
}
