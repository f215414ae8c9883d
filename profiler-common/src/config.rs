//! Globals that userspace sets before load. Each list is written once and turned into statics by
//! the kernel side and into a table to resolve by the user side, so the two cannot drift apart.

/// A field this kernel's BTF does not have. Offsets have no defaults: code that needs a missing one
/// is cut away by the verifier, and the signal says so.
pub const MISSING: u32 = u32::MAX;

/// Kernel fields read by the programs: `(GLOBAL, "struct.member[.member]")`, byte offsets.
#[macro_export]
macro_rules! kernel_fields {
    ($apply:ident) => {
        $apply! {
            (VMA_START, "vm_area_struct.vm_start"),
            (VMA_END, "vm_area_struct.vm_end"),
            (VMA_MM, "vm_area_struct.vm_mm"),
            (VMA_FLAGS, "vm_area_struct.vm_flags"),
            (VMA_FILE, "vm_area_struct.vm_file"),
            (VMA_OPS, "vm_area_struct.vm_ops"),
            (VMA_ANON_VMA, "vm_area_struct.anon_vma"),
            (VMA_REFCNT, "vm_area_struct.vm_refcnt"),
            (VMA_VM_LOCK, "vm_area_struct.vm_lock"),
            (VMA_ANON_NAME, "vm_area_struct.anon_name"),
            (ANON_NAME, "anon_vma_name.name"),
            (OPS_MAP_PAGES, "vm_operations_struct.map_pages"),
            (MM_MMAP_LOCK, "mm_struct.mmap_lock"),
            (MM_VMA_WRITER_WAIT, "mm_struct.vma_writer_wait"),
            (RCUWAIT_TASK, "rcuwait.task"),
            (VMF_VMA, "vm_fault.vma"),
            (MM_MAP_COUNT, "mm_struct.map_count"),
            (MM_TOTAL_VM, "mm_struct.total_vm"),
            (RWSEM_COUNT, "rw_semaphore.count"),
            (RWSEM_OWNER, "rw_semaphore.owner"),
            (RWSEM_OSQ, "rw_semaphore.osq"),
            (RWSEM_WAIT_LIST, "rw_semaphore.wait_list"),
            (RWSEM_WAITER_TASK, "rwsem_waiter.task"),
            // PREEMPT_RT has these instead of `count` and `owner`.
            (RWBASE_READERS, "rw_semaphore.rwbase.readers"),
            (RWBASE_RTMUTEX, "rw_semaphore.rwbase.rtmutex"),
            (RWBASE_OWNER, "rw_semaphore.rwbase.rtmutex.owner"),
            (FILE_INODE, "file.f_inode"),
            (FILE_DENTRY, "file.f_path.dentry"),
            (DENTRY_NAME, "dentry.d_name.name"),
            (INODE_SB, "inode.i_sb"),
            (INODE_INO, "inode.i_ino"),
            (INODE_MODE, "inode.i_mode"),
            (SB_MAGIC, "super_block.s_magic"),
            (SB_DEV, "super_block.s_dev"),
            (FOLIO_FLAGS, "folio.flags"),
            (TASK_PID, "task_struct.pid"),
            (TASK_TGID, "task_struct.tgid"),
            (TASK_COMM, "task_struct.comm"),
            (TASK_MM, "task_struct.mm"),
            (TASK_FLAGS, "task_struct.flags"),
            (TASK_VFORK_DONE, "task_struct.vfork_done"),
            (TASK_PRIO, "task_struct.prio"),
            (TASK_POLICY, "task_struct.policy"),
            (TASK_NVCSW, "task_struct.nvcsw"),
            (TASK_RUN_DELAY, "task_struct.sched_info.run_delay"),
            (TASK_PENDING, "task_struct.pending.signal"),
            (TASK_IO_CONTEXT, "task_struct.io_context"),
            (IOC_IOPRIO, "io_context.ioprio"),
            (TASK_MIN_FLT, "task_struct.min_flt"),
            (TASK_MAJ_FLT, "task_struct.maj_flt"),
            // x86_64 and arm64 name the saved system call and its arguments differently; each
            // kernel has one of the two sets.
            (REGS_ORIG_AX, "pt_regs.orig_ax"),
            (REGS_BX, "pt_regs.bx"),
            (REGS_CX, "pt_regs.cx"),
            (REGS_DI, "pt_regs.di"),
            (REGS_SI, "pt_regs.si"),
            (REGS_DX, "pt_regs.dx"),
            (REGS_R10, "pt_regs.r10"),
            (REGS_SYSCALLNO, "pt_regs.syscallno"),
            (REGS_ORIG_X0, "pt_regs.orig_x0"),
            (REGS_X, "pt_regs.regs"),
            (THREAD_STATUS, "task_struct.thread_info.status"),
            (THREAD_FLAGS, "task_struct.thread_info.flags"),
        }
    };
}

/// Enumerators: `(GLOBAL, "enum", "enumerator")`; 0 where this kernel has none, which none of them is.
#[macro_export]
macro_rules! kernel_enums {
    ($apply:ident) => {
        $apply! {
            (FAULT_FLAG_TRIED, "fault_flag", "FAULT_FLAG_TRIED"),
            (FAULT_FLAG_WRITE, "fault_flag", "FAULT_FLAG_WRITE"),
            (FAULT_FLAG_USER, "fault_flag", "FAULT_FLAG_USER"),
            (FAULT_FLAG_REMOTE, "fault_flag", "FAULT_FLAG_REMOTE"),
            (FAULT_FLAG_VMA_LOCK, "fault_flag", "FAULT_FLAG_VMA_LOCK"),
            (FAULT_FLAG_RETRY_NOWAIT, "fault_flag", "FAULT_FLAG_RETRY_NOWAIT"),
            (VM_FAULT_MAJOR, "vm_fault_reason", "VM_FAULT_MAJOR"),
            (VM_FAULT_RETRY, "vm_fault_reason", "VM_FAULT_RETRY"),
            (VM_FAULT_COMPLETED, "vm_fault_reason", "VM_FAULT_COMPLETED"),
            (VM_FAULT_RETRY_VMA, "vm_fault_reason", "VM_FAULT_RETRY_VMA"),
            (VM_FAULT_RETRY_HARD, "vm_fault_reason", "VM_FAULT_RETRY_HARD"),
            // Numbers of bits, and none of these two is bit 0.
            (PG_UPTODATE, "pageflags", "PG_uptodate"),
            (PG_WRITEBACK, "pageflags", "PG_writeback"),
        }
    };
}

