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

/// What a holder was doing while it was in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// A fault that waited with its lock.
    Held(HeldWait),
    /// It waited for a lock itself.
    Lock,
}

impl Doing {
    pub fn name(self) -> &'static str {
        match self {
            Self::Held(wait) => wait.name(),
            Self::Lock => "lock",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "lock" => Some(Self::Lock),
            other => HeldWait::from_name(other).map(Self::Held),
        }
    }
}

/// Who held a lock that somebody waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HolderInfo {
    pub tid: u32,
    pub tgid: u32,
    pub comm: String,
    pub prio: i32,
    /// How many held it for reading, as the wait began, 0: a writer. An rwsem does not say who they
    /// are; one that is named was seen to let the lock go.
    pub readers: u32,
    pub op: Option<Op>,
    pub doing: Option<Doing>,
    /// Of the fault it was held for, 0: for something else.
    pub address: u64,
    /// Its kernel stack as it let go: a [`StackEvent`]'s id, 0: not kept.
    pub stack: u32,
}

/// Part of a wait, by who held the lock: in one stretch or in several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Of the first stretch.
    pub start_ns: u64,
    /// Of the last one.
    pub end_ns: u64,
    /// Of all of them.
    pub blamed_ns: u64,
    pub stretches: u32,
    pub by: SegmentBy,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SegmentBy {
    Holder(HolderInfo),
    /// Readers that are not known by name.
    Readers,
    /// Several holders: those with the least of the time, where there are many.
    Others,
    /// Nobody: the lock was free, and the waiter did not run yet.
    Handoff,
    Unknown,
}

impl SegmentBy {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Holder(_) => "holder",
            Self::Readers => "readers",
            Self::Others => "others",
            Self::Handoff => "handoff",
            Self::Unknown => "unknown",
        }
    }
}

/// A kernel stack, with symbols.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackEvent {
    pub id: u32,
    /// Functions, the outermost first, with `;` between them.
    pub frames: String,
}

/// What a wait is due to: worked out when it is over (`collect::blame`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blame {
    /// Their times add up to the wait. Read back from a recording by `Recording::segments`.
    pub segments: Vec<Segment>,
    /// The time of the wait that is blamed on its holder, the one that covers most of it.
    pub blamed_ns: u64,
    /// The time nobody held the lock.
    pub handoff_ns: u64,
    /// Who let the lock go last.
    pub last_holder_tid: Option<u32>,
    /// For a VMA's lock: the fault that held it was on a page of the range that is written.
    pub same_page: Option<bool>,
    /// The holder's own wait.
    pub blocker_wait: Option<u64>,
    /// The wait at the bottom of the chain.
    pub root_wait: u64,
    /// Threads on the path: the waiter, its holder, and so on.
    pub depth: u32,
    /// A blocker on the path is of lower priority than the waiter.
    pub inversion: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitEvent {
    /// From 1 on, in the order in which waits ended.
    pub id: u64,
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
    /// The VMA whose lock was waited for.
    pub vma: Option<(u64, u64)>,
    /// What the operation is about, as far as its arguments tell.
    pub range: Option<(u64, u64)>,
    /// As sampled when the wait began, until blame finds who covers most of the wait.
    pub holder: Option<HolderInfo>,
    /// The waiter's kernel stack: a [`StackEvent`]'s id, 0: not kept.
    pub stack: u32,
    pub blame: Blame,
}

/// A lock that was let go while somebody waited for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldEvent {
    /// 0: before anybody looked.
    pub since_ns: u64,
    pub end_ns: u64,
    pub mm: u64,
    /// `VmaWrite`: a VMA's lock, held for reading.
    pub mode: Mode,
    pub holder: HolderInfo,
}

/// A fault that gave up its VMA lock to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowEvent {
    pub id: u64,
    /// The lock was given up between these two.
    pub attempt_ns: u64,
    pub io_ns: u64,
    pub close_ns: u64,
    pub mm: u64,
    pub tid: u32,
    pub tgid: u32,
    pub comm: String,
    pub prio: i32,
    pub address: u64,
    pub vm_start: u64,
    pub vm_end: u64,
    pub kind: Kind,
    pub retry: Option<RetryReason>,
    pub folio: Option<FolioState>,
}

impl WindowEvent {
    /// Its fault: thread and start.
    pub fn fault(&self) -> (u32, u64) {
        (self.tid, self.attempt_ns)
    }
}

/// A request for a lock of an address space where a window was open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrivalEvent {
    pub at_ns: u64,
    /// When the write section began that a VMA is locked in; else 0.
    pub section_ns: u64,
    pub mm: u64,
    pub tid: u32,
    pub tgid: u32,
    pub comm: String,
    pub prio: i32,
    pub mode: Mode,
    pub op: Op,
    /// The VMA that is locked, or what the operation is about.
    pub start: u64,
    pub end: u64,
    /// The second attempt of a fault.
    pub retry: bool,
}

/// One pair of write section and window whose ranges overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConflictEvent {
    /// Its id.
    pub window: u64,
    pub at_ns: u64,
    pub tid: u32,
    pub tgid: u32,
    pub comm: String,
    pub prio: i32,
    pub op: Op,
    /// By the VMA that was locked; else by the range of the system call.
    pub exact: bool,
}

/// Events that came in together.
#[derive(Default)]
pub struct Batch {
    pub faults: Vec<FaultEvent>,
    pub waits: Vec<WaitEvent>,
    pub holds: Vec<HoldEvent>,
    pub windows: Vec<WindowEvent>,
    pub arrivals: Vec<ArrivalEvent>,
    /// Not from the ring: what windows and arrivals come to.
    pub conflicts: Vec<ConflictEvent>,
    /// Those that waits speak of for the first time.
    pub stacks: Vec<StackEvent>,
    /// Records of a kind or with words this build does not know: never in a matched build.
    pub unknown: u64,
}

impl Batch {
    pub fn len(&self) -> usize {
        self.faults.len()
            + self.waits.len()
            + self.holds.len()
            + self.windows.len()
            + self.arrivals.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When the last of them ended, in monotonic time.
    pub fn latest_ns(&self) -> u64 {
        let ends = [
            self.faults.iter().map(|e| e.end_ns).max(),
            self.waits.iter().map(|e| e.end_ns).max(),
            self.windows.iter().map(|e| e.close_ns).max(),
            self.arrivals.iter().map(|e| e.at_ns).max(),
        ];
        ends.into_iter().flatten().max().unwrap_or(0)
    }
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
