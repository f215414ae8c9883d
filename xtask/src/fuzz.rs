//! `cargo xtask fuzz`: libFuzzer on whatever vmascope reads from outside, with the stable compiler.
//!
//! In: the targets of fuzz/, each with its kept corpus. Out: a finding per target; the input that
//! broke one is left under the target folder, and replayed by `cargo xtask fuzz --input FILE TARGET`.
//! What CI runs of it is the replay of the corpus, a test of the profiler: a cold build of this takes
//! minutes.

use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::arch::Arch;
use crate::step::{self, Findings, Outcome, Stage};
use crate::system::{self, Need};
use crate::{paths, toolchain};

/// The programs of fuzz/Cargo.toml.
const TARGETS: [&str; 4] = ["btf", "recording", "rows", "words"];

/// What libFuzzer wants to be told: each edge, and what is compared. The flags are those of the pass,
/// which is stable, where `-Zsanitizer` is not.
const FLAGS: [&str; 6] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Longer than any sound input takes, on a busy machine: beyond it is a finding.
const TIMEOUT_S: u32 = 20;
/// In a full run, for each target.
const FULL_RUN_S: u32 = 600;

#[derive(clap::Args)]
pub struct Args {
    /// How long each target runs.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Run the target on this input only.
    #[arg(long, value_name = "FILE", requires = "targets")]
    input: Option<PathBuf>,
    /// Put into the kept corpus what reaches code that it does not, and drop what adds nothing.
    #[arg(long, conflicts_with = "input")]
    merge: bool,
    /// All of them, unless named.
    #[arg(value_parser = TARGETS)]
    targets: Vec<String>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let mut targets: Vec<&str> = args.targets.iter().map(String::as_str).collect();
    if targets.is_empty() {
        targets = TARGETS.to_vec();
    }
    if let Some(input) = &args.input {
        let input = input.canonicalize();
        let input = input.context("no such input")?;
        build()?;
        for target in targets {
            system::run(program(target)?.arg(&input))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let seconds = args.seconds;
    let budget = budget(seconds, targets.len());
    let body = || fuzz(&targets, seconds);
    let done = step::run_one(Stage::new("fuzz", budget, body));
    if args.merge {
        targets.iter().try_for_each(|target| merge(target))?;
    }
    Ok(step::summary(&[done]))
}

/// All targets, for ten minutes each.
pub fn stage() -> Stage<'static> {
    let budget = budget(FULL_RUN_S, TARGETS.len());
    Stage::new("fuzz", budget, || fuzz(&TARGETS, FULL_RUN_S))
}

/// With a cold build.
fn budget(seconds: u32, targets: usize) -> Duration {
    let turns = targets.div_ceil(at_once()) as u64;
    Duration::from_secs(600 + u64::from(seconds + TIMEOUT_S) * turns)
}

/// Each target is one thread.
fn at_once() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

fn fuzz(targets: &[&str], seconds: u32) -> Result<Findings> {
    build()?;
    let mut findings = Findings::default();
    for turn in targets.chunks(at_once()) {
        let done: Vec<_> = thread::scope(|scope| {
            let runs: Vec<_> = turn
                .iter()
                .map(|target| scope.spawn(|| one(target, seconds)))
                .collect();
            runs.into_iter()
                .map(thread::ScopedJoinHandle::join)
                .collect()
        });
        for (target, done) in turn.iter().zip(done) {
            let done = done.map_err(|_| anyhow!("the thread that ran {target} panicked"))??;
            findings.push(format!("fuzz {target}"), done);
        }
    }
    Ok(findings)
}

/// What is learnt is kept for the next run under the target folder; the kept corpus is only read.
fn one(target: &str, seconds: u32) -> Result<Outcome> {
    let learnt = folder(target, "corpus")?;
    let mut run = program(target)?;
    run.arg(format!("-max_total_time={seconds}"))
        .arg(learnt)
        .arg(kept(target));
    let log = work().join(format!("{target}.log"));
    let done = run
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?)
        .status()
        .with_context(|| format!("cannot start {}", system::show(&run)))?;
    let text = fs::read(&log)?;
    let text = String::from_utf8_lossy(&text);
    if done.success() {
        // `Done 12345 runs in 60 second(s)`: without it libFuzzer saw nothing to run.
        let runs = text.lines().find(|line| line.starts_with("Done "));
        println!("fuzz {target}: {}", runs.unwrap_or("no word of runs"));
        return Ok(match runs {
            Some(_) => Outcome::Passed,
            None => Outcome::Failed(format!("libFuzzer did nothing: see {}", log.display())),
        });
    }
    let why = text
        .lines()
        .skip_while(|line| !line.contains("panicked at") && !line.contains("ERROR: libFuzzer"))
        .take(2)
        .collect::<Vec<_>>()
        .join(" ");
    let input = text.lines().find_map(|line| {
        let (_, path) = line.split_once("Test unit written to ")?;
        Some(path.trim().to_owned())
    });
    let input = input.unwrap_or_else(|| "no input was kept".to_owned());
    Ok(Outcome::Failed(format!("{why}: {input}")))
}

