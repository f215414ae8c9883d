//! Ring records: rare events only. Counts never come from these.

use crate::thread::Holder;

/// First field of every record.
pub mod kind {
    pub const FAULT: u32 = 1;
    pub const WAIT: u32 = 2;
    pub const HOLD: u32 = 3;
    pub const WINDOW: u32 = 4;
    pub const ARRIVAL: u32 = 5;
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
    /// `task_struct.io_context.ioprio`, 0 where none is set.
    pub ioprio: u32,
    pub pad: u32,
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
    pub io_wait_ns: u64,
    pub run_delay_ns: u64,
    pub userfault_wait_ns: u64,
    pub held_wait_ns: u64,
    /// Of the file, 0 without one.
    pub ino: u64,
    pub dev: u32,
    /// `enum fault_flag` of the last attempt.
    pub fault_flags: u32,
    /// `vm_fault_t` of the last attempt.
    pub ret: u32,
    pub path: u8,
    pub vma_kind: u8,
    pub fallback: u8,
    pub attempts: u8,
    pub major: u8,
    /// `RetryReason + 1` of the last attempt that gave up its lock, 0: none did.
    pub retry: u8,
    /// `HeldWait + 1`
    pub held: u8,
    /// `FolioState + 1`
    pub folio: u8,
    pub pad: [u8; 4],
    /// Of the file, or of an anonymous VMA that was given one; cut short.
    pub name: [u8; NAME],
}

/// Bytes kept of a name.
pub const NAME: usize = 32;

/// One wait for an `mmap_lock`, or for the lock of a VMA.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct WaitRecord {
    pub kind: u32,
    pub cpu: u32,
    pub start_ns: u64,
    pub end_ns: u64,
    pub who: Who,
    pub mm: u64,
    /// The VMA whose lock was waited for; 0: `mmap_lock`.
    pub vm_start: u64,
    pub vm_end: u64,
    /// What the operation is about, as far as its arguments tell; 0 and 0: they do not.
    pub op_start: u64,
    pub op_end: u64,
    /// Whose address space: 0 when it was not seen before.
    pub mm_tgid: u32,
    pub mode: u8,
    pub op: u8,
    /// 0: the lock was not had (a fatal signal).
    pub acquired: u8,
    pub pad: u8,
    pub holder: Holder,
    /// The waiter's kernel stack: its place in `STACKS` + 1, 0: not kept.
    pub stack: u32,
    pub pad2: u32,
}

/// A lock was let go while somebody waited for it. It comes before the record of that wait.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct HoldRecord {
    pub kind: u32,
    pub cpu: u32,
    /// 0: before anybody looked.
    pub since_ns: u64,
    pub end_ns: u64,
    pub who: Who,
    pub mm: u64,
    /// Of the fault the lock was held for, 0: for something else.
    pub address: u64,
    /// How it was held; [`crate::words::Mode::VmaWrite`]: it is a VMA's lock, and was held for
    /// reading.
    pub mode: u8,
    pub op: u8,
    /// `HeldWait + 1`: what the fault waited for meanwhile.
    pub held: u8,
    pub pad: u8,
    /// Of the thread that lets go, as above.
    pub stack: u32,
}

/// A fault that gave up its VMA lock to wait has waited.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct WindowRecord {
    pub kind: u32,
    pub cpu: u32,
    /// The fault's start: the lock was given up after it.
    pub attempt_ns: u64,
    /// The start of its first wait: the lock was given up before it.
    pub io_ns: u64,
    pub close_ns: u64,
    pub who: Who,
    pub mm: u64,
    pub address: u64,
    /// The VMA as it was before the lock was given up.
    pub vm_start: u64,
    pub vm_end: u64,
    pub vma_kind: u8,
    /// `RetryReason + 1`
    pub retry: u8,
    /// `FolioState + 1`
    pub folio: u8,
    pub pad: [u8; 5],
}

/// A lock of an address space is asked for while a window is open there.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ArrivalRecord {
    pub kind: u32,
    pub cpu: u32,
    pub at_ns: u64,
    /// When the write section began that a VMA is locked in; else 0.
    pub section_ns: u64,
    pub who: Who,
    pub mm: u64,
    /// The VMA, or what the operation is about.
    pub start: u64,
    pub end: u64,
    pub mode: u8,
    pub op: u8,
    /// 1: the second attempt of a fault.
    pub retry: u8,
    pub pad: [u8; 5],
}
