//! `fault`: page faults, each ending on one path. The state machine is `profiler_common::fault`;
//! here are its hooks, and the kernel as it asks for it.
//!
//! In: entry and exit of `handle_mm_fault`, entry of `lock_mm_and_find_vma`; where exits cannot be
//! hooked, the software page-fault events, which fire where a fault is accounted; where nothing of
//! it can be hooked, the exceptions tracepoints for the start. Out: `finish`.

use core::{marker::PhantomData, ptr::null};

use aya_ebpf::{
    EbpfContext,
    bindings::bpf_perf_event_data,
    macros::{btf_tracepoint, fentry, fexit, kprobe, perf_event},
    programs::{BtfTracePointContext, FEntryContext, FExitContext, PerfEventContext, ProbeContext},
};
use profiler_common::{
    config::{early_vma_lock, fault_hook},
    fault::{self, Call, World},
    thread::{InFlight, Lock, Thread, UNKNOWN, phase, timed},
    waits::{GaveUp, seen},
    words::{FallbackReason, Kind, Loss, Mode, Path},
};

use super::vma_write;
use crate::{
    count, emit, filter, finish,
    globals::{MISSING, flag, has, off, opt},
    kernel::{Mem, Probed, Typed, now, task},
    maps::FAULTS,
    op, thread, vma, window,
};

// include/uapi/asm-generic/signal.h: the bit of SIGKILL in a sigset_t.
const SIGKILL: u64 = 1 << 8;

/// The kernel, seen from a hook that has this VMA at hand and knows the current task, or neither
/// (NULL).
pub struct Hook<M> {
    vma: *const u8,
    task: *const u8,
    exit: bool,
    how: PhantomData<M>,
}

impl<M: Mem> Hook<M> {
    #[inline(always)]
    fn at_entry(vma: *const u8) -> Self {
        Self {
            vma,
            task: null(),
            exit: false,
            how: PhantomData,
        }
    }

    #[inline(always)]
    fn at_exit(vma: *const u8, task: *const u8) -> Self {
        Self {
            vma,
            task,
            exit: true,
            how: PhantomData,
        }
    }

    #[inline(always)]
    fn task(&self) -> *const u8 {
        if self.exit { self.task } else { task() }
    }

    #[inline(always)]
    fn vm_ops(&self) -> u64 {
        // SAFETY: offset of a pointer in the VMA the hook was given.
        unsafe { M::read(self.vma, off::VMA_OPS()) }
    }
}

/// A hook outside `handle_mm_fault`.
pub const ELSEWHERE: Hook<Probed> = Hook {
    vma: null(),
    task: null(),
    exit: false,
    how: PhantomData,
};

impl<M: Mem> World for Hook<M> {
    #[inline(always)]
    fn tried(&self) -> u32 {
        flag::FAULT_FLAG_TRIED()
    }

    #[inline(always)]
    fn user(&self) -> u32 {
        flag::FAULT_FLAG_USER()
    }

    #[inline(always)]
    fn remote(&self) -> u32 {
        flag::FAULT_FLAG_REMOTE()
    }

    #[inline(always)]
    fn vma_lock(&self) -> u32 {
        flag::FAULT_FLAG_VMA_LOCK()
    }

    #[inline(always)]
    fn nowait(&self) -> u32 {
        flag::FAULT_FLAG_RETRY_NOWAIT()
    }

    #[inline(always)]
    fn major(&self) -> u32 {
        flag::VM_FAULT_MAJOR()
    }

    #[inline(always)]
    fn retry(&self) -> u32 {
        flag::VM_FAULT_RETRY()
    }

    #[inline(always)]
    fn error(&self) -> u32 {
        opt::VM_FAULT_ERROR()
    }

    #[inline(always)]
    fn special(&self) -> u32 {
        opt::VM_FAULT_SPECIAL()
    }

    #[inline(always)]
    fn retries_under_vma_lock(&self) -> bool {
        flag::VM_FAULT_RETRY_VMA() != 0 || flag::VM_FAULT_RETRY_HARD() != 0
    }

