//! The read-only globals and the maps that are filled before arming.

use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap},
};

use profiler_common::config::{MISSING, fault_hook, targeted};

use super::{
    LoadError, Request, Targets,
    group::Group,
    hooks::{HookChoice, Ladder},
};
use crate::kernel::{Facts, host, syscalls};

/// Every global the kernel side declares, by name.
pub fn values(facts: &Facts, ladder: &Ladder, request: &Request) -> Vec<(&'static str, u32)> {
    let fault_hook = match ladder.rung(Group::Fault).map(|r| r.kind) {
        Some(HookChoice::Auto | HookChoice::Fentry) => fault_hook::EXIT,
        Some(HookChoice::Kprobe) => fault_hook::ENTRY,
        Some(HookChoice::Tracepoint) | None => fault_hook::EVENTS,
    };
    let tid = facts
        .globals()
        .find_map(|(name, offset)| (name == "TASK_PID").then_some(offset))
        .unwrap_or(MISSING);
    let options = [
        ("TARGETED", targeted_by(&request.targets)),
        ("CGROUP_LEVELS", levels(&request.targets)),
        (
            "FOLLOW",
            u32::from(matches!(
                request.targets,
                Targets::Processes { follow: true, .. }
            )),
        ),
        ("MIN_US", request.min_us),
        (
            "SAMPLE",
            if request.paced {
                0
            } else {
                request.sample.max(1)
            },
        ),
        (
            "LOCKS_ALL",
            u32::from(ladder.rung(Group::MmapLockEvents).is_some()),
        ),
        (
            "SLOW_SEEN",
            u32::from(
                ladder
                    .rung(Group::MmapLockWait)
                    .is_some_and(|r| r.kind == HookChoice::Fentry),
            ),
        ),
        (
            "VMA_ENTRY_ONLY",
            u32::from(
                ladder
                    .rung(Group::VmaWrite)
                    .is_some_and(|r| r.kind == HookChoice::Kprobe),
            ),
        ),
        ("VM_FAULT_ERROR", facts.vm_fault_error()),
        ("VM_FAULT_SPECIAL", facts.vm_fault_special()),
        ("KEEP_STACKS", u32::from(request.stacks)),
        ("TID", if request.empty { MISSING } else { tid }),
        ("PAGE_SHIFT", host::page_size().trailing_zeros()),
        ("EARLY_VMA_LOCK", facts.early_vma_lock()),
        ("FAULT_HOOK", fault_hook),
    ];
    facts.globals().chain(options).collect()
}

pub fn fill_maps(ebpf: &mut Ebpf, request: &Request) -> Result<(), LoadError> {
    let missing = |name: &str| LoadError::Kernel(format!("map {name} is not in the object"));
    let map = ebpf
        .map_mut("SYSCALL_OPS")
        .ok_or_else(|| missing("SYSCALL_OPS"))?;
    let mut ops = Array::<_, u8>::try_from(map)?;
    for (nr, op) in (0..).zip(syscalls::table(std::env::consts::ARCH)) {
        ops.set(nr, op, 0)?;
    }
    match &request.targets {
        Targets::Everybody => Ok(()),
        Targets::Processes { tgids, .. } => fill(ebpf, "TARGETS", tgids.iter().copied()),
        Targets::Cgroups(cgroups) => fill(ebpf, "CGROUPS", cgroups.iter().map(|c| c.id)),
        Targets::Uids(uids) => fill(ebpf, "UIDS", uids.iter().copied()),
    }
}

fn fill<K: Pod>(
    ebpf: &mut Ebpf,
    name: &'static str,
    keys: impl Iterator<Item = K>,
) -> Result<(), LoadError> {
    let missing = || LoadError::Kernel(format!("map {name} is not in the object"));
    let map = ebpf.map_mut(name).ok_or_else(missing)?;
    let mut table = HashMap::<_, K, u32>::try_from(map)?;
    for key in keys {
        table.insert(key, 1, 0)?;
    }
    Ok(())
}

fn targeted_by(targets: &Targets) -> u32 {
    match targets {
        Targets::Everybody => targeted::EVERYBODY,
        Targets::Processes { .. } => targeted::PROCESSES,
        Targets::Cgroups(_) => targeted::CGROUPS,
        Targets::Uids(_) => targeted::UIDS,
    }
}

fn levels(targets: &Targets) -> u32 {
    match targets {
        Targets::Cgroups(cgroups) => cgroups.iter().fold(0, |bits, c| bits | 1 << c.level),
        _ => 0,
    }
}
