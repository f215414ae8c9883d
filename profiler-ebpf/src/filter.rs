//! Which threads and address spaces count: asked once per thread, when its entry is made. And which of
//! their faults are timed.

use aya_ebpf::helpers::{bpf_get_current_uid_gid, generated::bpf_get_current_ancestor_cgroup_id};
use profiler_common::{
    config::{CGROUP_DEPTH, check, targeted},
    words::Loss,
};

use crate::{
    count,
    globals::opt,
    maps::{ARMED, CGROUPS, CHECK, MMS, TARGETS, UIDS},
};

#[inline(always)]
pub fn armed() -> bool {
    ARMED.get(0).is_some_and(|armed| *armed != 0)
}

/// One common fault in this many, a power of two, is timed. A fault that is in flight when it changes
/// is weighed by the new number: at most one on each CPU.
#[inline(always)]
pub fn sample() -> u32 {
    match opt::SAMPLE() {
        0 => ARMED.get(0).map_or(1, |sample| (*sample).max(1)),
        fixed => fixed,
    }
}

#[inline(always)]
pub fn is_self(tgid: u32) -> bool {
    CHECK.get(check::OWN_TGID).is_some_and(|own| *own == tgid)
}

#[inline(always)]
pub fn is_target(tgid: u32) -> bool {
    match opt::TARGETED() {
        targeted::PROCESSES => TARGETS.get_ptr(tgid).is_some(),
        targeted::CGROUPS => in_cgroup() != 0,
        targeted::UIDS => UIDS.get_ptr(bpf_get_current_uid_gid() as u32).is_some(),
        _ => true,
    }
}

/// A function of its own: it is asked in many programs, and long.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn in_cgroup() -> u32 {
    for level in 0..CGROUP_DEPTH {
        if opt::CGROUP_LEVELS() & (1 << level) != 0 {
            // SAFETY: no pointers; 0 where the thread's cgroup is not as deep.
            let id = unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) };
            if CGROUPS.get_ptr(id).is_some() {
                return 1;
            }
        }
    }
    0
}

/// Whether a stranger works on a target's address space (a /proc reader, ptrace). MMS holds
/// targets only, but also address spaces that are gone and whose address a stranger's own may have.
#[inline(always)]
pub fn visits(mm: u64, own_mm: u64) -> bool {
    mm != 0 && mm != own_mm && MMS.get_ptr(mm).is_some()
}

/// The process is gone, and its number will be another's.
#[inline(always)]
pub fn forget(tgid: u32) {
    if opt::TARGETED() == targeted::PROCESSES {
        let _ = TARGETS.remove(tgid);
    }
}

/// A child of a target becomes one, so that `-- CMD` covers descendants.
#[inline(always)]
pub fn follow(parent: u32, child: u32) {
    if opt::TARGETED() == targeted::PROCESSES
        && opt::FOLLOW() == 1
        && TARGETS.get_ptr(parent).is_some()
        && TARGETS.insert(child, 1u32, 0).is_err()
    {
        count::loss(Loss::MapFull);
    }
}
