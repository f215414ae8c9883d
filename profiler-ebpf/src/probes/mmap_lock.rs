//! `mmap_lock`: waits for it and holds of it.
//!
//! In: the `mmap_lock` tracepoints (`all`: every acquisition), the rwsem slow paths (exactly those
//! that had to wait, spinning included), else the contention tracepoints (those that queued).
//! Out: LOCKS by operation, LOCK_HISTS, the thread's counts, a record over the threshold.

use aya_ebpf::{
    helpers::bpf_get_smp_processor_id,
    macros::{btf_tracepoint, fentry, fexit},
    programs::{BtfTracePointContext, FEntryContext, FExitContext, tracing::StackIdContext},
};
use profiler_common::{
    agg::lock_index,
    hist::{decade_of, near_place_of, place_of},
    record::{self, HoldRecord, WaitRecord},
    thread::{Lock, Thread, phase},
    words::{Loss, Mode, Op},
    zero::zero,
};

use super::{fault::ELSEWHERE, vma_write};
use crate::{
    count, emit,
    globals::{MISSING, off, opt},
    kernel::{any, now},
    maps::{LOCK_HISTS, LOCKS, MMS},
    op, rwsem, stack, thread, window,
};

// include/trace/events/lock.h
const LCB_F_SPIN: u32 = 1;
const LCB_F_READ: u32 = 2;
const LCB_F_WRITE: u32 = 4;
const LCB_F_RT: u32 = 8;
const LCB_F_PERCPU: u32 = 16;
const LCB_F_MUTEX: u32 = 32;

/// `mmap_lock` is asked for. Where slow paths tell of each wait, there is nothing to remember.
#[inline(always)]
fn starts(mm: u64, write: bool) {
    if thread::empty() {
        return;
    }
    if opt::SLOW_SEEN() != 1 || window::any(mm) {
        starts_noted(mm, write);
    }
}

/// A failed trylock shows as a start without an acquisition: the wait is that of the second start.
#[inline(never)]
fn starts_noted(mm: u64, write: bool) {
    let Some(t) = thread::current(mm) else { return };
    if opt::SLOW_SEEN() != 1 {
        asks(t, mm, write);
    }
    if window::any(mm) {
        let op = any(op::taking(t) as u8);
        let (mode, range) = if write {
            (Mode::Write, op::range(op))
        } else {
            (Mode::Read, (0, 0))
        };
        window::arrival(t, mm, mode, op, now(), 0, range);
    }
}

#[inline(always)]
fn asks(t: &mut Thread, mm: u64, write: bool) {
    zero(&mut t.request);
    t.request.mm = mm;
    t.request.since_ns = now();
    t.request.mode = u8::from(write);
}

#[inline(always)]
fn acquired(ctx: &impl StackIdContext, mm: *const u8, write: bool, success: bool) {
    let Some((task, tid)) = thread::me() else {
        return;
    };
    if opt::SLOW_SEEN() == 1
        && success
        && let Some(t) = thread::in_slot(task, tid)
        && t.target == 1
        && t.holds[0].mm | t.holds[1].mm == 0
    {
        let op = any(op::taking(t) as u8);
        one_acquired(u8::from(write), op);
        held(&mut t.holds[0], mm as u64, u8::from(write), op, now());
    } else {
        acquired_else(ctx, mm, write, success);
    }
}

/// The thread holds another lock, or did so for write, or what there was to wait is to be told.
#[inline(never)]
fn acquired_else<C: StackIdContext>(ctx: &C, lock_of: *const u8, write: bool, success: bool) {
    let mm = lock_of as u64;
    let Some(t) = thread::current(mm) else { return };
    let asked = t.request.mm == mm && opt::SLOW_SEEN() != 1;
    if !success {
        if asked && t.request.contended == 1 {
            let op = any(op::taking(t) as u8);
            mmap_waited(t, u8::from(write), op, now(), false);
        }
        if asked {
            t.request.mm = 0;
        }
        return;
    }
    let end = now();
    let op = any(op::taking(t) as u8);
    if asked {
        took(u8::from(write), end.saturating_sub(t.request.since_ns));
        one_acquired(u8::from(write), op);
        if t.request.contended == 1 {
            mmap_waited(t, u8::from(write), op, end, true);
        }
        t.request.mm = 0;
    } else if !write && let Some((since_ns, op)) = release(t, mm, Mode::Write as u8, end) {
        // `mmap_write_downgrade`: no start, and no release of the write side either.
        if rwsem::is_waited_for(lock_of) {
            waited_for(ctx, t, mm, [Mode::Write as u8, op], since_ns);
        }
    } else if opt::SLOW_SEEN() == 1 {
        one_acquired(u8::from(write), op);
    }
    hold(t, mm, u8::from(write), op, end);
}

