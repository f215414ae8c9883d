//! What becomes of a fault that is over. In: the thread's entry with the fault in it. Out: FAULTS,
//! the thread's counts and, for what left the common path, the anatomy of its time; a record over
//! the threshold.

use core::hint::black_box;

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use profiler_common::{
    agg::{FaultAgg, SIZES, io_index},
    hist::{OCTAVES, near_place_of, place_of},
    record::{self, FaultRecord, NAME},
    thread::{Common, InFlight, Thread, timed},
    waits::seen,
    words::{HeldWait, Kind, Loss, Path},
};

use crate::{
    count, emit, filter,
    globals::{MISSING, flag, has, off, opt},
    kernel::{Mem, Probed, Typed, any, now, task},
    maps::{COMPONENTS, FAULTS, IO_WAITS, VMA_SIZES},
    prio, vma, window,
};

/// Counts it on its path and in its thread.
#[inline(always)]
pub fn tally(t: &mut Thread, major: bool, kind_known: bool) -> Option<&'static mut FaultAgg> {
    let path = t.fault.path;
    if let Some(n) = t.counts.by_path.get_mut(path as usize) {
        *n += 1;
    }
    let Some(agg) = FAULTS.get_ptr_mut(u32::from(path)) else {
        count::loss(Loss::StateMissing);
        return None;
    };
    // SAFETY: this CPU's own copy.
    let agg = unsafe { &mut *agg };
    if major {
        agg.major += 1;
    }
    if kind_known {
        count::bump(&mut agg.by_kind, t.fault.kind);
    } else {
        agg.no_kind += 1;
    }
    Some(agg)
}

/// Counts it, and gives its end and its duration, if it was timed.
#[inline(always)]
pub fn count(t: &mut Thread, major: bool, kind_known: bool) -> Option<(u64, u64)> {
    let agg = tally(t, major, kind_known)?;
    if !t.fault.is_timed() {
        return None;
    }
    let end = now();
    let ns = end.saturating_sub(t.fault.start_ns);
    let weight = weight(&t.fault);
    let octave = count::weighted(&mut agg.latency, ns, weight);
    t.counts.sum_ns += ns * weight;
    if ns > t.counts.max_ns {
        t.counts.max_ns = ns;
    }
    coarsely(t, octave, weight);
    Some((end, ns))
}

/// A common fault. If it was timed, gives its time where there is more to do.
#[inline(always)]
pub fn common(t: &mut Thread, timed: bool) -> Option<u64> {
    t.counts.common.faults += 1;
    if !timed {
        return None;
    }
    let agg = FAULTS.get_ptr_mut(Path::VmaLock as u32)?;
    let mut ns = now().wrapping_sub(t.fault.start_ns);
    let weight = u64::from(filter::sample());
    if let Some((slot, octave)) = near_place_of(ns) {
        // SAFETY: this CPU's own copy.
        count::slot(unsafe { &mut (*agg).latency.slots }, slot, weight);
        coarsely(t, octave, weight);
    } else {
        ns = long(t, ns, weight);
    }
    let sums = &mut t.counts.common;
    sums.sum_ns += ns * weight;
    if ns > sums.max_ns {
        sums.max_ns = ns;
    }
    (emit::over_threshold(ns) || its_turn(t)).then_some(ns)
}

/// The histograms of a common fault that took long, or less than nothing: the clock of one CPU may
/// lag behind that of another. Gives what it took.
#[inline(never)]
fn long(t: &mut Thread, ns: u64, weight: u64) -> u64 {
    let ns = if (ns as i64) < 0 { 0 } else { ns };
    let (slot, octave) = place_of(ns);
    if let Some(agg) = FAULTS.get_ptr_mut(Path::VmaLock as u32) {
        // SAFETY: this CPU's own copy.
        count::slot(unsafe { &mut (*agg).latency.slots }, slot, weight);
    }
    coarsely(t, octave, weight);
    ns
}