    #[inline(always)]
    fn anonymous(&self) -> bool {
        self.vm_ops() == 0
    }

    #[inline(always)]
    fn minors(&self) -> u64 {
        thread::minors_of(self.task())
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        now()
    }

    #[inline(always)]
    fn sample(&self) -> u32 {
        filter::sample()
    }

    #[inline(always)]
    fn sees_exits(&self) -> bool {
        opt::FAULT_HOOK() == fault_hook::EXIT
    }

    #[inline(always)]
    fn grown(&self, t: &mut Thread) -> (u64, u64) {
        thread::account(t, self.task())
    }

    #[inline(always)]
    fn loss(&self, loss: Loss) {
        count::loss(loss);
    }

    #[inline(always)]
    fn dropped(&self, t: &mut Thread) {
        window::closes(&mut t.fault);
    }

    #[inline(always)]
    fn begins(&self, f: &mut InFlight) {
        f.vm_ops = self.vm_ops();
        // At the event the VMA is not at hand; after a write to a shared file it may be gone.
        let dirties = f.vm_ops != 0 && has(f.flags, flag::FAULT_FLAG_WRITE());
        if !M::TYPED || dirties {
            vma::range::<M>(f, self.vma);
            f.kind = vma::kind::<M>(self.vma) as u8;
        } else if f.vm_ops == 0 {
            f.kind = Kind::Anon as u8;
        } else {
            f.kind = UNKNOWN;
        }
    }

    #[inline(always)]
    fn falls_back(&self, f: &mut InFlight) {
        if opt::EARLY_VMA_LOCK() != early_vma_lock::NO
            && f.fallback == FallbackReason::NoVmaOrRaced as u8 + 1
        {
            if f.vm_ops == 0 {
                // SAFETY: offset of a pointer in the VMA the hook was given.
                if unsafe { M::read::<u64>(self.vma, off::VMA_ANON_VMA()) } == 0 {
                    f.fallback = FallbackReason::AnonVma as u8 + 1;
                }
            } else if opt::EARLY_VMA_LOCK() == early_vma_lock::ANONYMOUS_ONLY {
                f.fallback = FallbackReason::Unsupported as u8 + 1;
            }
        }
        let reason = f.fallback.wrapping_sub(1);
        count::counters(|c| count::bump(&mut c.fallbacks, reason));
    }

    #[inline(always)]
    fn gives_up(&self, f: &mut InFlight, major: bool) {
        let how = GaveUp {
            major,
            killed: killed(),
            vma_lock: has(f.flags, flag::FAULT_FLAG_VMA_LOCK()),
            no_map_pages: f.vm_ops != 0 && map_pages(f.vm_ops) == 0,
            has_ops: f.vm_ops != 0,
            early: opt::EARLY_VMA_LOCK() == early_vma_lock::ANONYMOUS_ONLY,
        };
        let waits = f.waits(self);
        let reason = waits.attempt_gave_up(&how) as u8;
        let folio = waits.folio.wrapping_sub(1);
        window::waited(f, self.sees_exits());
        count::counters(|c| {
            count::bump(&mut c.retries, reason);
            count::bump(&mut c.folio_states, folio);
        });
    }

    #[inline(always)]
    fn ends(&self, t: &mut Thread, major: bool, ret: u32) {
        if self.exit {
            ends_at_exit::<M>(t, major, ret, self.vma);
        } else {
            ends_by_event(t, major);
        }
    }

    #[inline(always)]
    fn ends_untimed(&self, t: &mut Thread, major: bool) {
        if t.fault.slow != 0 {
            finish::settle(t, major);
        }
        finish::tally(t, major, kind_known(t));
    }

    #[inline(always)]
    fn common_ended(&self, t: &mut Thread) {
        finish::common(t, false);
    }

    #[inline(always)]
    fn over(&self, t: &mut Thread, grown: u64, majors: u64) {
        fault_over(t, grown, majors);
    }

