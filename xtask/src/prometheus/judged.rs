//! What queries come to. In: dashboards, and a Prometheus that has scraped. Out: findings: every query has
//! data, unless the daemon itself says that this kernel cannot give it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};

use super::api::{Answer, Span, judge};
use super::queries::{Dashboard, Values, fill, metrics, without_bounds};
use super::server::Server;
use crate::step::{Findings, Outcome};

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
/// Series of these come with their first event.
const EVENTS: [&str; 2] = ["vmascope_vma_write_blocked_", "vmascope_conflicts_"];
/// Asked for only where there are VMA locks to fall back from.
const FALLBACKS: [&str; 2] = ["path=\"fallback\"", "vmascope_fallbacks:"];
/// What Grafana would fill in; on a busy machine scrapes are late.
const WINDOWS: [(&str, &str); 2] = [("__rate_interval", "10s"), ("__range", "60s")];

/// What all queries of one server came to.
pub struct Judged<'a> {
    server: &'a Server,
    span: Span,
    unavailable: BTreeSet<String>,
    /// Names of metrics.
    present: BTreeSet<String>,
    vma_locks: bool,
    /// Queries with data, by dashboard or file of rules.
    good: BTreeMap<String, usize>,
    bad: BTreeMap<String, Vec<String>>,
    /// Places, by why.
    skipped: BTreeMap<String, Vec<String>>,
}

impl<'a> Judged<'a> {
    pub fn new(server: &'a Server, span: Span) -> Result<Self> {
        let unavailable = "vmascope_signal_quality{quality=\"unavailable\"}";
        let names = server.api.names("signal", unavailable)?;
        let present = server.api.names("__name__", "{job=\"vmascope\"}")?;
        let designs = server.api.names("vma_lock", "vmascope_build_info")?;
        Ok(Self {
            vma_locks: designs != ["none"],
            server,
            span,
            unavailable: names.into_iter().collect(),
            present: present.into_iter().collect(),
            good: BTreeMap::new(),
            bad: BTreeMap::new(),
            skipped: BTreeMap::new(),
        })
    }

    pub fn all(&mut self, dashboards: &[Dashboard]) -> Result<()> {
        for board in dashboards {
            let whose = || format!("dashboard {}", board.name);
            self.dashboard(board).with_context(whose)?;
        }
        self.rules()
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
        let (wrong, excuse) = match data.map(|data| judge(&data)) {
            Ok(Answer::Data) => {
                *self.good.entry(whose.to_owned()).or_default() += 1;
                return;
            }
            Ok(Answer::Nothing) => ("no data".to_owned(), self.excuse(expr)),
            Ok(Answer::NoNumber) => ("no number in the data".to_owned(), self.empty(expr)),
            Err(why) => (format!("{why:#}"), None),
        };
        if let Some(why) = excuse {
            let places = self.skipped.entry(why).or_default();
            places.push(place.to_owned());
        } else {
            let all = self.bad.entry(whose.to_owned()).or_default();
            all.push(format!("{place}: {wrong}: {expr}"));
        }
    }

    /// Why a query may have no data: by what the daemon says, not by what is usual.
    fn excuse(&self, expr: &str) -> Option<String> {
        if !self.vma_locks && FALLBACKS.iter().any(|part| expr.contains(part)) {
            return Some("this kernel has no per-VMA locks".to_owned());
        }
        metrics(expr).into_iter().find_map(|name| {
            let signal = signal_of(name).filter(|s| self.unavailable.contains(*s));
            let signal = signal.map(|s| format!("{s} is unavailable on this kernel"));
            let is_event = EVENTS.iter().any(|event| name.starts_with(event));
            let none = is_event && !self.present.contains(name);
            signal.or_else(|| none.then(|| format!("{name} has had no event")))
        })
    }

    /// Why a query may have no number: a quantile of nothing is none.
    fn empty(&self, expr: &str) -> Option<String> {
        let (api, at_s) = (&self.server.api, self.span.to_s);
        metrics(expr).into_iter().find_map(|name| {
            let name = name.strip_suffix("_bucket")?;
            let count = format!("sum({name}_count) or histogram_count(sum({name}))");
            let none = api.numbers(&count, at_s).ok()? == [0.0];
            none.then(|| format!("{name} has had no event"))
        })
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

    pub fn tell(&self, findings: &mut Findings) {
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
        for (why, places) in &self.skipped {
            let what = format!("{} queries", places.len());
            let why = format!("{why}: {}", places.join(", "));
            let skipped = (what, Outcome::Skipped(why));
            // The same of both servers is told once.
            if !findings.checks.contains(&skipped) {
                findings.checks.push(skipped);
            }
        }
        let outcome = match self.tells_most() {
            Ok(()) => Outcome::Passed,
            Err(why) => Outcome::Failed(format!("{why:#}")),
        };
        findings.push(format!("{name}: most queries have data"), outcome);
    }

    /// Else a daemon that tells nothing would pass.
    fn tells_most(&self) -> Result<()> {
        let good: usize = self.good.values().sum();
        let skipped: usize = self.skipped.values().map(Vec::len).sum();
        ensure!(good > skipped, "{skipped} are skipped, {good} have data");
        Ok(())
    }

    /// The first thing that is wrong.
    pub fn verdict(&self) -> Result<()> {
        if let Some(wrong) = self.bad.values().flatten().next() {
            let more = self.bad.values().map(Vec::len).sum::<usize>() - 1;
            bail!("{wrong} (and {more} more)");
        }
        self.tells_most()?;
        self.absent()
    }

    /// Never 0 where nothing is known.
    pub fn absent(&self) -> Result<()> {
        let names = &self.present;
        ensure!(names.len() > 30, "only {} metrics", names.len());
        let known = |name: &&String| signal_of(name).is_some_and(|s| self.unavailable.contains(s));
        let false_zeros: Vec<&String> = names.iter().filter(known).collect();
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
