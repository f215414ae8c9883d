//! What was asked, on which machine, and what this kernel can tell: fixed once the probes are armed.

use serde::{Deserialize, Serialize};

use super::Figure;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    pub name: String,
    pub kernel: String,
    pub arch: String,
    pub page_size: u64,
    pub cpus: u32,
}

/// How far a figure can be trusted on this kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quality {
    Exact,
    Approximate,
    Unavailable,
}

/// One thing that is measured, by which hook, how well, and why no better.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// A figure's, or one that a later version knows.
    pub name: String,
    pub quality: Quality,
    /// `fentry/fexit handle_mm_fault`, `tp_btf mmap_lock_*`, ...; empty when unavailable.
    pub hook: String,
    /// Why it is approximate or unavailable, or why a better hook was not used; may be empty.
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Version of the recording and JSON shapes.
    pub schema: u32,
    pub version: String,
    pub host: Host,
    /// `full`, `tracepoint`: the worst tier any signal is in.
    pub tier: String,
    /// `system`, `pid 1,2`, `cmd: ls -l`, ...
    pub target: String,
    /// `rwsem`, `refcount`, or `none`: the per-VMA lock of this kernel.
    pub vma_lock: String,
    /// `all` or `contended`.
    pub mmap_lock: String,
    pub min_us: u64,
    pub sample: u32,
    pub interval_ms: u64,
    pub signals: Vec<Signal>,
    /// When the probes were armed, on three clocks.
    pub armed_monotonic_ns: u64,
    pub armed_boottime_ns: u64,
    pub armed_realtime_ns: u64,
    /// Kernel memory of all maps.
    pub map_bytes: u64,
    /// From exec of vmascope to armed.
    pub start_ms: f64,
}

pub const SCHEMA: u32 = 2;

impl Session {
    pub fn signal(&self, figure: Figure) -> Option<&Signal> {
        self.signals.iter().find(|s| s.name == figure.name())
    }

    /// A signal that gives figures, exact or not.
    pub fn has(&self, figure: Figure) -> bool {
        self.signal(figure)
            .is_some_and(|s| s.quality != Quality::Unavailable)
    }

    /// For tests of what does not look at it.
    #[cfg(test)]
    pub fn blank() -> Self {
        Self {
            schema: SCHEMA,
            version: String::new(),
            host: Host {
                name: String::new(),
                kernel: String::new(),
                arch: String::new(),
                page_size: 4096,
                cpus: 1,
            },
            tier: String::new(),
            target: String::new(),
            vma_lock: String::new(),
            mmap_lock: String::new(),
            min_us: 0,
            sample: 1,
            interval_ms: 1000,
            signals: Vec::new(),
            armed_monotonic_ns: 0,
            armed_boottime_ns: 0,
            armed_realtime_ns: 0,
            map_bytes: 0,
            start_ms: 0.0,
        }
    }
}
