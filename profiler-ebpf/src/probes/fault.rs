//! `fault`: attempts at `handle_mm_fault` become faults, each ending on one path.
//!
//! Hooks can be skipped: the kernel does not run a program that was preempted on the same CPU. So
//! each fault is held against the kernel's own count of the thread's faults, which must have grown
//! by one since the last look; what does not fit is dropped and counted.
//!
//! In: entry and exit of `handle_mm_fault`, entry of `lock_mm_and_find_vma`; where exits cannot be
//! hooked, the software page-fault events, which fire where a fault is accounted; where nothing of
//! it can be hooked, the exceptions tracepoints for the start. Out: FAULTS, the thread's counts,
//! a record over the threshold.

use core::hint::black_box;

use aya_ebpf::{
    EbpfContext,
    bindings::bpf_perf_event_data,
    helpers::bpf_get_smp_processor_id,
    macros::{btf_tracepoint, fentry, fexit, kprobe, perf_event},
    programs::{BtfTracePointContext, FEntryContext, FExitContext, PerfEventContext, ProbeContext},
};
use profiler_common::{
    hist::log2_us_of,
    record::{self, FaultRecord},
    thread::{InFlight, Thread, phase},
    words::{Kind, Loss, Mode, Path},
};

use crate::{
    count, emit,
    globals::{flag, has, off, opt},
    kernel::{Mem, Probed, Typed, now},
    maps::FAULTS,
    thread,
};

// include/linux/mm.h; equal in all kernels from 6.1 to 7.3, and not in BTF before 6.19.
const VM_PFNMAP: u64 = 0x400;
const VM_IO: u64 = 0x4000;
const VM_HUGETLB: u64 = 0x40_0000;
const VM_MIXEDMAP: u64 = 0x1000_0000;
// include/uapi/linux/magic.h, include/uapi/linux/stat.h
const TMPFS_MAGIC: u64 = 0x0102_1994;
const S_IFMT: u16 = 0o170_000;
const S_IFCHR: u16 = 0o020_000;

/// A call of `handle_mm_fault` begins.
#[inline(always)]
fn attempt_begins<M: Mem>(vma: *const u8, address: u64, flags: u32, has_regs: bool) {
    let Some(t) = thread::current(0) else { return };
    if t.fault.phase == phase::ATTEMPT {
        if opt::FAULT_EVENTS() == 1 {
            unseen_end(t, address, flags);
        } else {
            count::loss(Loss::UnmatchedEntry);
            t.fault.phase = phase::IDLE;
            thread::account(t);
        }
    }
    if t.fault.phase == phase::RETRYING {
        if t.fault.address == address && continues(flags) {
            t.fault.path = retried_path(t.fault.path, flags);
            t.fault.flags = flags;
            t.fault.attempts += 1;
            t.fault.phase = phase::ATTEMPT;
            return;
        }
        given_up(t);
    }
    first_attempt::<M>(t, vma, address, flags, has_regs);
}

#[inline(always)]
fn first_attempt<M: Mem>(t: &mut Thread, vma: *const u8, address: u64, flags: u32, has_regs: bool) {
    let locking = t.fault.phase == phase::LOCKING && t.fault.address == address;
    let path = if !has_regs {
        if has(flags, flag::FAULT_FLAG_REMOTE()) {
            Path::Remote
        } else {
            Path::Gup
        }
    } else if has(flags, flag::FAULT_FLAG_VMA_LOCK()) {
        Path::VmaLock
    } else if flag::FAULT_FLAG_VMA_LOCK() == 0 || !has(flags, flag::FAULT_FLAG_USER()) {
        Path::MmapLock
    } else {
        Path::Fallback
    };
    t.seq = t.seq.wrapping_add(1);
    let f = &mut t.fault;
    // Sampling is for the common case: a fault that had to wait for a lock is timed from its start.
    f.timed = u8::from(locking || t.seq & (opt::SAMPLE() - 1) == 0);
    if !locking {
        f.start_ns = if f.timed == 1 { now() } else { 0 };
        f.mmap_wait_ns = 0;
        f.fallback = 0;
    }
    f.address = address;
    f.flags = flags;
    f.attempts = 1;
    f.path = path as u8;
    f.phase = phase::ATTEMPT;
    if opt::FAULT_EVENTS() == 1 {
        // At the event the VMA is not at hand.
        vma_range::<M>(f, vma);
        f.kind = kind::<M>(vma) as u8;
    }
}

