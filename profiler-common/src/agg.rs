//! Values of the per-CPU arrays: what a common fault or lock costs is a bump here and nothing else.

use crate::{
    hist::{DECADES, SLOTS},
    words::{FallbackReason, Kind, Loss, Mode, Op},
};

/// Exact count, sum and maximum beside the slots.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Hist {
    pub count: u64,
    pub sum_ns: u64,
    pub max_ns: u64,
    pub slots: [u64; SLOTS],
}

/// One per [`crate::words::Path`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FaultAgg {
    pub count: u64,
    pub major: u64,
    pub by_kind: [u64; Kind::COUNT],
    /// Of the faults that were timed: all, or one in `SAMPLE`.
    pub latency: Hist,
}

/// What does not belong to one path.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Counters {
    pub fallbacks: [u64; FallbackReason::COUNT],
    /// Attempts that returned `VM_FAULT_RETRY`.
    pub retries: u64,
    /// Faults of vmascope itself, left out of everything else.
    pub own_faults: u64,
    /// Records reserved in the ring: emitted = received + `Loss::RingFull`.
    pub emitted: u64,
    pub loss: [u64; Loss::COUNT],
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
    pub hold: Hist,
    /// Every acquisition by how long it took, waits included (`--mmap-lock all` only).
    pub decades: [u64; DECADES],
}
