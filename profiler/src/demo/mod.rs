//! Built-in stimuli whose true answer is known by construction. Each times and counts its own
//! calls, prints that truth as one JSON object, and succeeds only if it did what it said.
//! They are the acceptance tests' other half, and run on a device as well as in the lab.
//!
//! A scenario is one file, one line in `Scenario` and one in `run`.

mod anatomy;
mod call;
mod conflict;
mod crew;
mod file;
mod fork;
mod freeze;
mod memory;
mod mount;
mod reader;
mod slow;
mod stay;
mod storm;
mod stress;
mod swap;
mod touch;
mod userfault;
mod walk;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Subcommand, builder::RangedU64ValueParser};
use serde::{Deserialize, Serialize};

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
    /// Threads fault a cold file on slow storage: major faults, and the time they wait for it
    File(file::Args),
    /// Faults that are answered late, by userfaultfd
    Userfault {
        /// Pages to fault
        #[arg(long, default_value_t = 20, value_name = "N",
            value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
        pages: usize,
        /// How late
        #[arg(long, default_value = "20ms", value_name = "TIME", value_parser = crate::cli::duration)]
        delay: Duration,
    },
    /// A write fault hangs on a frozen file system, with its VMA locked; others queue up behind it (root)
    Freeze(freeze::Args),
    /// The same with the hanging thread at nice 19 and the first in the queue at a real-time priority
    Inversion(freeze::Inversion),
    /// Writers hit the VMA of a fault that waits for slow storage, others hit VMAs of their own (root)
    Conflict(conflict::Args),
    /// A fork while threads wait for slow storage, each in a VMA of its own (root)
    Fork(fork::Args),
    /// Another process reads the smaps of a busy one, over and over
    Reader {
        /// How long
        #[arg(long, default_value = "3s", value_name = "TIME", value_parser = crate::cli::duration)]
        duration: Duration,
    },
    /// Threads do everything at random that faults, maps and locks, on memory of their own and shared
    Stress(stress::Args),
    /// Pages are swapped out to an area of our own (root), and faulted back one by one
    Swap(swap::Args),
    /// Writes to pages shared with a forked process: each is copied
    Cow(Pages),
    /// First touches of huge pages
    Thp {
        /// Huge pages to touch
        #[arg(long, default_value_t = 4, value_name = "N",
            value_parser = RangedU64ValueParser::<usize>::new().range(1..1 << 20))]
        pages: usize,
    },
    /// First touches of shared memory
    Shmem(Pages),
}

#[derive(Debug, clap::Args)]
pub struct Pages {
    /// Pages to touch
    #[arg(long, default_value_t = 1024, value_name = "N",
        value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pages: usize,
}

pub fn run(scenario: &Scenario) -> Result<ExitCode> {
    let truth = match scenario {
        Scenario::File(args) => serde_json::to_string(&file::run(args)?),
        Scenario::Userfault { pages, delay } => {
            serde_json::to_string(&userfault::run(*pages, *delay)?)
        }
        Scenario::Freeze(args) => serde_json::to_string(&freeze::run(args)?),
        Scenario::Inversion(args) => serde_json::to_string(&freeze::invert(args)?),
        Scenario::Conflict(args) => serde_json::to_string(&conflict::run(args)?),
        Scenario::Fork(args) => serde_json::to_string(&fork::run(args)?),
        Scenario::Reader { duration } => serde_json::to_string(&reader::run(*duration)?),
        Scenario::Stress(args) => serde_json::to_string(&stress::run(args)?),
        Scenario::Swap(args) => serde_json::to_string(&swap::run(args)?),
        Scenario::Cow(Pages { pages }) => serde_json::to_string(&anatomy::cow(*pages)?),
        Scenario::Thp { pages } => serde_json::to_string(&anatomy::thp(*pages)?),
        Scenario::Shmem(Pages { pages }) => serde_json::to_string(&anatomy::shmem(*pages)?),
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

/// What somebody who answers faults late was asked, and when. Times are monotonic.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    /// An address, or an offset in a file.
    at: u64,
    len: u64,
    asked_ns: u64,
    answered_ns: u64,
}

impl Answer {
    fn ns(&self) -> u64 {
        self.answered_ns - self.asked_ns
    }
}

/// Returns at once if that moment is past.
fn sleep_until(ns: u64) {
    let until = libc::timespec {
        tv_sec: (ns / 1_000_000_000) as _,
        tv_nsec: (ns % 1_000_000_000) as _,
    };
    let (clock, flags) = (libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME);
    // SAFETY: a valid pointer; with an absolute time nothing is written.
    while unsafe { libc::clock_nanosleep(clock, flags, &raw const until, std::ptr::null_mut()) }
        == libc::EINTR
    {}
}

/// CLOCK_MONOTONIC, which all processes share.
fn now_ns() -> u64 {
    // SAFETY: timespec is plain integers.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: a valid pointer; this clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
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
