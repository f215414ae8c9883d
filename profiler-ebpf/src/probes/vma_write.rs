//! `vma_write`: a thread that holds `mmap_lock` for writing locks a VMA to change it, and waits for
//! its readers: faults in flight, and others that read under VMA locks. In: `__vma_start_write` and
//! `rcuwait_wake_up` (locks that are a reference count), the rwsem's slow path and `rwsem_mark_wake`
//! (locks that are an rwsem). Out: what `mmap_lock` waits give, and who held the VMA; while a window
//! is open, an arrival.

use aya_ebpf::{
    macros::{btf_tracepoint, fentry, fexit, kprobe},
    programs::{
        BtfTracePointContext, FEntryContext, FExitContext, ProbeContext, tracing::StackIdContext,
    },
};
use profiler_common::{
    agg::lock_index,
    thread::{Lock, Thread, VmaRequest},
    words::{Mode, Op},
    zero::zero,
};

use super::mmap_lock::{Wait, let_go, waited};
use crate::{
    globals::{MISSING, off, opt},
    kernel::{Mem, Probed, Typed, any, now},
    maps::LOCKS,
    op,
    rwsem::{RWSEM_OWNER_FLAGS, RWSEM_READER_OWNED, name},
    stack, thread, window,
};

// include/linux/mm_types.h: one reference is the VMA's own, each further one a reader's; the top bit
// keeps new readers out.
const VM_REFCNT_READERS: u32 = 0x3fff_ffff;

/// `vma` is about to be locked. It runs once for each VMA of a write section, waiting or not.
#[inline(always)]
fn locks<M: Mem>(vma: *const u8) {
    // SAFETY: a VMA that the hook was given and the write-held `mmap_lock` keeps.
    let mm: u64 = unsafe { M::read(vma, off::VMA_MM()) };
    let Some(t) = thread::current(mm) else { return };
    let op = any(op::current(t) as u8);
    if let Some(agg) = LOCKS.get_ptr_mut(lock_index(Mode::VmaWrite as u8, op)) {
        // SAFETY: this CPU's own copy.
        unsafe { (*agg).acquired += 1 };
    }
    // SAFETY: as above; vm_refcnt is an unsigned int.
    let (vm_start, vm_end, refcnt): (u64, u64, u32) = unsafe {
        (
            M::read(vma, off::VMA_START()),
            M::read(vma, off::VMA_END()),
            M::read(vma, off::VMA_REFCNT()),
        )
    };
    t.vma_request = VmaRequest {
        mm,
        since_ns: now(),
        vm_start,
        vm_end,
        sem: if M::TYPED { 0 } else { vma as u64 },
        until_ns: 0,
        contended: u32::from(refcnt & VM_REFCNT_READERS > 1),
        woken: 0,
        stack: 0,
        op,
        pad: [0; 3],
    };
    if window::any(mm) {
        let section = section(t, mm);
        let at = t.vma_request.since_ns;
        window::arrival(t, mm, Mode::VmaWrite, op, at, section, (vm_start, vm_end));
    }
}

/// Since when `mmap_lock` is held; 0: not known.
#[inline(always)]
fn section(t: &Thread, mm: u64) -> u64 {
    if t.holds[0].mm == mm {
        t.holds[0].since_ns
    } else if t.holds[1].mm == mm {
        t.holds[1].since_ns
    } else {
        0
    }
}

/// The VMA is locked, or a fatal signal came first; `in_call`: the thread is in the same system call.
#[inline(always)]
pub fn locked(ctx: &impl StackIdContext, t: &mut Thread, end: u64, success: bool, in_call: bool) {
    let request = t.vma_request;
    t.vma_request.mm = 0;
    if request.mm == 0 || request.contended | request.woken == 0 {
        return;
    }
    let wait = Wait {
        mm: request.mm,
        since_ns: request.since_ns,
        mode: Mode::VmaWrite as u8,
        op: any(request.op),
        in_call,
        vma: [request.vm_start, request.vm_end],
        stack: if request.stack != 0 {
            request.stack
        } else {
            stack::take(ctx)
        },
    };
    waited(t, &wait, end, success);
}

/// The thread does something else: where only the entry of `__vma_start_write` is seen, the VMA it
/// asked for was locked before. One that never slept for it has not waited.
#[inline(always)]
pub fn settles(ctx: &impl StackIdContext, t: &mut Thread) {
    if opt::VMA_ENTRY_ONLY() == 1 && t.vma_request.mm != 0 {
        settle(ctx, t);
    }
}

#[inline(never)]
fn settle<C: StackIdContext>(ctx: &C, t: &mut Thread) {
    match t.vma_request.until_ns {
        0 => t.vma_request.mm = 0,
        // With the tracepoints it is settled when `mmap_lock` is let go.
        until => locked(ctx, t, until, true, opt::LOCKS_ALL() == 1),
    }
}

/// The current thread lets a VMA go that `writer` waits for.
#[inline(always)]
fn lets(ctx: &impl StackIdContext, writer: &mut Thread) {
    writer.vma_request.woken = 1;
    let mm = writer.vma_request.mm;
    let Some(t) = thread::current(mm) else { return };
    let op = any(op::current(t) as u8);
    let since_ns = if op == Op::Fault as u8 && t.fault.is_timed() {
        t.fault.start_ns
    } else {
        0
    };
    let held = Lock {
        mm,
        since_ns,
        mode: Mode::VmaWrite as u8,
        op,
        contended: 0,
        pad: 0,
        stack: stack::take(ctx),
    };
    let_go(t, held, now());
}

