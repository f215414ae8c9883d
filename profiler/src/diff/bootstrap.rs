//! How sure a change is. In: the intervals of the recordings of both sides. Out: for each metric the
//! logarithm of the ratio, and an interval that holds for all metrics at once.
//!
//! Recordings are drawn again with replacement where there are several, and within each, blocks of
//! neighbouring intervals, since what happens in one second goes on in the next (moving-block
//! bootstrap: Künsch, Annals of Statistics 17(3), 1989). The width common to all intervals comes
//! from the largest studentised deviation of any metric in each draw (single-step maxT: Westfall and
//! Young, Resampling-Based Multiple Testing, 1993), so comparing forty metrics does not find two
//! changes where there are none.

use fastrand::Rng;

use super::{
    metric::Metric,
    sample::{Run, Total},
};

const DRAWS: usize = 1000;
const LEVEL: f64 = 0.95;
/// Intervals of a side, below which nothing is said.
const INTERVALS: usize = 5;
/// Fixed: the same recordings give the same answer.
const SEED: u64 = 0x766d_6173;

pub struct Estimate {
    pub a: Option<f64>,
    pub b: Option<f64>,
    /// What was added to A before the ratio was taken.
    pub added: f64,
    pub log_ratio: Option<f64>,
    pub interval: Option<(f64, f64)>,
}

pub fn compare(metrics: &[Metric], a: &[Run], b: &[Run]) -> Vec<Estimate> {
    let (total_a, total_b) = (whole(a), whole(b));
    let known = |m: &Metric, side: &[Run]| side.iter().all(|run| m.is_known(run));
    let mut estimates: Vec<Estimate> = metrics
        .iter()
        .map(|m| Estimate {
            a: known(m, a).then(|| m.of(&total_a)).flatten(),
            b: known(m, b).then(|| m.of(&total_b)).flatten(),
            added: m.half_an_event(&total_a),
            log_ratio: (known(m, a) && known(m, b))
                .then(|| log_ratio(m, &total_a, &total_b))
                .flatten(),
            interval: None,
        })
        .collect();
    let enough = |side: &[Run]| side.iter().map(|run| run.blocks.len()).sum::<usize>() >= INTERVALS;
    if !enough(a) || !enough(b) {
        return estimates;
    }
    let is_told: Vec<bool> = metrics
        .iter()
        .zip(&estimates)
        .map(|(m, e)| {
            e.log_ratio.is_some() && m.events(&total_a).max(m.events(&total_b)) >= m.needs()
        })
        .collect();
    let draws = draw(metrics, a, b);
    let deviations = |at: usize| {
        let middle = estimates.get(at).and_then(|e| e.log_ratio).unwrap_or(0.0);
        draws.iter().map(move |draw| draw[at] - middle)
    };
    let errors: Vec<f64> = (0..metrics.len())
        .map(|at| {
            let (mut n, mut squares) = (0.0, 0.0);
            for d in deviations(at).filter(|d| d.is_finite()) {
                (n, squares) = (n + 1.0, squares + d * d);
            }
            if n > 1.0 {
                f64::sqrt(squares / (n - 1.0))
            } else {
                f64::NAN
            }
        })
        .collect();
    // A metric that never moves in any draw, such as a count of nothing, says nothing of the others.
    let counts = |at: usize| is_told[at] && errors[at] > 0.0;
    let mut largest: Vec<f64> = draws
        .iter()
        .map(|draw| {
            let each = (0..metrics.len()).filter(|at| counts(*at)).map(|at| {
                let middle = estimates[at].log_ratio.unwrap_or(0.0);
                ((draw[at] - middle) / errors[at]).abs()
            });
            each.filter(|t| t.is_finite()).fold(0.0, f64::max)
        })
        .collect();
    largest.sort_by(f64::total_cmp);
    let width = largest
        .get((LEVEL * largest.len() as f64) as usize)
        .copied()
        .unwrap_or(f64::INFINITY)
        * small_sample(a, b);
    for (at, estimate) in estimates.iter_mut().enumerate() {
        if is_told[at]
            && errors[at].is_finite()
            && let Some(middle) = estimate.log_ratio
        {
            let half = width * errors[at];
            estimate.interval = Some((middle - half, middle + half));
        }
    }
    estimates
}

