//! `vma_lock`: a fault that got no VMA lock. In: `lock_vma_under_rcu` returning NULL. Out: the
//! start of a fallback, its reason as far as it can be seen a moment later.

use aya_ebpf::{macros::fexit, programs::FExitContext};
use profiler_common::{
    fault,
    thread::phase,
    words::{FallbackReason, Op},
};

use super::fault::ELSEWHERE;
use crate::{
    globals::{MISSING, flag, off},
    kernel::{Mem, Typed},
    op, thread,
};

// kernel/locking/rwsem.c
const RWSEM_WRITER_LOCKED: u64 = 1;

/// `lock_vma_under_rcu(mm, address)` gave no VMA. Apart, so that the program saves no registers for
/// it: nearly always there is one.
#[inline(never)]
fn refused(mm: *const u8, address: u64) {
    let Some(t) = thread::current(0) else { return };
    if t.fault.phase == phase::RETRYING {
        if flag::VM_FAULT_RETRY_VMA() != 0 || flag::VM_FAULT_RETRY_HARD() != 0 {
            return; // a kernel that retries under the VMA lock, and could not
        }
        fault::given_up(&ELSEWHERE, t);
    }
    t.fault.phase = phase::IDLE;
    // madvise, userfaultfd, binder and others try VMA locks too; only faults try them from
    // outside a system call.
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

#[fexit]
fn vma_lock_exit(ctx: FExitContext) {
    let vma: *const u8 = ctx.arg(2);
    if vma.is_null() {
        refused(ctx.arg(0), ctx.arg(1));
    }
}
