//! Ring records. A record that finds no room is counted as lost.

use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid,
    generated::{bpf_get_current_comm, bpf_probe_read_kernel_str},
};
use profiler_common::{record::Who, words::Loss, zero::zero};

use crate::{count, kernel::task, maps::EVENTS, prio};

/// Userspace drains on a timer: waking it per record would cost more than the record.
const NO_WAKEUP: u64 = 1;

/// `fill` must write every field: the space is as the last record left it.
#[inline(always)]
pub fn record<T: Copy + 'static>(fill: impl FnOnce(&mut T)) {
    let Some(mut entry) = EVENTS.reserve_untyped::<T>(0) else {
        count::loss(Loss::RingFull);
        return;
    };
    // SAFETY: a record is made of integers only.
    fill(unsafe { entry.assume_init_mut() });
    entry.submit(NO_WAKEUP);
    count::counters(|c| c.emitted += 1);
}

#[inline(always)]
pub fn over_threshold(ns: u64) -> bool {
    ns >= u64::from(crate::globals::opt::MIN_US()) * 1_000
}

/// tid and tgid of the current thread.
#[inline(always)]
pub fn ids() -> (u32, u32) {
    let both = bpf_get_current_pid_tgid();
    (both as u32, (both >> 32) as u32)
}

/// The current thread, as a record names it.
#[inline(always)]
pub fn who(tid: u32, tgid: u32) -> Who {
    let task = task();
    Who {
        tid,
        tgid,
        prio: prio::prio(task),
        policy: prio::policy(task),
        ioprio: prio::ioprio(task),
        pad: 0,
        comm: comm(),
    }
}

#[inline(always)]
pub fn comm() -> [u8; 16] {
    // The helper of 6.1 does not pad; that of aya zeroes byte by byte.
    let mut comm = [0u64; 2];
    zero(&mut comm);
    // SAFETY: as long as it says.
    unsafe { bpf_get_current_comm(comm.as_mut_ptr().cast(), size_of_val(&comm) as u32) };
    bytes(comm)
}

/// A name that lies elsewhere in the kernel.
#[inline(always)]
pub fn name(at: *const u8) -> [u8; 16] {
    let mut name = [0u64; 2];
    zero(&mut name);
    // SAFETY: as long as it says; it stops at the end of the text, and faults are the helper's.
    unsafe {
        bpf_probe_read_kernel_str(
            name.as_mut_ptr().cast(),
            size_of_val(&name) as u32,
            at.cast(),
        )
    };
    bytes(name)
}

#[inline(always)]
fn bytes(words: [u64; 2]) -> [u8; 16] {
    let [a, b] = words.map(u64::to_ne_bytes);
    let mut text = [0; 16];
    text[..8].copy_from_slice(&a);
    text[8..].copy_from_slice(&b);
    text
}
