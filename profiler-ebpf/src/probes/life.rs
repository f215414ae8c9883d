//! `life`: processes come, change and go. In: the sched_process tracepoints and task_rename. Out:
//! targets follow their parents and are forgotten, names and address spaces stay true, a dead thread's
//! entry is given up.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use profiler_common::{fault, thread::phase};

use super::{fault::ELSEWHERE, vma_write};
use crate::{
    emit, filter,
    globals::off,
    kernel::{Mem, Typed},
    thread, window,
};

#[btf_tracepoint]
fn life_fork_tp(ctx: BtfTracePointContext) {
    let (parent, child): (*const u8, *const u8) = (ctx.arg(0), ctx.arg(1));
    // SAFETY: typed task pointers.
    let (from, to): (u32, u32) = unsafe {
        (
            Typed::read(parent, off::TASK_TGID()),
            Typed::read(child, off::TASK_TGID()),
        )
    };
    if from != to {
        filter::follow(from, to);
    }
}

/// (task, old_pid, bprm): a thread that is not the main one gets the main one's number.
#[btf_tracepoint]
fn life_exec_tp(ctx: BtfTracePointContext) {
    let (task, old_tid): (*const u8, u32) = (ctx.arg(0), ctx.arg(1));
    if let Some(t) = thread::find(old_tid, task as u64)
        && t.tid != t.tgid
    {
        // Faults after the address space was put together have its new number already.
        let (grown, majors) = thread::account_until(t, thread::known().as_deref());
        if t.target == 1 {
            fault::leaves(&ELSEWHERE, t, grown, majors);
        }
        window::closes(&mut t.fault);
        t.exited = 1;
    }
    if let Some(t) = thread::known() {
        t.comm = emit::comm();
        t.fault.phase = phase::IDLE;
        window::closes(&mut t.fault);
        if t.target == 1 {
            thread::own_mm_seen(t.tgid);
        }
    }
}

/// Threads get their names once they run, and an app's process when it has left its zygote. It fires
/// before the name is changed.
#[btf_tracepoint]
fn life_rename_tp(ctx: BtfTracePointContext) {
    let (task, name): (*const u8, *const u8) = (ctx.arg(0), ctx.arg(1));
    if let Some(t) = thread::of::<Typed>(task) {
        t.comm = emit::name(name);
    }
}

/// Of a main thread it comes when all others have gone, too.
#[btf_tracepoint]
fn life_free_tp(ctx: BtfTracePointContext) {
    let task: *const u8 = ctx.arg(0);
    // SAFETY: typed task pointer.
    let (tid, tgid): (u32, u32) = unsafe {
        (
            Typed::read(task, off::TASK_PID()),
            Typed::read(task, off::TASK_TGID()),
        )
    };
    if tid == tgid {
        filter::forget(tgid);
    }
}

#[btf_tracepoint]
fn life_exit_tp(ctx: BtfTracePointContext) {
    if let Some(t) = thread::known() {
        vma_write::settles(&ctx, t);
        if t.target == 1 {
            fault::thread_exits(&ELSEWHERE, t);
        }
        window::closes(&mut t.fault);
        t.comm = emit::comm();
        t.exited = 1;
    }
}