/// The VMA must be locked: after RETRY or COMPLETED it may be gone.
#[inline(always)]
fn vma_range<M: Mem>(f: &mut InFlight, vma: *const u8) {
    // SAFETY: offsets belong to vm_area_struct of this kernel.
    unsafe {
        f.vm_start = M::read(vma, off::VMA_START());
        f.vm_end = M::read(vma, off::VMA_END());
        f.vm_flags = M::read(vma, off::VMA_FLAGS());
    }
}

#[inline(always)]
fn kind<M: Mem>(vma: *const u8) -> Kind {
    // SAFETY: offsets belong to vm_area_struct, file, inode and super_block of this kernel.
    unsafe {
        let flags: u64 = M::read(vma, off::VMA_FLAGS());
        if flags & (VM_HUGETLB | VM_PFNMAP | VM_IO | VM_MIXEDMAP) != 0 {
            return if flags & VM_HUGETLB != 0 {
                Kind::Hugetlb
            } else {
                Kind::Device
            };
        }
        let file = pointer::<M>(vma, off::VMA_FILE());
        if file.is_null() {
            return Kind::Anon;
        }
        let inode = pointer::<M>(file, off::FILE_INODE());
        let sb = pointer::<M>(inode, off::INODE_SB());
        if M::read::<u64>(sb, off::SB_MAGIC()) == TMPFS_MAGIC {
            Kind::Shmem
        } else if M::read::<u16>(inode, off::INODE_MODE()) & S_IFMT == S_IFCHR {
            Kind::Device
        } else {
            Kind::File
        }
    }
}

#[inline(always)]
unsafe fn pointer<M: Mem>(base: *const u8, offset: u32) -> *const u8 {
    // SAFETY: passed on from the caller.
    unsafe { M::read::<usize>(base, offset) as *const u8 }
}

/// Whether an attempt after `VM_FAULT_RETRY` goes on with the same fault. Under `mmap_lock` it does.
/// Under the VMA lock only a kernel that retries there does: TRIED, or its own return codes, tell;
/// otherwise a signal was handled in between and the instruction faulted afresh.
#[inline(always)]
fn continues(flags: u32) -> bool {
    !has(flags, flag::FAULT_FLAG_VMA_LOCK())
        || has(flags, flag::FAULT_FLAG_TRIED())
        || flag::VM_FAULT_RETRY_VMA() != 0
        || flag::VM_FAULT_RETRY_HARD() != 0
}

#[inline(always)]
fn retried_path(before: u8, flags: u32) -> u8 {
    if before == Path::Gup as u8 || before == Path::Remote as u8 {
        before
    } else if has(flags, flag::FAULT_FLAG_VMA_LOCK()) {
        Path::RetryVma as u8
    } else {
        Path::Retry as u8
    }
}

/// `handle_mm_fault(vma, address, ..)` returned `ret`.
#[inline(always)]
fn attempt_ends(vma: *const u8, address: u64, ret: u32) {
    // Not `current`: a fault begun before arming has no entry, and is not ours.
    let Some(t) = thread::known() else { return };
    if t.target == 0 {
        return;
    }
    if t.fault.phase == phase::IDLE || t.fault.phase == phase::LOCKING || t.fault.address != address
    {
        thread::account(t);
        misfit(t);
        return;
    }
    if t.fault.phase == phase::RETRYING {
        // The entry of this attempt was skipped. Its flags are not known, but every kernel so far
        // retries under mmap_lock, with TRIED after a major attempt.
        t.fault.path = retried_path(t.fault.path, 0);
    }
    if has(ret, flag::VM_FAULT_RETRY()) {
        t.fault.phase = phase::RETRYING;
        count::counters(|c| c.retries += 1);
        return;
    }
    let error = has(ret, opt::VM_FAULT_ERROR());
    if thread::account(t) != u64::from(!error) {
        misfit(t);
        return;
    }
    // COMPLETED: a dirtied page of a shared file mapping, and the VMA has been let go.
    let completed = has(ret, flag::VM_FAULT_COMPLETED());
    let kind = if completed {
        Kind::File
    } else {
        kind::<Typed>(vma)
    };
    t.fault.kind = kind as u8;
    let major = has(ret, flag::VM_FAULT_MAJOR()) || has(t.fault.flags, flag::FAULT_FLAG_TRIED());
    if let Some(end) = finish(t, major, error) {
        if completed {
            (t.fault.vm_start, t.fault.vm_end, t.fault.vm_flags) = (0, 0, 0);
        } else {
            vma_range::<Typed>(&mut t.fault, vma);
        }
        emit::record(|| fault_record(t, end, ret, major));
    }
}

