//! `vma_lock`: a fault that got no VMA lock. In: entry of `lock_mm_and_find_vma`, where such a fault
//! goes next, so that the others cost nothing. Out: the start of a fallback, its reason as far as it
//! can be seen a moment later.

use aya_ebpf::{macros::fentry, programs::FEntryContext};
use profiler_common::{
    fault,
    thread::phase,
    words::{FallbackReason, Op},
};

use super::fault::ELSEWHERE;
use crate::{
    globals::{MISSING, off},
    kernel::{Mem, Typed},
    op, thread,
};

// kernel/locking/rwsem.c
const RWSEM_WRITER_LOCKED: u64 = 1;

/// `lock_vma_under_rcu(mm, address)` gave no VMA, if this is a fault of user mode.
#[inline(always)]
fn refused(mm: *const u8, address: u64) {
    let Some(t) = thread::current(0) else { return };
    if t.fault.phase == phase::RETRYING {
        if t.fault.address == address {
            return; // the retry takes its lock
        }
        fault::given_up(&ELSEWHERE, t);
    }
    if t.fault.phase == phase::ATTEMPT && t.fault.address == address {
        return; // the attempt's end was skipped: the next one's begin will tell
    }
    // Faults of the kernel on user memory try no VMA lock.
    if op::current(t) as u8 != Op::Fault as u8 {
        return;
    }
    // SAFETY: typed pointer to the mm the hook was given.
    let count: u64 =
        unsafe { Typed::read(mm, off::MM_MMAP_LOCK().wrapping_add(off::RWSEM_COUNT())) };
    let reason = if off::RWSEM_COUNT() == MISSING {
        FallbackReason::Unknown
    } else if count & RWSEM_WRITER_LOCKED != 0 {
        FallbackReason::WriteActive
    } else {
        FallbackReason::NoVmaOrRaced
    };
    fault::begins_locking(&ELSEWHERE, t, address);
    t.fault.fallback = reason as u8 + 1;
}

/// `lock_mm_and_find_vma(mm, address, regs)`
#[fentry]
fn vma_lock_entry(ctx: FEntryContext) {
    refused(ctx.arg(0), ctx.arg(1));
}
