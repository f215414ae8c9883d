//! `vmascope diff`: two recordings, or two groups of them.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};

use super::print;
use crate::{
    cli::{Diff, DiffFormat},
    diff::{self, Judgement},
    error::{Usage, say},
    recording::{self, Recording},
};

pub fn run(args: &Diff) -> Result<ExitCode> {
    if args.list_metrics {
        let names: String = diff::names().map(|name| name + "\n").collect();
        print(&names)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (a, b) = sides(args)?;
    let compared = diff::diff(&open(a)?, &open(b)?)?;
    print(&match args.format {
        DiffFormat::Text => diff::text(&compared),
        DiffFormat::Csv => diff::csv(&compared),
        DiffFormat::Json => {
            format!(
                "{}\n",
                serde_json::to_string_pretty(&compared).context("cannot make JSON")?
            )
        }
    })?;
    let mut failed = false;
    for condition in &args.fail_if {
        match condition.judge(&compared) {
            Judgement::Holds => {
                say(&format!("{condition}: it is"));
                failed = true;
            }
            Judgement::DoesNot => {}
            // Not known is not passed, and whoever reads no more than the exit code may think so.
            Judgement::Untold(why) => say(&format!("{condition}: cannot be told: {why}")),
        }
    }
    Ok(ExitCode::from(u8::from(failed)))
}

fn sides(args: &Diff) -> Result<(&[PathBuf], &[PathBuf])> {
    match (&args.files[..], &args.a[..], &args.b[..]) {
        ([], a, b) if !a.is_empty() && !b.is_empty() => Ok((a, b)),
        ([_, _], [], []) => Ok(args.files.split_at(1)),
        _ => {
            let why = "diff needs two recordings: `diff A B`, or `diff --a A1 A2 --b B1 B2`";
            Err(Usage(why.into()).into())
        }
    }
}

fn open(files: &[PathBuf]) -> recording::Result<Vec<Recording>> {
    files.iter().map(|file| Recording::open(file)).collect()
}
