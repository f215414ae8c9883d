//! A real Prometheus scrapes a real daemon under a real load, and every query is asked: of all panels, of
//! all variables, of all rules and alerts. The daemon is killed once in between.
//!
//! In: dashboards, rules, the profiler. Out: findings. Two servers scrape the same daemon, one with native
//! histograms. A query for a signal that this kernel cannot give is skipped, by the daemon's own word.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};

use super::api::{Answer, Api, Span, get, judge};
use super::folder;
use super::queries::{Dashboard, Values, fill, metrics, without_bounds};
use super::tool::Prometheus;
use crate::step::{Findings, Outcome};
use crate::{paths, system, toolchain};

/// Metrics that a kernel may be unable to give, and the signal that tells. Such a metric is absent.
const SIGNALS: [(&str, &str); 12] = [
    ("vmascope_faults_by_kind_", "fault_kind"),
    ("vmascope_fallbacks_total", "fallback_reason"),
    ("vmascope_retries_total", "retry_reason"),
    ("vmascope_held_waits_", "held_wait"),
    ("vmascope_mmap_lock_acquired_", "mmap_lock_acquired"),
    ("vmascope_mmap_lock_hold_", "mmap_lock_hold"),
    ("vmascope_vma_write_", "vma_write_wait"),
    (
        "instance:vmascope_vma_write_waiting:avg5m",
        "vma_write_wait",
    ),
    ("vmascope_process_vma_write_", "vma_write_wait"),
    ("vmascope_windows_", "windows"),
    ("vmascope_conflicts_", "windows"),
    ("vmascope_what_if_", "what_if"),
];
/// Per host, as dashboards/README.md has it.
const SERIES: f64 = 500.0;
const PATIENCE: Duration = Duration::from_secs(30);
/// Each life of the daemon has one.
const STORM: &str = "7s";
/// Two scrapes, and the rules after them.
const SETTLED: Duration = Duration::from_secs(3);
/// What Grafana would fill in for a scrape interval of a second.
const WINDOWS: [(&str, &str); 2] = [("__rate_interval", "4s"), ("__range", "60s")];

/// A process of ours, which ends with us.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Server {
    name: &'static str,
    api: Api,
    _running: Running,
}

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
        server(prometheus, &dir, target, "classic", &[])?,
        server(
            prometheus,
            &dir,
            target,
            "native",
            &["--enable-feature=native-histograms"],
        )?,
    ];
    load(&program, &dir)?;
    sleep(SETTLED);
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
        for dashboard in dashboards {
            judged
                .dashboard(dashboard)
                .with_context(|| format!("dashboard {}", dashboard.name))?;
        }
        judged.rules()?;
        judged.tell(findings);
        let outcome = |wrong: Result<()>| match wrong {
            Ok(()) => Outcome::Passed,
            Err(why) => Outcome::Failed(format!("{why:#}")),
        };
        let name = server.name;
        findings.push(
            format!("{name}: no counter goes down but where the daemon was killed"),
            outcome(resets(server, span.to_s)),
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

fn now_s() -> Result<f64> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Ok(now.context("this machine's clock is wrong")?.as_secs_f64())
}

/// Free a moment ago.
fn free_port() -> Result<SocketAddr> {
    let any = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(any.local_addr()?)
}

fn start(command: &mut Command, log: &Path) -> Result<Running> {
    let log = File::options().create(true).append(true).open(log)?;
    let child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", system::show(command)))?;
    Ok(Running(child))
}

fn until_ready(running: &mut Running, at: SocketAddr, path: &str, log: &Path) -> Result<()> {
    let begin = Instant::now();
    loop {
        if get(at, path).is_ok() {
            return Ok(());
        }
        let ended = running.0.try_wait()?;
        if ended.is_some() || begin.elapsed() > PATIENCE {
            let said = fs::read_to_string(log).unwrap_or_default();
            let last = said.trim().lines().last().unwrap_or("it said nothing");
            bail!("no answer from {at}: {last}");
        }
        sleep(Duration::from_millis(50));
    }
}

fn daemon(program: &Path, dir: &Path, at: SocketAddr) -> Result<Running> {
    let log = dir.join("serve.log");
    let mut command = Command::new(program);
    command.args(["serve", "--listen", &at.to_string()]);
    let mut running = start(&mut command, &log)?;
    until_ready(&mut running, at, "/readyz", &log)?;
    Ok(running)
}

