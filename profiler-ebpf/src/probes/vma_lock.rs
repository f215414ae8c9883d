//! `vma_lock`: a fault that got no VMA lock. In: entry of `lock_mm_and_find_vma`, where such a fault
//! goes next, so that the others cost nothing. Out: the start of a fallback, its reason as far as it
//! can be seen a moment later.

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use profiler_common::{
    fault,
    thread::phase,
    words::{FallbackReason, Op},
};

use super::fault::ELSEWHERE;
use crate::{
    globals::{MISSING, off},
    kernel::{Mem, Probed, Typed},
    op, thread,
};

// kernel/locking/rwsem.c
const RWSEM_WRITER_LOCKED: u64 = 1;

/// `lock_vma_under_rcu(mm, address)` gave no VMA, if this is a fault of user mode.
#[inline(always)]
fn refused<M: Mem>(mm: *const u8, address: u64) {
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
    fault::is_elsewhere(&ELSEWHERE, t);
    // Faults of the kernel on user memory try no VMA lock.
    if op::in_syscall() || op::current(t) as u8 != Op::Fault as u8 {
        return;
    }
    // SAFETY: the mm the hook was given.
    let count: u64 = unsafe { M::read(mm, off::MM_MMAP_LOCK().wrapping_add(off::RWSEM_COUNT())) };
    let reason = if off::RWSEM_COUNT() == MISSING {
        FallbackReason::Unknown
    } else if count & RWSEM_WRITER_LOCKED != 0 {
        FallbackReason::WriteActive
    } else {
        FallbackReason::NoVmaOrRaced
    };
    fault::begins_locking(&ELSEWHERE, t, address, true);
    t.fault.fallback = reason as u8 + 1;
}

/// `lock_mm_and_find_vma(mm, address, regs)`
#[fentry]
fn vma_lock_entry(ctx: FEntryContext) {
    refused::<Typed>(ctx.arg(0), ctx.arg(1));
}

#[kprobe]
fn vma_lock_kp(ctx: ProbeContext) {
    if let (Some(mm), Some(address)) = (ctx.arg(0), ctx.arg(1)) {
        refused::<Probed>(mm, address);
    }
}