    #[inline(always)]
    fn skipped_begin(&self, t: &mut Thread, call: &Call, ret: u32) -> bool {
        t.fault.vma = self.vma as u64;
        fault_unbegun(t, call.address, call.flags, u32::from(call.regs), ret) != 0
    }

    #[inline(always)]
    fn interrupted(&self, t: &mut Thread) {
        t.counts.by_path[Path::Interrupted as usize] += 1;
        if let Some(agg) = FAULTS.get_ptr_mut(Path::Interrupted as u32) {
            // SAFETY: this CPU's own copy.
            unsafe { (*agg).no_kind += 1 };
        }
        finish::io_waited(t);
    }
}

/// A global function: the verifier walks it once, and not after each path that leads here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fault_over(t: *mut Thread, grown: u64, majors: u64) -> u32 {
    // SAFETY: callers pass references; the verifier wants to see the check.
    if let Some(t) = unsafe { t.as_mut() } {
        fault::over(&ELSEWHERE, t, grown, majors);
    }
    0
}

/// The same, of an attempt whose begin was skipped. It takes no typed pointer, so the VMA comes in the
/// fault. 1: made good.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fault_unbegun(t: *mut Thread, address: u64, flags: u32, regs: u32, ret: u32) -> u32 {
    // SAFETY: as above.
    let Some(t) = (unsafe { t.as_mut() }) else {
        return 0;
    };
    let hook = Hook::<Probed>::at_entry(t.fault.vma as *const u8);
    t.fault.vma = 0;
    let call = Call {
        address,
        flags,
        regs: regs != 0,
    };
    u32::from(fault::skipped_begin(&hook, t, &call, ret))
}

/// `handle_mm_fault` returned, and what it returned has no RETRY.
#[inline(always)]
fn ends_at_exit<M: Mem>(t: &mut Thread, major: bool, ret: u32, vma: *const u8) {
    let f = &mut t.fault;
    // COMPLETED: a dirtied page of a shared mapping, and the VMA has been let go. What it was is
    // known from the fault's begin.
    let gone = f.vm_ops != 0 && has(ret, flag::VM_FAULT_COMPLETED());
    if f.vm_ops == 0 {
        f.kind = Kind::Anon as u8;
    } else if !gone {
        f.kind = vma::kind::<M>(vma) as u8;
    }
    let slow = f.slow != 0;
    if slow {
        finish::settle(t, major);
    }
    let Some((end, ns)) = finish::count(t, major, true) else {
        return;
    };
    let over = emit::over_threshold(ns);
    if !over && !finish::wants_vma_size(t) {
        return;
    }
    if !gone {
        vma::range::<M>(&mut t.fault, vma);
    }
    finish::anatomy(t, ns);
    if over {
        let vma = if gone { null() } else { vma };
        finish::emit(t, end, ret, major, vma);
    }
}

/// The end is told by something else; what is known of the VMA was taken when the fault began. One
/// copy for all programs: it is no hot path of any kernel whose functions can be hooked.
#[inline(never)]
fn ends_by_event(t: &mut Thread, major: bool) {
    if t.fault.slow != 0 {
        finish::settle(t, major);
    }
    let known = kind_known(t);
    let Some((end, ns)) = finish::count(t, major, known) else {
        return;
    };
    finish::anatomy(t, ns);
    if emit::over_threshold(ns) {
        finish::emit(t, end, 0, major, null());
    }
}

#[inline(always)]
fn kind_known(t: &Thread) -> bool {
    opt::FAULT_HOOK() != fault_hook::EVENTS && t.fault.kind != UNKNOWN
}

/// A fatal signal is on its way to the current thread.
#[inline(always)]
fn killed() -> bool {
    // SAFETY: typed task pointer, offset of the first word of a sigset_t.
    off::TASK_PENDING() != MISSING
        && unsafe { Typed::read::<u64>(task(), off::TASK_PENDING()) } & SIGKILL != 0
}