/// With the project's own configuration, only faster.
fn server(
    prometheus: &Prometheus,
    dir: &Path,
    target: SocketAddr,
    name: &'static str,
    options: &[&str],
) -> Result<Server> {
    let dir = dir.join(name);
    paths::make_dir(&dir)?;
    for rules in ["rules.yml", "alerts.yml"] {
        fs::copy(folder().join("prometheus").join(rules), dir.join(rules))?;
    }
    let config = fs::read_to_string(folder().join("prometheus/scrape.yml"))?;
    let mut fast = config.clone();
    for (usual, ours) in [
        ("scrape_interval: 15s", "scrape_interval: 1s"),
        ("evaluation_interval: 15s", "evaluation_interval: 1s"),
        ("127.0.0.1:9464", &target.to_string()),
    ] {
        ensure!(config.contains(usual), "scrape.yml has no {usual:?}");
        fast = fast.replace(usual, ours);
    }
    fs::write(dir.join("prometheus.yml"), fast)?;
    let at = free_port()?;
    let log = dir.join("log");
    let mut command = prometheus.server();
    command
        .current_dir(&dir)
        .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
        .arg(format!("--web.listen-address={at}"))
        .args(options);
    let mut running = start(&mut command, &log)?;
    until_ready(&mut running, at, "/-/ready", &log)?;
    Ok(Server {
        name,
        api: Api { at },
        _running: running,
    })
}

/// Faults of one process beside its writer, and faults of another that wait for slow storage.
fn load(program: &Path, dir: &Path) -> Result<()> {
    let log = dir.join("demo.log");
    let mut storm = Command::new(program);
    storm.args(["demo", "storm", "--duration", STORM]);
    let mut file = Command::new(program);
    file.args(["demo", "file", "--random", "--pages", "100"]);
    let mut both = [start(&mut storm, &log)?, start(&mut file, &log)?];
    for running in &mut both {
        let status = running.0.wait()?;
        ensure!(status.success(), "a stimulus failed: see {}", log.display());
    }
    Ok(())
}

/// What all queries of one server came to.
struct Judged<'a> {
    server: &'a Server,
    span: Span,
    unavailable: BTreeSet<String>,
    /// Queries with data, by dashboard or file of rules.
    good: BTreeMap<String, usize>,
    bad: BTreeMap<String, Vec<String>>,
    /// Places by the signal that is missing.
    skipped: BTreeMap<&'static str, Vec<String>>,
}

impl<'a> Judged<'a> {
    fn new(server: &'a Server, span: Span) -> Result<Self> {
        let unavailable = "vmascope_signal_quality{quality=\"unavailable\"}";
        let names = server.api.names("signal", unavailable)?;
        Ok(Self {
            server,
            span,
            unavailable: names.into_iter().collect(),
            good: BTreeMap::new(),
            bad: BTreeMap::new(),
            skipped: BTreeMap::new(),
        })
    }

    fn dashboard(&mut self, board: &Dashboard) -> Result<()> {
        let windows = WINDOWS.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut values = Values::from(windows);
        for variable in &board.variables {
            let selector = fill(&variable.selector, &values)?;
            let mut found = self.server.api.names(&variable.label, &selector)?;
            ensure!(!found.is_empty(), "variable {} is empty", variable.name);
            found.truncate(if variable.multi { usize::MAX } else { 1 });
            // Names of processes may hold what means something in a pattern.
            let escaped = found.iter().map(|value| regex_quoted(value));
            let value = if variable.multi {
                escaped.collect::<Vec<_>>().join("|")
            } else {
                found.remove(0)
            };
            values.insert(variable.name.clone(), value);
        }
        for query in &board.queries {
            let expr = fill(&query.expr, &values)?;
            self.query(&board.name, &query.place, &expr, query.instant);
        }
        Ok(())
    }

    fn query(&mut self, whose: &str, place: &str, expr: &str, instant: bool) {
        let api = &self.server.api;
        let data = if instant {
            api.instant(expr, self.span.to_s)
        } else {
            api.range(expr, self.span)
        };
        let answer = data.map(|data| judge(&data));
        let wrong = match answer {
            Ok(Answer::Data) => {
                *self.good.entry(whose.to_owned()).or_default() += 1;
                return;
            }
            Ok(Answer::Nothing) => {
                let names = metrics(expr);
                let missing = names.iter().find_map(|name| {
                    let signal = signal_of(name)?;
                    self.unavailable.contains(signal).then_some(signal)
                });
                if let Some(signal) = missing {
                    let places = self.skipped.entry(signal).or_default();
                    places.push(place.to_owned());
                    return;
                }
                "no data".to_owned()
            }
            Ok(Answer::NoNumber) => "no number in the data".to_owned(),
            Err(why) => format!("{why:#}"),
        };
        let all = self.bad.entry(whose.to_owned()).or_default();
        all.push(format!("{place}: {wrong}: {expr}"));
    }