/// The counts of a thread that userspace will not see.
#[inline(always)]
pub fn hand_over(common: &Common) {
    if let Some(agg) = FAULTS.get_ptr_mut(Path::VmaLock as u32) {
        // SAFETY: this CPU's own copy.
        let agg = unsafe { &mut *agg };
        agg.by_kind[Kind::Anon as usize] += common.faults;
        agg.latency.sum_ns += common.sum_ns;
        if common.max_ns > agg.latency.max_ns {
            agg.latency.max_ns = common.max_ns;
        }
    }
}

/// One more, or `weight`, in the thread's own histogram.
#[inline(always)]
fn coarsely(t: &mut Thread, octave: usize, weight: u64) {
    // In range by construction; the verifier wants to see it.
    t.counts.octaves[octave & (OCTAVES - 1)] += weight as u32;
}

/// How many faults it stands for.
#[inline(always)]
fn weight(f: &InFlight) -> u64 {
    if f.timed == timed::SAMPLED {
        u64::from(filter::sample())
    } else {
        1
    }
}

/// The fault left the common path: settles what it waited for.
#[inline(always)]
pub fn settle(t: &mut Thread, major: bool) {
    let f = &mut t.fault;
    window::closes(f);
    f.kind = kind_of(f);
    f.waits
        .attempt_kept(has(f.flags, flag::FAULT_FLAG_TRIED()), major);
    let waits = &f.waits;
    if waits.held != 0 {
        count::counters(|c| {
            count::bump(&mut c.held_waits, waits.held - 1);
            for reason in 0..HeldWait::COUNT {
                c.held_wait_ns[reason] += waits.held_ns[reason];
            }
        });
    }
}

/// The kind of what was faulted in; that of the VMA, but for swap.
#[inline(always)]
pub fn kind_of(f: &InFlight) -> u8 {
    if f.waits.ever & (seen::SWAP | seen::MIGRATION) == seen::SWAP {
        Kind::Swap as u8
    } else {
        f.kind
    }
}

/// Of a fault that was timed, its VMA's range in it: its size and, off the common path, its time.
#[inline(always)]
pub fn anatomy(t: &mut Thread, ns: u64) {
    if wants_vma_size(t) {
        vma_size(t);
    }
    if t.fault.slow != 0 {
        io_waited(t);
        components(t, ns);
        address_space(t);
    }
}

#[inline(always)]
pub fn io_waited(t: &Thread) {
    let waits = &t.fault.waits;
    if waits.any_io_ns == 0 {
        return;
    }
    let (class, io_class) = prio::classes(task());
    let index = any(io_index(class, io_class) as u8);
    let Some(agg) = IO_WAITS.get_ptr_mut(u32::from(index)) else {
        return;
    };
    // SAFETY: this CPU's own copy.
    let agg = unsafe { &mut *agg };
    count::weighted(&mut agg.wait, waits.any_io_ns, 1);
    agg.run_delay_sum_ns += waits.any_delay_ns;
    if waits.any_delay_ns > agg.run_delay_max_ns {
        agg.run_delay_max_ns = waits.any_delay_ns;
    }
}

/// Where the time of a fault off the common path went.
#[inline(always)]
fn components(t: &Thread, ns: u64) {
    let waits = &t.fault.waits;
    let Some(c) = COMPONENTS.get_ptr_mut(u32::from(t.fault.kind)) else {
        return;
    };
    // SAFETY: this CPU's own copy.
    let c = unsafe { &mut *c };
    c.faults += 1;
    c.total_ns += ns;
    c.mmap_lock_wait_ns += waits.mmap_lock_ns;
    c.io_wait_ns += waits.io_ns;
    c.run_delay_ns += waits.run_delay_ns;
    c.userfault_wait_ns += waits.userfault_ns;
    c.held_wait_ns += waits.held_total_ns();
}

/// One common fault in this many is looked up the size of its VMA, of those that are timed.
const SIZE_SAMPLE: u64 = 16;

/// Whether `vma_size` wants to know of this fault, which was timed, and is accounted now. Both numbers
/// are powers of two, so of the faults that are timed, the rarer of the two is left.
#[inline(always)]
pub fn wants_vma_size(t: &Thread) -> bool {
    t.fault.slow != 0 || its_turn(t)
}