/// What the user asked for, and what the loader found: `(GLOBAL, help)`.
#[macro_export]
macro_rules! options {
    ($apply:ident) => {
        $apply! {
            (TARGETED, "whose threads count: see targeted"),
            (CGROUP_LEVELS, "bits: how deep the cgroups in CGROUPS are"),
            (FOLLOW, "1: children of targets become targets"),
            (MIN_US, "threshold for single events"),
            (SAMPLE, "time one common fault in this many; 0: in as many as ARMED says"),
            (LOCKS_ALL, "1: the mmap_lock tracepoints are attached"),
            (SLOW_SEEN, "1: the rwsem slow paths tell when a wait begins and ends: all waits, and these alone"),
            (FAULT_HOOK, "what of handle_mm_fault is hooked: see fault_hook"),
            (VM_FAULT_ERROR, "the bits of vm_fault_t that make an error"),
            (VM_FAULT_SPECIAL, "those, VM_FAULT_RETRY and VM_FAULT_COMPLETED"),
            (PAGE_SHIFT, "log2 of the page size"),
            (EARLY_VMA_LOCK, "what VMA locks are not yet for: see early_vma_lock"),
            (VMA_ENTRY_ONLY, "1: of __vma_start_write only the entry is seen"),
            (KEEP_STACKS, "1: kernel stacks of waiters and holders are kept"),
            (TID, "the offset of task_struct.pid; missing: every program returns at once, as benches want it"),
        }
    };
}

/// Values of `TARGETED`.
pub mod targeted {
    pub const EVERYBODY: u32 = 0;
    /// The processes in TARGETS.
    pub const PROCESSES: u32 = 1;
    /// Whoever is in one of CGROUPS, or below it.
    pub const CGROUPS: u32 = 2;
    /// Whose real user id is in UIDS.
    pub const UIDS: u32 = 3;
}

/// Values of `EARLY_VMA_LOCK`.
pub mod early_vma_lock {
    pub const NO: u32 = 0;
    /// Anonymous VMAs that have no anon_vma get none (before 6.10).
    pub const WITH_ANON_VMA: u32 = 1;
    /// Nor do VMAs that are not anonymous (before 6.7).
    pub const ANONYMOUS_ONLY: u32 = 2;
}

/// Values of `FAULT_HOOK`.
pub mod fault_hook {
    /// Entry and exit.
    pub const EXIT: u32 = 0;
    /// Its entry; the software page-fault events tell of the end.
    pub const ENTRY: u32 = 1;
    /// Nothing; there are only the events.
    pub const EVENTS: u32 = 2;
}

/// Slots of the thread table, a power of two: a thread's is its tid's low bits.
pub const SLOTS_MAX: u32 = 16 * 1024;
/// Threads whose slot is another's.
pub const THREADS_MAX: u32 = 4 * 1024;
/// Processes chosen by a filter.
pub const TARGETS_MAX: u32 = 8 * 1024;
/// Cgroups, and users, chosen by a filter.
pub const CHOSEN_MAX: u32 = 64;
/// Below this depth a cgroup cannot be chosen: each level is a call for each new thread.
pub const CGROUP_DEPTH: u32 = 16;
/// Address spaces whose owner is remembered, for waits on another process's lock.
pub const MMS_MAX: u32 = 8 * 1024;
/// Address spaces with faults that wait without their lock, at one time.
pub const WINDOW_MMS_MAX: u32 = 4 * 1024;
pub const RING_BYTES: u32 = 4 << 20;
/// Kernel stacks that are kept, where they are asked for.
pub const STACKS_MAX: u32 = 16 * 1024;
/// Frames of one: the innermost.
pub const FRAMES_MAX: usize = 64;
/// Numbers below this are system calls with an entry in `SYSCALL_OPS`.
pub const SYSCALLS: u32 = 512;

/// Values of `SYSCALL_OPS` from here on need a look at the call's arguments.
pub mod syscall_op {
    /// `clone`: a fork only without `CLONE_VM`, flags in the first argument.
    pub const CLONE: u8 = 0xf0;
    /// `clone3`: the same, flags in the structure the first argument points to.
    pub const CLONE3: u8 = 0xf1;
    /// `prctl`: `PR_SET_VMA` in the first argument.
    pub const PRCTL: u8 = 0xf2;
    /// `ioctl`: of userfaultfd, binder, /proc/PID/maps by the request in the second argument.
    pub const IOCTL: u8 = 0xf3;
}

/// What the start-up self-check found: the entries of CHECK, and values of the first.
pub mod check {
    pub const VERDICT: u32 = 0;
    /// What the kernel calls vmascope, also from inside a pid namespace.
    pub const OWN_TGID: u32 = 1;
    pub const ENTRIES: usize = 2;

    pub const NOT_RUN: u32 = 0;
    pub const PASSED: u32 = 1;
    pub const PID: u32 = 2;
    pub const TGID: u32 = 3;
    pub const COMM: u32 = 4;
    pub const MM: u32 = 5;
}
