//! Ring records. A record that finds no room is counted, so emitted = received + lost.

use aya_ebpf::helpers::bpf_get_current_comm;
use profiler_common::{record::Who, words::Loss};

use crate::{
    count,
    globals::{MISSING, off},
    kernel::{Mem, Typed, task},
    maps::EVENTS,
};

/// Userspace drains on a timer: waking it per record would cost more than the record.
const NO_WAKEUP: u64 = 1;

#[inline(always)]
pub fn record<T: Copy + 'static>(make: impl FnOnce() -> T) {
    let Some(mut entry) = EVENTS.reserve_untyped::<T>(0) else {
        count::loss(Loss::RingFull);
        return;
    };
    entry.write(make());
    entry.submit(NO_WAKEUP);
    count::counters(|c| c.emitted += 1);
}

#[inline(always)]
pub fn over_threshold(ns: u64) -> bool {
    ns >= u64::from(crate::globals::opt::MIN_US()) * 1_000
}

/// The current thread, as a record names it.
#[inline(always)]
pub fn current(tid: u32, tgid: u32) -> Who {
    let task = task();
    let mut who = Who {
        tid,
        tgid,
        prio: 0,
        policy: 0,
        comm: comm(),
    };
    if off::TASK_PRIO() != MISSING {
        // SAFETY: typed pointer, offset of an int.
        who.prio = unsafe { Typed::read(task, off::TASK_PRIO()) };
    }
    if off::TASK_POLICY() != MISSING {
        // SAFETY: as above.
        who.policy = unsafe { Typed::read(task, off::TASK_POLICY()) };
    }
    who
}

#[inline(always)]
pub fn comm() -> [u8; 16] {
    bpf_get_current_comm().unwrap_or_default()
}