#[inline(always)]
fn one_acquired(mode: u8, op: u8) {
    if let Some(agg) = LOCKS.get_ptr_mut(lock_index(mode, op)) {
        // SAFETY: this CPU's own copy.
        unsafe { (*agg).acquired += 1 };
    }
}

/// How long an acquisition took.
#[inline(always)]
fn took(mode: u8, ns: u64) {
    if let Some(h) = LOCK_HISTS.get_ptr_mut(u32::from(mode)) {
        // SAFETY: this CPU's own copy.
        count::bump(unsafe { &mut (*h).decades }, decade_of(ns) as u8);
    }
}

/// `mm` is about to be let go.
#[inline(always)]
fn released(ctx: &impl StackIdContext, mm: *const u8, write: bool) {
    // A release without a hold we saw begin is not ours to time (before arming; irq_work).
    let Some(t) = thread::known() else { return };
    vma_write::settles(ctx, t);
    let end = now();
    let Some((since_ns, op)) = release(t, mm as u64, u8::from(write), end) else {
        return;
    };
    if rwsem::is_waited_for(mm) {
        waited_for(ctx, t, mm as u64, [u8::from(write), op], since_ns);
    }
}

#[inline(never)]
fn waited_for<C: StackIdContext>(ctx: &C, t: &Thread, mm: u64, [mode, op]: [u8; 2], since_ns: u64) {
    let held = Lock {
        mm,
        since_ns,
        mode,
        op,
        contended: 0,
        pad: 0,
        stack: stack::take(ctx),
    };
    let_go(t, held, now());
}

/// The current thread held a lock that somebody waits for, and does so no more.
#[inline(always)]
pub fn let_go(t: &Thread, held: Lock, end_ns: u64) {
    hold_record(t, &raw const held, end_ns);
}

/// A global function: the verifier walks it once, and not after each path that leads here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hold_record(t: *const Thread, held: *const Lock, end_ns: u64) -> u32 {
    // SAFETY: `let_go` passes references; the verifier wants to see the check.
    let (Some(t), Some(held)) = (unsafe { (t.as_ref(), held.as_ref()) }) else {
        return 0;
    };
    let fault = held.op == Op::Fault as u8;
    emit::record(|r: &mut HoldRecord| {
        *r = HoldRecord {
            kind: record::kind::HOLD,
            // SAFETY: no arguments.
            cpu: unsafe { bpf_get_smp_processor_id() },
            since_ns: held.since_ns,
            end_ns,
            who: emit::who(t.tid, t.tgid),
            mm: held.mm,
            address: if fault { t.fault.address } else { 0 },
            mode: held.mode,
            op: held.op,
            held: if fault && t.fault.slow != 0 {
                t.fault.waits.held_so_far()
            } else {
                0
            },
            pad: 0,
            stack: held.stack,
        }
    });
    0
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
    held(slot, mm, mode, op, since_ns);
}

#[inline(always)]
fn held(slot: &mut Lock, mm: u64, mode: u8, op: u8, since_ns: u64) {
    zero(slot);
    slot.mm = mm;
    slot.since_ns = since_ns;
    slot.mode = mode;
    slot.op = op;
}

/// Since when it was held, and in what operation.
#[inline(always)]
fn release(t: &mut Thread, mm: u64, mode: u8, end: u64) -> Option<(u64, u8)> {
    let [first, second] = &mut t.holds;
    let held = if first.mm == mm && first.mode == mode {
        first
    } else if second.mm == mm && second.mode == mode {
        second
    } else {
        return None;
    };
    let (since_ns, op) = (held.since_ns, any(held.op));
    held.mm = 0;
    let ns = end.saturating_sub(since_ns);
    if let Some(h) = LOCK_HISTS.get_ptr_mut(u32::from(mode)) {
        let slot = match near_place_of(ns) {
            Some((slot, _)) => slot,
            None => far(ns),
        };
        // SAFETY: this CPU's own copy.
        count::slot(unsafe { &mut (*h).hold.slots }, slot, 1);
    }
    if let Some(agg) = LOCKS.get_ptr_mut(lock_index(mode, op)) {
        // SAFETY: this CPU's own copy.
        let agg = unsafe { &mut *agg };
        agg.holds += 1;
        agg.hold_sum_ns += ns;
        if ns > agg.hold_max_ns {
            agg.hold_max_ns = ns;
        }
    }
    Some((since_ns, op))
}

#[inline(never)]
fn far(ns: u64) -> usize {
    place_of(ns).0
}

