//! The report: the figures of a session, in the shape of its JSON (docs/formats.md).
//! `None` is a figure this kernel or this mode cannot give, and becomes `null`: never a zero.

mod anatomy;
mod app_start;
mod blame;
mod build;
mod json;
mod lkml;
mod questions;
mod stacks;
mod table;
mod text;
pub mod units;
mod verdict;
pub mod what_if;

use serde::{Serialize, Serializer, ser::SerializeMap as _};

pub use app_start::app_start;
pub use blame::Analysis;
pub(crate) use blame::blocked_by;
pub use build::{THREADS, WORST, build, of};
pub use json::json;
pub use lkml::lkml;
pub use text::{short, text};
pub use verdict::verdict;

use crate::model::{Figure, Ground, Host, Quality};

/// A JSON object whose keys are words, in the order of their list.
#[derive(Clone, Debug, PartialEq)]
pub struct Named<V>(pub Vec<(String, V)>);

impl<V> Named<V> {
    pub fn get(&self, name: &str) -> Option<&V> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }
}

impl<V: Serialize> Serialize for Named<V> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub schema: u32,
    pub version: String,
    pub verdict: String,
    pub host: Host,
    pub target: String,
    /// What the lists below are of, if not of all: threads, or CPUs.
    pub shown: Option<String>,
    pub tier: String,
    /// `rwsem`, `refcount` or `none`.
    pub vma_lock: String,
    /// `all` or `contended`.
    pub mmap_lock_mode: String,
    pub min_us: u64,
    pub sample: u32,
    pub duration_ns: u64,
    /// False: a recording that ends with its last interval, not with the session.
    pub complete: bool,
    pub signals: Named<SignalReport>,
    pub loss: Named<u64>,
    pub faults: Faults,
    pub mmap_lock: MmapLock,
    pub vma_write: Option<blame::VmaWrite>,
    pub chains: Option<blame::Chains>,
    pub inversions: Option<blame::Inversions>,
    pub windows: Option<blame::Windows>,
    pub conflicts: Option<blame::Conflicts>,
    pub what_if: Option<Named<Option<what_if::Policy>>>,
    /// Kernel stacks, where they were kept.
    pub stacks: Option<stacks::Stacks>,
    /// By powers of two.
    pub vma_size: Option<Vec<anatomy::VmaSize>>,
    pub cross_check: CrossCheck,
    /// Most faults first.
    pub processes: Vec<TaskReport>,
    /// Most faults first, at most [`THREADS`].
    pub threads: Vec<TaskReport>,
    pub threads_total: u64,
    /// Longest first.
    pub worst_waits: Vec<WaitReport>,
    /// Longest first.
    pub worst_faults: Vec<FaultReport>,
    pub cost: Cost,
}