/// With few units to draw from, the draws vary less than the truth, by the square root of (n - 1) / n,
/// and their own spread is not well known: Student's t of n - 1 degrees of freedom over the normal
/// quantile (the fewer units of the two sides, as Welch's test has it at its most careful). Units are
/// recordings where there are several, else blocks.
fn small_sample(a: &[Run], b: &[Run]) -> f64 {
    let units = |side: &[Run]| match side {
        [one] => one.blocks.len() / block_length(one.blocks.len()),
        several => several.len(),
    };
    let n = units(a).min(units(b)).max(2) as f64;
    f64::sqrt(n / (n - 1.0)) * t_over_normal(n - 1.0)
}

/// At 97.5 %, by the expansion of Cornish and Fisher (Abramowitz and Stegun, 26.7.5).
fn t_over_normal(degrees: f64) -> f64 {
    let z = 1.959_964_f64;
    let powers = |k: i32| z.powi(k);
    let t = z
        + (powers(3) + z) / (4.0 * degrees)
        + (5.0 * powers(5) + 16.0 * powers(3) + 3.0 * z) / (96.0 * degrees.powi(2))
        + (3.0 * powers(7) + 19.0 * powers(5) + 17.0 * powers(3) - 15.0 * z)
            / (384.0 * degrees.powi(3));
    t / z
}

fn whole(side: &[Run]) -> Total {
    let mut total = Total::new();
    for run in side {
        run.blocks.iter().for_each(|block| total.add(block));
    }
    total
}

fn log_ratio(m: &Metric, a: &Total, b: &Total) -> Option<f64> {
    let (of_a, of_b) = (m.of(a)?, m.of(b)?);
    let ratio = (of_b + m.half_an_event(b)) / (of_a + m.half_an_event(a));
    (ratio > 0.0 && ratio.is_finite()).then(|| ratio.ln())
}

/// The logarithms of all ratios in each draw; NAN where there is none.
fn draw(metrics: &[Metric], a: &[Run], b: &[Run]) -> Vec<Vec<f64>> {
    let mut random = Rng::with_seed(SEED);
    let (mut total_a, mut total_b) = (Total::new(), Total::new());
    (0..DRAWS)
        .map(|_| {
            redraw(a, &mut total_a, &mut random);
            redraw(b, &mut total_b, &mut random);
            let each = metrics.iter();
            each.map(|m| log_ratio(m, &total_a, &total_b).unwrap_or(f64::NAN))
                .collect()
        })
        .collect()
}

fn redraw(side: &[Run], total: &mut Total, random: &mut Rng) {
    total.clear();
    for _ in 0..side.len() {
        let run = &side[random.usize(..side.len())];
        let n = run.blocks.len();
        if n == 0 {
            continue;
        }
        let length = block_length(n);
        let mut left = n;
        while left > 0 {
            let start = random.usize(..n);
            for step in 0..length.min(left) {
                // Around the end: each interval is as likely as any other.
                total.add(&run.blocks[(start + step) % n]);
            }
            left -= length.min(left);
        }
    }
}

/// Of the order n^(1/3), as usual; one more, since a short one hides how intervals hang together.
fn block_length(n: usize) -> usize {
    (n as f64).cbrt().ceil() as usize + 1
}

#[cfg(test)]
mod tests {
    use profiler_common::words::{Mode, Path};

    use super::{
        super::{
            metric::METRICS,
            sample::{SERIES, made, of_mode, of_path},
        },
        *,
    };

    const FEW: [&str; 4] = [
        "rate(faults)",
        "mean(faults.vma_lock)",
        "sum(mmap_lock_wait.read)",
        "p90(mmap_lock_wait.read)",
    ];

    fn few() -> Vec<Metric> {
        let named = |m: &&Metric| FEW.contains(&m.name().as_str());
        METRICS.iter().filter(named).copied().collect()
    }

