//! Single events out of the ring: rare by design, never counted.

use profiler_common::words::{
    FallbackReason, FolioState, HeldWait, Kind, Mode, Op, Path, RetryReason,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultEvent {
    pub start_ns: u64,
    pub end_ns: u64,
    pub cpu: u32,
    pub tid: u32,
    pub tgid: u32,
    pub comm: String,
    pub prio: i32,
    pub policy: u32,
    pub address: u64,
    pub vm_start: u64,
    pub vm_end: u64,
    pub vm_flags: u64,
    pub path: Path,
    pub kind: Kind,
    pub fallback: Option<FallbackReason>,
    pub attempts: u8,
    pub major: bool,
    pub mmap_wait_ns: u64,
    pub io_wait_ns: u64,
    pub run_delay_ns: u64,
    pub userfault_wait_ns: u64,
    pub held_wait_ns: u64,
    /// Of the last attempt that gave up its lock.
    pub retry: Option<RetryReason>,
    /// The longest.
    pub held: Option<HeldWait>,
    pub folio: Option<FolioState>,
    /// `ioprio_get`: class << 13 | level; 0: none set.
    pub ioprio: u32,
    /// Of the mapped file: `st_dev` as the kernel keeps it (major << 20 | minor), inode, and its name
    /// or the VMA's own, cut to 31 bytes.
    pub dev: u32,
    pub ino: u64,
    pub name: String,
    pub fault_flags: u32,
    pub ret: u32,
}

/// Who held the lock when the wait began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderInfo {
    pub tid: u32,
    pub tgid: u32,
    pub comm: String,
    pub prio: i32,
    /// Held for reading, by one or many: an rwsem does not say whom, so they are not named.
    pub reader: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitEvent {
    pub start_ns: u64,
    pub end_ns: u64,
    pub cpu: u32,
    pub tid: u32,
    pub tgid: u32,
    pub comm: String,
    pub prio: i32,
    pub policy: u32,
    pub mm: u64,
    /// Whose address space; `None` when it was not seen before.
    pub mm_tgid: Option<u32>,
    pub mode: Mode,
    pub op: Op,
    pub acquired: bool,
    pub holder: Option<HolderInfo>,
}

impl FaultEvent {
    pub fn duration_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }
}

impl WaitEvent {
    pub fn duration_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }
}
