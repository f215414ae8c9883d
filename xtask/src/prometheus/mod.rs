//! Dashboards, rules and the daemon before judges of other make: Debian's Prometheus and promtool, and
//! Grafana's schema.
//!
//! In: `dashboards/`, and the profiler's program. Out: findings; a judge that cannot be had on this
//! machine is a skipped check, with the reason.

mod api;
mod judged;
mod live;
mod queries;
mod replay;
mod server;
mod tool;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::step::{Findings, Outcome};
use crate::{paths, python, system};
use queries::Dashboard;
pub use replay::replay;
pub use tool::Prometheus;

/// Grafana's own types of a dashboard, made from its schema.
const SCHEMA: python::Packages = python::Packages {
    wanted: &["grafana-foundation-sdk==0.0.21"],
    module: "grafana_foundation_sdk.models.dashboard",
    what: "Grafana's schema",
};

pub fn check() -> Result<Findings> {
    let mut findings = schema()?;
    let prometheus = match Prometheus::ensure() {
        Ok(prometheus) => prometheus,
        Err(why) => {
            findings.push("prometheus", Outcome::Skipped(format!("{why:#}")));
            return Ok(findings);
        }
    };
    promtool(&prometheus, &mut findings);
    if system::is_root() {
        live::check(&prometheus, &dashboards()?, &mut findings)?;
    } else {
        let why = "the profiler needs root: run it with sudo".to_owned();
        findings.push("queries", Outcome::Skipped(why));
    }
    Ok(findings)
}

fn folder() -> PathBuf {
    paths::root().join("dashboards")
}

fn files() -> Result<Vec<PathBuf>> {
    let dir = folder().join("grafana");
    let mut found = Vec::new();
    let entries = fs::read_dir(&dir);
    for entry in entries.with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "json") {
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() {
        bail!("no dashboard in {}", dir.display());
    }
    Ok(found)
}

fn dashboards() -> Result<Vec<Dashboard>> {
    files()?.iter().map(|path| Dashboard::read(path)).collect()
}

fn schema() -> Result<Findings> {
    let files = files()?;
    let python = match SCHEMA.python() {
        Ok(python) => python,
        Err(why) => {
            let skipped = Outcome::Skipped(format!("{why:#}"));
            return Ok(Findings::one("dashboards have Grafana's schema", skipped));
        }
    };
    let mut check = Command::new(python);
    check.arg(paths::root().join("xtask/check-grafana.py"));
    python::judge(check.args(files), "dashboards are checked", "")
}

fn promtool(prometheus: &Prometheus, findings: &mut Findings) {
    for (name, arguments) in [
        (
            "promtool: configuration and rules",
            ["check", "config", "scrape.yml"],
        ),
        (
            "promtool: tests of the rules",
            ["test", "rules", "rules_test.yml"],
        ),
    ] {
        let mut command = prometheus.promtool();
        command
            .current_dir(folder().join("prometheus"))
            .args(arguments);
        let outcome = match system::output_or_all_errors(&mut command) {
            Ok(_) => Outcome::Passed,
            Err(why) => Outcome::Failed(format!("{why:#}")),
        };
        findings.push(name, outcome);
    }
}
