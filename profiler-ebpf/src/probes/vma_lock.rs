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
    kernel::{Mem, Probed, Typed},
    op, rwsem, thread,
};

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
    let reason = match unsafe { rwsem::is_written::<M>(mm) } {
        None => FallbackReason::Unknown,
        Some(true) => FallbackReason::WriteActive,
        Some(false) => FallbackReason::NoVmaOrRaced,
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
