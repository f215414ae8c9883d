//! `lock_release`: who lets a lock go that others wait for, where the tracepoints do not tell. In: entry
//! of `rwsem_mark_wake`. Out: a record of the hold that ends, of an `mmap_lock` or of a VMA's rwsem.

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext, tracing::StackIdContext},
};
use profiler_common::{thread::Lock, words::Mode};

use super::{
    mmap_lock::{let_go, of_mmap_lock},
    vma_write,
};
use crate::{
    globals::{MISSING, off, opt},
    kernel::{Mem, Probed, any, now},
    op,
    rwsem::RWSEM_READER_OWNED,
    stack,
};

// kernel/locking/rwsem.c, enum rwsem_wake_type: the lock is free. Readers that join other readers,
// and a writer that becomes a reader, pass another.
const RWSEM_WAKE_ANY: u32 = 0;

/// Waiters of `sem` are being woken, by whom lets it go, or by a waiter that finds it free.
#[inline(always)]
fn wakes(ctx: &impl StackIdContext, sem: u64, wake_type: u32) {
    if wake_type != RWSEM_WAKE_ANY {
        return;
    }
    let Some((t, mm)) = of_mmap_lock(sem) else {
        vma_write::let_go_rwsem(ctx, sem);
        return;
    };
    vma_write::settles(ctx, t);
    // With the tracepoints each release is seen.
    if opt::LOCKS_ALL() == 1 || (t.request.mm == mm && t.request.contended == 1) {
        return;
    }
    let stack = stack::take(ctx);
    let held = Lock {
        mm,
        since_ns: 0,
        mode: let_go_by(sem) as u8,
        op: any(op::current(t) as u8),
        contended: 0,
        pad: 0,
        stack,
    };
    let_go(t, held, now());
}

/// A writer has taken its name off the lock by now; a reader leaves the mark of readers.
#[inline(always)]
fn let_go_by(sem: u64) -> Mode {
    // SAFETY: `Probed` fails instead of faulting.
    let owner: u64 = unsafe { Probed::read(sem as *const u8, off::RWSEM_OWNER()) };
    if off::RWSEM_OWNER() != MISSING && owner & RWSEM_READER_OWNED == 0 {
        Mode::Write
    } else {
        Mode::Read
    }
}

/// `rwsem_mark_wake(sem, wake_type, wake_q)`
#[fentry]
fn rwsem_wake_in(ctx: FEntryContext) {
    wakes(&ctx, ctx.arg(0), ctx.arg(1));
}

#[kprobe]
fn rwsem_wake_kp(ctx: ProbeContext) {
    if let (Some(sem), Some(wake_type)) = (ctx.arg(0), ctx.arg(1)) {
        wakes(&ctx, sem, wake_type);
    }
}