/// `rcuwait_wake_up(w)`: if `w` is an address space's `vma_writer_wait`, the current thread was the
/// last reader of the VMA that the writer waits for.
#[inline(always)]
fn wakes(ctx: &impl StackIdContext, w: u64) {
    // SAFETY: `Probed` fails instead of faulting.
    let task = unsafe { Probed::read::<u64>(w as *const u8, off::RCUWAIT_TASK()) };
    if task == 0 {
        return;
    }
    let Some(writer) = thread::of::<Probed>(task as *const u8) else {
        return;
    };
    let mm = writer.vma_request.mm;
    if mm != 0 && w == mm.wrapping_add(u64::from(off::MM_VMA_WRITER_WAIT())) {
        lets(ctx, writer);
    }
}

/// A writer queues for an rwsem that is no `mmap_lock`: it is a VMA's if a fault that holds it is
/// known to be in that VMA.
#[inline(always)]
pub fn queues(ctx: &impl StackIdContext, sem: u64) {
    if off::VMA_VM_LOCK() == MISSING || off::RWSEM_OWNER() == MISSING {
        return;
    }
    let Some(t) = thread::known() else { return };
    // SAFETY: `Probed` fails instead of faulting.
    let owner = unsafe { Probed::read::<u64>(sem as *const u8, off::RWSEM_OWNER()) };
    if owner & RWSEM_READER_OWNED == 0 {
        return;
    }
    let task = (owner & !RWSEM_OWNER_FLAGS) as *const u8;
    let Some(reader) = thread::of::<Probed>(task) else {
        return;
    };
    if reader.fault.slow == 0 || reader.fault.vma == 0 {
        return;
    }
    let vma = reader.fault.vma as *const u8;
    // SAFETY: as above. The rwsem is the first member of what `vm_lock` points to.
    let (lock, mm): (u64, u64) = unsafe {
        (
            Probed::read(vma, off::VMA_VM_LOCK()),
            Probed::read(vma, off::VMA_MM()),
        )
    };
    if lock != sem {
        return;
    }
    t.vma_request = VmaRequest {
        mm,
        since_ns: now(),
        vm_start: reader.fault.vm_start,
        vm_end: reader.fault.vm_end,
        sem,
        until_ns: 0,
        contended: 1,
        woken: 0,
        stack: stack::take(ctx),
        op: any(op::current(t) as u8),
        pad: [0; 3],
    };
    zero(&mut t.holder);
    name(task, &mut t.holder);
}

/// `sem` is let go by its last reader, and is a VMA's if its first waiter says so.
#[inline(always)]
pub fn let_go_rwsem(ctx: &impl StackIdContext, sem: u64) {
    if off::VMA_VM_LOCK() == MISSING
        || off::RWSEM_WAIT_LIST() == MISSING
        || off::RWSEM_WAITER_TASK() == MISSING
    {
        return;
    }
    // SAFETY: `Probed` fails instead of faulting. The list's head is followed by its first entry,
    // which begins with the list.
    let task = unsafe {
        let first: usize = Probed::read(sem as *const u8, off::RWSEM_WAIT_LIST());
        Probed::read::<usize>(first as *const u8, off::RWSEM_WAITER_TASK())
    };
    let Some(writer) = thread::of::<Probed>(task as *const u8) else {
        return;
    };
    if writer.vma_request.mm != 0 && writer.vma_request.sem == sem {
        lets(ctx, writer);
    }
}

/// `__vma_start_write(vma, ..)`
#[fentry]
fn vma_write_in(ctx: FEntryContext) {
    locks::<Typed>(ctx.arg(0));
}

#[fexit]
fn vma_write_out(ctx: FExitContext) {
    if let Some(t) = thread::known() {
        locked(&ctx, t, now(), true, true);
    }
}

#[kprobe]
fn vma_write_kp(ctx: ProbeContext) {
    let Some(vma) = ctx.arg(0) else { return };
    if let Some(t) = thread::known() {
        settles(&ctx, t);
    }
    locks::<Probed>(vma);
}

/// (preempt, prev, next, prev_state): `next` is about to run again. If it slept for the readers of a
/// VMA, and none is left, that was what it waited for.
#[btf_tracepoint]
fn vma_switch_tp(ctx: BtfTracePointContext) {
    let next: *const u8 = ctx.arg(2);
    let Some(t) = thread::of::<Typed>(next) else {
        return;
    };
    let request = &mut t.vma_request;
    if request.mm == 0 || request.sem == 0 || request.until_ns != 0 {
        return;
    }
    // SAFETY: `Probed` fails instead of faulting.
    let sleeper = unsafe {
        let wait = (request.mm as *const u8).add((off::MM_VMA_WRITER_WAIT() & 0xffff) as usize);
        Probed::read::<u64>(wait, off::RCUWAIT_TASK())
    };
    if sleeper != next as u64 {
        return;
    }
    // SAFETY: as above; the writer's `mmap_lock` keeps the VMA.
    let refcnt: u32 = unsafe { Probed::read(request.sem as *const u8, off::VMA_REFCNT()) };
    if refcnt & VM_REFCNT_READERS <= 1 {
        request.until_ns = now();
    }
}

#[fentry]
fn vma_wake_in(ctx: FEntryContext) {
    wakes(&ctx, ctx.arg(0));
}

#[kprobe]
fn vma_wake_kp(ctx: ProbeContext) {
    if let Some(w) = ctx.arg(0) {
        wakes(&ctx, w);
    }
}