impl Report {
    pub fn signal(&self, figure: Figure) -> Option<&SignalReport> {
        self.signals.get(figure.name())
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct SignalReport {
    pub quality: Quality,
    pub hook: String,
    pub reason: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Faults {
    /// All paths; `gup` and `remote` are part of it.
    pub total: Option<u64>,
    /// As `getrusage` counts them: errors and interrupted faults are in neither.
    pub major: Option<u64>,
    pub minor: Option<u64>,
    pub gup: Option<u64>,
    pub remote: Option<u64>,
    pub by_path: Option<Named<Option<u64>>>,
    pub major_by_path: Option<Named<Option<u64>>>,
    pub fallbacks: Option<Named<u64>>,
    /// Attempts that returned `VM_FAULT_RETRY`, whatever became of the fault.
    pub retry_attempts: Option<u64>,
    pub by_kind: Option<Named<u64>>,
    /// By path, and `all`.
    pub latency_ns: Named<Option<Distribution>>,
    #[serde(flatten)]
    pub reasons: anatomy::Reasons,
}

/// Count, sum and max are exact, quantiles within 3.2 %. Of nothing: 0, 0 and `null`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Distribution {
    pub count: u64,
    pub sum: u64,
    pub max: Option<u64>,
    pub p50: Option<u64>,
    pub p90: Option<u64>,
    pub p99: Option<u64>,
    pub p999: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct MmapLock {
    pub read: LockReport,
    pub write: LockReport,
}

#[derive(Clone, Debug, Serialize)]
pub struct LockReport {
    pub acquired: Option<u64>,
    pub waits: Option<u64>,
    pub wait_ns: Option<Distribution>,
    pub hold_ns: Option<Distribution>,
    /// Operations that were seen.
    pub by_op: Option<Named<OpReport>>,
    /// Acquisitions that took [0,1) [1,10) [10,100) [100,1k) [1k,10k) [10k,inf) us.
    pub acquire_decades: Option<Vec<u64>>,
}

#[derive(Clone, Debug, Serialize)]
pub struct OpReport {
    pub acquired: Option<u64>,
    pub waits: Option<u64>,
    pub wait_sum_ns: Option<u64>,
    pub wait_max_ns: Option<u64>,
    pub holds: Option<u64>,
    pub hold_sum_ns: Option<u64>,
    pub hold_max_ns: Option<u64>,
}

/// A process, or one thread of it.
#[derive(Clone, Debug, Serialize)]
pub struct TaskReport {
    pub tgid: u32,
    pub tid: u32,
    pub comm: String,
    /// What the process runs in: a container or a service.
    pub container: Option<String>,
    /// Of Android, as last seen.
    pub ground: Option<Ground>,
    pub oom_score_adj: Option<i32>,
    /// Of a thread: `main`, `render`.
    pub role: Option<&'static str>,
    /// The process's number in there.
    pub ns_pid: Option<u32>,
    pub exited: bool,
    pub faults: u64,
    pub minor: u64,
    pub major: u64,
    /// Part of minor and major that no hook saw, so it is on no path.
    pub missed: u64,
    pub by_path: Option<Named<Option<u64>>>,
    pub latency_sum_ns: Option<u64>,
    pub latency_max_ns: Option<u64>,
    pub read: Option<TaskWaits>,
    pub write: Option<TaskWaits>,
    /// VMAs and pages of the address space, where a slow fault was seen.
    pub map_count: Option<u64>,
    pub total_vm_pages: Option<u64>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct TaskWaits {
    pub waits: u64,
    pub wait_sum_ns: u64,
    pub wait_max_ns: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct WaitReport {
    pub wait_ns: u64,
    /// Since arming.
    pub start_ns: u64,
    pub lock: &'static str,
    pub mode: &'static str,
    pub op: &'static str,
    pub tid: u32,
    pub tgid: u32,
    pub comm: String,
    pub prio: i32,
    pub mm_tgid: Option<u32>,
    pub acquired: bool,
    /// Who covers most of the wait.
    pub holder: Option<HolderReport>,
    /// The time blamed on it; `null`, as what follows, where it is not seen who holds the lock.
    pub blamed_ns: Option<u64>,
    /// Threads on the path: the waiter, its holder, and so on.
    pub depth: Option<u32>,
    pub inversion: Option<bool>,
}

#[derive(Clone, Debug, Serialize)]
pub struct HolderReport {
    pub tid: u32,
    pub tgid: u32,
    pub comm: String,
    pub prio: i32,
    /// How many held it for reading, 0: a writer did.
    pub readers: u32,
    pub op: Option<&'static str>,
    pub doing: Option<&'static str>,
}

#[derive(Clone, Debug, Serialize)]
pub struct FaultReport {
    pub latency_ns: u64,
    /// Since arming.
    pub start_ns: u64,
    pub path: Option<&'static str>,
    pub kind: Option<&'static str>,
    pub fallback_reason: Option<&'static str>,
    pub major: bool,
    pub retry_reason: Option<&'static str>,
    pub held_wait: Option<&'static str>,
    pub folio_state: Option<&'static str>,
    pub mmap_wait_ns: u64,
    pub io_wait_ns: Option<u64>,
    pub run_delay_ns: Option<u64>,
    pub userfault_wait_ns: Option<u64>,
    pub held_wait_ns: Option<u64>,
    /// What is mapped, or the name the VMA was given; anonymous memory mostly has none.
    pub file: Option<String>,
    pub vma_bytes: Option<u64>,
    pub attempts: Option<u8>,
    pub tid: u32,
    pub tgid: u32,
    pub comm: String,
    pub prio: i32,
    pub address: u64,
}

/// Ours against the kernel's own counters.
#[derive(Clone, Debug, Serialize)]
pub struct CrossCheck {
    /// `min_flt` + `maj_flt` of every thread seen (`getrusage`), against its faults on paths: fewer
    /// of these, and hooks missed some; more, and some were counted twice.
    pub threads: Compared,
    /// Of `/proc/vmstat`, only where the target is the whole system.
    pub pgfault: Option<Compared>,
    pub pgmajfault: Option<Compared>,
    /// Where the kernel keeps them (CONFIG_PER_VMA_LOCK_STATS): faults done under the VMA lock, and
    /// those that got none. The kernel's include other users of VMA locks.
    pub vma_lock_success: Option<Compared>,
    pub vma_lock_abort: Option<Compared>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    pub kernel: u64,
    pub measured: u64,
    /// `measured - kernel`.
    pub difference: i64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    pub cpu_ns: u64,
    pub rss_bytes: u64,
    pub map_bytes: u64,
    pub start_ms: f64,
    pub own_faults: u64,
    pub events_emitted: u64,
    pub events_received: u64,
}
