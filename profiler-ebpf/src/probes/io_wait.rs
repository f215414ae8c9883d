//! `io_wait`: the time faults spend in `io_schedule`, and how much of it after the thread was
//! woken. In: entry and exit of `io_schedule` and `io_schedule_timeout`; where exits cannot be hooked,
//! the switch back to the thread. And of `filemap_read_folio`: a read that the fault makes itself may
//! wait for its answer in `schedule`, as those of FUSE do; one that waits in `io_schedule` after all is
//! timed there. Out: the waits of the fault in flight.

use aya_ebpf::{
    macros::{btf_tracepoint, fentry, fexit, kprobe},
    programs::{BtfTracePointContext, FEntryContext, FExitContext, ProbeContext},
};
use profiler_common::{
    thread::{InFlight, phase},
    waits::seen,
};

use super::{anatomy::faulting, fault::ELSEWHERE};
use crate::{
    globals::{MISSING, off},
    kernel::{Mem, Typed, now, task},
    thread, window,
};

#[inline(always)]
fn run_delay(task: *const u8) -> u64 {
    if off::TASK_RUN_DELAY() == MISSING {
        return 0;
    }
    // SAFETY: typed task pointer, offset of an unsigned long long.
    unsafe { Typed::read(task, off::TASK_RUN_DELAY()) }
}

#[inline(always)]
fn begins() {
    if let Some(t) = faulting() {
        let now = now();
        t.fault.waits(&ELSEWHERE).io_begins(now, run_delay(task()));
        window::opens(&mut t.fault, now);
    }
}

#[fentry]
fn io_wait_entry(_ctx: FEntryContext) {
    begins();
}

#[inline(always)]
fn io_ends(f: &mut InFlight, task: *const u8) {
    let now = now();
    f.waits.io_ends(now, run_delay(task));
    f.window.close_ns = now;
}

#[inline(always)]
fn ends() {
    if let Some(t) = thread::known()
        && t.fault.phase == phase::ATTEMPT
        && t.fault.slow != 0
    {
        io_ends(&mut t.fault, task());
    }
}

#[fexit]
fn io_wait_exit(_ctx: FExitContext) {
    ends();
}

// `io_schedule_timeout`, which waits for synchronous block I/O.

#[fentry]
fn io_timed_entry(_ctx: FEntryContext) {
    begins();
}

#[fexit]
fn io_timed_exit(_ctx: FExitContext) {
    ends();
}

// `filemap_read_folio(file, filler, folio)`

#[fentry]
fn io_read_entry(_ctx: FEntryContext) {
    begins();
}

#[fexit]
fn io_read_exit(_ctx: FExitContext) {
    ends();
}

#[kprobe]
fn io_read_kp(_ctx: ProbeContext) {
    begins();
}

#[kprobe]
fn io_wait_kp(_ctx: ProbeContext) {
    begins();
}

#[kprobe]
fn io_timed_kp(_ctx: ProbeContext) {
    begins();
}

/// (preempt, prev, next, prev_state): `next` is about to run again. The wait for `mmap_lock` after the
/// attempt, whose end is not seen, is none of its own.
#[btf_tracepoint]
fn io_wait_switch(ctx: BtfTracePointContext) {
    let next: *const u8 = ctx.arg(2);
    if let Some(t) = thread::of::<Typed>(next)
        && t.fault.phase == phase::ATTEMPT
        && t.fault.slow != 0
        && t.fault.waits.seen & seen::RETURNED == 0
        && t.request.mm == 0
    {
        io_ends(&mut t.fault, next);
    }
}
