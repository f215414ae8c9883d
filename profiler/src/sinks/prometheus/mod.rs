//! Prometheus: everything counted so far, for a scraper. In: snapshots and batches, as they come.
//! Out: one page of text or of protobuf messages, whichever a scraper asks for.
//!
//! A scrape reads what was polled last and never the kernel; each page is made once.

mod metrics;
mod native;
mod processes;
mod table;
mod totals;

use std::sync::{Arc, OnceLock};

use hyper::body::Bytes;
use prometheus_client::{
    encoding::{prometheus_protobuf, text},
    registry::Registry,
};

pub use metrics::{Metric, full_name};
pub use table::METRICS;

use crate::model::{Batch, Knows, Session, Snapshot};
use metrics::Page;
use processes::Processes;
use totals::Totals;

/// What is folded from one interval to the next.
pub struct Exposition {
    session: Arc<Session>,
    knows: Knows,
    totals: Totals,
    processes: Processes,
}

impl Exposition {
    /// `top`: processes that have series of their own.
    pub fn new(session: Session, top: usize) -> Self {
        let knows = Knows::of(&session);
        Self {
            totals: Totals::new(&knows),
            processes: Processes::new(top),
            session: Arc::new(session),
            knows,
        }
    }

    pub fn events(&mut self, batch: Batch) {
        self.totals.fold(batch);
    }

    /// The page as of now.
    pub fn interval(&mut self, now: &Snapshot) -> Scrape {
        self.totals.settle(now.at_ns);
        self.processes.fold(&now.threads);
        Scrape::of(Page {
            session: Arc::clone(&self.session),
            knows: self.knows,
            // Threads are in `processes`; a thousand of them are not for each page.
            now: Snapshot {
                threads: Vec::new(),
                ..now.clone()
            },
            totals: self.totals.sums.clone(),
            processes: self.processes.shown(),
        })
    }
}

/// What a scraper may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics, which readers of the older text format can read too.
    Text,
    /// `io.prometheus.client.MetricFamily`, length-delimited: has native histograms.
    Protobuf,
}

impl Format {
    /// The first of an `Accept` header's that there is; text for who does not say.
    pub fn accepted(accept: &str) -> Self {
        let first = accept.split(',').map(str::trim).find_map(|kind| {
            let (name, rest) = kind.split_once(';').unwrap_or((kind, ""));
            match name.trim() {
                "application/vnd.google.protobuf" if rest.contains("delimited") => {
                    Some(Self::Protobuf)
                }
                "application/openmetrics-text" | "text/plain" | "*/*" => Some(Self::Text),
                _ => None,
            }
        });
        first.unwrap_or(Self::Text)
    }

    pub fn content_type(self, accept: &str) -> &'static str {
        match self {
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
            Self::Text if accept.contains("application/openmetrics-text") => {
                "application/openmetrics-text; version=1.0.0; charset=utf-8"
            }
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// A page in either format.
pub struct Scrape {
    registry: Registry,
    text: OnceLock<Bytes>,
    protobuf: OnceLock<Bytes>,
}

impl Scrape {
    fn of(page: Page) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(page));
        Self {
            registry,
            text: OnceLock::new(),
            protobuf: OnceLock::new(),
        }
    }

    /// Made by the first who asks.
    pub fn page(&self, format: Format) -> Bytes {
        let made = match format {
            Format::Text => self.text.get_or_init(|| {
                let mut page = String::new();
                // A `String` takes everything.
                let _ = text::encode(&mut page, &self.registry);
                page.into_bytes().into()
            }),
            Format::Protobuf => self.protobuf.get_or_init(|| {
                let page = prometheus_protobuf::encode_to_vec(&self.registry);
                page.unwrap_or_default().into()
            }),
        };
        made.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scraper_chooses_the_format() {
        // Prometheus with and without native histograms, a browser, curl.
        let native = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let classic = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert_eq!(Format::accepted(native), Format::Protobuf);
        assert_eq!(Format::accepted(classic), Format::Text);
        assert!(Format::Text.content_type(classic).contains("openmetrics"));
        for other in ["text/html,*/*;q=0.8", "*/*", ""] {
            assert_eq!(Format::accepted(other), Format::Text);
            assert!(Format::Text.content_type(other).starts_with("text/plain"));
        }
    }
}
