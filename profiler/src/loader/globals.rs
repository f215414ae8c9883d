//! The read-only globals and the maps that are filled before arming.

use aya::{
    Ebpf,
    maps::{Array, HashMap},
};

use profiler_common::config::{MISSING, fault_hook};

use super::{
    LoadError, Request,
    hooks::{HookChoice, Ladder},
    table::Group,
};
use crate::kernel::{Facts, syscalls};

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
        ("SELF_TGID", std::process::id()),
        ("TARGETED", u32::from(request.targets.is_some())),
        ("FOLLOW", u32::from(request.follow)),
        ("MIN_US", request.min_us),
        ("SAMPLE", request.sample.max(1)),
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
        ("VM_FAULT_ERROR", facts.vm_fault_error()),
        ("VM_FAULT_SPECIAL", facts.vm_fault_special()),
        ("KEEP_STACKS", u32::from(request.stacks)),
        ("TID", if request.empty { MISSING } else { tid }),
        ("EARLY_VMA_LOCK", u32::from(facts.early_vma_lock())),
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
    if let Some(targets) = &request.targets {
        let map = ebpf.map_mut("TARGETS").ok_or_else(|| missing("TARGETS"))?;
        let mut table = HashMap::<_, u32, u32>::try_from(map)?;
        for tgid in targets {
            table.insert(tgid, 1, 0)?;
        }
    }
    Ok(())
}