/// What ended is not the fault that was seen to begin.
#[inline(always)]
fn misfit(t: &mut Thread) {
    count::loss(Loss::UnmatchedExit);
    t.fault.phase = phase::IDLE;
}

/// The fault is over: count it on its path. Gives its end when it is worth a record.
#[inline(always)]
fn finish(t: &mut Thread, major: bool, error: bool) -> Option<u64> {
    let path = if error {
        Path::Error as u8
    } else {
        t.fault.path
    };
    t.fault.path = path;
    t.fault.phase = phase::IDLE;
    if let Some(n) = t.counts.by_path.get_mut(path as usize) {
        *n += 1;
    }
    let Some(agg) = FAULTS.get_ptr_mut(u32::from(path)) else {
        count::loss(Loss::StateMissing);
        return None;
    };
    // SAFETY: this CPU's own copy.
    let agg = unsafe { &mut *agg };
    agg.count += 1;
    if major {
        agg.major += 1;
    }
    if opt::FAULT_ENTRY() == 1
        && let Some(n) = agg.by_kind.get_mut(t.fault.kind as usize)
    {
        *n += 1;
    }
    if t.fault.timed == 0 {
        return None;
    }
    let end = now();
    let ns = end.saturating_sub(t.fault.start_ns);
    let slot = count::duration(&mut agg.latency, ns);
    t.counts.sum_ns += ns;
    if ns > t.counts.max_ns {
        t.counts.max_ns = ns;
    }
    // Out of the compiler's sight: it would compare before the division, and the verifier of 6.1
    // then loses the bound.
    let bucket = black_box(log2_us_of(slot));
    if let Some(n) = t.counts.log2_us.get_mut(bucket) {
        *n += 1;
    }
    emit::over_threshold(ns).then_some(end)
}

/// As `finish`, where the VMA's facts were taken when the fault began, or not at all.
#[inline(always)]
fn finish_event(t: &mut Thread, major: bool, error: bool) {
    if let Some(end) = finish(t, major, error) {
        emit::record(|| fault_record(t, end, 0, major));
    }
}

#[inline(always)]
fn fault_record(t: &Thread, end_ns: u64, ret: u32, major: bool) -> FaultRecord {
    let f = &t.fault;
    FaultRecord {
        kind: record::kind::FAULT,
        // SAFETY: no arguments.
        cpu: unsafe { bpf_get_smp_processor_id() },
        start_ns: f.start_ns,
        end_ns,
        who: emit::current(t.tid, t.tgid),
        address: f.address,
        vm_start: f.vm_start,
        vm_end: f.vm_end,
        vm_flags: f.vm_flags,
        mmap_wait_ns: f.mmap_wait_ns,
        fault_flags: f.flags,
        ret,
        path: f.path,
        vma_kind: f.kind,
        fallback: f.fallback,
        attempts: f.attempts,
        major: u8::from(major),
        pad: [0; 3],
    }
}

/// `VM_FAULT_RETRY`, and the next thing seen of the thread is another fault: a signal came first,
/// or the attempt that ended this one was missed.
#[inline(always)]
pub fn given_up(t: &mut Thread) {
    if thread::account(t) == 0 {
        interrupted(t);
    } else {
        count::loss(Loss::UnmatchedEntry);
        t.fault.phase = phase::IDLE;
    }
}

