//! The tables, version 2 (`model::session::SCHEMA`). Rows of the counter tables tell what came in
//! during one interval, so `sum()` gives totals and a missing row means nothing happened; `_max_ns`
//! columns are the largest since arming. Column lists that follow from a word list are made from it.

use profiler_common::words::{Mode, Path};

/// Statements that make an empty recording.
pub fn ddl() -> String {
    format!(
        "
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE signals (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL, quality TEXT NOT NULL, hook TEXT NOT NULL,
  reason TEXT NOT NULL);
CREATE TABLE intervals (
  id INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL, since_armed_ns INTEGER NOT NULL,
  own_faults INTEGER NOT NULL,
  events_emitted INTEGER NOT NULL, events_received INTEGER NOT NULL,
  vmstat_pgfault INTEGER NOT NULL, vmstat_pgmajfault INTEGER NOT NULL,
  vmstat_vma_lock_success INTEGER, vmstat_vma_lock_abort INTEGER,
  own_cpu_ns INTEGER NOT NULL, own_rss_bytes INTEGER NOT NULL);
CREATE TABLE fault_paths (
  interval INTEGER NOT NULL, path TEXT NOT NULL, count INTEGER NOT NULL, major INTEGER NOT NULL,
  PRIMARY KEY (interval, path)) WITHOUT ROWID;
CREATE TABLE fault_kinds (
  interval INTEGER NOT NULL, path TEXT NOT NULL, kind TEXT NOT NULL, count INTEGER NOT NULL,
  PRIMARY KEY (interval, path, kind)) WITHOUT ROWID;
CREATE TABLE fallbacks (
  interval INTEGER NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL,
  PRIMARY KEY (interval, reason)) WITHOUT ROWID;
CREATE TABLE locks (
  interval INTEGER NOT NULL, mode TEXT NOT NULL, op TEXT NOT NULL,
  acquired INTEGER NOT NULL,
  waits INTEGER NOT NULL, wait_sum_ns INTEGER NOT NULL, wait_max_ns INTEGER NOT NULL,
  holds INTEGER NOT NULL, hold_sum_ns INTEGER NOT NULL, hold_max_ns INTEGER NOT NULL,
  PRIMARY KEY (interval, mode, op)) WITHOUT ROWID;
CREATE TABLE histograms (
  interval INTEGER NOT NULL, name TEXT NOT NULL, label TEXT NOT NULL,
  lower_ns INTEGER NOT NULL, upper_ns INTEGER, count INTEGER NOT NULL,
  PRIMARY KEY (interval, name, label, lower_ns)) WITHOUT ROWID;
CREATE TABLE histogram_totals (
  interval INTEGER NOT NULL, name TEXT NOT NULL, label TEXT NOT NULL,
  count INTEGER NOT NULL, sum_ns INTEGER NOT NULL, max_ns INTEGER NOT NULL,
  PRIMARY KEY (interval, name, label)) WITHOUT ROWID;
CREATE TABLE losses (
  interval INTEGER NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL,
  PRIMARY KEY (interval, reason)) WITHOUT ROWID;
CREATE TABLE threads ({threads}, PRIMARY KEY (tgid, tid)) WITHOUT ROWID;
CREATE TABLE faults (
  id INTEGER PRIMARY KEY, start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL,
  latency_ns INTEGER AS (end_ns - start_ns), cpu INTEGER NOT NULL,
  tid INTEGER NOT NULL, tgid INTEGER NOT NULL, comm TEXT NOT NULL,
  prio INTEGER NOT NULL, policy INTEGER NOT NULL, address INTEGER NOT NULL,
  vm_start INTEGER, vm_end INTEGER, vm_flags INTEGER,
  path TEXT, kind TEXT, fallback_reason TEXT, attempts INTEGER,
  major INTEGER NOT NULL, retry_reason TEXT, held_wait TEXT, folio_state TEXT,
  mmap_wait_ns INTEGER NOT NULL, io_wait_ns INTEGER, run_delay_ns INTEGER,
  userfault_wait_ns INTEGER, held_wait_ns INTEGER, ioprio INTEGER NOT NULL,
  dev INTEGER, ino INTEGER, file TEXT, fault_flags INTEGER, ret INTEGER);
{anatomy}{blame}
CREATE VIEW processes AS SELECT {processes} FROM threads GROUP BY tgid;
",
        anatomy = super::anatomy::DDL,
        blame = super::blame::DDL,
        threads = thread_columns()
            .iter()
            .map(|c| format!("{} {}", c.name, c.sql_type()))
            .collect::<Vec<_>>()
            .join(", "),
        processes = thread_columns()
            .iter()
            .filter_map(ThreadColumn::over_process)
            .collect::<Vec<_>>()
            .join(", "),
    )
}

