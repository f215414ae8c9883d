//! A recording as a row of intervals that can be drawn again and again: of each, what came in.

use profiler_common::{
    hist::SLOTS,
    words::{Mode, Path},
};

use crate::{
    model::{Hist, Snapshot},
    recording::{self, Recording},
};

/// Histograms compared: fault latency by path, then lock waits by mode.
pub const SERIES: usize = Path::COUNT + Mode::COUNT;

pub const fn of_path(path: Path) -> usize {
    path as usize
}

pub const fn of_mode(mode: Mode) -> usize {
    Path::COUNT + mode as usize
}

pub struct Run {
    pub blocks: Vec<Block>,
    /// Whether this recording can tell of a series.
    pub known: [bool; SERIES],
    /// Whether it has the times of faults.
    pub latency: bool,
}

/// One interval.
pub struct Block {
    pub ns: u64,
    parts: Vec<Part>,
}

struct Part {
    series: usize,
    count: u64,
    sum_ns: u64,
    /// Of the histogram, those that are not 0.
    slots: Vec<(usize, u64)>,
}

/// Intervals added up.
#[derive(Clone)]
pub struct Total {
    pub ns: u64,
    pub count: [u64; SERIES],
    pub sum_ns: [u64; SERIES],
    pub slots: Vec<[u64; SLOTS]>,
}

impl Total {
    pub fn new() -> Self {
        Self {
            ns: 0,
            count: [0; SERIES],
            sum_ns: [0; SERIES],
            slots: vec![[0; SLOTS]; SERIES],
        }
    }

    pub fn clear(&mut self) {
        (self.ns, self.count, self.sum_ns) = (0, [0; SERIES], [0; SERIES]);
        self.slots.iter_mut().for_each(|slots| slots.fill(0));
    }

    pub fn add(&mut self, block: &Block) {
        self.ns += block.ns;
        for part in &block.parts {
            self.count[part.series] += part.count;
            self.sum_ns[part.series] += part.sum_ns;
            for (slot, n) in &part.slots {
                self.slots[part.series][*slot] += n;
            }
        }
    }
}

impl Run {
    pub fn of(recording: &Recording) -> recording::Result<Self> {
        let session = recording.session();
        let mut known = [session.has("fault_path"); SERIES];
        for mode in Mode::ALL {
            known[of_mode(*mode)] = session.has(match mode {
                Mode::VmaWrite => "vma_write_wait",
                Mode::Read | Mode::Write => "mmap_lock_wait",
            });
        }
        let mut before = Snapshot::empty();
        let mut blocks = Vec::new();
        for now in recording.intervals() {
            let now = now?;
            let block = block(&now, &before);
            // The end comes right after the last interval: too short to be one of its own.
            match blocks.last_mut() {
                Some(last) if is_short(&block, last) => join(last, block),
                _ => blocks.push(block),
            }
            before = now;
        }
        Ok(Self {
            blocks,
            known,
            latency: session.has("fault_latency"),
        })
    }
}

fn is_short(block: &Block, last: &Block) -> bool {
    block.ns < last.ns / 2
}

fn join(last: &mut Block, block: Block) {
    last.ns += block.ns;
    last.parts.extend(block.parts);
}

fn block(now: &Snapshot, before: &Snapshot) -> Block {
    let mut parts = Vec::new();
    let mut add = |series: usize, count: u64, now: &Hist, before: &Hist| {
        let slots = now.slots.iter().zip(&before.slots).enumerate();
        let slots: Vec<_> = slots
            .map(|(slot, (now, before))| (slot, now.saturating_sub(*before)))
            .filter(|(_, n)| *n > 0)
            .collect();
        if count > 0 || !slots.is_empty() {
            parts.push(Part {
                series,
                count,
                sum_ns: now.sum_ns.saturating_sub(before.sum_ns),
                slots,
            });
        }
    };
    for path in Path::ALL {
        let (now, before) = (now.path(*path), before.path(*path));
        let count = now.count.saturating_sub(before.count);
        add(of_path(*path), count, &now.latency, &before.latency);
    }
    for mode in Mode::ALL {
        let (now, before) = (&now.locks[*mode as usize], &before.locks[*mode as usize]);
        let count = now.total().waits.saturating_sub(before.total().waits);
        add(of_mode(*mode), count, &now.wait, &before.wait);
    }
    Block {
        ns: now.duration_ns.saturating_sub(before.duration_ns),
        parts,
    }
}

/// An interval made of single values, by series.
#[cfg(test)]
pub fn made(ns: u64, series: &[(usize, &[u64])]) -> Block {
    let part = |(series, values): &(usize, &[u64])| {
        let mut hist = Hist::default();
        values.iter().for_each(|ns| hist.record(*ns));
        let slots = hist.slots.iter().copied().enumerate();
        Part {
            series: *series,
            count: hist.count,
            sum_ns: hist.sum_ns,
            slots: slots.filter(|(_, n)| *n > 0).collect(),
        }
    };
    Block {
        ns,
        parts: series.iter().map(part).collect(),
    }
}
