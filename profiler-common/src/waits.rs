//! What a fault waited for, and what its attempts went through: the part of a fault in flight that
//! a common fault never touches. Hooks on the slow paths write it; when an attempt ends it is
//! settled: what was waited in an attempt that gave up its lock is I/O wait, in one that kept it,
//! a held wait.

use crate::{
    words::{FolioState, HeldWait, RetryReason},
    zero::zero,
};

/// What an attempt was seen to go through.
pub mod seen {
    pub const FILEMAP: u16 = 1;
    pub const SHMEM: u16 = 1 << 1;
    /// `do_swap_page`.
    pub const SWAP: u16 = 1 << 2;
    /// A swap folio's lock was not free.
    pub const SWAP_LOCK: u16 = 1 << 3;
    pub const SWAP_READ: u16 = 1 << 4;
    pub const MIGRATION: u16 = 1 << 5;
    pub const USERFAULT: u16 = 1 << 6;
    pub const MKWRITE: u16 = 1 << 7;
    pub const RECLAIM: u16 = 1 << 8;
    /// `io_schedule`.
    pub const IO: u16 = 1 << 9;
    pub const HUGETLB: u16 = 1 << 10;
    /// The folio in the page cache.
    pub const LOOKED_UP: u16 = 1 << 11;
    /// The attempt has returned: its fault asks for `mmap_lock` again. Told where ends are not seen.
    pub const RETURNED: u16 = 1 << 12;
}

/// `io_schedule` in the attempt in progress.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct AttemptIo {
    pub ns: u64,
    pub delay_ns: u64,
    /// The open one, and the thread's run delay when it began; 0: none.
    pub since_ns: u64,
    pub since_delay: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Waits {
    /// For `mmap_lock`, before an attempt.
    pub mmap_lock_ns: u64,
    /// In `io_schedule`, by attempts that gave up their lock: until the thread was woken, and from
    /// there until it ran.
    pub io_ns: u64,
    pub run_delay_ns: u64,
    pub userfault_ns: u64,
    /// By the attempt that kept its lock.
    pub held_ns: [u64; HeldWait::COUNT],
    /// All time in `io_schedule`, whatever became of the lock.
    pub any_io_ns: u64,
    pub any_delay_ns: u64,
    pub attempt: AttemptIo,
    /// The open stretch of code that is waited in as a whole; and how often the thread had given up
    /// its CPU when it began.
    pub inside_since_ns: u64,
    pub inside_switches: u64,
    /// Of the attempt in progress.
    pub seen: u16,
    /// Of the whole fault.
    pub ever: u16,
    /// Which stretch is open: a bit of [`seen`].
    pub inside: u16,
    /// `RetryReason + 1` of the last attempt that gave up.
    pub retry: u8,
    /// `HeldWait + 1`: the longest.
    pub held: u8,
    /// `FolioState + 1`, at the first look-up of the latest attempt that made one.
    pub folio: u8,
    pub pad: [u8; 7],
}

/// An attempt that returned `VM_FAULT_RETRY`, beyond what the slow paths saw.
pub struct GaveUp {
    pub major: bool,
    pub killed: bool,
    pub vma_lock: bool,
    /// The VMA has operations, but none that maps pages around.
    pub no_map_pages: bool,
    /// The VMA has operations: what it maps is not anonymous.
    pub has_ops: bool,
    /// VMA locks as they were at first: many faults gave them up at once, for no reason of their own.
    pub early: bool,
}

impl Waits {
    #[inline(always)]
    pub fn passes(&mut self, bit: u16) {
        self.seen |= bit;
        self.ever |= bit;
    }

    #[inline(always)]
    pub fn io_begins(&mut self, now: u64, run_delay: u64) {
        self.attempt.since_ns = now;
        self.attempt.since_delay = run_delay;
    }

    #[inline(always)]
    pub fn io_ends(&mut self, now: u64, run_delay: u64) {
        if self.attempt.since_ns == 0 {
            return;
        }
        let waited = now.saturating_sub(self.attempt.since_ns);
        // The scheduler's clock is not ours: never more delay than there was wait.
        let delay = run_delay
            .saturating_sub(self.attempt.since_delay)
            .min(waited);
        self.attempt.since_ns = 0;
        self.passes(seen::IO);
        self.any_io_ns += waited;
        self.any_delay_ns += delay;
        if self.inside == 0 {
            self.attempt.ns += waited;
            self.attempt.delay_ns += delay;
        }
    }

    /// A stretch of code that is a wait as a whole. Inside another, it is part of that one.
    #[inline(always)]
    pub fn enters(&mut self, bit: u16, now: u64, switches: u64) {
        self.passes(bit);
        // Waiting threads enter nothing: the end of that wait was missed.
        self.attempt.since_ns = 0;
        if self.inside == 0 {
            self.inside = bit;
            self.inside_since_ns = now;
            self.inside_switches = switches;
        }
    }

    #[inline(always)]
    pub fn leaves(&mut self, bit: u16, now: u64, switches: u64) {
        self.attempt.since_ns = 0;
        if self.inside != bit {
            return;
        }
        self.inside = 0;
        if bit == seen::MKWRITE && switches == self.inside_switches {
            // It ran through: work, not a wait.
            self.seen &= !bit;
            return;
        }
        let ns = now.saturating_sub(self.inside_since_ns);
        match bit {
            seen::USERFAULT => self.userfault_ns += ns,
            seen::MKWRITE => self.held_ns[HeldWait::PageMkwrite as usize] += ns,
            seen::RECLAIM => self.held_ns[HeldWait::Reclaim as usize] += ns,
            _ if self.seen & seen::SHMEM != 0 => {
                self.held_ns[HeldWait::ShmemSwap as usize] += ns;
            }
            _ => self.held_ns[HeldWait::SwapSync as usize] += ns,
        }
    }

