//! Pages touched one after the other by one thread, each of them timed. In: a mapping and the
//! order. Out: what the thread saw, and the faults that getrusage counted around it.

use std::ops::Range;

use anyhow::{Result, bail};
use serde::Serialize;

use super::{
    faults_of_thread,
    memory::{Mapping, page_size},
    now_ns, tid,
};

/// What a thread says of its walk.
#[derive(Debug, Serialize)]
pub struct Walk {
    pub tid: u32,
    pub minor: u64,
    pub major: u64,
    /// The addresses of its pages.
    pub start: u64,
    pub end: u64,
    /// Monotonic.
    began_ns: u64,
    ended_ns: u64,
    /// How long each touch took, in the order of the walk.
    pub fault_ns: Vec<u64>,
}

/// The truth of the scenarios that do nothing else.
#[derive(Debug, Serialize)]
pub struct Truth {
    scenario: &'static str,
    pid: u32,
    page_size: usize,
    /// Bytes that one fault brings in.
    step: usize,
    #[serde(flatten)]
    pub walk: Walk,
}

impl Truth {
    /// Wants one fault a page.
    pub fn of(scenario: &'static str, step: usize, walk: Walk) -> Result<Self> {
        let pages = walk.fault_ns.len() as u64;
        if walk.minor + walk.major != pages {
            bail!(
                "touched {pages} pages but the kernel counted {} + {} faults: try again on a calmer machine",
                walk.minor,
                walk.major
            );
        }
        Ok(Self {
            scenario,
            pid: std::process::id(),
            page_size: page_size(),
            step,
            walk,
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    Read,
    Write,
}

/// What is touched, prepared: the walk itself uses only memory that is already there.
pub struct Plan {
    offsets: Vec<usize>,
    fault_ns: Vec<u64>,
    range: Range<usize>,
    touch: Touch,
}

impl Plan {
    /// So many pages of `step` bytes each from an offset on, in order.
    pub fn new(from: usize, pages: usize, step: usize, touch: Touch) -> Self {
        let range = from..from + pages * step;
        Self {
            // Not zeros: they might be pages not there yet.
            fault_ns: vec![u64::MAX; pages],
            offsets: range.clone().step_by(step).collect(),
            range,
            touch,
        }
    }

    /// In an order that no read-ahead foresees, the same in every run.
    pub fn shuffled(mut self) -> Self {
        let mut seed = 1u64;
        for i in (1..self.offsets.len()).rev() {
            // Knuth's MMIX; the upper bits are the good ones.
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            self.offsets.swap(i, (seed >> 33) as usize % (i + 1));
        }
        self
    }

    /// One copy of this code, for practice and for real: another would have pages of its own.
    #[inline(never)]
    pub fn run(mut self, memory: &Mapping) -> Walk {
        // A fork since `new` has made its pages write-protected.
        self.fault_ns.fill(u64::MAX);
        std::hint::black_box(&mut self.fault_ns);
        let before = faults_of_thread();
        let began_ns = now_ns();
        let mut last = began_ns;
        for (offset, ns) in self.offsets.iter().zip(&mut self.fault_ns) {
            match self.touch {
                Touch::Read => memory.read(*offset),
                Touch::Write => memory.write(*offset),
            }
            let now = now_ns();
            *ns = now - last;
            last = now;
        }
        let after = faults_of_thread();
        Walk {
            tid: tid(),
            minor: after.minor - before.minor,
            major: after.major - before.major,
            start: memory.start() + self.range.start as u64,
            end: memory.start() + self.range.end as u64,
            began_ns,
            ended_ns: last,
            fault_ns: self.fault_ns,
        }
    }
}

/// Pages of the practice run.
pub const PRACTICE: usize = 16;

/// So that code, stack and clock fault now and not between the two readings of a real walk.
pub fn practise() -> Result<()> {
    let memory = Mapping::new(PRACTICE * page_size())?;
    for touch in [Touch::Write, Touch::Read] {
        Plan::new(0, PRACTICE, page_size(), touch).run(&memory);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_keeps_every_page() {
        let mut offsets = Plan::new(12288, 97, 4096, Touch::Read).shuffled().offsets;
        assert!(!offsets.is_sorted());
        offsets.sort_unstable();
        let all: Vec<usize> = (3..100).map(|page| page * 4096).collect();
        assert_eq!(offsets, all);
    }

    #[test]
    fn a_walk_is_timed_page_by_page() {
        practise().unwrap();
        let memory = Mapping::new(10 * page_size()).unwrap();
        let walk = Plan::new(2 * page_size(), 6, page_size(), Touch::Write).run(&memory);
        assert_eq!(walk.minor + walk.major, 6);
        assert_eq!(walk.end - walk.start, 6 * page_size() as u64);
        let sum: u64 = walk.fault_ns.iter().sum();
        assert_eq!(sum, walk.ended_ns - walk.began_ns);
    }
}
