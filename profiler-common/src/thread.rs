//! The value of the thread table, keyed by tid: a thread's fault and lock in flight, and its
//! counts. Only the thread itself writes to it, but for one flag, so nothing here needs atomics; it
//! heals itself by being overwritten when the next fault or lock begins.

use core::mem::offset_of;

use crate::{
    hist::OCTAVES,
    waits::Waits,
    words::{Mode, Path},
};

/// Where a thread stands in its current fault.
pub mod phase {
    pub const IDLE: u8 = 0;
    /// `lock_vma_under_rcu` gave no VMA, or (kernels without VMA locks) the fault began to lock.
    pub const LOCKING: u8 = 1;
    /// Inside `handle_mm_fault`.
    pub const ATTEMPT: u8 = 2;
    /// `handle_mm_fault` returned `VM_FAULT_RETRY`.
    pub const RETRYING: u8 = 3;
}

/// What `InFlight::common` tells of the first attempt of a fault by a target's thread, under the VMA
/// lock, for anonymous memory: nearly every fault there is.
pub mod common {
    /// The attempt is another.
    pub const NO: u8 = 0;
    pub const UNTIMED: u8 = 1;
    pub const TIMED: u8 = 2;
}

/// Whether a fault's start is known, and what it stands for.
pub mod timed {
    pub const NO: u8 = 0;
    /// One common fault in as many as are sampled, for all of them.
    pub const SAMPLED: u8 = 1;
    /// For itself alone.
    pub const ALWAYS: u8 = 2;
    /// It began before it was seen, so its time will not be known.
    pub const NEVER: u8 = 3;
}

/// The kind of a fault whose VMA was not looked at while it could be.
pub const UNKNOWN: u8 = u8::MAX;

/// The fault in flight.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct InFlight {
    pub start_ns: u64,
    pub address: u64,
    /// Of the VMA, when the latest attempt began; 0: anonymous.
    pub vm_ops: u64,
    pub vm_start: u64,
    pub vm_end: u64,
    pub vm_flags: u64,
    /// Of the latest attempt, as the kernel passed them.
    pub flags: u32,
    /// A [`crate::words::Kind`], or [`UNKNOWN`].
    pub kind: u8,
    pub pad: [u8; 3],
    // From here on eight bytes that a common fault writes as one word, and looks at in pairs.
    pub phase: u8,
    /// 1: the thread is a stranger at a target's address space; it has no faults.
    pub stranger: u8,
    /// One of [`common`], until the attempt ends.
    pub common: u8,
    /// `waits` holds this fault's.
    pub slow: u8,
    pub timed: u8,
    pub attempts: u8,
    pub path: u8,
    /// `FallbackReason + 1`, 0 when the VMA lock was had.
    pub fallback: u8,
    /// The VMA, as a slow path had it; 0: none did.
    pub vma: u64,
    pub waits: Waits,
    pub window: Window,
}

/// The fault gave up its VMA lock, or is about to, and waits.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Window {
    /// 0: none is open.
    pub mm: u64,
    pub attempt_ns: u64,
    pub io_ns: u64,
    /// The end of the latest wait.
    pub close_ns: u64,
    pub vm_start: u64,
    pub vm_end: u64,
}

/// A VMA's lock is being taken to change the VMA.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct VmaRequest {
    /// 0: none.
    pub mm: u64,
    pub since_ns: u64,
    pub vm_start: u64,
    pub vm_end: u64,
    /// The lock, where it is an rwsem of its own; the VMA, where only the entry of
    /// `__vma_start_write` is hooked.
    pub sem: u64,
    /// When it was found free, where the function's end is not seen; 0: not yet.
    pub until_ns: u64,
    /// It had readers.
    pub contended: u32,
    /// One of them let the writer go: the only field that another thread writes.
    pub woken: u32,
    /// As in [`Lock`].
    pub stack: u32,
    pub op: u8,
    pub pad: [u8; 3],
}

/// Where the eight bytes begin that a common fault writes at once.
const WORD: usize = offset_of!(InFlight, phase);
const _: () = assert!(WORD.is_multiple_of(8));

/// The fields in the order they lie in, from `phase` on.
#[inline(always)]
pub const fn word(bytes: [u8; 8]) -> u64 {
    u64::from_ne_bytes(bytes)
}

impl InFlight {
    /// `start_ns` is when the fault began.
    #[inline(always)]
    pub fn is_timed(&self) -> bool {
        self.timed == timed::SAMPLED || self.timed == timed::ALWAYS
    }

    /// `phase` and `stranger` are 0: a target's thread that is in no fault.
    #[inline(always)]
    pub fn in_none(&self) -> bool {
        self.pair::<WORD>() == 0
    }