/// One column of `threads`, in the order rows are written and read.
pub struct ThreadColumn {
    pub name: String,
    merge: Merge,
}

/// What becomes of a column where threads are added up to processes.
enum Merge {
    Drop,
    Group,
    /// The first thread's; any thread's if that one was not seen.
    OfLeader,
    Min,
    Sum,
    Max,
}

impl ThreadColumn {
    fn sql_type(&self) -> &'static str {
        match self.name.as_str() {
            "oom_score_adj" | "ns_pid" => "INTEGER",
            "comm" | "container" | "ground" | "fault_log2_us" => "TEXT NOT NULL",
            _ => "INTEGER NOT NULL",
        }
    }

    fn over_process(&self) -> Option<String> {
        let name = &self.name;
        Some(match self.merge {
            Merge::Drop => return None,
            Merge::Group => name.clone(),
            Merge::OfLeader => format!(
                "coalesce(max(CASE WHEN tid = tgid THEN {name} END), min({name})) AS {name}"
            ),
            Merge::Min => format!("min({name}) AS {name}"),
            Merge::Sum => format!("sum({name}) AS {name}"),
            Merge::Max => format!("max({name}) AS {name}"),
        })
    }
}

pub fn thread_columns() -> Vec<ThreadColumn> {
    let column = |name: &str, merge| ThreadColumn {
        name: name.to_owned(),
        merge,
    };
    let mut all = vec![
        column("tid", Merge::Drop),
        column("tgid", Merge::Group),
        column("comm", Merge::OfLeader),
        column("container", Merge::OfLeader),
        column("ground", Merge::OfLeader),
        column("oom_score_adj", Merge::OfLeader),
        column("ns_pid", Merge::OfLeader),
        column("exited", Merge::Min),
    ];
    for path in Path::ALL {
        all.push(column(&format!("faults_{}", path.name()), Merge::Sum));
    }
    all.push(column("minor", Merge::Sum));
    all.push(column("major", Merge::Sum));
    all.push(column("fault_sum_ns", Merge::Sum));
    all.push(column("fault_max_ns", Merge::Max));
    // A JSON array of 24 counts, bucket i from 2^i * 1024 ns on: too narrow in use for 24 columns.
    all.push(column("fault_log2_us", Merge::Drop));
    for mode in Mode::ALL {
        let mode = mode.name();
        all.push(column(&format!("{mode}_waits"), Merge::Sum));
        all.push(column(&format!("{mode}_wait_sum_ns"), Merge::Sum));
        all.push(column(&format!("{mode}_wait_max_ns"), Merge::Max));
    }
    all.push(column("map_count", Merge::Max));
    all.push(column("total_vm_pages", Merge::Max));
    all
}

/// `name` and `label` of the histogram tables.
pub mod hist {
    /// Label: the path.
    pub const FAULT: &str = "fault_latency";
    /// Labels: `read`, `write`, `vma_write`.
    pub const WAIT: &str = "lock_wait";
    /// Labels: `read`, `write`.
    pub const HOLD: &str = "mmap_lock_hold";
    /// Label: priority class and I/O class of the thread.
    pub const IO: &str = "io_wait";
    /// Six decades only: how long every acquisition took, waits included.
    pub const ACQUIRE: &str = "mmap_lock_acquire";
}

/// Lower edge of a decade of [`hist::ACQUIRE`]; `None` past the last.
pub fn decade_lower_ns(decade: usize) -> Option<u64> {
    const EDGES: [u64; profiler_common::hist::DECADES] =
        [0, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];
    EDGES.get(decade).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use profiler_common::hist::{DECADES, decade_of};

    #[test]
    fn decade_edges_are_those_the_kernel_side_counts_by() {
        for d in 0..DECADES {
            let lower = decade_lower_ns(d).unwrap();
            assert_eq!(decade_of(lower), d);
            if d > 0 {
                assert_eq!(decade_of(lower - 1), d - 1);
            }
        }
        assert_eq!(decade_lower_ns(DECADES), None);
    }
}
