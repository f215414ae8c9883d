//! The figures that a kernel may or may not be able to give: what a signal is about.

use profiler_common::words::Mode;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    FaultCount,
    FaultPath,
    FaultLatency,
    FaultKind,
    FallbackReason,
    RetryReason,
    FolioState,
    IoWait,
    RunDelay,
    UserfaultWait,
    HeldWait,
    VmaSize,
    MmapLockAcquired,
    MmapLockWait,
    MmapLockHold,
    MmapLockOp,
    MmapLockHolder,
    VmaWriteWait,
    Windows,
    WhatIf,
    KernelStacks,
}

impl Figure {
    /// As `doctor` and every format call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FaultCount => "fault_count",
            Self::FaultPath => "fault_path",
            Self::FaultLatency => "fault_latency",
            Self::FaultKind => "fault_kind",
            Self::FallbackReason => "fallback_reason",
            Self::RetryReason => "retry_reason",
            Self::FolioState => "folio_state",
            Self::IoWait => "io_wait",
            Self::RunDelay => "run_delay",
            Self::UserfaultWait => "userfault_wait",
            Self::HeldWait => "held_wait",
            Self::VmaSize => "vma_size",
            Self::MmapLockAcquired => "mmap_lock_acquired",
            Self::MmapLockWait => "mmap_lock_wait",
            Self::MmapLockHold => "mmap_lock_hold",
            Self::MmapLockOp => "mmap_lock_op",
            Self::MmapLockHolder => "mmap_lock_holder",
            Self::VmaWriteWait => "vma_write_wait",
            Self::Windows => "windows",
            Self::WhatIf => "what_if",
            Self::KernelStacks => "kernel_stacks",
        }
    }

    /// Waits for the lock in this mode: those of VMA writers are seen by hooks of their own.
    pub const fn waits(mode: Mode) -> Self {
        match mode {
            Mode::VmaWrite => Self::VmaWriteWait,
            Mode::Read | Mode::Write => Self::MmapLockWait,
        }
    }
}
