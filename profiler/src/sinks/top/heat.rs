//! Latency over time: how many faults or waits of each length came in each interval. In: snapshots.
//! Out: columns of few rows, the latest last.

use std::collections::VecDeque;

use profiler_common::{
    hist::{SLOTS, lower},
    words::{Mode, Path},
};

use crate::model::{Hist, Snapshot};

/// Columns kept: as wide as terminals get.
const HISTORY: usize = 240;
/// Where rows begin, in ns: two to a decade. What is below or above goes to the first or the last.
pub const FLOORS: [u64; 16] = [
    100,
    300,
    1_000,
    3_000,
    10_000,
    30_000,
    100_000,
    300_000,
    1_000_000,
    3_000_000,
    10_000_000,
    30_000_000,
    100_000_000,
    300_000_000,
    1_000_000_000,
    3_000_000_000,
];
pub type Column = [u64; FLOORS.len()];

#[derive(Clone)]
pub struct Heat {
    /// All faults, then waits by mode.
    maps: [VecDeque<Column>; Self::MAPS],
    last: [Column; Self::MAPS],
    row_of: Vec<usize>,
}

impl Default for Heat {
    fn default() -> Self {
        // A slot belongs to the row that has its middle.
        let row = |slot| {
            let middle = lower(slot).midpoint(lower((slot + 1).min(SLOTS - 1)));
            FLOORS.partition_point(|floor| *floor <= middle).max(1) - 1
        };
        Self {
            maps: Default::default(),
            last: [[0; FLOORS.len()]; Self::MAPS],
            row_of: (0..SLOTS).map(row).collect(),
        }
    }
}

impl Heat {
    pub const MAPS: usize = 1 + Mode::COUNT;

    pub fn advance(&mut self, now: &Snapshot) {
        let mut all = [[0; FLOORS.len()]; Self::MAPS];
        for path in Path::ALL {
            self.sum(&mut all[0], &now.path(*path).latency);
        }
        for mode in Mode::ALL {
            self.sum(
                &mut all[1 + *mode as usize],
                &now.locks[*mode as usize].wait,
            );
        }
        for ((map, now), last) in self.maps.iter_mut().zip(all).zip(&mut self.last) {
            if map.len() == HISTORY {
                map.pop_front();
            }
            map.push_back(std::array::from_fn(|row| {
                now[row].saturating_sub(last[row])
            }));
            *last = now;
        }
    }

    fn sum(&self, column: &mut Column, hist: &Hist) {
        for (slot, n) in hist.slots.iter().enumerate().filter(|(_, n)| **n > 0) {
            column[self.row_of[slot]] += n;
        }
    }

    /// The latest last.
    pub fn columns(&self, map: usize) -> &VecDeque<Column> {
        &self.maps[map]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_in_an_interval_is_in_its_column() {
        let mut heat = Heat::default();
        let mut now = Snapshot::empty();
        now.faults[Path::VmaLock as usize].latency.record(2_000);
        now.locks[Mode::Write as usize].wait.record(50);
        heat.advance(&now);
        now.faults[Path::Retry as usize].latency.record(4_000_000);
        now.locks[Mode::Write as usize].wait.record(60_000_000_000);
        heat.advance(&now);
        let set = |map: usize, at: usize| -> Vec<usize> {
            let column = heat.columns(map)[at];
            (0..FLOORS.len()).filter(|row| column[*row] > 0).collect()
        };
        assert_eq!((set(0, 0), set(0, 1)), (vec![2], vec![9]));
        let write = 1 + Mode::Write as usize;
        assert_eq!((set(write, 0), set(write, 1)), (vec![0], vec![15]));
        assert!(set(1, 1).is_empty());
    }
}
