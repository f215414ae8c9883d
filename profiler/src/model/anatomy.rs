//! The inside of slow faults: why they gave up their lock, what they waited for, for how long, and in
//! how big a VMA.

use profiler_common::{
    agg::{IO_WAITS, SIZES},
    words::{FolioState, HeldWait, IoprioClass, Kind, PrioClass, RetryReason},
};

use super::Hist;

/// What the faults of one kind that left the common path spent their time on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Components {
    pub faults: u64,
    pub total_ns: u64,
    pub mmap_lock_wait_ns: u64,
    pub io_wait_ns: u64,
    pub run_delay_ns: u64,
    pub userfault_wait_ns: u64,
    pub held_wait_ns: u64,
}

/// Time faults of one priority spent in `io_schedule`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IoWait {
    pub wait: Hist,
    pub run_delay_sum_ns: u64,
    pub run_delay_max_ns: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Anatomy {
    /// Attempts that returned `VM_FAULT_RETRY`.
    pub retries: [u64; RetryReason::COUNT],
    pub folio_states: [u64; FolioState::COUNT],
    /// Faults, by the longest of their held waits.
    pub held_waits: [u64; HeldWait::COUNT],
    pub held_wait_ns: [u64; HeldWait::COUNT],
    /// Indexed by `Kind`.
    pub components: [Components; Kind::COUNT],
    /// Indexed by `agg::io_index`.
    pub io: Vec<IoWait>,
    /// By VMA size, bucket `i` from `2^i` pages on.
    pub size_faults: [u64; SIZES],
    pub size_retries: [u64; SIZES],
    pub size_wait_ns: [u64; SIZES],
}

impl Default for Anatomy {
    fn default() -> Self {
        Self {
            retries: Default::default(),
            folio_states: Default::default(),
            held_waits: Default::default(),
            held_wait_ns: Default::default(),
            components: Default::default(),
            io: vec![IoWait::default(); IO_WAITS],
            size_faults: [0; SIZES],
            size_retries: [0; SIZES],
            size_wait_ns: [0; SIZES],
        }
    }
}

impl Anatomy {
    pub fn retries_total(&self) -> u64 {
        self.retries.iter().sum()
    }

    /// Every priority and I/O class, in the order of `io`.
    pub fn io_classes() -> impl Iterator<Item = (PrioClass, IoprioClass)> {
        let pairs = |p: &'static PrioClass| IoprioClass::ALL.iter().map(move |io| (*p, *io));
        PrioClass::ALL.iter().flat_map(pairs)
    }

    /// All kinds added up.
    pub fn components_total(&self) -> Components {
        self.components
            .iter()
            .fold(Components::default(), |sum, c| sum.plus(c))
    }
}

impl Components {
    pub fn plus(&self, other: &Components) -> Components {
        Components {
            faults: self.faults + other.faults,
            total_ns: self.total_ns + other.total_ns,
            mmap_lock_wait_ns: self.mmap_lock_wait_ns + other.mmap_lock_wait_ns,
            io_wait_ns: self.io_wait_ns + other.io_wait_ns,
            run_delay_ns: self.run_delay_ns + other.run_delay_ns,
            userfault_wait_ns: self.userfault_wait_ns + other.userfault_wait_ns,
            held_wait_ns: self.held_wait_ns + other.held_wait_ns,
        }
    }

    /// Work, and waits that nothing is known of.
    pub fn rest_ns(&self) -> u64 {
        let known = self.mmap_lock_wait_ns
            + self.io_wait_ns
            + self.run_delay_ns
            + self.userfault_wait_ns
            + self.held_wait_ns;
        self.total_ns.saturating_sub(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use profiler_common::agg::io_index;

    #[test]
    fn classes_are_in_the_order_of_the_array() {
        for (i, (prio, ioprio)) in Anatomy::io_classes().enumerate() {
            assert_eq!(io_index(prio, ioprio) as usize, i);
        }
        assert_eq!(Anatomy::io_classes().count(), IO_WAITS);
    }
}
