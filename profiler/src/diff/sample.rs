//! A recording as a row of intervals that can be drawn again and again: of each, what came in.

use profiler_common::{
    hist::SLOTS,
    words::{Mode, Path},
};

use crate::{
    model::{Figure, Hist, Knows, Snapshot},
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
        let (knows, mut known) = (Knows::of(session), [false; SERIES]);
        for path in Path::ALL {
            known[of_path(*path)] = knows.path(*path);
        }
        for mode in Mode::ALL {
            known[of_mode(*mode)] = session.has(Figure::waits(*mode));
        }
        let mut before = Snapshot::empty();
        let mut blocks = Vec::new();
        for now in recording.intervals() {
            let now = now?;
            blocks.push(block(&now, &before));
            before = now;
        }
        join_the_end(&mut blocks);
        Ok(Self {
            blocks,
            known,
            latency: session.has(Figure::FaultLatency),
        })
    }
}

/// The end comes right after the last interval: mostly too short to be one of its own. Others may differ in
/// length, where a machine was busy, and are left alone.
fn join_the_end(blocks: &mut Vec<Block>) {
    if let [.., last, end] = &mut blocks[..]
        && end.ns < last.ns / 2
    {
        last.ns += end.ns;
        last.parts.append(&mut end.parts);
        blocks.pop();
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Session, recording::Writer};

    /// What they counted is in what is left.
    fn lengths(ms: &[u64]) -> (Vec<u64>, u64) {
        let mut writer = Writer::in_memory(&Session::blank()).unwrap();
        let mut now = Snapshot::empty();
        for (at, length) in ms.iter().enumerate() {
            now.duration_ns += length * 1_000_000;
            now.faults[Path::VmaLock as usize].count += 1;
            // The last one comes with the end.
            if at + 1 < ms.len() {
                writer.interval(&now).unwrap();
            }
        }
        let run = Run::of(&writer.into_recording(&now).unwrap()).unwrap();
        let mut all = Total::new();
        run.blocks.iter().for_each(|block| all.add(block));
        let lengths = run.blocks.iter().map(|block| block.ns / 1_000_000);
        (lengths.collect(), all.count[of_path(Path::VmaLock)])
    }
    #[test]
    fn only_the_end_may_be_part_of_another() {
        for (ms, left) in [
            (&[1000, 1000, 200][..], &[1000, 1200][..]),
            (&[1000, 1000, 600], &[1000, 1000, 600]),
            // A stall is followed by usual ones.
            (
                &[2100, 1000, 1000, 1000, 1000, 10],
                &[2100, 1000, 1000, 1000, 1010],
            ),
            (&[1000, 10, 1000], &[1000, 10, 1000]),
            (&[100], &[100]),
        ] {
            assert_eq!(lengths(ms), (left.to_vec(), ms.len() as u64), "{ms:?}");
        }
    }
}
