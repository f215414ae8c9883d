//! Which threads and address spaces count: asked once per thread, when its entry is made.

use profiler_common::words::Loss;

use crate::{
    count,
    globals::opt,
    maps::{ARMED, MMS, TARGETS},
};

#[inline(always)]
pub fn armed() -> bool {
    ARMED.get(0).is_some_and(|armed| *armed != 0)
}

#[inline(always)]
pub fn is_self(tgid: u32) -> bool {
    tgid == opt::SELF_TGID()
}

#[inline(always)]
pub fn is_target(tgid: u32) -> bool {
    opt::TARGETED() == 0 || TARGETS.get_ptr(tgid).is_some()
}

/// Whether a stranger works on a target's address space (a /proc reader, ptrace). MMS holds
/// targets only, but also address spaces that are gone and whose address a stranger's own may have.
#[inline(always)]
pub fn visits(mm: u64, own_mm: u64) -> bool {
    mm != 0 && mm != own_mm && MMS.get_ptr(mm).is_some()
}

/// A child of a target becomes one, so that `-- CMD` covers descendants.
#[inline(always)]
pub fn follow(parent: u32, child: u32) {
    if opt::TARGETED() == 1
        && opt::FOLLOW() == 1
        && TARGETS.get_ptr(parent).is_some()
        && TARGETS.insert(child, 1u32, 0).is_err()
    {
        count::loss(Loss::MapFull);
    }
}
