//! `mmap_lock`: waits for it and holds of it.
//!
//! In: the `mmap_lock` tracepoints (`all`: every acquisition), the rwsem slow paths (exactly those
//! that had to wait, spinning included), else the contention tracepoints (those that queued).
//! Out: LOCKS by operation, LOCK_HISTS, the thread's counts, a record over the threshold.

use aya_ebpf::{
    helpers::bpf_get_smp_processor_id,
    macros::{btf_tracepoint, fentry, fexit},
    programs::{BtfTracePointContext, FEntryContext, FExitContext},
};
use profiler_common::{
    agg::lock_index,
    hist::decade_of,
    record::{self, WaitRecord},
    thread::{Holder, Thread, phase},
    words::{Loss, Mode},
    zero::zero,
};

use super::fault::ELSEWHERE;
use crate::{
    count, emit,
    globals::{MISSING, off, opt},
    kernel::{Mem, Probed, any, now},
    maps::{LOCK_HISTS, LOCKS, MMS},
    op, thread,
};

// kernel/locking/rwsem.c
const RWSEM_WRITER_LOCKED: u64 = 1;
const RWSEM_READER_OWNED: u64 = 1;
const RWSEM_OWNER_FLAGS: u64 = 7;
// include/trace/events/lock.h
const LCB_F_SPIN: u32 = 1;
const LCB_F_READ: u32 = 2;
const LCB_F_WRITE: u32 = 4;
const LCB_F_PERCPU: u32 = 16;
const LCB_F_MUTEX: u32 = 32;

/// `mmap_lock` is asked for. A failed trylock shows as a start without an acquisition: the wait is
/// that of the second start.
#[inline(always)]
fn starts(mm: u64, write: bool) {
    let Some(t) = thread::current(mm) else { return };
    asks(t, mm, write);
}

#[inline(always)]
fn asks(t: &mut Thread, mm: u64, write: bool) {
    zero(&mut t.request);
    t.request.mm = mm;
    t.request.since_ns = now();
    t.request.mode = u8::from(write);
}

#[inline(always)]
fn acquired(mm: u64, write: bool, success: bool) {
    let Some(t) = thread::current(mm) else { return };
    let asked = t.request.mm == mm;
    if !success {
        if asked && t.request.contended == 1 {
            let op = any(op::current(t) as u8);
            waited(t, mm, u8::from(write), op, now(), false);
        }
        t.request.mm = 0;
        return;
    }
    let end = now();
    let op = any(op::current(t) as u8);
    if asked {
        let ns = end.saturating_sub(t.request.since_ns);
        if let Some(h) = LOCK_HISTS.get_ptr_mut(u32::from(write)) {
            // SAFETY: this CPU's own copy; `decade_of` is in range.
            if let Some(n) = unsafe { (*h).decades.get_mut(usize::from(any(decade_of(ns) as u8))) }
            {
                *n += 1;
            }
        }
        if let Some(agg) = LOCKS.get_ptr_mut(lock_index(u8::from(write), op)) {
            // SAFETY: this CPU's own copy.
            unsafe { (*agg).acquired += 1 };
        }
        if t.request.contended == 1 {
            waited(t, mm, u8::from(write), op, end, true);
        }
        t.request.mm = 0;
    } else if !write {
        // `mmap_write_downgrade`: no start, and no release of the write side either.
        release(t, mm, Mode::Write as u8, end);
    }
    hold(t, mm, u8::from(write), op, end);
}

#[inline(always)]
fn released(mm: u64, write: bool) {
    // A release without a hold we saw begin is not ours to time (before arming; irq_work).
    let Some(t) = thread::known() else { return };
    release(t, mm, u8::from(write), now());
}

#[inline(always)]
fn hold(t: &mut Thread, mm: u64, mode: u8, op: u8, since_ns: u64) {
    let [first, second] = &mut t.holds;
    let slot = if first.mm == 0 || first.mm == mm {
        first
    } else if second.mm == 0 || second.mm == mm {
        second
    } else {
        // No caller holds three: the release of an older one was skipped.
        count::loss(Loss::HoldOverflow);
        if second.since_ns < first.since_ns {
            second
        } else {
            first
        }
    };
    zero(slot);
    slot.mm = mm;
    slot.since_ns = since_ns;
    slot.mode = mode;
    slot.op = op;
}

