//! What can be told on this kernel, and how well: the hooks chosen, in the user's words. This is
//! what `doctor` prints and every report carries.

use super::{
    Loaded,
    group::Group,
    hooks::{Attach, Chosen, HookChoice},
};
use crate::{
    kernel::{Facts, VmaLock, host},
    model::{Figure, Quality, Signal},
};

pub fn signals(facts: &Facts, loaded: &Loaded) -> Vec<Signal> {
    let mut all = faults(facts, loaded);
    all.extend(super::anatomy::signals(facts, &loaded.chosen));
    all.extend(locks(facts, loaded));
    all.extend(blame(facts, loaded));
    all.push(stacks());
    all
}

/// Kernel stacks: what they would be, or are.
fn stacks() -> Signal {
    let (quality, why) = if host::symbols_are_seen() {
        (Quality::Exact, "with --stacks only")
    } else {
        (
            Quality::Approximate,
            "with --stacks only; addresses without names: kernel.kptr_restrict hides the symbols",
        )
    };
    signal(Figure::KernelStacks, quality, "bpf_get_stackid", why)
}

/// `full` where functions can be hooked, `tracepoint` where they cannot.
pub fn tier(loaded: &Loaded) -> &'static str {
    match loaded.chosen.rung(Group::Fault) {
        Some(rung) if rung.kind < HookChoice::Tracepoint => "full",
        Some(_) => "tracepoint",
        None => "none",
    }
}

pub(super) fn signal(figure: Figure, quality: Quality, hook: &str, reason: &str) -> Signal {
    Signal {
        name: figure.name().into(),
        quality,
        hook: hook.into(),
        reason: reason.into(),
    }
}

pub(super) fn join(parts: &[&str]) -> String {
    parts
        .iter()
        .filter(|p| !p.is_empty())
        .copied()
        .collect::<Vec<_>>()
        .join("; ")
}

fn faults(facts: &Facts, loaded: &Loaded) -> Vec<Signal> {
    use Quality::{Approximate, Exact, Unavailable};
    let Some(rung) = loaded.chosen.rung(Group::Fault) else {
        return Vec::new();
    };
    let why = loaded.chosen.reason(Group::Fault);
    let has = |a| rung.programs.iter().any(|(_, attach)| *attach == a);
    let start = has(Attach::TpBtf("page_fault_user"));
    let mut out = match rung.kind {
        HookChoice::Auto | HookChoice::Fentry => vec![
            signal(Figure::FaultCount, Exact, rung.name, why),
            signal(Figure::FaultPath, Exact, rung.name, why),
            signal(Figure::FaultLatency, Exact, rung.name, why),
            signal(Figure::FaultKind, Exact, rung.name, why),
        ],
        HookChoice::Kprobe => vec![
            signal(Figure::FaultCount, Exact, rung.name, why),
            signal(
                Figure::FaultPath,
                Exact,
                rung.name,
                &join(&[
                    "errors and GUP faults are told apart by the attempt that follows",
                    why,
                ]),
            ),
            signal(
                Figure::FaultLatency,
                Exact,
                rung.name,
                &join(&["not of errors and GUP faults", why]),
            ),
            signal(Figure::FaultKind, Exact, rung.name, why),
        ],
        HookChoice::Tracepoint => vec![
            signal(
                Figure::FaultCount,
                Approximate,
                rung.name,
                &join(&[
                    "faults through get_user_pages and faults that ended in an error are not seen",
                    why,
                ]),
            ),
            path_by_tracepoint(facts, loaded, rung.name, why),
            if start {
                signal(Figure::FaultLatency, Exact, rung.name, why)
            } else {
                signal(
                    Figure::FaultLatency,
                    Unavailable,
                    "",
                    &join(&["no hook where a fault begins", why]),
                )
            },
            signal(
                Figure::FaultKind,
                Unavailable,
                "",
                &join(&["the VMA is not seen", why]),
            ),
        ],
    };
    out.push(match loaded.chosen.rung(Group::VmaLock) {
        Some(hook) => signal(
            Figure::FallbackReason,
            Approximate,
            hook.name,
            "sampled just after the failure: the writer may have come or gone",
        ),
        None => signal(
            Figure::FallbackReason,
            Unavailable,
            "",
            loaded.chosen.reason(Group::VmaLock),
        ),
    });
    out
}

/// Without a hook in the fault path, the lock held when the fault is accounted tells.
fn path_by_tracepoint(facts: &Facts, loaded: &Loaded, hook: &str, why: &str) -> Signal {
    if facts.vma_lock == VmaLock::None {
        return signal(
            Figure::FaultPath,
            Quality::Exact,
            hook,
            &join(&["this kernel has one path", why]),
        );
    }
    if !loaded.mmap_lock_all {
        return signal(
            Figure::FaultPath,
            Quality::Unavailable,
            "",
            &join(&["needs --mmap-lock all", why]),
        );
    }
    signal(
        Figure::FaultPath,
        Quality::Approximate,
        &format!("{hook} + tp_btf mmap_lock"),
        &join(&[
            "mmap_lock held at the end: a major fault counts as retry, a minor one as fallback",
            why,
        ]),
    )
}