    /// `common`, if no slow path was seen: else a number that is none of [`common`].
    #[inline(always)]
    pub fn still_common(&self) -> u16 {
        u16::from_le(self.pair::<{ offset_of!(InFlight, common) }>())
    }

    /// Two bytes in one load, which the compiler would make two of.
    #[inline(always)]
    fn pair<const AT: usize>(&self) -> u16 {
        const { assert!(AT >= WORD && AT < WORD + 8 && AT.is_multiple_of(2)) };
        // SAFETY: inside the structure, two bytes, aligned as the structure is.
        unsafe {
            (&raw const *self)
                .byte_add(AT)
                .cast::<u16>()
                .read_volatile()
        }
    }

    /// A common fault is over: `phase` and `common` are reset.
    #[inline(always)]
    pub fn forget(&mut self) {
        // SAFETY: inside the structure, four bytes, aligned as the structure is: these two, and
        // `stranger` and `slow`, which are 0.
        unsafe { (&raw mut *self).byte_add(WORD).cast::<u32>().write(0) };
    }

    /// Sets `phase` and what follows.
    #[inline(always)]
    pub fn set_word(&mut self, word: u64) {
        // SAFETY: inside the structure, eight bytes, aligned as the structure is.
        unsafe { (&raw mut *self).byte_add(WORD).cast::<u64>().write(word) };
    }
}

/// A request for, or a hold of, one `mmap_lock`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Lock {
    /// 0: none.
    pub mm: u64,
    pub since_ns: u64,
    pub mode: u8,
    pub op: u8,
    /// A slow path, or a queue, was seen since `since_ns`.
    pub contended: u8,
    pub pad: u8,
    /// Of the waiter, as in [`crate::record::WaitRecord`].
    pub stack: u32,
}

/// Who was seen to hold the lock when a wait began.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct Holder {
    pub tid: u32,
    pub tgid: u32,
    pub prio: i32,
    /// How many held it for reading, 0: a writer, or nobody. The owner field names one at most.
    pub readers: u32,
    pub comm: [u8; 16],
}

/// Faults that were common to the end: minor, of anonymous memory, under the VMA lock. They are
/// counted here and, but for the slots of the times, nowhere else; userspace adds them up.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Common {
    pub faults: u64,
    /// Of those that were timed, each as many as it stands for.
    pub sum_ns: u64,
    pub max_ns: u64,
}

impl Thread {
    /// Counts its faults, for what is done at one in so many; each thread begins elsewhere, or the first
    /// faults of short-lived ones would stand for all.
    #[inline(always)]
    pub fn round(&self) -> u64 {
        self.minor.wrapping_add(u64::from(self.tid))
    }
}

impl Common {
    pub fn add(&mut self, other: &Common) {
        self.faults += other.faults;
        self.sum_ns += other.sum_ns;
        self.max_ns = self.max_ns.max(other.max_ns);
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct ThreadCounts {
    pub common: Common,
    /// All others.
    pub by_path: [u64; Path::COUNT],
    /// Their times.
    pub sum_ns: u64,
    pub max_ns: u64,
    /// The times of all faults.
    pub octaves: [u32; OCTAVES],
    pub waits: [u64; Mode::COUNT],
    pub wait_sum_ns: [u64; Mode::COUNT],
    pub wait_max_ns: [u64; Mode::COUNT],
}

/// Holds a thread can have at once: `dup_mmap` holds the parent's and the child's lock.
pub const HOLDS: usize = 2;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Thread {
    /// `task_struct` address: tells a reused tid.
    pub task: u64,
    pub tgid: u32,
    pub tid: u32,
    pub comm: [u8; 16],
    /// 1 from `sched_process_exit` on; userspace makes it 2 when it sees that, and gives the entry back
    /// when it sees the 2.
    pub exited: u32,
    /// 0: a stranger at a target's address space, whose own faults and locks do not count; as
    /// `fault.stranger` has it the other way round.
    pub target: u32,
    /// VMAs of the address space, when a slow fault last ended.
    pub map_count: u32,
    pub pad: u32,
    /// Its pages.
    pub total_vm: u64,
    /// The kernel's own counts, `min_flt` and `maj_flt`, when they were last looked at: a fault that
    /// ends must find one of them one higher, so a hook that was skipped shows as a jump. No errors,
    /// no retries, GUP included: what they exceed the counts below by since the thread was first
    /// seen, the hooks missed.
    pub minor: u64,
    pub major: u64,
    /// They, when the thread was first seen.
    pub first_minor: u64,
    pub first_major: u64,
    pub fault: InFlight,
    pub request: Lock,
    pub vma_request: VmaRequest,
    pub holder: Holder,
    pub holds: [Lock; HOLDS],
    pub counts: ThreadCounts,
}