#[inline(always)]
fn release(t: &mut Thread, mm: u64, mode: u8, end: u64) {
    let slot = if t.holds[0].mm == mm && t.holds[0].mode == mode {
        0
    } else if t.holds[1].mm == mm && t.holds[1].mode == mode {
        1
    } else {
        return;
    };
    let held = t.holds[slot];
    t.holds[slot].mm = 0;
    let ns = end.saturating_sub(held.since_ns);
    if let Some(h) = LOCK_HISTS.get_ptr_mut(u32::from(mode)) {
        // SAFETY: this CPU's own copy.
        count::duration(unsafe { &mut (*h).hold }, ns);
    }
    if let Some(agg) = LOCKS.get_ptr_mut(lock_index(mode, held.op)) {
        // SAFETY: this CPU's own copy.
        let agg = unsafe { &mut *agg };
        agg.holds += 1;
        agg.hold_sum_ns += ns;
        if ns > agg.hold_max_ns {
            agg.hold_max_ns = ns;
        }
    }
}

/// The lock was not free: a slow path, or a queue, is entered.
#[inline(always)]
fn wait_begins(sem: u64, write: bool) {
    let Some((t, mm)) = of_mmap_lock(sem) else {
        return;
    };
    if opt::LOCKS_ALL() != 1 || t.request.mm != mm {
        asks(t, mm, write);
    }
    t.request.contended = 1;
    zero(&mut t.holder);
    look_up_holder(sem, &mut t.holder);
}

/// The wait is over; in `all` mode the tracepoint that follows ends it.
#[inline(always)]
fn wait_ends(sem: u64, success: bool) {
    if opt::LOCKS_ALL() == 1 {
        return;
    }
    let Some(t) = thread::known() else { return };
    let mm = sem.wrapping_sub(u64::from(off::MM_MMAP_LOCK()));
    if t.request.mm != mm || t.request.contended == 0 {
        return;
    }
    let mode = t.request.mode;
    let op = any(op::current(t) as u8);
    waited(t, mm, mode, op, now(), success);
    t.request.mm = 0;
}

/// The thread and address space, if `sem` is the `mmap_lock` of one that counts.
#[inline(always)]
fn of_mmap_lock(sem: u64) -> Option<(&'static mut Thread, u64)> {
    let mm = sem.wrapping_sub(u64::from(off::MM_MMAP_LOCK()));
    if mm != thread::own_mm() && MMS.get_ptr(mm).is_none() {
        return None;
    }
    Some((thread::current(mm)?, mm))
}

#[inline(always)]
fn waited(t: &mut Thread, mm: u64, mode: u8, op: u8, end: u64, success: bool) {
    let ns = end.saturating_sub(t.request.since_ns);
    if let Some(agg) = LOCKS.get_ptr_mut(lock_index(mode, op)) {
        // SAFETY: this CPU's own copy.
        let agg = unsafe { &mut *agg };
        agg.waits += 1;
        agg.wait_sum_ns += ns;
        if ns > agg.wait_max_ns {
            agg.wait_max_ns = ns;
        }
    }
    if let Some(h) = LOCK_HISTS.get_ptr_mut(u32::from(mode)) {
        // SAFETY: this CPU's own copy.
        count::duration(unsafe { &mut (*h).wait }, ns);
    }
    let m = (mode & 1) as usize;
    t.counts.waits[m] += 1;
    t.counts.wait_sum_ns[m] += ns;
    if ns > t.counts.wait_max_ns[m] {
        t.counts.wait_max_ns[m] = ns;
    }
    if t.fault.phase != phase::IDLE {
        t.fault.waits(&ELSEWHERE).mmap_lock_ns += ns;
    }
    if emit::over_threshold(ns) {
        emit::record(|r| {
            *r = WaitRecord {
                kind: record::kind::WAIT,
                // SAFETY: no arguments.
                cpu: unsafe { bpf_get_smp_processor_id() },
                start_ns: t.request.since_ns,
                end_ns: end,
                who: emit::who(t.tid, t.tgid),
                mm,
                // SAFETY: read at once.
                mm_tgid: unsafe { MMS.get(mm) }.copied().unwrap_or(0),
                mode,
                op,
                acquired: u8::from(success),
                pad: 0,
                holder: t.holder,
            }
        });
    }
    zero(&mut t.holder);
}

