//! What the slices of a trace are called, and what is told of them. In: single events. Out: names and
//! arguments; a figure that this kernel cannot tell is not there.

use std::collections::HashMap;

use profiler_common::words::{FallbackReason, FolioState, HeldWait, Mode, Op, RetryReason};

use super::stream::{Args, What};
use crate::{
    model::{ConflictEvent, Doing, FaultEvent, Knows, WaitEvent, WindowEvent},
    report::units::clean,
};

pub fn fault(f: &FaultEvent, knows: &Knows) -> What {
    let path = knows.path.then(|| f.path.name());
    let kind = knows.kind.then(|| f.kind.name());
    // The one reason that says most: why the lock was given up, or why there was none.
    let reason = f.retry.map(RetryReason::name);
    let reason = reason.or(f.held.map(HeldWait::name));
    let reason = reason.or(f.fallback.map(FallbackReason::name));
    let mut name = String::from("fault");
    for word in [path, kind, reason].into_iter().flatten() {
        name.push(' ');
        name.push_str(word);
    }
    let mut args = Args::default();
    args.address("address", f.address);
    if knows.kind {
        args.address("vm_start", f.vm_start);
        args.address("vm_end", f.vm_end);
    }
    if !f.name.is_empty() {
        args.put("file", clean(&f.name).as_str());
    }
    args.put_known("path", path);
    args.put_known("kind", kind);
    args.put("major", f.major);
    args.put_known("attempts", knows.kind.then_some(u32::from(f.attempts)));
    args.put_known("fallback_reason", f.fallback.map(FallbackReason::name));
    args.put_known("retry_reason", f.retry.map(RetryReason::name));
    args.put_known("held_wait", f.held.map(HeldWait::name));
    args.put_known("folio_state", f.folio.map(FolioState::name));
    args.put("latency_ns", f.duration_ns());
    args.put("mmap_wait_ns", f.mmap_wait_ns);
    args.put_known("io_wait_ns", knows.io_wait.then_some(f.io_wait_ns));
    args.put_known("run_delay_ns", knows.run_delay.then_some(f.run_delay_ns));
    let userfault = knows.userfault_wait.then_some(f.userfault_wait_ns);
    args.put_known("userfault_wait_ns", userfault);
    args.put_known("held_wait_ns", knows.held_wait.then_some(f.held_wait_ns));
    args.put("cpu", f.cpu);
    args.put("prio", f.prio);
    What {
        category: "fault",
        name,
        args,
        ..What::default()
    }
}

pub fn lock_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Read => "mmap_lock read",
        Mode::Write => "mmap_lock write",
        Mode::VmaWrite => "vma write",
    }
}

/// Functions of kernel stacks, by id.
pub type Stacks = HashMap<u32, String>;

pub fn wait(w: &WaitEvent, stacks: &Stacks) -> What {
    let (lock, mode) = match w.mode {
        Mode::Read => ("mmap_lock", "read"),
        Mode::Write => ("mmap_lock", "write"),
        Mode::VmaWrite => ("vma", "write"),
    };
    let mut args = Args::default();
    args.put("wait", w.id);
    args.put("lock", lock);
    args.put("mode", mode);
    args.put("op", w.op.name());
    args.put("wait_ns", w.duration_ns());
    args.put("acquired", w.acquired);
    if let Some((start, end)) = w.vma {
        args.address("vm_start", start);
        args.address("vm_end", end);
    }
    if let Some((start, end)) = w.range {
        args.address("op_start", start);
        args.address("op_end", end);
    }
    if let Some(h) = &w.holder {
        if h.tid != 0 {
            args.put("holder_tid", h.tid);
            args.put("holder_tgid", h.tgid);
            args.put("holder_comm", clean(&h.comm).as_str());
            args.put("holder_prio", h.prio);
        }
        args.put("holder_readers", h.readers);
        args.put_known("holder_op", h.op.map(Op::name));
        args.put_known("holder_doing", h.doing.map(Doing::name));
        if h.address != 0 {
            args.address("holder_address", h.address);
        }
    }
    let blame = &w.blame;
    args.put("blamed_ns", blame.blamed_ns);
    args.put("handoff_ns", blame.handoff_ns);
    args.put_known("last_holder_tid", blame.last_holder_tid);
    args.put_known("same_page", blame.same_page);
    args.put_known("blocker_wait", blame.blocker_wait);
    args.put("root_wait", blame.root_wait);
    args.put("depth", blame.depth);
    args.put("inversion", blame.inversion);
    let frames = |id: &u32| stacks.get(id).map(String::as_str);
    args.put_known("stack", frames(&w.stack));
    let holder = w.holder.as_ref();
    args.put_known("holder_stack", holder.and_then(|h| frames(&h.stack)));
    args.put_known("mm_tgid", w.mm_tgid);
    args.put("cpu", w.cpu);
    args.put("prio", w.prio);
    What {
        category: "wait",
        name: format!("wait {} {}", lock_name(w.mode), w.op.name()),
        args,
        ..What::default()
    }
}

pub fn window(w: &WindowEvent) -> What {
    let mut args = Args::default();
    args.put("window", w.id);
    args.address("address", w.address);
    args.address("vm_start", w.vm_start);
    args.address("vm_end", w.vm_end);
    args.put("kind", w.kind.name());
    args.put_known("retry_reason", w.retry.map(RetryReason::name));
    args.put_known("folio_state", w.folio.map(FolioState::name));
    args.put("open_ns", w.close_ns.saturating_sub(w.io_ns));
    args.put("open_at_most_ns", w.close_ns.saturating_sub(w.attempt_ns));
    args.put("prio", w.prio);
    let reason = w.retry.map_or("unlocked", RetryReason::name);
    What {
        category: "window",
        name: format!("window {} {reason}", w.kind.name()),
        args,
        ..What::default()
    }
}

pub fn conflict(c: &ConflictEvent) -> What {
    let mut args = Args::default();
    args.put("window", c.window);
    args.put("op", c.op.name());
    args.put("how", if c.exact { "exact" } else { "inferred" });
    args.put("prio", c.prio);
    What {
        category: "conflict",
        name: format!("conflict {}", c.op.name()),
        args,
        ..What::default()
    }
}
