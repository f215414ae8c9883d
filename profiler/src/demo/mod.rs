//! Built-in stimuli whose true answer is known by construction. Each times and counts its own
//! calls, prints that truth as one JSON object, and succeeds only if it did what it said.
//! They are the acceptance tests' other half, and run on a device as well as in the lab.
//!
//! A scenario is one file, one line in `Scenario` and one in `run`.

mod memory;
mod storm;
mod touch;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Subcommand, builder::RangedU64ValueParser};

#[derive(Debug, Subcommand)]
pub enum Scenario {
    /// First touches of private anonymous memory: exactly N faults
    Touch {
        /// Pages to touch
        #[arg(long, default_value_t = 4096, value_name = "N",
            value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
        pages: usize,
    },
    /// Threads fault one VMA while another mprotects parts of it
    Storm {
        /// Faulting threads
        #[arg(long, default_value_t = 3, value_name = "K",
            value_parser = RangedU64ValueParser::<usize>::new().range(1..=storm::THREADS_MAX))]
        threads: usize,
        /// How long
        #[arg(long, default_value = "3s", value_name = "TIME", value_parser = crate::cli::duration)]
        duration: Duration,
    },
}

pub fn run(scenario: &Scenario) -> Result<ExitCode> {
    let truth = match scenario {
        Scenario::Touch { pages } => serde_json::to_string(&touch::run(*pages)?),
        Scenario::Storm { threads, duration } => {
            serde_json::to_string(&storm::run(*threads, *duration)?)
        }
    };
    let mut truth = truth.context("cannot write JSON")?;
    truth.push('\n');
    crate::commands::print(&truth)?;
    Ok(ExitCode::SUCCESS)
}

struct Faults {
    minor: u64,
    major: u64,
}

/// Of the calling thread since it began, as the kernel counts them.
#[inline(never)]
fn faults_of_thread() -> Faults {
    // SAFETY: rusage is plain integers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: a valid pointer to a rusage, which is all that can go wrong here.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    Faults {
        minor: usage.ru_minflt as u64,
        major: usage.ru_majflt as u64,
    }
}

fn tid() -> u32 {
    // Not `libc::gettid`: in a static arm64 binary of glibc 2.36 it gave every thread the same number.
    // SAFETY: no arguments.
    unsafe { libc::syscall(libc::SYS_gettid) as u32 }
}
