//! The log-linear histogram both sides share: sixteen slots to each power of two, so a slot's
//! midpoint is at most 1/32 (3.2 %) from any value in it.
//!
//! Slot 0 holds everything under [`FLOOR_NS`], the last slot everything from [`CEIL_NS`] on. The
//! range covers 1 us to 100 s with room below for uncontended locks and fast faults.

const SUB_BITS: u32 = 4;
const SUB: u64 = 1 << SUB_BITS;
const MIN_POW: u32 = 6;
const MAX_POW: u32 = 37;

pub const FLOOR_NS: u64 = 1 << MIN_POW;
pub const CEIL_NS: u64 = 1 << MAX_POW;
pub const SLOTS: usize = ((MAX_POW - MIN_POW) as usize) * (SUB as usize) + 2;

/// The slot a duration belongs to.
#[inline(always)]
pub fn slot_of(ns: u64) -> usize {
    place_of(ns).0
}

/// Slots, sixteen at a time: octave `i` holds `[2^i, 2^(i+1)) * FLOOR_NS`, the first also everything
/// shorter, the last everything from [`CEIL_NS`] on.
pub const OCTAVES: usize = (MAX_POW - MIN_POW) as usize + 1;

/// The slot and the octave a duration belongs to.
#[inline(always)]
pub fn place_of(ns: u64) -> (usize, usize) {
    if let Some(place) = near_place_of(ns) {
        place
    } else if ns < FLOOR_NS {
        (0, 0)
    } else if ns < CEIL_NS {
        in_octave(ns, (log2(ns) - MIN_POW) as usize)
    } else {
        (SLOTS - 1, OCTAVES - 1)
    }
}

/// The same, of durations up to 16 us: nearly all faults, and holds of a lock.
#[inline(always)]
pub fn near_place_of(ns: u64) -> Option<(usize, usize)> {
    let above = ns.wrapping_sub(FLOOR_NS);
    (above < NEAR_NS - FLOOR_NS)
        .then(|| in_octave(ns, OCTAVE[(above >> MIN_POW) as usize] as usize))
}

const NEAR_NS: u64 = FLOOR_NS << 8;

#[inline(always)]
fn in_octave(ns: u64, octave: usize) -> (usize, usize) {
    // For the verifier; it is less by construction.
    let octave = octave & (OCTAVES - 1);
    // The shift leaves sixteen and the slot's place in the octave.
    let place = (ns >> (octave + (MIN_POW - SUB_BITS) as usize)) as usize;
    (octave * SUB as usize + place - (SUB as usize - 1), octave)
}

/// The smallest value of a slot.
pub fn lower(slot: usize) -> u64 {
    if slot == 0 {
        return 0;
    }
    if slot >= SLOTS - 1 {
        return CEIL_NS;
    }
    let i = (slot - 1) as u64;
    let pow = MIN_POW + (i / SUB) as u32;
    (SUB + i % SUB) << (pow - SUB_BITS)
}

/// The first value beyond a slot; `u64::MAX` for the last.
pub fn upper(slot: usize) -> u64 {
    if slot >= SLOTS - 1 {
        u64::MAX
    } else {
        lower(slot + 1)
    }
}

/// Edges of the decade buckets of the published mmap_lock table:
/// [0,1) [1,10) [10,100) [100,1k) [1k,10k) [10k,inf) microseconds.
pub const DECADES: usize = 6;

#[inline(always)]
pub fn decade_of(ns: u64) -> usize {
    if ns < 1_000 {
        0
    } else if ns < 10_000 {
        1
    } else if ns < 100_000 {
        2
    } else if ns < 1_000_000 {
        3
    } else if ns < 10_000_000 {
        4
    } else {
        5
    }
}

/// Coarse per-thread histogram: 24 powers of two, bucket `i` holds `[2^i, 2^(i+1))` microseconds,
/// bucket 0 also everything shorter.
pub const LOG2_BUCKETS: usize = 24;

/// The coarse bucket of the durations of an octave: "microseconds" of 1024 ns, the convention of
/// bcc's tables.
pub fn log2_us_of(octave: usize) -> usize {
    octave
        .saturating_sub((10 - MIN_POW) as usize)
        .min(LOG2_BUCKETS - 1)
}

/// eBPF has no instruction that counts zeros, and each branch of a search would double the paths the
/// verifier walks. So, without one: leave the highest bit alone, and look up where a multiplication
/// by a de Bruijn sequence puts it.
#[inline(always)]
pub fn log2(value: u64) -> u32 {
    let mut v = value;
    v |= v >> 1;
    v |= v >> 2;
    v |= v >> 4;
    v |= v >> 8;
    v |= v >> 16;
    v |= v >> 32;
    let index = (v - (v >> 1)).wrapping_mul(DE_BRUIJN) >> 58;
    u32::from(LOG2[index as usize])
}

/// Logarithms of 1, 2, 3, ...
static OCTAVE: [u8; 255] = {
    let mut log = [0; 255];
    let mut i = 1;
    while i < 255 {
        log[i] = log[(i - 1) / 2] + 1;
        i += 1;
    }
    log
};

const DE_BRUIJN: u64 = 0x07ed_d5e5_9a4e_28c2;
static LOG2: [u8; 64] = [
    63, 0, 58, 1, 59, 47, 53, 2, 60, 39, 48, 27, 54, 33, 42, 3, 61, 51, 37, 40, 49, 18, 28, 20, 55,
    30, 34, 11, 43, 14, 22, 4, 62, 57, 46, 52, 38, 26, 32, 41, 50, 36, 17, 19, 29, 10, 13, 21, 56,
    45, 25, 31, 35, 16, 9, 12, 44, 24, 15, 8, 23, 7, 6, 5,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ns: u64) {
        let s = slot_of(ns);
        assert!(s < SLOTS);
        assert!(lower(s) <= ns, "{ns} below slot {s}");
        assert!(ns < upper(s) || upper(s) == u64::MAX, "{ns} above slot {s}");
        if (1_000..100_000_000_000).contains(&ns) {
            let mid = (lower(s) + upper(s)) / 2;
            assert!(
                mid.abs_diff(ns) as f64 <= ns as f64 * 0.032,
                "{ns}: midpoint {mid}"
            );
        }
    }

    #[test]
    fn every_value_is_inside_its_slot() {
        for pow in 0..64 {
            for d in [0u64, 1, 2, 3, 7] {
                check((1u64 << pow).saturating_add(d));
                check((1u64 << pow).saturating_sub(d));
            }
        }
        check(u64::MAX);
        let mut x = 88172645463325252u64;
        for _ in 0..200_000 {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            check(x >> (x % 64));
        }
    }

    #[test]
    fn slots_are_contiguous() {
        for s in 0..SLOTS - 1 {
            assert!(lower(s) < lower(s + 1));
            assert_eq!(slot_of(lower(s)), s);
            assert_eq!(slot_of(upper(s) - 1), s);
        }
    }

    #[test]
    fn the_coarse_bucket_is_the_logarithm() {
        for pow in 0..64u32 {
            for ns in [1u64 << pow, (1u64 << pow) | (1 << pow) >> 1] {
                assert_eq!(log2(ns), pow);
                let want = pow.saturating_sub(10).min(LOG2_BUCKETS as u32 - 1);
                assert_eq!(log2_us_of(place_of(ns).1), want as usize, "{ns}");
            }
        }
    }

    #[test]
    fn decades_have_exact_edges() {
        let mut edge = 1_000;
        for d in 0..DECADES - 1 {
            assert_eq!(decade_of(edge - 1), d);
            assert_eq!(decade_of(edge), d + 1);
            edge *= 10;
        }
    }
}
