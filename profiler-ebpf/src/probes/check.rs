//! The start-up self-check: a wrong offset is no error to anyone, it only lies. Run once through
//! `BPF_PROG_TEST_RUN` in vmascope's own context, before arming: what the offsets give for the
//! current task must be what the helpers say.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint, programs::RawTracePointContext,
};
use profiler_common::config::check;

use crate::{
    emit,
    globals::off,
    kernel::{Mem, Typed, task},
    maps::CHECK,
};

#[raw_tracepoint]
fn self_check(_ctx: RawTracePointContext) {
    let id = bpf_get_current_pid_tgid();
    let task = task();
    // SAFETY: a typed task pointer and offsets of two ints, an array and a pointer.
    let (pid, tgid, comm, mm): (u32, u32, [u64; 2], u64) = unsafe {
        (
            Typed::read(task, off::TASK_PID()),
            Typed::read(task, off::TASK_TGID()),
            [
                Typed::read(task, off::TASK_COMM()),
                Typed::read(task, off::TASK_COMM() + 8),
            ],
            Typed::read(task, off::TASK_MM()),
        )
    };
    let bytes = emit::comm();
    let (low, high) = bytes.split_at(8);
    let said = [word(low), word(high)];
    let verdict = if pid != id as u32 {
        check::PID
    } else if tgid != (id >> 32) as u32 {
        check::TGID
    } else if comm != said {
        check::COMM
    } else if mm == 0 {
        check::MM
    } else {
        check::PASSED
    };
    let _ = CHECK.set(check::VERDICT, verdict, 0);
    let _ = CHECK.set(check::OWN_TGID, tgid, 0);
}

#[inline(always)]
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |w, b| (w << 8) | u64::from(*b))
}
