//! Exact bucket arrays in the kernel's slots; quantiles are worked out here, never stored or
//! merged.

use hdrhistogram::Histogram;
use profiler_common::{
    agg,
    hist::{SLOTS, lower, slot_of, upper},
};

/// Count, sum and maximum are exact; slots are at most 3.2 % wide either side of their middle.
#[derive(Clone, Debug, PartialEq)]
pub struct Hist {
    pub count: u64,
    pub sum_ns: u64,
    pub max_ns: u64,
    pub slots: Vec<u64>,
}

impl Default for Hist {
    fn default() -> Self {
        Self {
            count: 0,
            sum_ns: 0,
            max_ns: 0,
            slots: vec![0; SLOTS],
        }
    }
}

impl Hist {
    /// Adds another CPU's part.
    pub fn add_raw(&mut self, raw: &agg::Hist) {
        self.sum_ns = self.sum_ns.wrapping_add(raw.sum_ns);
        self.max_ns = self.max_ns.max(raw.max_ns);
        for (sum, slot) in self.slots.iter_mut().zip(raw.slots) {
            *sum += slot;
            self.count += slot;
        }
    }

    pub fn add(&mut self, other: &Hist) {
        self.count += other.count;
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
        for (sum, slot) in self.slots.iter_mut().zip(&other.slots) {
            *sum += slot;
        }
    }

    pub fn record(&mut self, ns: u64) {
        self.count += 1;
        self.sum_ns += ns;
        self.max_ns = self.max_ns.max(ns);
        self.slots[slot_of(ns)] += 1;
    }

    /// What came in after `earlier` was taken. The maximum cannot be taken apart: it is that of the
    /// highest slot that grew, unless the overall maximum did.
    pub fn since(&self, earlier: &Hist) -> Hist {
        let slots: Vec<u64> = self
            .slots
            .iter()
            .zip(&earlier.slots)
            .map(|(now, then)| now.saturating_sub(*then))
            .collect();
        let max_ns = if self.max_ns > earlier.max_ns {
            self.max_ns
        } else {
            slots
                .iter()
                .rposition(|n| *n > 0)
                .map_or(0, |s| upper(s).min(self.max_ns))
        };
        Hist {
            count: self.count.saturating_sub(earlier.count),
            sum_ns: self.sum_ns.saturating_sub(earlier.sum_ns),
            max_ns,
            slots,
        }
    }

    pub fn mean_ns(&self) -> Option<u64> {
        self.sum_ns.checked_div(self.count)
    }

    /// As an HDR histogram of slot midpoints, the exact maximum in the highest slot.
    pub fn hdr(&self) -> Histogram<u64> {
        let mut hdr =
            Histogram::new_with_bounds(1, 1 << 40, 3).unwrap_or_else(|_| unreachable_bounds());
        let top = slot_of(self.max_ns);
        for (slot, n) in self.slots.iter().enumerate().filter(|(_, n)| **n > 0) {
            let mid = if slot == top {
                // The slot's middle, kept within what was really seen.
                self.max_ns
                    .min(lower(slot).midpoint(upper(slot).min(self.max_ns.max(lower(slot)))))
            } else {
                lower(slot).midpoint(upper(slot))
            };
            hdr.saturating_record_n(mid.max(1), *n);
        }
        hdr
    }

    /// `None` when nothing was recorded.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        if self.slots.iter().all(|n| *n == 0) {
            return None;
        }
        Some(self.hdr().value_at_quantile(q).min(self.max_ns))
    }
}

/// The bounds above are constants that hdrhistogram accepts; an empty default keeps this total.
fn unreachable_bounds() -> Histogram<u64> {
    Histogram::new(3).expect("three significant figures are allowed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_the_slot_error() {
        let mut h = Hist::default();
        for us in 1..=1000u64 {
            h.record(us * 1000);
        }
        for (q, want) in [(0.5, 500_000.0), (0.9, 900_000.0), (0.99, 990_000.0)] {
            let got = h.quantile(q).unwrap() as f64;
            assert!((got - want).abs() / want < 0.035, "p{q}: {got} for {want}");
        }
        assert_eq!(h.count, 1000);
        assert!(h.quantile(1.0).unwrap() > 960_000);
        assert!(h.quantile(1.0).unwrap() <= h.max_ns);
    }

    #[test]
    fn an_empty_histogram_has_no_quantile() {
        assert_eq!(Hist::default().quantile(0.5), None);
    }

    #[test]
    fn since_gives_the_difference() {
        let mut h = Hist::default();
        h.record(5_000);
        let then = h.clone();
        h.record(70_000);
        let d = h.since(&then);
        assert_eq!((d.count, d.sum_ns, d.max_ns), (1, 70_000, 70_000));
    }
}
