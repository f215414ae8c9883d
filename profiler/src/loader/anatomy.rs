//! What can be told of the inside of a fault: each signal from the hooks on the slow paths that it
//! needs.

use super::{
    group::Group,
    hooks::{Chosen, HookChoice},
    signals::{join, signal},
};
use crate::{
    kernel::Facts,
    model::{Figure, Quality, Signal},
};

use Quality::{Approximate, Exact, Unavailable};

/// The slow paths a retry's reason is told by.
const RETRIES: &[Group] = &[
    Group::Filemap,
    Group::SwapLock,
    Group::Userfault,
    Group::Shmem,
    Group::Swap,
    Group::IoWait,
];

/// And a held wait's.
const HELD: &[Group] = &[
    Group::IoWait,
    Group::SwapRead,
    Group::Mkwrite,
    Group::Migration,
    Group::Reclaim,
    Group::Hugetlb,
];

pub fn signals(facts: &Facts, chosen: &Chosen) -> Vec<Signal> {
    let io = chosen.rung(Group::IoWait);
    let io_why = chosen.reason(Group::IoWait);
    let delay = "task_struct.sched_info.run_delay";
    vec![
        of_many(Figure::RetryReason, RETRIES, chosen, ""),
        folio_state(chosen),
        io_wait(chosen),
        match io {
            // kernel/sched/fair.c, DELAY_DEQUEUE (from 6.12).
            Some(_) if facts.has_field(delay) && facts.has_field("sched_entity.sched_delayed") => {
                signal(
                    Figure::RunDelay,
                    Approximate,
                    delay,
                    "a thread whose dequeue is delayed may count as queued while it sleeps: io_wait and run_delay are exact together",
                )
            }
            Some(_) if facts.has_field(delay) => signal(Figure::RunDelay, Exact, delay, ""),
            Some(_) => signal(
                Figure::RunDelay,
                Unavailable,
                "",
                "this kernel keeps no sched_info (CONFIG_SCHEDSTATS, CONFIG_TASK_DELAY_ACCT)",
            ),
            None => signal(Figure::RunDelay, Unavailable, "", io_why),
        },
        userfault(chosen),
        of_many(
            Figure::HeldWait,
            HELD,
            chosen,
            "waits for mutexes of a file system or of hugetlb are in the rest",
        ),
        vma_size(chosen),
    ]
}

/// Exact with all hooks at function entry, and no doubt of its own; else the reason says what is
/// not hooked.
fn of_many(figure: Figure, groups: &[Group], chosen: &Chosen, doubt: &str) -> Signal {
    let rungs: Vec<_> = groups.iter().filter_map(|g| chosen.rung(*g)).collect();
    if rungs.is_empty() {
        return signal(figure, Unavailable, "", chosen.reason(groups[0]));
    }
    let hooks: Vec<&str> = rungs.iter().map(|r| r.name).collect();
    let mut why = vec![doubt.to_owned()];
    for group in groups.iter().filter(|g| chosen.rung(**g).is_none()) {
        let reason = chosen.reason(*group);
        why.push(format!("no hook for {}: {reason}", group.name()));
    }
    let kprobes = rungs.iter().any(|r| r.kind == HookChoice::Kprobe);
    if kprobes {
        why.push("kprobes at entries only".to_owned());
    }
    let quality = if why.iter().all(String::is_empty) {
        Exact
    } else {
        Approximate
    };
    let why: Vec<&str> = why.iter().map(String::as_str).collect();
    signal(figure, quality, &hooks.join(", "), &join(&why))
}

fn io_wait(chosen: &Chosen) -> Signal {
    let why = chosen.reason(Group::IoWait);
    match (chosen.rung(Group::IoWait), chosen.rung(Group::FolioRead)) {
        (Some(wait), Some(read)) => {
            let hooks = format!("{}, {}", wait.name, read.name);
            if wait.kind == HookChoice::Kprobe {
                let short = "until the thread runs again: one that is preempted, or sleeps more than once, waits longer than told";
                return signal(Figure::IoWait, Approximate, &hooks, &join(&[short, why]));
            }
            signal(Figure::IoWait, Exact, &hooks, why)
        }
        (Some(wait), None) => signal(
            Figure::IoWait,
            Approximate,
            wait.name,
            &join(&[
                "reads that a fault makes itself are not seen where they do not wait in io_schedule (FUSE)",
                chosen.reason(Group::FolioRead),
            ]),
        ),
        (None, _) => signal(Figure::IoWait, Unavailable, "", why),
    }
}

fn folio_state(chosen: &Chosen) -> Signal {
    match chosen.rung(Group::FolioState) {
        Some(cache) => signal(
            Figure::FolioState,
            Approximate,
            cache.name,
            "sampled at the look-up",
        ),
        // Entries alone do not tell: __folio_lock_killable is inlined in filemap_fault, and
        // folio_wait_bit_common, static inline, may not be probed.
        None => signal(
            Figure::FolioState,
            Unavailable,
            "",
            chosen.reason(Group::FolioState),
        ),
    }
}

fn userfault(chosen: &Chosen) -> Signal {
    let why = chosen.reason(Group::Userfault);
    match chosen.rung(Group::Userfault) {
        Some(rung) if rung.kind <= HookChoice::Fentry => {
            signal(Figure::UserfaultWait, Exact, rung.name, why)
        }
        Some(rung) => signal(
            Figure::UserfaultWait,
            Approximate,
            rung.name,
            &join(&["until the fault asks for mmap_lock again", why]),
        ),
        None => signal(Figure::UserfaultWait, Unavailable, "", why),
    }
}

fn vma_size(chosen: &Chosen) -> Signal {
    match chosen.rung(Group::Fault) {
        Some(rung) if rung.kind < HookChoice::Tracepoint => signal(
            Figure::VmaSize,
            Approximate,
            rung.name,
            "one common fault in 16 is looked at; retries and waits are all there",
        ),
        _ => signal(Figure::VmaSize, Unavailable, "", "the VMA is not seen"),
    }
}