/// The lock was not free: a slow path, or a queue, is entered. `asking` as for `look_up_holder`.
#[inline(always)]
fn wait_begins(ctx: &impl StackIdContext, sem: u64, write: bool, asking: u64) {
    let Some((t, mm)) = of_mmap_lock(sem) else {
        if write {
            vma_write::queues(ctx, sem);
        }
        return;
    };
    vma_write::settles(ctx, t);
    if opt::LOCKS_ALL() != 1 || opt::SLOW_SEEN() == 1 || t.request.mm != mm {
        asks(t, mm, write);
    }
    t.request.contended = 1;
    t.request.stack = stack::take(ctx);
    zero(&mut t.holder);
    rwsem::look_up_holder(sem, asking, &mut t.holder);
}

/// Of an rwsem of PREEMPT_RT, a writer that comes behind another queues for what is inside. When it has
/// waited is known in `all` mode only, where the tracepoints tell.
#[inline(always)]
fn queues_behind_writer(ctx: &impl StackIdContext, rtmutex: u64) {
    if off::RWBASE_RTMUTEX() == MISSING || opt::LOCKS_ALL() != 1 {
        return;
    }
    let sem = rtmutex.wrapping_sub(u64::from(off::RWBASE_RTMUTEX()));
    if let Some((t, mm)) = of_mmap_lock(sem)
        && t.request.mm == mm
        && t.request.contended == 0
    {
        wait_begins(ctx, sem, true, 0);
    }
}

/// The wait is over; where only queues are seen, in `all` mode, the tracepoint that follows ends it.
#[inline(always)]
fn wait_ends(ctx: &impl StackIdContext, sem: u64, success: bool) {
    let early = off::VMA_VM_LOCK() != MISSING;
    let by_tracepoint = opt::LOCKS_ALL() == 1 && opt::SLOW_SEEN() != 1;
    if by_tracepoint && !early {
        return;
    }
    let Some(t) = thread::known() else { return };
    if early && t.vma_request.mm != 0 && t.vma_request.sem == sem {
        vma_write::locked(ctx, t, now(), success, true);
        return;
    }
    if by_tracepoint {
        return;
    }
    let mm = sem.wrapping_sub(u64::from(off::MM_MMAP_LOCK()));
    if t.request.mm != mm || t.request.contended == 0 {
        return;
    }
    let mode = t.request.mode;
    let op = any(op::taking(t) as u8);
    let end = now();
    if opt::LOCKS_ALL() == 1 && success {
        took(mode, end.saturating_sub(t.request.since_ns));
    }
    mmap_waited(t, mode, op, end, success);
    t.request.mm = 0;
}

/// The thread and address space, if `sem` is the `mmap_lock` of one that counts.
#[inline(always)]
pub fn of_mmap_lock(sem: u64) -> Option<(&'static mut Thread, u64)> {
    let mm = sem.wrapping_sub(u64::from(off::MM_MMAP_LOCK()));
    if mm != thread::own_mm() && MMS.get_ptr(mm).is_none() {
        return None;
    }
    Some((thread::current(mm)?, mm))
}

#[inline(always)]
fn mmap_waited(t: &mut Thread, mode: u8, op: u8, end: u64, success: bool) {
    let request = t.request;
    let ns = end.saturating_sub(request.since_ns);
    if t.fault.phase != phase::IDLE {
        t.fault.waits(&ELSEWHERE).mmap_lock_ns += ns;
    }
    let wait = Wait {
        mm: request.mm,
        since_ns: request.since_ns,
        mode,
        op,
        in_call: true,
        vma: [0; 2],
        stack: request.stack,
    };
    waited(t, &wait, end, success);
}

/// One wait that is over.
#[repr(C)]
pub struct Wait {
    pub mm: u64,
    pub since_ns: u64,
    pub mode: u8,
    pub op: u8,
    /// The arguments of the system call are still its own.
    pub in_call: bool,
    pub vma: [u64; 2],
    pub stack: u32,
}

#[inline(always)]
pub fn waited(t: &mut Thread, w: &Wait, end: u64, success: bool) {
    let ns = end.saturating_sub(w.since_ns);
    if let Some(agg) = LOCKS.get_ptr_mut(lock_index(w.mode, w.op)) {
        // SAFETY: this CPU's own copy.
        let agg = unsafe { &mut *agg };
        agg.waits += 1;
        agg.wait_sum_ns += ns;
        if ns > agg.wait_max_ns {
            agg.wait_max_ns = ns;
        }
    }
    if let Some(h) = LOCK_HISTS.get_ptr_mut(u32::from(w.mode)) {
        // SAFETY: this CPU's own copy.
        count::duration(unsafe { &mut (*h).wait }, ns);
    }
    count::bump(&mut t.counts.waits, w.mode);
    if let Some(sum) = t.counts.wait_sum_ns.get_mut(usize::from(any(w.mode))) {
        *sum += ns;
    }
    if let Some(max) = t.counts.wait_max_ns.get_mut(usize::from(any(w.mode)))
        && ns > *max
    {
        *max = ns;
    }
    if emit::over_threshold(ns) {
        wait_record(t, w, end, u32::from(success));
    }
    zero(&mut t.holder);
}

