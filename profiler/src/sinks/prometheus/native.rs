//! Our histograms as Prometheus has them. In: slots in nanoseconds. Out: classic buckets, and sparse
//! native ones, in seconds. A slot goes to the bucket its middle is in: at most 3.2 % off.

use profiler_common::hist::{CEIL_NS, lower, upper};

use crate::model::Hist;

/// Upper bounds of classic buckets, in seconds: few, since each is a series.
const BOUNDS: [f64; 8] = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0];
/// Eight buckets to a power of two, about as fine as our slots
/// (prometheus/model/histogram/generic.go: bucket i ends at 2^(i / 2^SCHEMA)).
pub const SCHEMA: i32 = 3;

#[derive(Debug, PartialEq)]
pub struct Buckets {
    pub sum_s: f64,
    pub count: u64,
    /// Upper bound and count of each; the last has no bound.
    pub classic: Vec<(f64, u64)>,
    /// Of native buckets that follow each other: the gap before, and how many.
    pub spans: Vec<(i32, u32)>,
    /// Of each, its count less that of the one before.
    pub deltas: Vec<i64>,
}

pub fn buckets(hist: &Hist) -> Buckets {
    let mut classic: Vec<(f64, u64)> = BOUNDS.iter().map(|bound| (*bound, 0)).collect();
    classic.push((f64::INFINITY, 0));
    let mut native: Vec<(i32, u64)> = Vec::new();
    let filled = hist.slots.iter().enumerate().filter(|(_, n)| **n > 0);
    for (slot, n) in filled {
        let seconds = lower(slot).midpoint(upper(slot).min(CEIL_NS + 1)) as f64 / 1e9;
        let at = BOUNDS.partition_point(|bound| *bound < seconds);
        classic[at].1 += n;
        let index = (seconds.log2() * f64::from(1 << SCHEMA)).ceil() as i32;
        match native.last_mut() {
            Some((last, sum)) if *last == index => *sum += n,
            _ => native.push((index, *n)),
        }
    }
    let mut spans: Vec<(i32, u32)> = Vec::new();
    let mut deltas = Vec::new();
    let (mut next, mut before) = (0, 0);
    for (index, n) in native {
        match spans.last_mut() {
            Some((_, length)) if index == next => *length += 1,
            _ => spans.push((index - next, 1)),
        }
        next = index + 1;
        deltas.push(n.cast_signed() - before);
        before = n.cast_signed();
    }
    Buckets {
        sum_s: hist.sum_ns as f64 / 1e9,
        // Where common faults are sampled, not all that were counted are in a bucket.
        count: hist.slots.iter().sum(),
        classic,
        spans,
        deltas,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[u64]) -> Buckets {
        let mut hist = Hist::default();
        values.iter().for_each(|ns| hist.record(*ns));
        buckets(&hist)
    }

    #[test]
    fn nothing_is_empty() {
        let none = of(&[]);
        assert_eq!((none.count, none.spans.len(), none.deltas.len()), (0, 0, 0));
        assert!(none.classic.iter().all(|(_, n)| *n == 0));
    }

    #[test]
    fn classic_buckets_end_at_their_bounds() {
        let all = of(&[
            0,
            900,
            1_100,
            90_000,
            2_000_000_000,
            60_000_000_000,
            u64::MAX >> 2,
        ]);
        let counts: Vec<u64> = all.classic.iter().map(|(_, n)| *n).collect();
        assert_eq!(counts, [2, 1, 1, 0, 0, 0, 0, 1, 2]);
        assert_eq!(all.count, 7);
    }

    /// By the definition: bucket i holds (2^((i-1)/8), 2^(i/8)] seconds.
    #[test]
    fn native_buckets_hold_what_was_recorded() {
        let values = [70, 1_000, 1_000, 5_000, 5_500, 1_000_000, 80_000_000_000];
        let all = of(&values);
        let (mut index, mut count, mut at) = (0, 0, 0);
        let mut found = Vec::new();
        for (gap, length) in &all.spans {
            index += gap;
            for _ in 0..*length {
                count += all.deltas[at];
                at += 1;
                found.extend((0..count).map(|_| index));
                index += 1;
            }
        }
        assert_eq!((at, found.len()), (all.deltas.len(), values.len()));
        for (ns, index) in values.iter().zip(found) {
            let upper_ns = 2f64.powf(f64::from(index) / 8.0) * 1e9;
            let lower_ns = 2f64.powf(f64::from(index - 1) / 8.0) * 1e9;
            let ns = *ns as f64;
            assert!(
                ns * 1.033 > lower_ns && ns * 0.967 <= upper_ns,
                "{ns}: {lower_ns}-{upper_ns}"
            );
        }
    }
}