#[inline(always)]
fn map_pages(vm_ops: u64) -> u64 {
    // SAFETY: `Probed` fails on the operations of a module that has gone.
    unsafe { Probed::read(vm_ops as *const u8, off::OPS_MAP_PAGES()) }
}

/// Where nothing of the fault handler can be hooked: the software event, and the exception before
/// it if that can be seen. The path is what the locks held now say.
#[inline(always)]
fn accounted_only(t: &mut Thread, major: bool, address: u64) {
    // Counted already when the thread's entry was made, just now: it is one of the entry's faults.
    if thread::account(t, task()).0 == 0 {
        let first = if major {
            &mut t.first_major
        } else {
            &mut t.first_minor
        };
        *first = first.wrapping_sub(1);
    }
    let f = &mut t.fault;
    if f.phase != phase::LOCKING {
        f.timed = timed::NO;
        f.slow = 0;
        f.path = Path::VmaLock as u8;
    }
    f.address = address;
    f.attempts = 0;
    f.phase = phase::IDLE;
    if flag::FAULT_FLAG_VMA_LOCK() == 0 {
        f.path = Path::MmapLock as u8;
    } else if f.path == Path::VmaLock as u8
        && (held_for_read(t.holds[0]) || held_for_read(t.holds[1]))
    {
        f.path = if major {
            Path::Retry as u8
        } else {
            Path::Fallback as u8
        };
    }
    ends_by_event(t, major);
}

#[inline(always)]
fn held_for_read(hold: Lock) -> bool {
    hold.mm != 0 && hold.mode == Mode::Read as u8
}

/// The software page-fault event of a fault that ended.
#[inline(always)]
fn accounted(major: bool, address: u64) {
    let Some(t) = thread::current(0) else { return };
    if opt::FAULT_HOOK() != fault_hook::EVENTS {
        fault::accounted(&ELSEWHERE, t, major);
    } else {
        accounted_only(t, major, address);
    }
}

/// An exception entered the kernel, before any lock (x86 tracepoints).
#[inline(always)]
fn exception(address: u64, path: Path, user: bool) {
    let Some(t) = thread::current(0) else { return };
    fault::begins_early(&ELSEWHERE, t, address, user);
    t.fault.path = path as u8;
}

/// `mmap_lock` is about to be taken for a fault. Where there are no VMA locks, and for kernel-mode
/// faults, this is the fault's start, so that its lock wait is inside.
#[inline(always)]
fn locks_mm(address: u64) {
    let Some(t) = thread::current(0) else { return };
    if t.fault.address != address {
        fault::is_elsewhere(&ELSEWHERE, t);
    }
    let f = &mut t.fault;
    let of_kernel = op::in_syscall();
    // Where this is where faults begin, one that began before was no fault: nothing is mapped there.
    let begins_here = flag::FAULT_FLAG_VMA_LOCK() == 0 || of_kernel;
    if f.phase == phase::IDLE
        || (f.phase == phase::LOCKING && (f.address != address || begins_here))
    {
        fault::begins_locking(&ELSEWHERE, t, address, !of_kernel);
    } else if opt::FAULT_HOOK() == fault_hook::ENTRY && f.phase == phase::ATTEMPT && f.slow != 0 {
        // Without exit hooks, this is where it shows that the handler is done.
        f.waits.leaves(seen::USERFAULT, now(), 0);
        f.waits.seen |= seen::RETURNED;
    }
}

/// `handle_mm_fault(vma, address, flags, regs)`
#[fentry]
fn fault_entry(ctx: FEntryContext) {
    let Some((task, tid)) = thread::me() else {
        return;
    };
    if let Some(t) = thread::in_slot(task, tid) {
        let hook = Hook::<Typed>::at_entry(ctx.arg(0));
        if fault::common_begins(&hook, t, ctx.arg(1), ctx.arg(2)) {
            return;
        }
    }
    begins(ctx);
}

