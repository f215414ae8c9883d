//! `storm`: threads fault one VMA while another mprotects parts of it. In: how many, how long.
//! Out: each thread's faults over its whole life, and what the writer's calls took.
//!
//! The mapping is slice, part, slice, part, ...: each faulting thread touches its slice and gives
//! it back, over and over; the writer toggles the protection of the parts between, which nobody
//! else touches, so the VMA is split and merged under the faults and no write is ever refused.

use std::{
    io,
    sync::{
        Barrier, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use super::{
    Faults, faults_of_thread,
    memory::{Mapping, page_size},
    stay::stay,
    tid,
};

/// Few enough that a round is short, also in emulation.
const SLICE_PAGES: usize = 64;
/// Present pages, so that each mprotect has page-table entries to change and TLBs to flush.
const PART_PAGES: usize = 64;
pub const THREADS_MAX: u64 = 256;
/// A thread that has not ended its last round this long after the end is stuck.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Serialize)]
pub struct Truth {
    scenario: &'static str,
    pid: u32,
    start: u64,
    end: u64,
    page_size: usize,
    elapsed_ns: u64,
    /// The faulting threads, then the writer.
    threads: Vec<ThreadTruth>,
    /// Up to this moment: it began before any probe was armed and still has to print this.
    main: ThreadTruth,
    mprotects: u64,
    mprotect_sum_ns: u64,
    mprotect_max_ns: u64,
}

#[derive(Clone, Debug, Serialize)]
struct ThreadTruth {
    role: &'static str,
    tid: u32,
    minor: u64,
    major: u64,
    /// Pages this thread touched for the first time since it gave them back: each is one fault.
    touched: u64,
}

struct Shared {
    memory: Mapping,
    page: usize,
    faulters: usize,
    duration: Duration,
    begin: Barrier,
    /// By thread, the writer last.
    slots: Vec<Slot>,
    done: AtomicUsize,
    mprotects: AtomicU64,
    mprotect_sum_ns: AtomicU64,
    mprotect_max_ns: AtomicU64,
    failed: Mutex<Option<io::Error>>,
}

/// Where a thread leaves its truth: present memory, so that the store does not fault.
#[derive(Default)]
struct Slot {
    tid: AtomicU64,
    minor: AtomicU64,
    major: AtomicU64,
    touched: AtomicU64,
}

pub fn run(faulters: usize, duration: Duration) -> Result<Truth> {
    let page = page_size();
    let memory = Mapping::new(faulters * (SLICE_PAGES + PART_PAGES) * page)?;
    for i in 0..faulters {
        memory.touch(
            (i * (SLICE_PAGES + PART_PAGES) + SLICE_PAGES) * page,
            PART_PAGES * page,
            page,
        );
    }
    // For ever: the threads are still there when the process ends.
    let shared: &'static Shared = Box::leak(Box::new(Shared {
        memory,
        page,
        faulters,
        duration,
        begin: Barrier::new(faulters + 1),
        slots: (0..=faulters).map(|_| Slot::default()).collect(),
        done: AtomicUsize::new(0),
        mprotects: AtomicU64::new(0),
        mprotect_sum_ns: AtomicU64::new(0),
        mprotect_max_ns: AtomicU64::new(0),
        failed: Mutex::new(None),
    }));
    let began = Instant::now();
    for i in 0..=faulters {
        let name = if i == faulters {
            "storm-writer"
        } else {
            "storm-faulter"
        };
        thread::Builder::new()
            .name(name.into())
            .spawn(move || live(shared, i))
            .context("cannot start a thread: ask for fewer with --threads")?;
    }
    while shared.done.load(Ordering::Acquire) <= faulters {
        if began.elapsed() > duration + PATIENCE {
            bail!("a thread of the storm is stuck: is the machine overloaded?");
        }
        thread::sleep(Duration::from_millis(2));
    }
    truth(shared, began.elapsed())
}

