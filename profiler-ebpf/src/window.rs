//! Windows: faults that wait and have given up their VMA lock, or may have. In: the waits of faults;
//! every request for a lock of the address space. Out: a record of each window that was one, and of
//! what arrived meanwhile.
//!
//! That the lock was given up shows only when the attempt ends with `VM_FAULT_RETRY`, so a window
//! is opened at the first wait of every attempt under the VMA lock and forgotten if it was kept.

use core::{intrinsics, ptr, sync::atomic::AtomicU64};

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use profiler_common::{
    record::{self, ArrivalRecord, WindowRecord},
    thread::{InFlight, Thread, phase},
    waits::seen,
    words::{Loss, Mode},
    zero::zero,
};

use crate::{
    count, emit, finish,
    globals::{flag, has},
    kernel::now,
    maps::WINDOWS,
    thread,
};

/// Open windows of all address spaces: what a lock costs while there is none is this load.
static OPEN: AtomicU64 = AtomicU64::new(0);

/// The fault begins to wait.
#[inline(always)]
pub fn opens(f: &mut InFlight, now: u64) {
    if f.vma == 0 || !has(f.flags, flag::FAULT_FLAG_VMA_LOCK()) {
        return;
    }
    if f.window.mm != 0 {
        if f.window.attempt_ns == f.start_ns {
            return;
        }
        count::loss(Loss::StaleWindow);
        closes(f);
    }
    let mm = thread::own_mm();
    if !one_more(mm) {
        count::loss(Loss::MapFull);
        return;
    }
    f.window.mm = mm;
    f.window.attempt_ns = f.start_ns;
    f.window.io_ns = now;
    f.window.close_ns = now;
    f.window.vm_start = f.vm_start;
    f.window.vm_end = f.vm_end;
}

/// The attempt has ended without its lock. `now_over`: just so; else when its last wait ended.
#[inline(always)]
pub fn waited(f: &mut InFlight, now_over: bool) {
    if f.window.mm != 0 {
        window_record(f, u32::from(now_over));
    }
}

/// A global function: the verifier walks it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn window_record(f: *mut InFlight, now_over: u32) -> u32 {
    // SAFETY: `waited` passes a reference; the verifier wants to see the check.
    let Some(f) = (unsafe { f.as_mut() }) else {
        return 0;
    };
    let window = f.window;
    closes(f);
    let close_ns = if now_over != 0 {
        now()
    } else {
        window.close_ns
    };
    let (tid, tgid) = emit::ids();
    emit::record(|r: &mut WindowRecord| {
        *r = WindowRecord {
            kind: record::kind::WINDOW,
            // SAFETY: no arguments.
            cpu: unsafe { bpf_get_smp_processor_id() },
            attempt_ns: window.attempt_ns,
            io_ns: window.io_ns,
            close_ns,
            who: emit::who(tid, tgid),
            mm: window.mm,
            address: f.address,
            vm_start: window.vm_start,
            vm_end: window.vm_end,
            vma_kind: finish::kind_of(f),
            retry: f.waits.retry,
            folio: f.waits.folio,
            pad: [0; 5],
        }
    });
    0
}

/// Whatever became of it, it is not open any more.
#[inline(always)]
pub fn closes(f: &mut InFlight) {
    let mm = f.window.mm;
    if mm == 0 {
        return;
    }
    zero(&mut f.window);
    if let Some(open) = WINDOWS.get_ptr_mut(mm)
        // SAFETY: a map value. It is 0 where the entry is newer than this window.
        && unsafe { *open } != 0
    {
        add(open, u64::MAX);
    }
    add(OPEN.as_ptr(), u64::MAX);
}

#[inline(always)]
fn one_more(mm: u64) -> bool {
    let mut open = WINDOWS.get_ptr_mut(mm);
    if open.is_none() {
        // Another CPU may have been first: then its entry stays.
        let _ = WINDOWS.insert(mm, 0u64, BPF_NOEXIST);
        open = WINDOWS.get_ptr_mut(mm);
    }
    let Some(open) = open else { return false };
    add(open, 1);
    add(OPEN.as_ptr(), 1);
    true
}

// include/uapi/linux/bpf.h
const BPF_NOEXIST: u64 = 1;

#[inline(always)]
fn add(to: *mut u64, n: u64) {
    // SAFETY: a map value, aligned; the one instruction the target has for it.
    unsafe {
        intrinsics::atomic_xadd::<u64, u64, { intrinsics::AtomicOrdering::Relaxed }>(to, n);
    }
}

/// Whether a window is open in that address space.
#[inline(always)]
pub fn any(mm: u64) -> bool {
    // SAFETY: aligned, and written by atomic additions only.
    if unsafe { ptr::read_volatile(OPEN.as_ptr()) } == 0 {
        return false;
    }
    // SAFETY: read at once.
    unsafe { WINDOWS.get(mm) }.is_some_and(|open| *open != 0)
}

/// The fault takes its lock for another attempt. Without exit hooks it is not seen to be over with the
/// last one, but to come for the lock.
#[inline(always)]
fn retries(f: &InFlight) -> bool {
    f.phase == phase::RETRYING
        || (f.phase == phase::ATTEMPT && f.slow != 0 && f.waits.seen & seen::RETURNED != 0)
}

/// A lock of an address space with open windows is asked for.
#[inline(always)]
pub fn arrival(
    t: &Thread,
    mm: u64,
    mode: Mode,
    op: u8,
    at_ns: u64,
    section_ns: u64,
    range: (u64, u64),
) {
    emit::record(|r: &mut ArrivalRecord| {
        *r = ArrivalRecord {
            kind: record::kind::ARRIVAL,
            // SAFETY: no arguments.
            cpu: unsafe { bpf_get_smp_processor_id() },
            at_ns,
            section_ns,
            who: emit::who(t.tid, t.tgid),
            mm,
            start: range.0,
            end: range.1,
            mode: mode as u8,
            op,
            retry: u8::from(retries(&t.fault)),
            pad: [0; 5],
        }
    });
}
