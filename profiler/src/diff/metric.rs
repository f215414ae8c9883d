//! What is compared: a list. A metric is a function of a name, `p99(mmap_lock_wait.read)`, worked out
//! from any sum of intervals.

use profiler_common::{
    hist::{SLOTS, lower, upper},
    words::{Mode, Path},
};

use super::sample::{Run, SERIES, Total, of_mode, of_path};

#[derive(Clone, Copy, Debug)]
pub struct Metric {
    function: Function,
    subject: Subject,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    /// A second.
    Rate,
    /// Of all faults.
    Share,
    /// Time of it in a second, of all threads.
    Sum,
    Mean,
    P50,
    P90,
    P99,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Faults,
    Path(Path),
    Wait(Mode),
}

use Function::{Mean, P50, P90, P99, Rate, Share, Sum};
use Subject::{Faults, Path as On, Wait};

const fn m(function: Function, subject: Subject) -> Metric {
    Metric { function, subject }
}

pub const METRICS: &[Metric] = &[
    m(Rate, Faults),
    m(Mean, Faults),
    m(P50, Faults),
    m(P90, Faults),
    m(P99, Faults),
    m(Share, On(Path::VmaLock)),
    m(Share, On(Path::Fallback)),
    m(Share, On(Path::Retry)),
    m(Share, On(Path::RetryVma)),
    m(Rate, On(Path::Fallback)),
    m(Rate, On(Path::Retry)),
    m(Mean, On(Path::VmaLock)),
    m(P99, On(Path::VmaLock)),
    m(Mean, On(Path::Fallback)),
    m(P99, On(Path::Fallback)),
    m(Mean, On(Path::Retry)),
    m(P99, On(Path::Retry)),
    m(Mean, On(Path::MmapLock)),
    m(P99, On(Path::MmapLock)),
    m(Rate, Wait(Mode::Read)),
    m(Sum, Wait(Mode::Read)),
    m(Mean, Wait(Mode::Read)),
    m(P50, Wait(Mode::Read)),
    m(P90, Wait(Mode::Read)),
    m(P99, Wait(Mode::Read)),
    m(Rate, Wait(Mode::Write)),
    m(Sum, Wait(Mode::Write)),
    m(Mean, Wait(Mode::Write)),
    m(P50, Wait(Mode::Write)),
    m(P90, Wait(Mode::Write)),
    m(P99, Wait(Mode::Write)),
    m(Rate, Wait(Mode::VmaWrite)),
    m(Sum, Wait(Mode::VmaWrite)),
    m(Mean, Wait(Mode::VmaWrite)),
    m(P99, Wait(Mode::VmaWrite)),
];

/// Of every metric.
pub fn names() -> impl Iterator<Item = String> {
    METRICS.iter().map(Metric::name)
}

impl Metric {
    pub fn name(&self) -> String {
        let function = match self.function {
            Rate => "rate",
            Share => "share",
            Sum => "sum",
            Mean => "mean",
            P50 => "p50",
            P90 => "p90",
            P99 => "p99",
        };
        let subject = match self.subject {
            Faults => "faults".into(),
            On(path) => format!("faults.{}", path.name()),
            Wait(Mode::VmaWrite) => "vma_write_wait".into(),
            Wait(mode) => format!("mmap_lock_wait.{}", mode.name()),
        };
        format!("{function}({subject})")
    }