/// Into the kept corpus, the smallest inputs that reach all that was reached.
fn merge(target: &str) -> Result<()> {
    let (all, merged) = (folder(target, "corpus")?, folder(target, "merged")?);
    fs::remove_dir_all(&merged)?;
    paths::make_dir(&merged)?;
    let mut run = program(target)?;
    run.arg("-merge=1").arg(&merged).arg(kept(target)).arg(all);
    system::output(&mut run)?;
    let kept = kept(target);
    fs::remove_dir_all(&kept)?;
    paths::make_dir(&kept)?;
    for entry in fs::read_dir(&merged)? {
        let path = entry?.path();
        fs::copy(&path, kept.join(path.file_name().unwrap_or_default()))?;
    }
    Ok(())
}

fn kept(target: &str) -> PathBuf {
    paths::root().join("fuzz/corpus").join(target)
}

/// Inside cargo's folder, whose kernel object the build shares; it is large, and may be deleted.
fn work() -> PathBuf {
    paths::target().join("fuzz")
}

fn folder(target: &str, what: &str) -> Result<PathBuf> {
    let dir = work().join(what).join(target);
    paths::make_dir(&dir)?;
    Ok(dir)
}

fn triple() -> String {
    format!("{}-unknown-linux-gnu", Arch::HOST)
}

/// libFuzzer's program for a target, told what is a finding and where to leave it.
fn program(target: &str) -> Result<Command> {
    let built = work().join(triple()).join("release").join(target);
    if !built.exists() {
        bail!("no {}: its build left nothing", built.display());
    }
    let mut artifacts = folder(target, "found")?.into_os_string();
    artifacts.push("/");
    let mut prefix = std::ffi::OsString::from("-artifact_prefix=");
    prefix.push(artifacts);
    let mut command = Command::new(built);
    command
        .arg(prefix)
        .arg(format!("-timeout={TIMEOUT_S}"))
        // Most inputs are small, and so are the most telling ones.
        .args([
            "-rss_limit_mb=2048",
            "-max_len=262144",
            "-print_final_stats=1",
        ])
        // The files that recordings are put into.
        .env("TMPDIR", folder(target, "tmp")?);
    Ok(command)
}

fn build() -> Result<()> {
    system::install(&[Need {
        package: "g++",
        why: "compiles libFuzzer",
        present: system::find("c++").is_some(),
    }])?;
    let mut cargo = toolchain::cargo()?;
    cargo
        .args(["build", "--quiet", "--release", "--bins"])
        .arg("--manifest-path")
        .arg(Path::new("fuzz/Cargo.toml"))
        // Named, or the flags would go into build scripts and macros, too.
        .args(["--target", &triple(), "--target-dir"])
        .arg(work())
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
    system::run(&mut cargo)
}
