//! Two sides, each of one or more recordings: what changed, how sure that is, and what cannot be
//! compared. In: recordings. Out: a [`Diff`]; `text` and `condition` make something of it. The method
//! and its sources are in docs/diff.md.

mod bootstrap;
mod condition;
mod metric;
mod sample;
mod text;

use std::collections::BTreeSet;

use profiler_common::words::Mode;
use serde::Serialize;

pub use condition::{Condition, ConditionError, Judgement};
pub use metric::names;
pub use text::{csv, text};

use crate::{
    model::{Figure, Session},
    recording::{self, Recording},
};
use bootstrap::Estimate;
use metric::METRICS;
use sample::Run;

/// The smallest change that matters: what is surely less than this is none.
pub const SMALLEST: f64 = 0.10;

#[derive(Clone, Debug, Serialize)]
pub struct Diff {
    pub verdict: String,
    pub a: Vec<Side>,
    pub b: Vec<Side>,
    /// What makes the two sides hard to compare, a line each.
    pub warnings: Vec<String>,
    pub metrics: Vec<Row>,
    /// Acquisitions of `mmap_lock` by how long they took; `None`: see `decades_why`.
    pub decades: Option<Decades>,
    pub decades_why: Option<&'static str>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Side {
    pub file: String,
    pub kernel: String,
    pub target: String,
    pub duration_ns: u64,
    pub intervals: usize,
}

/// One metric on both sides. `None`: it cannot be told there, or nothing happened.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub metric: String,
    pub unit: &'static str,
    pub a: Option<f64>,
    pub b: Option<f64>,
    /// Half an event, or 0: A and this are what a change is of.
    #[serde(skip)]
    pub added: f64,
    /// B over A, less 1.
    pub change: Option<f64>,
    /// 95 % of what the change can be, all metrics together.
    pub low: Option<f64>,
    pub high: Option<f64>,
    pub verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    More,
    Less,
    /// Surely less than the smallest change that matters.
    Same,
    NoEvidence,
    TooLittleData,
}

/// Six counts for each side, read and write.
#[derive(Clone, Debug, Serialize)]
pub struct Decades {
    pub read: [Vec<u64>; 2],
    pub write: [Vec<u64>; 2],
}

pub fn diff(a: &[Recording], b: &[Recording]) -> recording::Result<Diff> {
    let runs = |side: &[Recording]| {
        side.iter()
            .map(Run::of)
            .collect::<recording::Result<Vec<_>>>()
    };
    let (runs_a, runs_b) = (runs(a)?, runs(b)?);
    let estimates = bootstrap::compare(METRICS, &runs_a, &runs_b);
    let metrics: Vec<Row> = METRICS
        .iter()
        .zip(estimates)
        .filter(|(_, e)| e.a.is_some() || e.b.is_some())
        .map(|(metric, e)| row(metric, &e))
        .collect();
    let (decades, decades_why) = match decades(a, b)? {
        Ok(decades) => (Some(decades), None),
        Err(why) => (None, Some(why)),
    };
    let side = |side: &[Recording], runs: &[Run]| side.iter().zip(runs).map(described).collect();
    Ok(Diff {
        verdict: text::verdict(&metrics),
        a: side(a, &runs_a),
        b: side(b, &runs_b),
        warnings: warnings(a, b),
        metrics,
        decades,
        decades_why,
    })
}

fn described((recording, run): (&Recording, &Run)) -> Side {
    let session = recording.session();
    Side {
        file: recording.path().display().to_string(),
        kernel: format!("{} {}", session.host.kernel, session.host.arch),
        target: session.target.clone(),
        duration_ns: run.blocks.iter().map(|block| block.ns).sum(),
        intervals: run.blocks.len(),
    }
}

fn row(metric: &metric::Metric, e: &Estimate) -> Row {
    let smallest = SMALLEST.ln_1p();
    let verdict = match e.interval {
        None => Verdict::TooLittleData,
        Some((low, _)) if low > smallest => Verdict::More,
        Some((_, high)) if high < -smallest => Verdict::Less,
        Some((low, high)) if low > -smallest && high < smallest => Verdict::Same,
        Some(_) => Verdict::NoEvidence,
    };
    Row {
        metric: metric.name(),
        unit: metric.unit(),
        a: e.a,
        b: e.b,
        added: e.added,
        change: e.log_ratio.map(f64::exp_m1),
        low: e.interval.map(|(low, _)| low.exp_m1()),
        high: e.interval.map(|(_, high)| high.exp_m1()),
        verdict,
    }
}

/// What differs between the two sides beside what is compared, or within one.
fn warnings(a: &[Recording], b: &[Recording]) -> Vec<String> {
    type Told = fn(&Session) -> String;
    const WHAT: [(&str, Told); 8] = [
        ("kernel", |s| s.host.kernel.clone()),
        ("architecture", |s| s.host.arch.clone()),
        ("page size", |s| s.host.page_size.to_string()),
        ("CPUs", |s| s.host.cpus.to_string()),
        ("tier", |s| s.tier.clone()),
        ("--mmap-lock", |s| s.mmap_lock.clone()),
        ("--sample", |s| s.sample.to_string()),
        ("VMA lock", |s| s.vma_lock.clone()),
    ];
    let mut all = Vec::new();
    for (name, told) in WHAT {
        let values = |side: &[Recording]| -> BTreeSet<String> {
            side.iter().map(|r| told(r.session())).collect()
        };
        let (of_a, of_b) = (values(a), values(b));
        if of_a != of_b || of_a.len() > 1 {
            let list = |v: BTreeSet<String>| v.into_iter().collect::<Vec<_>>().join(", ");
            all.push(format!("{name}: {} against {}", list(of_a), list(of_b)));
        }
    }
    if a.len() < 2 || b.len() < 2 {
        all.push(
            "one recording on a side: how much runs differ among themselves is not known; \
             give several with --a and --b"
                .into(),
        );
    }
    all
}

fn decades(a: &[Recording], b: &[Recording]) -> recording::Result<Result<Decades, &'static str>> {
    let all = a.iter().chain(b).all(|r| r.session().mmap_lock == "all");
    if !all {
        return Ok(Err(
            "a recording was made with --mmap-lock contended, which sees no uncontended acquisition",
        ));
    }
    let told = |r: &Recording| r.session().has(Figure::MmapLockAcquired);
    if !a.iter().chain(b).all(told) {
        return Ok(Err(
            "a recording is of a kernel whose acquisitions cannot be seen",
        ));
    }
    let sum = |side: &[Recording], mode: Mode| -> recording::Result<Vec<u64>> {
        let mut sums = Vec::new();
        for recording in side {
            let decades = recording.snapshot()?.locks[mode as usize].decades;
            sums.resize(decades.len(), 0);
            for (sum, n) in sums.iter_mut().zip(decades) {
                *sum += n;
            }
        }
        Ok(sums)
    };
    Ok(Ok(Decades {
        read: [sum(a, Mode::Read)?, sum(b, Mode::Read)?],
        write: [sum(a, Mode::Write)?, sum(b, Mode::Write)?],
    }))
}
