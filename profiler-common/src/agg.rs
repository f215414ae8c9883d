//! Values of the per-CPU arrays: what a common fault or lock costs is a bump here and nothing else.

use crate::{
    hist::{DECADES, SLOTS},
    words::{
        FallbackReason, FolioState, HeldWait, IoprioClass, Kind, Loss, Mode, Op, PrioClass,
        RetryReason,
    },
};

/// Exact sum and maximum beside the slots, which add up to the count.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Hist {
    pub sum_ns: u64,
    pub max_ns: u64,
    pub slots: [u64; SLOTS],
}

/// One per [`crate::words::Path`]. Common faults are counted by their threads
/// ([`crate::thread::Common`]); here are their slots only.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FaultAgg {
    pub major: u64,
    /// Faults whose kind is not known; with `by_kind` they are all there were.
    pub no_kind: u64,
    pub by_kind: [u64; Kind::COUNT],
    /// Of the faults that were timed: all, or one in as many as are sampled.
    pub latency: Hist,
}

/// What does not belong to one path.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Counters {
    pub fallbacks: [u64; FallbackReason::COUNT],
    /// Attempts that returned `VM_FAULT_RETRY`.
    pub retries: [u64; RetryReason::COUNT],
    /// What those that looked a folio up found.
    pub folio_states: [u64; FolioState::COUNT],
    /// Faults that waited with their lock, by the longest of their waits, and the time of each.
    pub held_waits: [u64; HeldWait::COUNT],
    pub held_wait_ns: [u64; HeldWait::COUNT],
    /// Records written to the ring; those that found no room are `Loss::RingFull`, on top.
    pub emitted: u64,
    pub loss: [u64; Loss::COUNT],
}

/// What the slow faults of one [`Kind`] spent their time on; with the rest, which is work, the parts
/// add up to `total_ns`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Components {
    pub faults: u64,
    pub total_ns: u64,
    pub mmap_lock_wait_ns: u64,
    /// With the lock given up: until the thread was woken, and from there until it ran.
    pub io_wait_ns: u64,
    pub run_delay_ns: u64,
    pub userfault_wait_ns: u64,
    pub held_wait_ns: u64,
}

/// One per (priority class, I/O class): the time faults spent in `io_schedule`; index with
/// [`io_index`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IoWait {
    pub wait: Hist,
    /// The part of it after the thread was woken.
    pub run_delay_sum_ns: u64,
    pub run_delay_max_ns: u64,
}

pub const IO_WAITS: usize = PrioClass::COUNT * IoprioClass::COUNT;

#[inline(always)]
pub fn io_index(prio: PrioClass, ioprio: IoprioClass) -> u32 {
    prio as u32 * IoprioClass::COUNT as u32 + ioprio as u32
}

/// VMA sizes: bucket `i` holds `[2^i, 2^(i+1))` pages.
pub const SIZES: usize = 36;

/// The VMAs that faulted, by size.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct VmaSizes {
    /// Of the faults that were timed, each as many as it stands for.
    pub faults: [u64; SIZES],
    pub retries: [u64; SIZES],
    /// All waiting of these faults, for locks, I/O or a handler.
    pub wait_ns: [u64; SIZES],
}

/// One per (mode, op) of `mmap_lock`; index with [`lock_index`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LockAgg {
    pub acquired: u64,
    pub waits: u64,
    pub wait_sum_ns: u64,
    pub wait_max_ns: u64,
    pub holds: u64,
    pub hold_sum_ns: u64,
    pub hold_max_ns: u64,
}

pub const LOCK_AGGS: usize = Mode::COUNT * Op::COUNT;

#[inline(always)]
pub fn lock_index(mode: u8, op: u8) -> u32 {
    u32::from(mode) * Op::COUNT as u32 + u32::from(op)
}

/// One per [`Mode`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LockHist {
    /// Acquisitions that had to wait.
    pub wait: Hist,
    /// The slots only: the rest follows from [`LockAgg`].
    pub hold: Hist,
    /// Acquisitions by how long they took, waits included (`--mmap-lock all` only): every one, or
    /// where slow paths tell of waits, those that had to wait.
    pub decades: [u64; DECADES],
}
