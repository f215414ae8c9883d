//! Bumps in the per-CPU arrays. A hook runs with migration off, but another may preempt it on the
//! same CPU; the additions are single instructions of one CPU's own copy.

use profiler_common::{
    agg::{Counters, Hist},
    hist::{SLOTS, place_of},
    words::Loss,
};

use crate::{kernel::any, maps::COUNTERS};

#[inline(always)]
pub fn counters(f: impl FnOnce(&mut Counters)) {
    if let Some(c) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: this CPU's own copy, valid for the program's run.
        f(unsafe { &mut *c });
    }
}

/// One more of `counts[index]`. The compiler must not see where the index comes from: it would check
/// one copy of it and use another, and the verifier could not follow.
#[inline(always)]
pub fn bump<const N: usize>(counts: &mut [u64; N], index: u8) {
    if let Some(n) = counts.get_mut(usize::from(any(index))) {
        *n += 1;
    }
}

#[inline(always)]
pub fn loss(reason: Loss) {
    counters(|c| c.loss[reason as usize] += 1);
}

#[inline(always)]
pub fn duration(hist: &mut Hist, ns: u64) {
    weighted(hist, ns, 1);
}

/// A duration that stands for `weight`. Gives the octave, for a coarser count of the same.
#[inline(always)]
pub fn weighted(hist: &mut Hist, ns: u64, weight: u64) -> usize {
    hist.sum_ns += ns * weight;
    if ns > hist.max_ns {
        hist.max_ns = ns;
    }
    let (at, octave) = place_of(ns);
    slot(&mut hist.slots, at, weight);
    octave
}

#[inline(always)]
pub fn slot(slots: &mut [u64; SLOTS], at: usize, weight: u64) {
    // `place_of` is in range by construction; the verifier wants to see it.
    if let Some(n) = slots.get_mut(at) {
        *n += weight;
    }
}