/// Who holds `sem` now: exact for a writer. A reader-owned rwsem names one reader at most, and
/// without CONFIG_DETECT_HUNG_TASK_BLOCKER one that may have left: it is not named.
#[inline(always)]
fn look_up_holder(sem: u64, h: &mut Holder) {
    if off::RWSEM_OWNER() == MISSING || off::RWSEM_COUNT() == MISSING {
        return;
    }
    let sem = sem as *const u8;
    // SAFETY: `Probed` fails instead of faulting, also on a task that has gone.
    unsafe {
        let owner: u64 = Probed::read(sem, off::RWSEM_OWNER());
        let count: u64 = Probed::read(sem, off::RWSEM_COUNT());
        if owner & RWSEM_READER_OWNED != 0 || count & RWSEM_WRITER_LOCKED == 0 {
            h.reader = u32::from(count >> 8 != 0);
            return;
        }
        let task = (owner & !RWSEM_OWNER_FLAGS) as *const u8;
        if task.is_null() {
            return;
        }
        h.tid = Probed::read(task, off::TASK_PID());
        h.tgid = Probed::read(task, off::TASK_TGID());
        h.prio = Probed::read(task, off::TASK_PRIO());
        h.comm = Probed::read(task, off::TASK_COMM());
    }
}

// The verifier wants each program's context read at fixed offsets, so the two prototypes of the
// tracepoints have programs of their own: (mm, write[, success]), and up to 6.12
// (mm, memcg_path, write[, success]).

#[btf_tracepoint]
fn mmap_start_tp(ctx: BtfTracePointContext) {
    starts(ctx.arg(0), ctx.arg::<u8>(1) != 0);
}

#[btf_tracepoint]
fn mmap_acquire_tp(ctx: BtfTracePointContext) {
    acquired(ctx.arg(0), ctx.arg::<u8>(1) != 0, ctx.arg::<u8>(2) != 0);
}

#[btf_tracepoint]
fn mmap_release_tp(ctx: BtfTracePointContext) {
    released(ctx.arg(0), ctx.arg::<u8>(1) != 0);
}

#[btf_tracepoint]
fn mmap_start_cg(ctx: BtfTracePointContext) {
    starts(ctx.arg(0), ctx.arg::<u8>(2) != 0);
}

#[btf_tracepoint]
fn mmap_acquire_cg(ctx: BtfTracePointContext) {
    acquired(ctx.arg(0), ctx.arg::<u8>(2) != 0, ctx.arg::<u8>(3) != 0);
}

#[btf_tracepoint]
fn mmap_release_cg(ctx: BtfTracePointContext) {
    released(ctx.arg(0), ctx.arg::<u8>(2) != 0);
}

#[fentry]
fn rwsem_read_in(ctx: FEntryContext) {
    wait_begins(ctx.arg(0), false);
}

#[fentry]
fn rwsem_write_in(ctx: FEntryContext) {
    wait_begins(ctx.arg(0), true);
}

// Return values are `sem` or ERR_PTR(-EINTR); both functions take state after sem, the read side
// also the count: (sem, count, state) and (sem, state).
#[fexit]
fn rwsem_read_out(ctx: FExitContext) {
    wait_ends(ctx.arg(0), ctx.arg::<i64>(3) as u64 == ctx.arg::<u64>(0));
}

#[fexit]
fn rwsem_write_out(ctx: FExitContext) {
    wait_ends(ctx.arg(0), ctx.arg::<i64>(2) as u64 == ctx.arg::<u64>(0));
}

#[btf_tracepoint]
fn lock_begin_tp(ctx: BtfTracePointContext) {
    let flags: u32 = ctx.arg(1);
    if flags & (LCB_F_SPIN | LCB_F_PERCPU | LCB_F_MUTEX) == 0
        && flags & (LCB_F_READ | LCB_F_WRITE) != 0
    {
        wait_begins(ctx.arg(0), flags & LCB_F_WRITE != 0);
    }
}

#[btf_tracepoint]
fn lock_end_tp(ctx: BtfTracePointContext) {
    wait_ends(ctx.arg(0), ctx.arg::<i32>(1) == 0);
}
