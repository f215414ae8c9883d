//! The checks that need no virtual machine: `cargo xtask ci`, and the first part of a test run.
//!
//! In: the checkout. Out: stages for `step::run_all`; what a tool complains about is printed.

use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::arch::Arch;
use crate::step::{self, AGAIN, Findings, Outcome, Stage};
use crate::{exports, files, paths, prometheus, system, toolchain};

#[derive(clap::Args)]
pub struct Args {
    /// Only these stages, such as fmt or prometheus.
    #[arg(long, value_name = "STAGE")]
    only: Vec<String>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let mut stages = stages();
    if !args.only.is_empty() {
        let names: Vec<String> = stages.iter().map(|s| s.name().to_owned()).collect();
        if let Some(unknown) = args.only.iter().find(|name| !names.contains(name)) {
            bail!("no stage {unknown}: there are {}", names.join(", "));
        }
        stages.retain(|stage| args.only.iter().any(|name| name == stage.name()));
    }
    Ok(step::summary(&step::run_all(stages)))
}

/// The stages, in the order of what fails fastest. Budgets are those of an empty target folder on
/// two cores.
pub fn stages() -> Vec<Stage<'static>> {
    let seconds = Duration::from_secs;
    vec![
        Stage::new("set-up", seconds(300), set_up),
        Stage::new("fmt", seconds(20), fmt),
        Stage::new("lock file", seconds(20), lock_file),
        Stage::new("files", seconds(5), files::check),
        Stage::new("clippy, host", seconds(240), clippy_host),
        Stage::new("clippy, bpf", seconds(90), clippy_bpf),
        Stage::new("deny", seconds(30), deny),
        Stage::new("unit tests", seconds(360), unit_tests),
        Stage::new("traces", seconds(60), exports::traces),
        Stage::new("pages", seconds(90), exports::pages),
        Stage::new("prometheus", seconds(120), prometheus::check),
        Stage::new("no-op rebuild", seconds(10), no_op_rebuild),
    ]
}

fn set_up() -> Result<Findings> {
    toolchain::ensure_ebpf()?;
    for tool in ["rustfmt", "clippy"] {
        toolchain::ensure_component(tool)?;
    }
    Ok(Findings::one("tools are there", Outcome::Passed))
}

/// A tool whose exit code is the verdict.
fn check(name: &str, command: &mut Command) -> Result<Findings> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {}", system::show(command)))?;
    let outcome = if status.success() {
        Outcome::Passed
    } else {
        Outcome::Failed(format!("`{}`", system::show(command)))
    };
    Ok(Findings::one(name, outcome))
}

fn fmt() -> Result<Findings> {
    check(
        "formatted",
        toolchain::cargo()?.args(["fmt", "--all", "--check"]),
    )
}

/// A lock file that lags behind makes every clone build something else.
fn lock_file() -> Result<Findings> {
    let mut cargo = toolchain::cargo()?;
    cargo.args(["metadata", "--locked", "--format-version=1"]);
    system::output(&mut cargo).context("run `cargo build` and commit Cargo.lock")?;
    Ok(Findings::one("Cargo.lock is up to date", Outcome::Passed))
}

fn clippy_host() -> Result<Findings> {
    let mut cargo = toolchain::cargo()?;
    cargo.args(["clippy", "--quiet", "--workspace"]);
    cargo.args(["--exclude", "profiler-ebpf", "--all-targets"]);
    check("clippy on the host", cargo.args(["--", "-Dwarnings"]))
}

/// Lints the kernel side as each architecture sees it.
fn clippy_bpf() -> Result<Findings> {
    let mut findings = Findings::default();
    for arch in Arch::ALL {
        let mut cargo = toolchain::cargo()?;
        let flags = [
            &format!("--cfg=bpf_target_arch=\"{arch}\""),
            "--check-cfg=cfg(bpf_target_arch,values(\"x86_64\",\"aarch64\"))",
        ];
        cargo
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .args(["clippy", "--quiet", "--release", "--package"])
            .args(["profiler-ebpf", "--target", "bpfel-unknown-none"])
            .args(["-Zbuild-std=core", "--target-dir"])
            .arg(paths::target().join("ebpf-clippy"))
            .args(["--", "-Dwarnings"]);
        let name = format!("clippy for bpf on {arch}");
        findings.checks.extend(check(&name, &mut cargo)?.checks);
    }
    Ok(findings)
}

/// Licences, sources and duplicate bans; advisories need a download, so they are not asked for.
fn deny() -> Result<Findings> {
    const NAME: &str = "cargo deny";
    if system::find("cargo-deny").is_none() {
        let why = "cargo-deny is not installed: `cargo xtask setup --full` does it";
        return Ok(Findings::one(NAME, Outcome::Skipped(why.to_owned())));
    }
    let mut cargo = toolchain::cargo()?;
    cargo.args(["deny", "--offline", "--workspace", "--all-features"]);
    check(NAME, cargo.args(["check", "licenses", "bans", "sources"]))
}

/// Those that are ignored in a usual run: they take minutes.
pub fn long_tests() -> Stage<'static> {
    let run = || tests(&["--", "--ignored"]);
    Stage::new("long tests", Duration::from_secs(900), run)
}