fn locks(facts: &Facts, loaded: &Loaded) -> Vec<Signal> {
    use Quality::{Approximate, Exact, Unavailable};
    let chosen = &loaded.chosen;
    let events = chosen.rung(Group::MmapLockEvents);
    let every = match events {
        Some(rung) => {
            let cost = if facts.memcg_path {
                "expensive here: formats a cgroup path per event"
            } else {
                ""
            };
            (Exact, rung.name, cost)
        }
        None => (Unavailable, "", chosen.reason(Group::MmapLockEvents)),
    };
    let wait = match chosen.rung(Group::MmapLockWait) {
        Some(rung) if rung.kind == HookChoice::Fentry => (Exact, rung.name, ""),
        Some(rung) if is_rt(facts) && events.is_none() => (
            Approximate,
            rung.name,
            "PREEMPT_RT: a writer that waits for another is seen with --mmap-lock all only",
        ),
        Some(rung) => (Approximate, rung.name, "waits that only spun are not seen"),
        None => (Unavailable, "", chosen.reason(Group::MmapLockWait)),
    };
    let wait_why = join(&[wait.2, chosen.reason(Group::MmapLockWait)]);
    vec![
        signal(Figure::MmapLockAcquired, every.0, every.1, every.2),
        signal(
            Figure::MmapLockWait,
            wait.0,
            wait.1,
            if wait.0 == Unavailable {
                wait.2
            } else {
                &wait_why
            },
        ),
        signal(Figure::MmapLockHold, every.0, every.1, every.2),
        signal(
            Figure::MmapLockOp,
            Approximate,
            "helper task_pt_regs",
            "from the system call the thread is in: work deferred to its end (NUMA balancing, io_uring) is named after it, to that of an interrupt `other`",
        ),
    ]
}

/// The rwsem of PREEMPT_RT is another.
fn is_rt(facts: &Facts) -> bool {
    facts.has_field("rw_semaphore.rwbase.rtmutex.owner")
}

/// The hooks of writers that wait for a VMA whose lock is an rwsem.
fn rwsem_writers(chosen: &Chosen) -> &'static str {
    match chosen.rung(Group::LockRelease).map(|r| r.kind) {
        Some(HookChoice::Kprobe) => "tp_btf contention_{begin,end}, kprobe rwsem_mark_wake",
        _ => "fentry/fexit rwsem_down_write_slowpath, fentry rwsem_mark_wake",
    }
}

/// Who held the lock, writers of VMAs, and what an estimate needs.
fn blame(facts: &Facts, loaded: &Loaded) -> Vec<Signal> {
    use Quality::{Approximate, Exact, Unavailable};
    let chosen = &loaded.chosen;
    let (events, wait) = (
        chosen.rung(Group::MmapLockEvents),
        chosen.rung(Group::MmapLockWait),
    );
    let release = chosen.rung(Group::LockRelease);
    let holder = match (events, wait, release) {
        (_, None, _) => (Unavailable, "", chosen.reason(Group::MmapLockWait)),
        _ if !is_rt(facts) && !facts.has_field("rw_semaphore.count") => (
            Unavailable,
            "",
            "the lock does not tell who holds it, or that somebody waits",
        ),
        (Some(hook), ..) => (Exact, hook.name, ""),
        (None, Some(_), Some(hook)) => (
            Approximate,
            hook.name,
            "the last holder is named at each release; when it began is not seen",
        ),
        (None, Some(_), None) => (
            Approximate,
            if is_rt(facts) {
                "rw_semaphore.rwbase"
            } else {
                "rw_semaphore.owner"
            },
            "sampled when the wait begins: exact for a writer, readers are not named",
        ),
    };
    let writers = match (facts.vma_lock, chosen.rung(Group::VmaWrite)) {
        (_, Some(hook)) if hook.kind == HookChoice::Fentry => (Exact, hook.name, ""),
        (_, Some(hook)) => (
            Approximate,
            hook.name,
            "a wait ends when the thread runs again and finds no reader in the VMA",
        ),
        (VmaLock::Rwsem, None) if release.is_some() => (
            Approximate,
            rwsem_writers(chosen),
            "an rwsem is taken for a VMA's where its last reader is a fault on a slow path: waits for other readers are not seen",
        ),
        _ => (Unavailable, "", chosen.reason(Group::VmaWrite)),
    };
    let io = chosen.rung(Group::IoWait);
    let filemap = chosen.rung(Group::Filemap);
    let windows = match (facts.vma_lock, io, filemap) {
        (VmaLock::None, ..) => (Unavailable, "", "this kernel has no per-VMA locks"),
        (_, Some(hook), Some(_)) => (
            Approximate,
            hook.name,
            match hook.kind {
                HookChoice::Kprobe => {
                    "the lock is given up between the fault's start and its first wait: both are told; closes when the thread runs again"
                }
                _ => {
                    "the lock is given up between the fault's start and its first wait: both are told"
                }
            },
        ),
        _ => (Unavailable, "", chosen.reason(Group::IoWait)),
    };
    let what_if = match (windows.0, events) {
        (Unavailable, _) => (Unavailable, "", windows.2),
        (_, None) => (Unavailable, "", "needs --mmap-lock all"),
        (_, Some(hook)) => (
            Approximate,
            hook.name,
            match (writers.0, chosen.rung(Group::FolioState)) {
                (Exact, Some(_)) => "an estimate, first order: see docs/what-if.md",
                (Exact, None) => {
                    "an estimate, first order; folios are not seen, which two policies go by"
                }
                (_, Some(_)) => {
                    "an estimate, first order; conflicts are told from the ranges of system calls"
                }
                (_, None) => {
                    "an estimate, first order; conflicts are told from the ranges of system calls, and folios are not seen, which two policies go by"
                }
            },
        ),
    };
    let of = |figure, (quality, hook, reason): (Quality, &str, &str)| {
        signal(figure, quality, hook, reason)
    };
    vec![
        of(Figure::MmapLockHolder, holder),
        of(Figure::VmaWriteWait, writers),
        of(Figure::Windows, windows),
        of(Figure::WhatIf, what_if),
    ]
}
