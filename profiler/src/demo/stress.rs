//! `stress`: threads do at random whatever faults, maps and locks. In: how many, how long, a seed.
//! Out: each thread's calls by operation, its life span, and its faults as the kernel counted them.
//!
//! Which thread does what follows from the seed alone; in what order they meet does not.

use std::{
    io,
    sync::{
        Barrier, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::builder::RangedU64ValueParser;
use serde::Serialize;

use super::{Faults, memory::page_size, now_ns, stay::stay, tid};
use ops::{Op, Own, Random, Shared as Memory};

mod ops;

/// A thread that has not ended this long after the end is stuck.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Threads
    #[arg(long, default_value_t = 8, value_name = "K",
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=256))]
    threads: usize,
    /// How long
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = crate::cli::duration)]
    duration: Duration,
    /// What follows from it is the same in every run
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
}

#[derive(Debug, Serialize)]
pub struct Truth {
    scenario: &'static str,
    pid: u32,
    page_size: usize,
    seed: u64,
    threads: Vec<ThreadTruth>,
}

#[derive(Debug, Serialize)]
struct ThreadTruth {
    name: String,
    tid: u32,
    /// Monotonic.
    start_ns: u64,
    end_ns: u64,
    minor: u64,
    major: u64,
    calls: std::collections::BTreeMap<&'static str, u64>,
}

struct Shared {
    memory: Memory,
    end: Duration,
    seed: u64,
    begin: Barrier,
    slots: Vec<Slot>,
    done: AtomicUsize,
    failed: Mutex<Option<anyhow::Error>>,
}

/// Where a thread leaves its truth: present memory, so that the store does not fault.
#[derive(Default)]
struct Slot {
    tid: AtomicU64,
    start_ns: AtomicU64,
    end_ns: AtomicU64,
    minor: AtomicU64,
    major: AtomicU64,
    calls: [AtomicU64; Op::ALL.len()],
}

pub fn run(args: &Args) -> Result<Truth> {
    // For ever: the threads are still there when the process ends.
    let shared: &'static Shared = Box::leak(Box::new(Shared {
        memory: Memory::new()?,
        end: args.duration,
        seed: args.seed,
        begin: Barrier::new(args.threads),
        slots: (0..args.threads).map(|_| Slot::default()).collect(),
        done: AtomicUsize::new(0),
        failed: Mutex::new(None),
    }));
    let began = Instant::now();
    for (i, slot) in shared.slots.iter().enumerate() {
        thread::Builder::new()
            .name(name(i))
            .spawn(move || live(shared, slot, i))
            .context("cannot start a thread: ask for fewer with --threads")?;
    }
    while shared.done.load(Ordering::Acquire) < args.threads {
        if began.elapsed() > args.duration + PATIENCE {
            bail!("a thread of the stress is stuck: is the machine overloaded?");
        }
        thread::sleep(Duration::from_millis(5));
    }
    let failed = &shared.failed;
    let failed = failed.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(error) = failed {
        return Err(error);
    }
    let get = |value: &AtomicU64| value.load(Ordering::Acquire);
    let threads = shared
        .slots
        .iter()
        .enumerate()
        .map(|(i, slot)| ThreadTruth {
            name: name(i),
            tid: get(&slot.tid) as u32,
            start_ns: get(&slot.start_ns),
            end_ns: get(&slot.end_ns),
            minor: get(&slot.minor),
            major: get(&slot.major),
            calls: Op::ALL
                .iter()
                .zip(&slot.calls)
                .map(|(op, calls)| (op.name(), get(calls)))
                .collect(),
        });
    Ok(Truth {
        scenario: "stress",
        pid: std::process::id(),
        page_size: page_size(),
        seed: args.seed,
        threads: threads.collect(),
    })
}

fn name(i: usize) -> String {
    format!("vma-stress-{i:02}")
}

/// A thread from its first instruction to its last.
fn live(shared: &'static Shared, slot: &'static Slot, i: usize) {
    slot.tid.store(tid().into(), Ordering::Release);
    slot.start_ns.store(now_ns(), Ordering::Release);
    if let Err(error) = work(shared, slot, i) {
        let mut failed = shared.failed.lock().unwrap_or_else(PoisonError::into_inner);
        *failed = Some(error.context(name(i)));
    }
    stay(|Faults { minor, major }, practice| {
        slot.minor.store(minor, Ordering::Release);
        slot.major.store(major, Ordering::Release);
        slot.end_ns.store(now_ns(), Ordering::Release);
        shared
            .done
            .fetch_add(usize::from(!practice), Ordering::AcqRel);
    });
}

fn work(shared: &Shared, slot: &Slot, i: usize) -> Result<()> {
    let own = Own::new();
    // Also where it failed: the others wait.
    shared.begin.wait();
    let mut own = own?;
    let mut random = Random::new(shared.seed, i as u64);
    let end = Instant::now() + shared.end;
    while Instant::now() < end {
        let op = Op::pick(&mut random);
        let done: io::Result<()> = op.make(&mut random, &shared.memory, &mut own);
        done.with_context(|| format!("{} failed", op.name()))?;
        if let Some(calls) = slot.calls.get(op as usize) {
            calls.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}
