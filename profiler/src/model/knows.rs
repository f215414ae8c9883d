//! Which figures a session can give, all at once: what is not known is not shown as 0.

use profiler_common::words::Path;

use super::{Figure, Quality, Session};

#[derive(Clone, Copy)]
pub struct Knows {
    pub count: bool,
    pub path: bool,
    /// GUP faults, errors and interrupted faults: only hooks in the fault handler see them.
    pub all_ends: bool,
    /// Also all else that only `handle_mm_fault` is given: the VMA, the flags, what it returns.
    pub kind: bool,
    pub latency: bool,
    pub fallback: bool,
    pub vma_lock: bool,
    pub acquired: bool,
    pub wait: bool,
    /// Who held `mmap_lock` while others waited for it: without it nobody is to blame, and there are
    /// neither chains nor inversions to be told of.
    pub holder: bool,
    pub hold: bool,
    pub op: bool,
    pub retry_reason: bool,
    pub folio_state: bool,
    pub io_wait: bool,
    pub run_delay: bool,
    pub userfault_wait: bool,
    pub held_wait: bool,
    pub vma_size: bool,
    pub vma_write: bool,
    /// Each VMA that is locked is seen, not only the waits.
    pub vma_write_exact: bool,
    pub windows: bool,
    pub what_if: bool,
}

impl Knows {
    pub fn of(session: &Session) -> Self {
        let vma_lock = session.vma_lock != "none";
        Self {
            count: session.has(Figure::FaultCount),
            path: session.has(Figure::FaultPath),
            all_ends: session.has(Figure::FaultCount) && session.tier != "tracepoint",
            kind: session.has(Figure::FaultKind),
            latency: session.has(Figure::FaultLatency),
            fallback: vma_lock && session.has(Figure::FallbackReason),
            vma_lock,
            acquired: session.mmap_lock == "all" && session.has(Figure::MmapLockAcquired),
            wait: session.has(Figure::MmapLockWait),
            // Recordings of schema 1 have the holder at a wait's beginning only.
            holder: session.has(Figure::MmapLockHolder) && session.schema > 1,
            hold: session.has(Figure::MmapLockHold),
            op: session.has(Figure::MmapLockOp),
            retry_reason: session.has(Figure::RetryReason),
            folio_state: session.has(Figure::FolioState),
            io_wait: session.has(Figure::IoWait),
            run_delay: session.has(Figure::RunDelay),
            userfault_wait: session.has(Figure::UserfaultWait),
            held_wait: session.has(Figure::HeldWait),
            vma_size: session.has(Figure::VmaSize),
            vma_write: session.has(Figure::VmaWriteWait),
            vma_write_exact: session
                .signal(Figure::VmaWriteWait)
                .is_some_and(|s| s.quality == Quality::Exact),
            windows: session.has(Figure::Windows),
            what_if: session.has(Figure::WhatIf),
        }
    }

    pub fn path(&self, path: Path) -> bool {
        use Path::{Error, Fallback, Gup, Interrupted, MmapLock, Remote, Retry, RetryVma, VmaLock};
        self.path
            && match path {
                VmaLock | Fallback | RetryVma => self.vma_lock,
                Gup | Remote | Error | Interrupted => self.all_ends,
                Retry | MmapLock => true,
            }
    }
}