    /// The lock was given up: what the attempt waited for, it did not hold anybody up by.
    #[inline(always)]
    pub fn attempt_gave_up(&mut self, how: &GaveUp) -> RetryReason {
        let reason = self.retry_reason(how);
        self.retry = reason as u8 + 1;
        self.io_ns += self.attempt.ns - self.attempt.delay_ns;
        self.run_delay_ns += self.attempt.delay_ns;
        zero(&mut self.held_ns);
        self.next_attempt();
        reason
    }

    #[inline(always)]
    fn next_attempt(&mut self) {
        zero(&mut self.attempt);
        self.seen = 0;
        self.inside = 0;
    }

    /// mm/memory.c, mm/filemap.c, mm/shmem.c, mm/userfaultfd.c: the places that return
    /// `VM_FAULT_RETRY`, from the surest sign to the weakest.
    #[inline(always)]
    fn retry_reason(&self, how: &GaveUp) -> RetryReason {
        let saw = |bit: u16| self.seen & bit != 0;
        if how.killed {
            RetryReason::Killed
        } else if saw(seen::USERFAULT) {
            RetryReason::Userfault
        } else if saw(seen::SWAP_LOCK) {
            RetryReason::SwapIn
        } else if saw(seen::FILEMAP) {
            if how.major {
                RetryReason::Io
            } else if saw(seen::IO) {
                RetryReason::FolioLocked
            } else {
                RetryReason::AsyncReadahead
            }
        } else if saw(seen::SHMEM) {
            RetryReason::ShmemHole
        } else if saw(seen::SWAP) && (how.major || saw(seen::IO)) {
            RetryReason::SwapIn
        } else if how.early && how.vma_lock {
            RetryReason::Other
        } else if saw(seen::SWAP) {
            RetryReason::DevicePrivate
        } else if how.vma_lock && how.no_map_pages && !saw(seen::HUGETLB) {
            RetryReason::NoMapPages
        } else if how.vma_lock {
            // __vmf_anon_prepare: all that is left (it runs for every anonymous fault: no hook).
            RetryReason::AnonVmaTrylock
        } else if how.has_ops {
            RetryReason::Driver
        } else {
            RetryReason::Other
        }
    }

    /// The fault ended with its lock held.
    #[inline(always)]
    pub fn attempt_kept(&mut self, tried: bool, major: bool) {
        let went = self.seen;
        let saw = |bit: u16| went & bit != 0;
        if saw(seen::IO | seen::SWAP_READ) {
            let reason = if saw(seen::MIGRATION) {
                HeldWait::Migration
            } else if saw(seen::HUGETLB) {
                HeldWait::Hugetlb
            } else if saw(seen::SHMEM) && saw(seen::SWAP_READ) {
                HeldWait::ShmemSwap
            } else if saw(seen::SWAP_READ) {
                HeldWait::SwapSync
            } else if tried && saw(seen::FILEMAP) && major {
                HeldWait::TriedIo
            } else {
                HeldWait::FolioLock
            };
            self.held_ns[reason as usize] += self.attempt.ns;
            if self.attempt.ns > 0 || saw(seen::SWAP_READ) {
                self.held = reason as u8 + 1;
            }
        }
        if saw(seen::RECLAIM) {
            self.longer(HeldWait::Reclaim);
        }
        if saw(seen::MKWRITE) {
            self.longer(HeldWait::PageMkwrite);
        }
        self.next_attempt();
    }

    #[inline(always)]
    fn longer(&mut self, reason: HeldWait) {
        let now = match self.held {
            0 => 0,
            held => self.held_ns[usize::from(held - 1) % HeldWait::COUNT],
        };
        if self.held == 0 || self.held_ns[reason as usize] > now {
            self.held = reason as u8 + 1;
        }
    }

    /// `HeldWait + 1`: what it waited for with its lock, as far as is known before the attempt ends.
    #[inline(always)]
    pub fn held_so_far(&self) -> u8 {
        if self.held != 0 {
            return self.held;
        }
        let (mut longest, mut which) = (0, 0);
        let mut i = 0;
        while i < HeldWait::COUNT {
            if self.held_ns[i] > longest {
                longest = self.held_ns[i];
                which = i as u8 + 1;
            }
            i += 1;
        }
        if self.attempt.ns > longest {
            which = HeldWait::FolioLock as u8 + 1;
        }
        which
    }

    /// The attempt in progress has waited in `io_schedule`.
    #[inline(always)]
    pub fn had_io(&self) -> bool {
        self.seen & seen::IO != 0
    }

    #[inline(always)]
    pub fn held_total_ns(&self) -> u64 {
        let mut sum = 0;
        for ns in self.held_ns {
            sum += ns;
        }
        sum
    }

    /// All that is known of the fault's time; the rest of it is work.
    #[inline(always)]
    pub fn total_ns(&self) -> u64 {
        self.mmap_lock_ns
            + self.io_ns
            + self.run_delay_ns
            + self.userfault_ns
            + self.held_total_ns()
    }

    /// The first look-up of an attempt is the one its decision hangs on.
    #[inline(always)]
    pub fn looked_up(&mut self, state: FolioState) {
        self.folio = state as u8 + 1;
    }
}
