//! The thread table: one lookup gives a hook the fault and lock in flight and the thread's counts.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use profiler_common::{config::SLOTS_MAX, thread::Thread, words::Loss};

use crate::{
    count, emit, filter, finish,
    globals::{MISSING, off, opt},
    kernel::{Mem, Typed, task},
    maps::{CLAIMS, MMS, SLOTS, THREADS, ZERO},
    op,
};

// include/uapi/linux/bpf.h
const BPF_NOEXIST: u64 = 1;

/// All programs are to be empty.
#[inline(always)]
pub fn empty() -> bool {
    opt::TID() == MISSING
}

/// The current task and its thread id; `None`: all programs are to be empty.
#[inline(always)]
pub fn me() -> Option<(*const u8, u32)> {
    let tid = opt::TID();
    if tid == MISSING {
        return None;
    }
    let task = task();
    // SAFETY: typed task pointer, offset of an int. A load, where the helper would be a call.
    Some((task, unsafe { Typed::read(task, tid) }))
}

/// The current thread's entry, if it has one.
#[inline(always)]
pub fn known() -> Option<&'static mut Thread> {
    let (task, tid) = me()?;
    find(tid, task as u64)
}

/// The entry of another thread, if it has one.
#[inline(always)]
pub fn of<M: Mem>(task: *const u8) -> Option<&'static mut Thread> {
    let tid = opt::TID();
    if tid == MISSING {
        return None;
    }
    // SAFETY: task pointer, offset of an int.
    find(unsafe { M::read(task, tid) }, task as u64)
}

/// The entry of a thread where nearly every one has it: in its own slot.
#[inline(always)]
pub fn in_slot(task: *const u8, tid: u32) -> Option<&'static mut Thread> {
    let entry = SLOTS.get_ptr_mut(slot_of(tid))?;
    // SAFETY: as in `find`.
    unsafe { ((*entry).task == task as u64).then(|| &mut *entry) }
}

#[inline(always)]
fn slot_of(tid: u32) -> u32 {
    tid & (SLOTS_MAX - 1)
}

/// The entry of the thread that has, or had, this number.
#[inline(always)]
pub fn find(tid: u32, task: u64) -> Option<&'static mut Thread> {
    // SAFETY: a map value lives while the program runs; only the thread that `task` names writes
    // to it.
    unsafe {
        let entry = SLOTS.get_ptr_mut(slot_of(tid))?;
        if (*entry).task == task {
            return Some(&mut *entry);
        }
        let entry = THREADS.get_ptr_mut(tid)?;
        ((*entry).task == task).then_some(&mut *entry)
    }
}

/// The current thread's entry, made at its first event. `mm` is what it works on, 0 for its own.
/// `None`: not a target, vmascope itself, not armed yet, or no room (counted).
#[inline(always)]
pub fn current(mm: u64) -> Option<&'static mut Thread> {
    let (task, tid) = me()?;
    if let Some(t) = find(tid, task as u64) {
        return (t.target == 1 || filter::visits(mm, own_mm())).then_some(t);
    }
    if !filter::armed() {
        return None;
    }
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if filter::is_self(tgid) {
        return None;
    }
    let target = filter::is_target(tgid);
    if !target && !filter::visits(mm, own_mm()) {
        return None;
    }
    let t = admit(tid, task as u64)?;
    t.tid = tid;
    t.tgid = tgid;
    t.comm = emit::comm();
    // The hook of its exit may have run already: from 6.16 on a thread lets go of its address space later.
    t.exited = u32::from(op::exits(task));
    let (minor, major) = faults_of(task);
    (t.first_minor, t.first_major) = (minor, major);
    (t.minor, t.major) = (minor, major);
    t.target = u32::from(target);
    t.fault.stranger = u8::from(!target);
    if target {
        own_mm_seen(tgid);
    }
    Some(t)
}

/// A free entry, all zero but for `task`.
#[inline(always)]
fn admit(tid: u32, task: u64) -> Option<&'static mut Thread> {
    if CLAIMS.insert(slot_of(tid), task, BPF_NOEXIST).is_ok() {
        // SAFETY: claimed by this thread, and zeroed when it was given back.
        let t = unsafe { &mut *SLOTS.get_ptr_mut(slot_of(tid))? };
        t.task = task;
        return Some(t);
    }
    if let Some(gone) = THREADS.get_ptr(tid) {
        // The last owner's counts were not read in time; they go, and the loss is told.
        count::loss(Loss::TidReused);
        // SAFETY: a dead thread's, whose id this thread has now.
        finish::hand_over(unsafe { &(*gone).counts.common });
        let _ = THREADS.remove(tid);
    }
    if THREADS.insert(tid, ZERO.get(0)?, 0).is_err() {
        count::loss(Loss::MapFull);
        return None;
    }
    // SAFETY: this thread's own.
    let t = unsafe { &mut *THREADS.get_ptr_mut(tid)? };
    t.task = task;
    Some(t)
}

/// The kernel's own counts of a task's minor and major faults.
#[inline(always)]
fn faults_of(task: *const u8) -> (u64, u64) {
    // SAFETY: typed pointer, offset of an unsigned long.
    let major = unsafe { Typed::read(task, off::TASK_MAJ_FLT()) };
    (minors_of(task), major)
}

#[inline(always)]
pub fn minors_of(task: *const u8) -> u64 {
    // SAFETY: as above.
    unsafe { Typed::read(task, off::TASK_MIN_FLT()) }
}

/// Brings the thread's minor and major counts up to the kernel's; gives by how many faults they
/// grew, and how many of them were major.
#[inline(always)]
pub fn account(t: &mut Thread, task: *const u8) -> (u64, u64) {
    up_to(t, faults_of(task))
}

/// The same, of a thread that goes on as `next`, whose counts begin where this one's end.
#[inline(always)]
pub fn account_until(t: &mut Thread, next: Option<&Thread>) -> (u64, u64) {
    let now = || faults_of(task());
    up_to(
        t,
        next.map_or_else(now, |next| (next.first_minor, next.first_major)),
    )
}

#[inline(always)]
fn up_to(t: &mut Thread, (minor, major): (u64, u64)) -> (u64, u64) {
    let majors = major.wrapping_sub(t.major);
    let grown = minor.wrapping_sub(t.minor).wrapping_add(majors);
    (t.minor, t.major) = (minor, major);
    (grown, majors)
}

/// Whether the current thread's fault goes on: it does not if the kernel has counted it, and the hook
/// at its end was skipped.
#[inline(never)]
pub fn still_faults(t: &Thread) -> bool {
    let (minor, major) = faults_of(task());
    minor == t.minor && major == t.major
}

/// The current thread's own address space, 0 for a kernel thread.
#[inline(always)]
pub fn own_mm() -> u64 {
    // SAFETY: typed pointer, offset of a pointer.
    unsafe { Typed::read::<u64>(task(), off::TASK_MM()) }
}

/// Remembers whose the current address space is: at a thread's first event and after exec. Not of
/// one that only borrows it: a child of vfork, a kernel thread.
#[inline(always)]
pub fn own_mm_seen(tgid: u32) {
    let (mm, task) = (own_mm(), task());
    // SAFETY: typed pointer, offset of a pointer.
    let vforked = off::TASK_VFORK_DONE() != MISSING
        && unsafe { Typed::read::<u64>(task, off::TASK_VFORK_DONE()) } != 0;
    if mm != 0 && !vforked && !op::is_kernel_thread(task) {
        // An LRU insert only fails when another CPU races it to the same key.
        let _ = MMS.insert(mm, tgid, 0);
    }
}
