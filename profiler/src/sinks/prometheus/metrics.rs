//! A page for a scraper. In: everything counted so far, and the table of metrics. Out: samples, to
//! whatever encoder asks.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, MetricEncoder, NativeHistogram, NativeHistogramBuckets, NoLabelSet,
    },
    metrics::{MetricType, histogram::DEFAULT_NATIVE_HISTOGRAM_ZERO_THRESHOLD},
    registry::Unit,
};

use super::{
    native::{self, buckets},
    processes::{Name, Sums as Process},
    table::METRICS,
    totals::Sums,
};
use crate::model::{Hist, Knows, Session, Snapshot};

/// Everything a page is made of.
pub struct Page {
    pub session: Arc<Session>,
    pub knows: Knows,
    pub now: Snapshot,
    pub totals: Sums,
    pub processes: Vec<(Name, Process)>,
}

/// Base units, as Prometheus wants them.
#[derive(Clone, Copy, Debug)]
pub enum Base {
    Seconds,
    Bytes,
}

impl Base {
    fn unit(self) -> Unit {
        match self {
            Self::Seconds => Unit::Seconds,
            Self::Bytes => Unit::Bytes,
        }
    }
}

pub struct Metric {
    /// Without the unit, and without `_total` or `_info`.
    pub name: &'static str,
    pub unit: Option<Base>,
    pub kind: MetricType,
    pub help: &'static str,
    pub(super) samples: fn(&Page, &mut Samples),
}

pub enum Value {
    Count(u64),
    Seconds(u64),
    Number(f64),
    One,
    Hist(Box<Hist>),
}

pub type Labels = Vec<(&'static str, String)>;

pub fn process(name: &Name) -> Labels {
    vec![
        ("process", name.comm.clone()),
        ("container", name.container.clone()),
    ]
}

#[derive(Default)]
pub struct Samples(pub Vec<(Labels, Value)>);

impl Samples {
    pub fn put(&mut self, value: Value) {
        self.0.push((Vec::new(), value));
    }

    pub fn with(&mut self, label: &'static str, name: &str, value: Value) {
        self.0.push((vec![(label, name.to_owned())], value));
    }

    pub fn process(&mut self, name: &Name, value: Value) {
        self.0.push((process(name), value));
    }

    pub fn counts<W: Copy>(
        &mut self,
        label: &'static str,
        words: &[W],
        name: fn(W) -> &'static str,
        count: impl Fn(W) -> u64,
    ) {
        for word in words {
            self.with(label, name(*word), Value::Count(count(*word)));
        }
    }
}

/// As a query names it.
pub fn full_name(metric: &Metric) -> String {
    let unit = metric.unit.map(|base| format!("_{}", base.unit().as_str()));
    let suffix = match metric.kind {
        MetricType::Counter => "_total",
        MetricType::Info => "_info",
        _ => "",
    };
    format!("{}{}{suffix}", metric.name, unit.unwrap_or_default())
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").finish_non_exhaustive()
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in METRICS {
            let mut samples = Samples::default();
            (metric.samples)(self, &mut samples);
            if samples.0.is_empty() {
                continue;
            }
            let unit = metric.unit.map(Base::unit);
            let mut family =
                encoder.encode_descriptor(metric.name, metric.help, unit.as_ref(), metric.kind)?;
            for (labels, value) in &samples.0 {
                match value {
                    Value::One => family.encode_info(labels)?,
                    _ if labels.is_empty() => encode(&mut family, metric.kind, value)?,
                    _ => encode(&mut family.encode_family(labels)?, metric.kind, value)?,
                }
            }
        }
        Ok(())
    }
}

fn encode(to: &mut MetricEncoder<'_>, kind: MetricType, value: &Value) -> fmt::Result {
    let number = match value {
        Value::Hist(hist) => return encode_hist(to, hist),
        Value::Count(n) if matches!(kind, MetricType::Counter) => {
            return to.encode_counter::<NoLabelSet, _, f64>(n, None);
        }
        Value::Count(n) => *n as f64,
        Value::Seconds(ns) => *ns as f64 / 1e9,
        Value::Number(number) => *number,
        Value::One => 1.0,
    };
    match kind {
        MetricType::Counter => to.encode_counter::<NoLabelSet, _, f64>(&number, None),
        _ => to.encode_gauge(&number),
    }
}

fn encode_hist(to: &mut MetricEncoder<'_>, hist: &Hist) -> fmt::Result {
    let all = buckets(hist);
    let none = NativeHistogramBuckets {
        spans: &[],
        deltas: &[],
    };
    to.encode_histogram_with_native::<NoLabelSet>(
        all.sum_s,
        all.count,
        &all.classic,
        None,
        NativeHistogram {
            schema: native::SCHEMA,
            zero_threshold: DEFAULT_NATIVE_HISTOGRAM_ZERO_THRESHOLD,
            zero_count: 0,
            negative: none,
            positive: NativeHistogramBuckets {
                spans: &all.spans,
                deltas: &all.deltas,
            },
            created: None,
        },
    )
}