    /// Intervals with some memory of the one before, and now and then a much longer wait.
    fn run(random: &mut Rng, intervals: usize, slower: f64) -> Run {
        let mut level = 1.0;
        let blocks = (0..intervals).map(|_| {
            level = 0.5 * level + 0.5 * (0.7 + 0.6 * random.f64());
            let mut values = |n: usize, ns: f64| -> Vec<u64> {
                let each = (0..n).map(|_| {
                    let long = if random.f64() < 0.02 { 20.0 } else { 1.0 };
                    (ns * slower * long * (0.5 + random.f64())) as u64
                });
                each.collect()
            };
            let faults = values((400.0 * level) as usize, 2_000.0);
            let waits = values((60.0 * level) as usize, 50_000.0);
            made(
                1_000_000_000,
                &[
                    (of_path(Path::VmaLock), &faults),
                    (of_mode(Mode::Read), &waits),
                ],
            )
        });
        Run {
            blocks: blocks.collect(),
            known: [true; SERIES],
            latency: true,
        }
    }

    #[test]
    fn the_same_load_is_no_change_and_a_slower_one_is() {
        let mut random = Rng::with_seed(1);
        let (metrics, pairs) = (few(), 40);
        let mut wrong = 0;
        for _ in 0..pairs {
            let (a, b) = (run(&mut random, 20, 1.0), run(&mut random, 20, 1.0));
            let estimates = compare(&metrics, &[a], &[b]);
            let is_off = |e: &Estimate| {
                e.interval
                    .is_some_and(|(low, high)| low > 0.0 || high < 0.0)
            };
            assert!(estimates.iter().all(|e| e.interval.is_some()));
            wrong += usize::from(estimates.iter().any(is_off));
        }
        // One in twenty is allowed; chance may make it a few more.
        assert!(wrong <= 5, "{wrong} of {pairs}");

        let (a, b) = (run(&mut random, 20, 1.0), run(&mut random, 20, 2.0));
        let estimates = compare(&metrics, &[a], &[b]);
        for (metric, e) in metrics.iter().zip(estimates) {
            let (low, high) = e.interval.unwrap();
            if metric.name() == "rate(faults)" {
                assert!(low < 0.0 && high > 0.0, "{low} {high}");
            } else {
                let twice = 2.0_f64.ln();
                assert!(
                    low > 0.2 && low < twice && high > twice,
                    "{metric:?}: {low} {high}"
                );
            }
        }
    }

    #[test]
    fn student_s_t_is_that_of_the_tables() {
        for (degrees, t) in [(2.0, 4.303), (4.0, 2.776), (10.0, 2.228), (30.0, 2.042)] {
            let ours: f64 = t_over_normal(degrees) * 1.959_964;
            assert!((ours - t).abs() < 0.15, "{degrees}: {ours}");
        }
    }

    #[test]
    fn runs_that_differ_among_themselves_show_no_change() {
        let mut random = Rng::with_seed(2);
        let mut side = |speeds: [f64; 3]| speeds.map(|s| run(&mut random, 10, s));
        let (a, b) = (side([1.0, 2.0, 3.0]), side([1.2, 2.2, 2.9]));
        let estimates = compare(&few(), &a, &b);
        for e in estimates {
            let (low, high) = e.interval.unwrap();
            assert!(low < 0.0 && high > 0.0, "{low} {high}");
        }
    }

    #[test]
    fn little_data_and_none_are_told_apart_from_no_change() {
        let mut random = Rng::with_seed(3);
        let (short, long) = (run(&mut random, 3, 1.0), run(&mut random, 20, 1.0));
        let estimates = compare(&few(), &[short], &[long]);
        assert!(
            estimates
                .iter()
                .all(|e| e.interval.is_none() && e.a.is_some())
        );
        let nothing = || Run {
            blocks: (0..20).map(|_| made(1_000_000_000, &[])).collect(),
            known: [true; SERIES],
            latency: true,
        };
        let metrics = few();
        for (metric, e) in metrics
            .iter()
            .zip(compare(&metrics, &[nothing()], &[nothing()]))
        {
            assert!(e.interval.is_none(), "{metric:?}");
        }
    }
}