#[inline(always)]
fn its_turn(t: &Thread) -> bool {
    t.round() & (SIZE_SAMPLE - 1) == 1
}

/// The VMA's range is in the fault.
#[inline(always)]
fn vma_size(t: &Thread) {
    let f = &t.fault;
    if f.vm_end <= f.vm_start {
        return;
    }
    let Some(sizes) = VMA_SIZES.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: this CPU's own copy.
    let sizes = unsafe { &mut *sizes };
    // The mask is for the verifier.
    let pages = (f.vm_end - f.vm_start) >> (opt::PAGE_SHIFT() & 63);
    let bucket = black_box(profiler_common::hist::log2(pages.max(1)) as usize);
    if bucket >= SIZES {
        return;
    }
    sizes.faults[bucket] += if f.slow != 0 {
        1
    } else {
        weight(f).max(SIZE_SAMPLE)
    };
    if f.slow != 0 {
        sizes.wait_ns[bucket] += f.waits.total_ns();
        if f.waits.retry != 0 {
            sizes.retries[bucket] += 1;
        }
    }
}

/// How big the address space is: read where a fault was slow anyway.
#[inline(always)]
fn address_space(t: &mut Thread) {
    // SAFETY: typed pointers to the current task and its mm; `Probed` fails on a kernel thread's.
    unsafe {
        let mm = Typed::read::<usize>(task(), off::TASK_MM()) as *const u8;
        if off::MM_MAP_COUNT() != MISSING && off::MM_TOTAL_VM() != MISSING {
            t.map_count = Probed::read(mm, off::MM_MAP_COUNT());
            t.total_vm = Probed::read(mm, off::MM_TOTAL_VM());
        }
    }
}

/// `vma` is NULL where it may be gone.
#[inline(always)]
pub fn emit(t: &mut Thread, end_ns: u64, ret: u32, major: bool, vma: *const u8) {
    t.fault.vma = vma as u64;
    fault_record(t, end_ns, ret, u32::from(major));
}

/// A global function: the verifier walks it once, and not after each path that leads here. It takes
/// no typed pointer, so the VMA comes in the fault.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fault_record(t: *const Thread, end_ns: u64, ret: u32, major: u32) -> u32 {
    // SAFETY: `emit` passes a reference; the verifier wants to see the check.
    let Some(t) = (unsafe { t.as_ref() }) else {
        return 0;
    };
    let f = &t.fault;
    let vma = f.vma as *const u8;
    let waits = (f.slow != 0).then_some(&f.waits);
    emit::record(|r: &mut FaultRecord| {
        r.kind = record::kind::FAULT;
        // SAFETY: no arguments.
        r.cpu = unsafe { bpf_get_smp_processor_id() };
        r.start_ns = f.start_ns;
        r.end_ns = end_ns;
        r.who = emit::who(t.tid, t.tgid);
        r.address = f.address;
        r.vm_start = f.vm_start;
        r.vm_end = f.vm_end;
        r.vm_flags = f.vm_flags;
        (r.mmap_wait_ns, r.io_wait_ns, r.run_delay_ns) = (0, 0, 0);
        (r.userfault_wait_ns, r.held_wait_ns) = (0, 0);
        (r.retry, r.held, r.folio) = (0, 0, 0);
        if let Some(w) = waits {
            r.mmap_wait_ns = w.mmap_lock_ns;
            r.io_wait_ns = w.io_ns;
            r.run_delay_ns = w.run_delay_ns;
            r.userfault_wait_ns = w.userfault_ns;
            r.held_wait_ns = w.held_total_ns();
            (r.retry, r.held, r.folio) = (w.retry, w.held, w.folio);
        }
        r.fault_flags = f.flags;
        r.ret = ret;
        r.path = f.path;
        r.vma_kind = f.kind;
        r.fallback = f.fallback;
        r.attempts = f.attempts;
        r.major = major as u8;
        r.pad = [0; 4];
        r.name = [0; NAME];
        (r.dev, r.ino) = if vma.is_null() {
            (0, 0)
        } else {
            vma::identity(vma, &mut r.name)
        };
    });
    0
}