fn unit_tests() -> Result<Findings> {
    tests(&[])
}

fn tests(options: &[&str]) -> Result<Findings> {
    let tests = ["test", "--workspace", "--exclude", "profiler-ebpf"];
    let mut build = toolchain::cargo()?;
    build.args(tests).args(["--quiet", "--no-run"]);
    let built = check("tests build", &mut build)?;
    if built.failed() > 0 {
        return Ok(built);
    }
    let mut findings = run_tests(&tests, options)?;
    again(&tests, options, &mut findings)?;
    Ok(findings)
}

/// Some tests want a machine of two shared cores to be in time; a few that fail have a second
/// attempt by themselves, as in the lab. What passes only there is called flaky.
fn again(tests: &[&str], options: &[&str], findings: &mut Findings) -> Result<()> {
    let failed = |(name, outcome): &(String, Outcome)| {
        matches!(outcome, Outcome::Failed(_)).then(|| name.clone())
    };
    let names: Vec<String> = findings.checks.iter().filter_map(failed).collect();
    if names.is_empty() || names.len() > AGAIN {
        return Ok(());
    }
    let mut options = options.to_vec();
    if !options.contains(&"--") {
        options.push("--");
    }
    options.push("--exact");
    options.extend(names.iter().map(String::as_str));
    let second = run_tests(tests, &options)?;
    for (name, outcome) in &mut findings.checks {
        // Programs may have tests of the same name: all of them ran again.
        let mut runs = second.checks.iter().filter(|(again, _)| again == name);
        let all = runs.clone().all(|(_, again)| *again == Outcome::Passed);
        if let (Outcome::Failed(why), true, true) = (&mut *outcome, runs.next().is_some(), all) {
            *outcome = Outcome::Flaky(std::mem::take(why));
        }
    }
    Ok(())
}

fn run_tests(tests: &[&str], options: &[&str]) -> Result<Findings> {
    let mut cargo = toolchain::cargo()?;
    cargo.args(tests).args(["--no-fail-fast", "--color=never"]);
    cargo.args(options);
    let done = cargo.stdin(Stdio::null()).output();
    let done = done.with_context(|| format!("cannot start {}", system::show(&cargo)))?;
    let stdout = String::from_utf8_lossy(&done.stdout);
    let mut findings = Findings {
        checks: stdout.lines().filter_map(test_line).collect(),
    };
    if !done.status.success() {
        eprintln!("{stdout}\n{}", String::from_utf8_lossy(&done.stderr));
        // A test program that dies has no line for the test it died in.
        if findings.failed() == 0 || !all_ended(&stdout) {
            let what = format!("`{}`", system::show(&cargo));
            findings.push("test programs end", Outcome::Failed(what));
        }
    }
    Ok(findings)
}

fn all_ended(stdout: &str) -> bool {
    let count = |start| stdout.lines().filter(|l| l.starts_with(start)).count();
    count("running ") == count("test result: ")
}

/// Reads `test a::b ... ok`.
fn test_line(line: &str) -> Option<(String, Outcome)> {
    let (name, result) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let outcome = match result.split_once(", ").unwrap_or((result, "")) {
        ("ok", _) => Outcome::Passed,
        ("FAILED", _) => Outcome::Failed("see its output above".to_owned()),
        ("ignored", "") => Outcome::Skipped("ignored".to_owned()),
        ("ignored", why) => Outcome::Skipped(why.to_owned()),
        _ => return None,
    };
    Some((name.to_owned(), outcome))
}

/// A build with nothing changed must do nothing, or every edit costs a kernel object.
fn no_op_rebuild() -> Result<Findings> {
    const NAME: &str = "nothing is rebuilt";
    let build = || -> Result<String> {
        let mut cargo = toolchain::cargo()?;
        cargo.args(["build", "--quiet", "--package", "profiler", "--lib"]);
        system::output(cargo.arg("--message-format=json"))
    };
    build()?;
    let again = build()?;
    let stale = again.lines().find(|line| line.contains("\"fresh\":false"));
    let outcome = match stale {
        None => Outcome::Passed,
        Some(line) => {
            let artifact: serde_json::Value = serde_json::from_str(line)?;
            Outcome::Failed(format!("{} is built again", artifact["package_id"]))
        }
    };
    Ok(Findings::one(NAME, outcome))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_test_results() {
        let read = |line| test_line(line).map(|(_, outcome)| outcome);
        assert_eq!(read("test a::b ... ok"), Some(Outcome::Passed));
        assert!(matches!(
            read("test a ... FAILED"),
            Some(Outcome::Failed(_))
        ));
        assert_eq!(
            read("test a ... ignored, needs root"),
            Some(Outcome::Skipped("needs root".into()))
        );
        assert_eq!(read("test result: ok. 3 passed; 0 failed"), None);
        assert_eq!(read("running 3 tests"), None);
    }

    #[test]
    fn a_program_without_a_result_died() {
        let ended = "running 1 test\ntest a ... FAILED\ntest result: FAILED. 0 passed\n";
        assert!(all_ended(ended));
        assert!(!all_ended(&format!("{ended}running 2 tests\n")));
    }
}