    /// As Prometheus has loaded them: all that are in the files, each evaluated.
    fn rules(&mut self) -> Result<()> {
        let data = self.server.api.get("rules", &[])?;
        let groups = data["groups"].as_array().context("no groups")?;
        let mut seen = 0;
        for group in groups {
            let file = group["file"].as_str().unwrap_or_default();
            let file = file.rsplit('/').next().unwrap_or_default();
            for rule in group["rules"].as_array().into_iter().flatten() {
                seen += 1;
                let name = rule["name"].as_str().unwrap_or_default();
                let expr = rule["query"].as_str().unwrap_or_default();
                let place = format!("{file} / {name}");
                if rule["health"] == "ok" {
                    self.query(file, &place, &without_bounds(expr), true);
                } else {
                    let all = self.bad.entry(file.to_owned()).or_default();
                    all.push(format!("{place}: {} {}", rule["health"], rule["lastError"]));
                }
            }
        }
        ensure!(seen > 0, "no rules were loaded");
        Ok(())
    }

    fn tell(&self, findings: &mut Findings) {
        let name = self.server.name;
        let all: BTreeSet<&String> = self.good.keys().chain(self.bad.keys()).collect();
        for whose in all {
            let good = self.good.get(whose).copied().unwrap_or(0);
            let outcome = match self.bad.get(whose) {
                None => Outcome::Passed,
                Some(wrong) => Outcome::Failed(wrong.join("; ")),
            };
            findings.push(
                format!("{name}: {whose}: {good} queries have data"),
                outcome,
            );
        }
        for (signal, places) in &self.skipped {
            let what = format!("{} queries that need {signal}", places.len());
            let why = format!("unavailable on this kernel: {}", places.join(", "));
            let skipped = (what, Outcome::Skipped(why));
            // The same of both servers is told once.
            if !findings.checks.contains(&skipped) {
                findings.checks.push(skipped);
            }
        }
        let good: usize = self.good.values().sum();
        let skipped: usize = self.skipped.values().map(Vec::len).sum();
        // Else a daemon that tells nothing would pass.
        let outcome = if good > skipped {
            Outcome::Passed
        } else {
            Outcome::Failed(format!("{skipped} are skipped, {good} have data"))
        };
        findings.push(format!("{name}: most queries have data"), outcome);
    }

    /// Never 0 where nothing is known.
    fn absent(&self) -> Result<()> {
        let names = self.server.api.names("__name__", "{job=\"vmascope\"}")?;
        ensure!(names.len() > 30, "only {} metrics", names.len());
        let false_zeros: Vec<&String> = names
            .iter()
            .filter(|name| signal_of(name).is_some_and(|s| self.unavailable.contains(s)))
            .collect();
        ensure!(false_zeros.is_empty(), "{false_zeros:?}");
        Ok(())
    }
}

fn signal_of(metric: &str) -> Option<&'static str> {
    let found = SIGNALS.iter().find(|(name, _)| metric.starts_with(name));
    found.map(|(_, signal)| *signal)
}

/// As Grafana quotes a value within a pattern, and a pattern within a string.
fn regex_quoted(value: &str) -> String {
    let mut quoted = String::new();
    for c in value.chars() {
        if !c.is_alphanumeric() && !" _-:/".contains(c) {
            quoted.push_str("\\\\");
        }
        quoted.push(c);
    }
    quoted
}

/// The daemon was killed once, with its counters high: each counter begins anew at most once.
fn resets(server: &Server, at_s: f64) -> Result<()> {
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
        ensure!(!found.is_empty(), "{name} cannot be asked for");
        ensure!(found[0] <= 1.0, "{name} went down {} times", found[0]);
    }
    let query = format!("resets({faults}{{path=\"vma_lock\"}}[10m])");
    let restarts = server.api.numbers(&query, at_s)?;
    ensure!(
        restarts == [1.0],
        "{faults} began anew {restarts:?} times, the daemon once"
    );
    Ok(())
}

/// Else two servers would show the same thing twice.
fn is_of_its_kind(server: &Server, at_s: f64) -> Result<()> {
    let has = |query: &str| Ok::<_, anyhow::Error>(!server.api.numbers(query, at_s)?.is_empty());
    let native = has("histogram_count(vmascope_fault_duration_seconds)")?;
    let classic = has("vmascope_fault_duration_seconds_bucket")?;
    ensure!(
        (native, classic) == (server.name == "native", server.name == "classic"),
        "native: {native}, classic: {classic}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_in_patterns() {
        assert_eq!(regex_quoted("a.b (c) 1:2"), "a\\\\.b \\\\(c\\\\) 1:2");
    }

    #[test]
    fn metrics_have_signals() {
        assert_eq!(
            signal_of("vmascope_what_if_lost_seconds_total"),
            Some("what_if")
        );
        assert_eq!(signal_of("vmascope_faults_total"), None);
    }
}