fn truth(shared: &Shared, elapsed: Duration) -> Result<Truth> {
    if let Some(e) = shared
        .failed
        .lock()
        .ok()
        .and_then(|mut failed| failed.take())
    {
        return Err(e).context("a thread of the storm failed");
    }
    let threads: Vec<_> = shared
        .slots
        .iter()
        .enumerate()
        .map(|(i, slot)| ThreadTruth {
            role: if i == shared.faulters {
                "writer"
            } else {
                "faulter"
            },
            tid: slot.tid.load(Ordering::Acquire) as u32,
            minor: slot.minor.load(Ordering::Acquire),
            major: slot.major.load(Ordering::Acquire),
            touched: slot.touched.load(Ordering::Acquire),
        })
        .collect();
    for t in &threads {
        if t.minor + t.major < t.touched {
            bail!(
                "thread {} touched {} pages but the kernel counted {} + {} faults",
                t.tid,
                t.touched,
                t.minor,
                t.major
            );
        }
    }
    let main = faults_of_thread();
    Ok(Truth {
        scenario: "storm",
        pid: std::process::id(),
        start: shared.memory.start(),
        end: shared.memory.end(),
        page_size: shared.page,
        elapsed_ns: elapsed.as_nanos() as u64,
        threads,
        main: ThreadTruth {
            role: "main",
            tid: tid(),
            minor: main.minor,
            major: main.major,
            touched: 0,
        },
        mprotects: shared.mprotects.load(Ordering::Acquire),
        mprotect_sum_ns: shared.mprotect_sum_ns.load(Ordering::Acquire),
        mprotect_max_ns: shared.mprotect_max_ns.load(Ordering::Acquire),
    })
}

/// A thread from its first instruction to its last.
fn live(shared: &'static Shared, index: usize) {
    let slot = &shared.slots[index];
    slot.tid.store(tid().into(), Ordering::Release);
    shared.begin.wait();
    let end = Instant::now() + shared.duration;
    let done = if index == shared.faulters {
        write(shared, end)
    } else {
        fault(shared, slot, index, end)
    };
    if let Err(e) = done
        && let Ok(mut failed) = shared.failed.lock()
    {
        *failed = Some(e);
    }
    stay(|Faults { minor, major }, practice| {
        slot.minor.store(minor, Ordering::Release);
        slot.major.store(major, Ordering::Release);
        shared
            .done
            .fetch_add(usize::from(!practice), Ordering::AcqRel);
    });
}

/// At least one round, however late the thread came to run.
fn fault(shared: &Shared, slot: &Slot, index: usize, end: Instant) -> io::Result<()> {
    let (offset, len) = (
        index * (SLICE_PAGES + PART_PAGES) * shared.page,
        SLICE_PAGES * shared.page,
    );
    loop {
        shared.memory.touch(offset, len, shared.page);
        slot.touched
            .fetch_add(SLICE_PAGES as u64, Ordering::Relaxed);
        shared.memory.drop_pages(offset, len)?;
        if Instant::now() >= end {
            return Ok(());
        }
    }
}

/// Takes the write permission of one part after the other, and gives it back.
fn write(shared: &Shared, end: Instant) -> io::Result<()> {
    let len = PART_PAGES * shared.page;
    loop {
        for i in 0..shared.faulters {
            let offset = (i * (SLICE_PAGES + PART_PAGES) + SLICE_PAGES) * shared.page;
            for protection in [libc::PROT_READ, libc::PROT_READ | libc::PROT_WRITE] {
                let begin = Instant::now();
                shared.memory.protect(offset, len, protection)?;
                let ns = begin.elapsed().as_nanos() as u64;
                shared.mprotects.fetch_add(1, Ordering::Relaxed);
                shared.mprotect_sum_ns.fetch_add(ns, Ordering::Relaxed);
                shared.mprotect_max_ns.fetch_max(ns, Ordering::Relaxed);
            }
        }
        if Instant::now() >= end {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_faults_and_the_writer_writes() {
        let truth = run(2, Duration::from_millis(200)).unwrap();
        assert_eq!(truth.threads.len(), 3);
        for t in &truth.threads[..2] {
            assert!(
                t.tid != 0 && t.touched >= SLICE_PAGES as u64 && t.minor + t.major >= t.touched,
                "{t:?}"
            );
        }
        assert!(truth.mprotects > 0 && truth.mprotect_max_ns > 0);
        assert!(truth.mprotect_sum_ns >= truth.mprotect_max_ns);
    }
}