#[inline(always)]
fn interrupted(t: &mut Thread) {
    t.fault.path = Path::Interrupted as u8;
    t.fault.phase = phase::IDLE;
    t.counts.by_path[Path::Interrupted as usize] += 1;
    if let Some(agg) = FAULTS.get_ptr_mut(Path::Interrupted as u32) {
        // SAFETY: this CPU's own copy.
        unsafe { (*agg).count += 1 };
    }
}

/// Without exit hooks an attempt's end shows only in what comes next. If the kernel counted the
/// fault, it is over and had no event: get_user_pages, or the event was skipped. If not, it was a
/// retry, which this attempt goes on with, or an error.
#[inline(always)]
fn unseen_end(t: &mut Thread, address: u64, flags: u32) {
    let grown = thread::account(t);
    let counted = grown == 1;
    if grown == 0 && t.fault.address == address && continues(flags) {
        count::counters(|c| c.retries += 1);
        t.fault.phase = phase::RETRYING;
        return;
    }
    if grown > 1 {
        misfit(t);
        return;
    }
    t.fault.timed = 0;
    let major = has(t.fault.flags, flag::FAULT_FLAG_TRIED());
    finish_event(t, major, !counted);
}

/// The software page-fault event of a fault that ended.
#[inline(always)]
fn accounted(major: bool, address: u64) {
    let Some(t) = thread::current(0) else { return };
    let grown = thread::account(t);
    if opt::FAULT_ENTRY() == 1 {
        if t.fault.phase == phase::ATTEMPT && grown == 1 {
            finish_event(t, major, false);
        } else {
            misfit(t);
        }
        return;
    }
    // Nothing but the start was seen, if that: the path is what the locks held now say.
    if t.fault.phase != phase::LOCKING {
        t.fault.timed = 0;
        t.fault.path = Path::VmaLock as u8;
    }
    t.fault.address = address;
    t.fault.attempts = 0;
    let under_mmap_lock = t
        .holds
        .iter()
        .any(|h| h.mm != 0 && h.mode == Mode::Read as u8);
    if flag::FAULT_FLAG_VMA_LOCK() == 0 {
        t.fault.path = Path::MmapLock as u8;
    } else if t.fault.path == Path::VmaLock as u8 && under_mmap_lock {
        t.fault.path = if major {
            Path::Retry as u8
        } else {
            Path::Fallback as u8
        };
    }
    finish_event(t, major, false);
}

/// An exception entered the kernel, before any lock (x86 tracepoints).
#[inline(always)]
fn exception(address: u64, path: Path) {
    let Some(t) = thread::current(0) else { return };
    let f = &mut t.fault;
    f.start_ns = now();
    f.address = address;
    f.mmap_wait_ns = 0;
    f.fallback = 0;
    f.timed = 1;
    f.path = path as u8;
    f.phase = phase::LOCKING;
}

/// `mmap_lock` is about to be taken for a fault. Where there are no VMA locks, and for kernel-mode
/// faults, this is the fault's start, so that its lock wait is inside.
#[inline(always)]
fn locks_mm(address: u64) {
    let Some(t) = thread::current(0) else { return };
    if t.fault.phase == phase::IDLE
        || (t.fault.phase == phase::LOCKING && t.fault.address != address)
    {
        begin_locking(t, address);
    }
}

/// The fault starts with a lock to take.
#[inline(always)]
pub fn begin_locking(t: &mut Thread, address: u64) {
    let f = &mut t.fault;
    f.start_ns = now();
    f.address = address;
    f.mmap_wait_ns = 0;
    f.fallback = 0;
    f.phase = phase::LOCKING;
}

#[fentry]
fn fault_entry(ctx: FEntryContext) {
    let regs: *const u8 = ctx.arg(3);
    attempt_begins::<Typed>(ctx.arg(0), ctx.arg(1), ctx.arg(2), !regs.is_null());
}

#[fexit]
fn fault_exit(ctx: FExitContext) {
    attempt_ends(ctx.arg(0), ctx.arg(1), ctx.arg(4));
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
    attempt_begins::<Probed>(vma, address, flags, !regs.is_null());
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
    exception(ctx.arg(0), path);
}

#[btf_tracepoint]
fn fault_kernel_tp(ctx: BtfTracePointContext) {
    exception(ctx.arg(0), Path::MmapLock);
}