/// Apart, so that the program above saves no registers for it.
#[inline(never)]
fn begins(ctx: FEntryContext) {
    let Some(t) = thread::current(0) else { return };
    let hook = Hook::<Typed>::at_entry(ctx.arg(0));
    let regs: *const u8 = ctx.arg(3);
    fault::attempt_begins(&hook, t, &call(ctx.arg(1), ctx.arg(2), regs));
}

#[inline(always)]
fn call(address: u64, flags: u32, regs: *const u8) -> Call {
    Call {
        address,
        flags,
        regs: !regs.is_null(),
    }
}

#[fexit]
fn fault_exit(ctx: FExitContext) {
    let Some((task, tid)) = thread::me() else {
        return;
    };
    if let Some(t) = thread::in_slot(task, tid) {
        let hook = Hook::<Typed>::at_exit(null(), task);
        if let Some(timed) = fault::common_ends(&hook, t) {
            if let Some(ns) = finish::common(t, timed) {
                looked_at(t, ctx.arg(0), ns);
            }
            return;
        }
    }
    ends(ctx);
}

/// A common fault that is over the threshold, or whose VMA is to be sized.
#[inline(never)]
fn looked_at(t: &mut Thread, vma: *const u8, ns: u64) {
    t.fault.kind = Kind::Anon as u8;
    vma::range::<Typed>(&mut t.fault, vma);
    finish::anatomy(t, ns);
    if emit::over_threshold(ns) {
        finish::emit(t, t.fault.start_ns + ns, 0, false, vma);
    }
}

#[inline(never)]
fn ends(ctx: FExitContext) {
    // Not `current`: a fault begun before arming has no entry, and is not ours.
    let task = task();
    let Some(t) = thread::of::<Typed>(task) else {
        return;
    };
    if t.target == 1 {
        let hook = Hook::<Typed>::at_exit(ctx.arg(0), task);
        let regs: *const u8 = ctx.arg(3);
        let call = call(ctx.arg(1), ctx.arg(2), regs);
        fault::attempt_ends(&hook, t, &call, ctx.arg(4));
    }
}

#[kprobe]
fn fault_entry_kp(ctx: ProbeContext) {
    let (Some(vma), Some(address), Some(flags), Some(regs)) = (
        ctx.arg::<*const u8>(0),
        ctx.arg::<u64>(1),
        ctx.arg::<u32>(2),
        ctx.arg::<*const u8>(3),
    ) else {
        return;
    };
    let Some(t) = thread::current(0) else { return };
    vma_write::settles(&ctx, t);
    let hook = Hook::<Probed>::at_entry(vma);
    fault::attempt_begins(&hook, t, &call(address, flags, regs));
}

#[fentry]
fn fault_lock(ctx: FEntryContext) {
    locks_mm(ctx.arg(1));
}

#[kprobe]
fn fault_lock_kp(ctx: ProbeContext) {
    if let Some(address) = ctx.arg(1) {
        locks_mm(address);
    }
}

#[perf_event]
fn fault_minor_ev(ctx: PerfEventContext) {
    accounted(false, event_address(&ctx));
}

#[perf_event]
fn fault_major_ev(ctx: PerfEventContext) {
    accounted(true, event_address(&ctx));
}

#[inline(always)]
fn event_address(ctx: &PerfEventContext) -> u64 {
    // SAFETY: the context of a perf_event program; `addr` is the faulting address.
    unsafe { (*ctx.as_ptr().cast::<bpf_perf_event_data>()).addr }
}

#[btf_tracepoint]
fn fault_user_tp(ctx: BtfTracePointContext) {
    let path = if flag::FAULT_FLAG_VMA_LOCK() == 0 {
        Path::MmapLock
    } else {
        Path::VmaLock
    };
    exception(ctx.arg(0), path, true);
}

#[btf_tracepoint]
fn fault_kernel_tp(ctx: BtfTracePointContext) {
    exception(ctx.arg(0), Path::MmapLock, false);
}