    pub fn unit(&self) -> &'static str {
        match self.function {
            Rate => "1/s",
            Share => "",
            Sum => "ns/s",
            Mean | P50 | P90 | P99 => "ns",
        }
    }

    /// Whether a recording can tell.
    pub fn is_known(&self, run: &Run) -> bool {
        let times = self.function != Rate && self.function != Share;
        let is_fault = !matches!(self.subject, Wait(_));
        let known = match self.subject {
            // All faults are counted, whatever is known of their paths.
            Faults => true,
            On(path) => run.known[of_path(path)],
            Wait(mode) => run.known[of_mode(mode)],
        };
        known && (!is_fault || !times || run.latency)
    }

    /// Events that it needs, so that drawing intervals again says anything of it.
    pub fn needs(&self) -> u64 {
        match self.function {
            P99 => 500,
            P90 => 100,
            _ => 20,
        }
    }

    pub fn events(&self, total: &Total) -> u64 {
        match self.subject {
            Faults => faults(total),
            On(path) => total.count[of_path(path)],
            Wait(mode) => total.count[of_mode(mode)],
        }
    }

    /// `None`: nothing happened of which it could be told.
    pub fn of(&self, total: &Total) -> Option<f64> {
        let events = self.events(total) as f64;
        let seconds = total.ns as f64 / 1e9;
        match self.function {
            Rate => (seconds > 0.0).then(|| events / seconds),
            Share => (faults(total) > 0).then(|| events / faults(total) as f64),
            Sum => (seconds > 0.0).then(|| self.sum_ns(total) as f64 / seconds),
            Mean => {
                let timed = self.timed(total);
                (timed > 0).then(|| self.sum_ns(total) as f64 / timed as f64)
            }
            P50 => self.quantile(total, 0.50),
            P90 => self.quantile(total, 0.90),
            P99 => self.quantile(total, 0.99),
        }
    }

    /// What is added to both sides before their ratio is taken, so that a side where nothing happened
    /// has one: half an event.
    pub fn half_an_event(&self, total: &Total) -> f64 {
        let seconds = (total.ns as f64 / 1e9).max(1e-9);
        match self.function {
            Rate => 0.5 / seconds,
            Share => 0.5 / (faults(total).max(1) as f64),
            // Of a microsecond.
            Sum => 500.0 / seconds,
            Mean | P50 | P90 | P99 => 0.0,
        }
    }

    fn series(&self) -> impl Iterator<Item = usize> + use<> {
        let (from, to) = match self.subject {
            Faults => (0, Path::COUNT),
            On(path) => (of_path(path), of_path(path) + 1),
            Wait(mode) => (of_mode(mode), of_mode(mode) + 1),
        };
        (from..to).take(SERIES)
    }

    fn sum_ns(&self, total: &Total) -> u64 {
        self.series().map(|series| total.sum_ns[series]).sum()
    }

    /// Not every event that is counted has a time.
    fn timed(&self, total: &Total) -> u64 {
        let slots = self.series().flat_map(|series| &total.slots[series]);
        slots.sum()
    }

    /// Within a slot, values are taken to be spread evenly.
    fn quantile(&self, total: &Total, q: f64) -> Option<f64> {
        let at = |slot: usize| self.series().map(|s| total.slots[s][slot]).sum::<u64>();
        let rank = q * self.timed(total) as f64;
        let mut below = 0.0;
        for slot in 0..SLOTS {
            let n = at(slot) as f64;
            if n > 0.0 && below + n >= rank {
                let (from, to) = (
                    lower(slot) as f64,
                    upper(slot).min(lower(slot) * 2 + 64) as f64,
                );
                return Some(from + (to - from) * ((rank - below) / n).clamp(0.0, 1.0));
            }
            below += n;
        }
        None
    }
}

fn faults(total: &Total) -> u64 {
    Path::ALL
        .iter()
        .map(|path| total.count[of_path(*path)])
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::sample::made;

    #[test]
    fn a_mean_is_of_those_that_were_timed() {
        let mut total = Total::new();
        let retry = of_path(Path::Retry);
        total.add(&made(1_000_000_000, &[(retry, &[1_000, 3_000])]));
        total.count[retry] += 2;
        let of = |function| m(function, On(Path::Retry)).of(&total);
        assert_eq!((of(Mean), of(Rate)), (Some(2_000.0), Some(4.0)));
        assert_eq!(m(Mean, On(Path::VmaLock)).of(&total), None);
    }
}
