//! What is measured together: a group of programs that has one rung at a time.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Life,
    MmapLockEvents,
    MmapLockWait,
    LockRelease,
    VmaWrite,
    VmaLock,
    IoWait,
    FolioRead,
    FolioState,
    Filemap,
    SwapLock,
    Userfault,
    Shmem,
    Swap,
    Migration,
    Hugetlb,
    Mkwrite,
    SwapRead,
    Reclaim,
    Fault,
}

impl Group {
    /// Those that must work, or nothing can be told.
    pub fn required(self) -> bool {
        matches!(self, Self::Life | Self::Fault)
    }

    /// As shown to the user, where it is missed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Life => "processes",
            Self::MmapLockEvents => "mmap_lock events",
            Self::MmapLockWait => "mmap_lock waits",
            Self::LockRelease => "lock releases",
            Self::VmaWrite => "VMA writers",
            Self::VmaLock => "VMA locks",
            Self::IoWait => "I/O waits",
            Self::FolioRead => "reads of a folio",
            Self::FolioState => "the page cache",
            Self::Filemap => "file faults",
            Self::SwapLock => "locked swap folios",
            Self::Userfault => "userfaultfd",
            Self::Shmem => "shmem faults",
            Self::Swap => "swap faults",
            Self::Migration => "migration",
            Self::Hugetlb => "hugetlb",
            Self::Mkwrite => "page_mkwrite",
            Self::SwapRead => "swap reads",
            Self::Reclaim => "reclaim",
            Self::Fault => "faults",
        }
    }

    /// Those that only make sense inside a fault whose beginning is seen.
    pub fn inside_faults(self) -> bool {
        !matches!(
            self,
            Self::Life
                | Self::MmapLockEvents
                | Self::MmapLockWait
                | Self::LockRelease
                | Self::VmaWrite
                | Self::VmaLock
                | Self::Fault
        )
    }
}
