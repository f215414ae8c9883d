//! Ring records: rare events only. Counts never come from these.

use crate::thread::Holder;

/// First field of every record.
pub mod kind {
    pub const FAULT: u32 = 1;
    pub const WAIT: u32 = 2;
}

/// Who a record is about, sampled when it was made.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Who {
    pub tid: u32,
    pub tgid: u32,
    /// Kernel scale: -1 deadline, 0-99 real time, 100-139 fair.
    pub prio: i32,
    pub policy: u32,
    pub comm: [u8; 16],
}

/// A fault over the threshold, or sampled.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FaultRecord {
    pub kind: u32,
    pub cpu: u32,
    pub start_ns: u64,
    pub end_ns: u64,
    pub who: Who,
    pub address: u64,
    pub vm_start: u64,
    pub vm_end: u64,
    pub vm_flags: u64,
    pub mmap_wait_ns: u64,
    /// `enum fault_flag` of the last attempt.
    pub fault_flags: u32,
    /// `vm_fault_t` of the last attempt.
    pub ret: u32,
    pub path: u8,
    pub vma_kind: u8,
    pub fallback: u8,
    pub attempts: u8,
    pub major: u8,
    pub pad: [u8; 3],
}

/// One wait for an `mmap_lock`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct WaitRecord {
    pub kind: u32,
    pub cpu: u32,
    pub start_ns: u64,
    pub end_ns: u64,
    pub who: Who,
    pub mm: u64,
    /// Whose address space: 0 when it was not seen before.
    pub mm_tgid: u32,
    pub mode: u8,
    pub op: u8,
    /// 0: the lock was not had (a fatal signal).
    pub acquired: u8,
    pub pad: u8,
    pub holder: Holder,
}
