//! Python packages that judge what we make: each in a private environment in the cache.
//!
//! In: the packages, and a module that shows whether they are there. Out: a Python that has them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::paths;
use crate::step::{Findings, Outcome};
use crate::system::{self, Need};

pub struct Packages {
    /// As pip wants them; the first gives the environment its name.
    pub wanted: &'static [&'static str],
    pub module: &'static str,
    pub what: &'static str,
}

impl Packages {
    /// From the cache, else made anew.
    pub fn python(&self) -> Result<PathBuf> {
        let tools = paths::cache()?.join("tools");
        let dir = tools.join(format!("python-{}", self.wanted[0].replace("==", "-")));
        let python = dir.join("bin/python");
        let has = |python: &Path| {
            let mut import = Command::new(python);
            import.args(["-c", &format!("import {}", self.module)]);
            system::output(&mut import).is_ok()
        };
        if has(&python) {
            return Ok(python);
        }
        let make = |dir: &Path| {
            let mut venv = Command::new("python3");
            system::output(venv.args(["-m", "venv"]).arg(dir))
        };
        paths::make_dir(&tools)?;
        let temp = paths::temp_beside(&dir);
        println!("installing {} for Python into {}", self.what, dir.display());
        if make(&temp).is_err() {
            system::install(&[Need {
                package: "python3-venv",
                why: "schemas are packages for Python",
                present: false,
            }])?;
            make(&temp)?;
        }
        let mut pip = Command::new(temp.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet"]);
        pip.arg("--disable-pip-version-check");
        let installed = system::output(pip.args(self.wanted));
        let installed = installed.with_context(|| format!("pip cannot install {}", self.what));
        if installed.is_ok() {
            // Of an older version, or broken: it could not be used.
            let _ = fs::remove_dir_all(&dir);
            fs::rename(&temp, &dir).with_context(|| format!("cannot make {}", dir.display()))?;
        } else {
            let _ = fs::remove_dir_all(&temp);
        }
        installed?;
        Ok(python)
    }
}

/// Runs a judge, whose lines are verdicts; one that says nothing has failed.
pub fn judge(check: &mut Command, what: &str, prefix: &str) -> Result<Findings> {
    let done = check.stdin(Stdio::null()).output();
    let done = done.with_context(|| format!("cannot start {}", system::show(check)))?;
    let mut findings = Findings::default();
    for line in String::from_utf8_lossy(&done.stdout).lines() {
        if let Some((name, outcome)) = verdict(line) {
            findings.push(format!("{prefix}{name}"), outcome);
        }
    }
    let silent = findings.checks.is_empty();
    if silent || (!done.status.success() && findings.failed() == 0) {
        let said = String::from_utf8_lossy(&done.stderr);
        let last = said.trim().lines().last().unwrap_or("no message");
        findings.push(what, Outcome::Failed(last.to_owned()));
    }
    Ok(findings)
}

/// Reads `ok NAME` and `FAILED NAME: WHY`.
fn verdict(line: &str) -> Option<(String, Outcome)> {
    if let Some(name) = line.strip_prefix("ok ") {
        return Some((name.to_owned(), Outcome::Passed));
    }
    let (name, why) = line.strip_prefix("FAILED ")?.split_once(": ")?;
    Some((name.to_owned(), Outcome::Failed(why.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_verdicts() {
        assert_eq!(verdict("ok waits"), Some(("waits".into(), Outcome::Passed)));
        let failed = Outcome::Failed("trace 1: 2".into());
        assert_eq!(
            verdict("FAILED waits: trace 1: 2"),
            Some(("waits".into(), failed))
        );
        assert_eq!(verdict("Traceback"), None);
    }
}
