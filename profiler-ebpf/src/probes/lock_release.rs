//! `lock_release`: who lets a lock go that others wait for, where the tracepoints do not tell. In: entry
//! of `rwsem_mark_wake`. Out: a record of the hold that ends, of an `mmap_lock` or of a VMA's rwsem.

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext, tracing::StackIdContext},
};
use profiler_common::{
    thread::Lock,
    words::{Mode, Op},
};

use super::{
    mmap_lock::{let_go, of_mmap_lock},
    vma_write,
};
use crate::{
    globals::{MISSING, off, opt},
    kernel::{Mem, Probed, any, now, task},
    op,
    rwsem::RWSEM_READER_OWNED,
    stack,
};

// kernel/locking/rwsem.c, enum rwsem_wake_type: the lock is free; or it is the readers', which both
// readers that join others and a writer that becomes a reader pass.
const RWSEM_WAKE_ANY: u32 = 0;
const RWSEM_WAKE_READ_OWNED: u32 = 2;
/// Further back in the queue no waiter is looked for that has just come: the order is the kernel's, or
/// on Android a vendor's (android_vh_alter_rwsem_list_add).
const NEWEST: usize = 4;
// include/linux/types.h, struct list_head
const PREV: u32 = 8;

/// Waiters of `sem` are being woken, by whom lets it go, or by a waiter that finds it free.
#[inline(always)]
fn wakes(ctx: &impl StackIdContext, sem: u64, wake_type: u32) {
    if wake_type != RWSEM_WAKE_ANY && wake_type != RWSEM_WAKE_READ_OWNED {
        return;
    }
    let Some((t, mm)) = of_mmap_lock(sem) else {
        if wake_type == RWSEM_WAKE_ANY {
            vma_write::let_go_rwsem(ctx, sem);
        }
        return;
    };
    vma_write::settles(ctx, t);
    // With the tracepoints each release is seen.
    if opt::LOCKS_ALL() == 1 || (t.request.mm == mm && t.request.contended == 1) {
        return;
    }
    let op = op::current(t);
    let mode = if wake_type == RWSEM_WAKE_ANY {
        if opt::SLOW_SEEN() != 1 && queues(sem) {
            return;
        }
        let_go_by(sem)
    } else if matches!(op, Op::Munmap | Op::Mremap | Op::Brk) {
        // `mmap_write_downgrade`: nobody else calls it (mm/vma.c, mm/mmap.c, mm/mremap.c).
        Mode::Write
    } else {
        return;
    };
    let stack = stack::take(ctx);
    let held = Lock {
        mm,
        since_ns: 0,
        mode: mode as u8,
        op: any(op as u8),
        contended: 0,
        pad: 0,
        stack,
    };
    let_go(t, held, now());
}

/// The current thread has just queued for `sem`, and wakes those before it because it saw the lock free:
/// the contention tracepoint tells of its wait after that (rwsem_cond_wake_waiter).
#[inline(always)]
fn queues(sem: u64) -> bool {
    if off::RWSEM_WAIT_LIST() == MISSING || off::RWSEM_WAITER_TASK() == MISSING {
        return false;
    }
    let head = sem.wrapping_add(u64::from(off::RWSEM_WAIT_LIST()));
    let me = task() as u64;
    let mut waiter = head;
    for _ in 0..NEWEST {
        // SAFETY: `Probed` fails instead of faulting. A waiter begins with its list_head, whose second
        // member is the one before.
        waiter = unsafe { Probed::read(waiter as *const u8, PREV) };
        if waiter == head || waiter == 0 {
            return false;
        }
        // SAFETY: as above.
        if unsafe { Probed::read::<u64>(waiter as *const u8, off::RWSEM_WAITER_TASK()) } == me {
            return true;
        }
    }
    false
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
