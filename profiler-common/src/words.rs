//! The vocabulary (docs/formats.md, Words). Each word is a number in the kernel and a name everywhere else:
//! columns, metrics, screens and JSON keys all come from `name()`.

macro_rules! words {
    ($(#[$meta:meta])* $ty:ident { $($(#[$vmeta:meta])* $variant:ident = $name:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $ty { $($(#[$vmeta])* $variant),+ }

        impl $ty {
            pub const ALL: &'static [$ty] = &[$($ty::$variant),+];
            pub const COUNT: usize = Self::ALL.len();

            pub const fn name(self) -> &'static str {
                match self { $($ty::$variant => $name),+ }
            }

            /// `None` for a number no variant has: a broken record, or a newer writer.
            pub fn from_raw(raw: u8) -> Option<Self> {
                Self::ALL.get(raw as usize).copied()
            }

            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|w| w.name() == name)
            }
        }
    };
}

words! {
    /// Under which lock a fault was done, and what went before.
    Path {
        /// Done in the first attempt, under the VMA lock.
        VmaLock = "vma_lock",
        /// No VMA lock was had; done under `mmap_lock`.
        Fallback = "fallback",
        /// An attempt returned `VM_FAULT_RETRY`; finished under `mmap_lock`.
        Retry = "retry",
        /// Retried and finished under the VMA lock (kernels with that change).
        RetryVma = "retry_vma",
        /// A kernel without per-VMA locks, or kernel-mode uaccess, which never tries one.
        MmapLock = "mmap_lock",
        /// `VM_FAULT_RETRY`, then no further attempt (a signal).
        Interrupted = "interrupted",
        /// Ended with `VM_FAULT_ERROR`.
        Error = "error",
        /// get_user_pages on the own address space.
        Gup = "gup",
        /// get_user_pages on another address space.
        Remote = "remote",
    }
}

words! {
    /// What backs the faulting VMA.
    Kind {
        Anon = "anon",
        File = "file",
        Shmem = "shmem",
        Swap = "swap",
        Hugetlb = "hugetlb",
        Device = "device",
    }
}

words! {
    /// Why `lock_vma_under_rcu` gave no VMA: sampled just after the failure, so approximate.
    FallbackReason {
        WriteActive = "write_active",
        NoVmaOrRaced = "no_vma_or_raced",
        /// Kernels before 6.10: an anonymous VMA that never had a page.
        AnonVma = "anon_vma",
        /// Kernels before 6.7: a VMA that is not anonymous.
        Unsupported = "unsupported",
        Unknown = "unknown",
    }
}

words! {
    /// Why an attempt gave up its lock and returned `VM_FAULT_RETRY`.
    RetryReason {
        /// The folio had to be read.
        Io = "io",
        /// The folio was there, but locked: another thread reads it, or holds it.
        FolioLocked = "folio_locked",
        /// Nothing to wait for: the lock was dropped to start readahead of what comes next.
        AsyncReadahead = "async_readahead",
        SwapIn = "swap_in",
        Userfault = "userfault",
        /// A hole is being punched into the file.
        ShmemHole = "shmem_hole",
        /// The VMA has no `anon_vma` yet, and `mmap_lock` was not free.
        AnonVmaTrylock = "anon_vma_trylock",
        /// The driver's or file system's handler may not run under the VMA lock.
        NoMapPages = "no_map_pages",
        DevicePrivate = "device_private",
        Driver = "driver",
        /// A fatal signal came first.
        Killed = "killed",
        Other = "other",
    }
}

words! {
    /// What a fault waited for while it kept its lock.
    HeldWait {
        SwapSync = "swap_sync",
        ShmemSwap = "shmem_swap",
        PageMkwrite = "page_mkwrite",
        Migration = "migration",
        Reclaim = "reclaim",
        Hugetlb = "hugetlb",
        FolioLock = "folio_lock",
        /// I/O of an attempt that may not drop its lock again.
        TriedIo = "tried_io",
    }
}

words! {
    /// The folio when an attempt looked it up, before it gave up its lock.
    FolioState {
        /// Not there, or still to be read.
        NotUptodate = "not_uptodate",
        Uptodate = "uptodate",
        UptodateWriteback = "uptodate_writeback",
    }
}

words! {
    /// The scheduling class a thread's priority puts it in.
    PrioClass {
        /// Real time and deadline.
        Rt = "rt",
        /// nice below 0.
        High = "nice_below_0",
        Normal = "normal",
        /// nice above 0.
        Low = "nice_above_0",
        /// `SCHED_IDLE`.
        Idle = "idle",
    }
}

words! {
    /// The I/O scheduling class (include/uapi/linux/ioprio.h): its numbers are the kernel's.
    IoprioClass {
        /// None set: the kernel derives it from the nice value.
        None = "none",
        Rt = "rt",
        Be = "be",
        Idle = "idle",
    }
}

words! {
    /// Who wanted or held the lock.
    Op {
        Fault = "fault",
        Mmap = "mmap",
        Munmap = "munmap",
        Mprotect = "mprotect",
        Madvise = "madvise",
        Mremap = "mremap",
        Brk = "brk",
        PrctlVma = "prctl_vma",
        Fork = "fork",
        Exec = "exec",
        Exit = "exit",
        Proc = "proc",
        Ptrace = "ptrace",
        Uffd = "uffd",
        Binder = "binder",
        Khugepaged = "khugepaged",
        Numa = "numa",
        Kernel = "kernel",
        Other = "other",
    }
}

words! {
    /// Which lock a thread asked for, and how.
    Mode {
        /// `mmap_lock`
        Read = "read",
        /// `mmap_lock`
        Write = "write",
        /// A VMA's lock, to change the VMA: waits for its readers, faults most of all.
        VmaWrite = "vma_write",
    }
}

words! {
    /// Why something was not kept. Counted where it happens, shown in every output.
    Loss {
        /// The ring buffer had no room for a record.
        RingFull = "ring_full",
        /// The thread table had no room: that thread's faults are in the totals only.
        MapFull = "map_full",
        /// A map lookup that cannot fail, failed.
        StateMissing = "state_missing",
        /// The end of an attempt was not seen: its fault has no time, if it is told at all.
        UnmatchedEntry = "unmatched_entry",
        /// The begin of an attempt was not seen; as above.
        UnmatchedExit = "unmatched_exit",
        /// A thread seemed to hold more address spaces than any caller does: a release was missed.
        HoldOverflow = "hold_overflow",
        /// A thread id was used again before its last owner's counts were read.
        TidReused = "tid_reused",
        /// A window whose end was not seen.
        StaleWindow = "stale_window",
        /// A wait was longer than what is remembered of who held its lock, or a window than what is of the
        /// writers that came.
        BlameForgotten = "blame_forgotten",
        /// A kernel stack that is not kept: another one has its place.
        StackCollision = "stack_collision",
        /// Programs the kernel skipped because one was already running there.
        RecursionMisses = "recursion_misses",
    }
}