/// A global function, as `hold_record`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn wait_record(t: *const Thread, w: *const Wait, end_ns: u64, success: u32) -> u32 {
    // SAFETY: `waited` passes references; the verifier wants to see the check.
    let (Some(t), Some(w)) = (unsafe { (t.as_ref(), w.as_ref()) }) else {
        return 0;
    };
    let (op_start, op_end) = if w.mode == Mode::Read as u8 || !w.in_call {
        (0, 0)
    } else {
        op::range(w.op)
    };
    emit::record(|r| {
        *r = WaitRecord {
            kind: record::kind::WAIT,
            // SAFETY: no arguments.
            cpu: unsafe { bpf_get_smp_processor_id() },
            start_ns: w.since_ns,
            end_ns,
            who: emit::who(t.tid, t.tgid),
            mm: w.mm,
            vm_start: w.vma[0],
            vm_end: w.vma[1],
            op_start,
            op_end,
            // SAFETY: read at once.
            mm_tgid: unsafe { MMS.get(w.mm) }.copied().unwrap_or(0),
            mode: w.mode,
            op: w.op,
            acquired: success as u8,
            pad: 0,
            holder: t.holder,
            stack: w.stack,
            pad2: 0,
        }
    });
    0
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
    acquired(
        &ctx,
        ctx.arg(0),
        ctx.arg::<u8>(1) != 0,
        ctx.arg::<u8>(2) != 0,
    );
}

#[btf_tracepoint]
fn mmap_release_tp(ctx: BtfTracePointContext) {
    released(&ctx, ctx.arg(0), ctx.arg::<u8>(1) != 0);
}

#[btf_tracepoint]
fn mmap_start_cg(ctx: BtfTracePointContext) {
    starts(ctx.arg(0), ctx.arg::<u8>(2) != 0);
}

#[btf_tracepoint]
fn mmap_acquire_cg(ctx: BtfTracePointContext) {
    acquired(
        &ctx,
        ctx.arg(0),
        ctx.arg::<u8>(2) != 0,
        ctx.arg::<u8>(3) != 0,
    );
}

#[btf_tracepoint]
fn mmap_release_cg(ctx: BtfTracePointContext) {
    released(&ctx, ctx.arg(0), ctx.arg::<u8>(2) != 0);
}

#[fentry]
fn rwsem_read_in(ctx: FEntryContext) {
    wait_begins(&ctx, ctx.arg(0), false, 1);
}

#[fentry]
fn rwsem_write_in(ctx: FEntryContext) {
    wait_begins(&ctx, ctx.arg(0), true, 0);
}

// Return values are `sem` or ERR_PTR(-EINTR); both functions take state after sem, the read side
// also the count: (sem, count, state) and (sem, state).
#[fexit]
fn rwsem_read_out(ctx: FExitContext) {
    wait_ends(
        &ctx,
        ctx.arg(0),
        ctx.arg::<i64>(3) as u64 == ctx.arg::<u64>(0),
    );
}

#[fexit]
fn rwsem_write_out(ctx: FExitContext) {
    wait_ends(
        &ctx,
        ctx.arg(0),
        ctx.arg::<i64>(2) as u64 == ctx.arg::<u64>(0),
    );
}

#[btf_tracepoint]
fn lock_begin_tp(ctx: BtfTracePointContext) {
    let flags: u32 = ctx.arg(1);
    if flags == LCB_F_RT {
        queues_behind_writer(&ctx, ctx.arg(0));
    } else if flags & (LCB_F_SPIN | LCB_F_PERCPU | LCB_F_MUTEX) == 0
        && flags & (LCB_F_READ | LCB_F_WRITE) != 0
    {
        // A reader has given up its count by now.
        wait_begins(&ctx, ctx.arg(0), flags & LCB_F_WRITE != 0, 0);
    }
}

#[btf_tracepoint]
fn lock_end_tp(ctx: BtfTracePointContext) {
    wait_ends(&ctx, ctx.arg(0), ctx.arg::<i32>(1) == 0);
}
