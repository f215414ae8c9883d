//! The tables of the inside of faults, in both directions.

use profiler_common::{
    agg::io_index,
    words::{FolioState, HeldWait, IoprioClass, Kind, PrioClass, RetryReason},
};
use rusqlite::{Connection, Transaction, params};

use super::{
    read::{each, grow, raise, word},
    session::odd,
    write::added,
};
use crate::model::Anatomy;

pub const DDL: &str = "
CREATE TABLE retries (
  interval INTEGER NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL,
  PRIMARY KEY (interval, reason)) WITHOUT ROWID;
CREATE TABLE folio_states (
  interval INTEGER NOT NULL, state TEXT NOT NULL, count INTEGER NOT NULL,
  PRIMARY KEY (interval, state)) WITHOUT ROWID;
CREATE TABLE held_waits (
  interval INTEGER NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL, sum_ns INTEGER NOT NULL,
  PRIMARY KEY (interval, reason)) WITHOUT ROWID;
CREATE TABLE components (
  interval INTEGER NOT NULL, kind TEXT NOT NULL, faults INTEGER NOT NULL,
  total_ns INTEGER NOT NULL, mmap_lock_wait_ns INTEGER NOT NULL, io_wait_ns INTEGER NOT NULL,
  run_delay_ns INTEGER NOT NULL, userfault_wait_ns INTEGER NOT NULL, held_wait_ns INTEGER NOT NULL,
  PRIMARY KEY (interval, kind)) WITHOUT ROWID;
CREATE TABLE run_delays (
  interval INTEGER NOT NULL, prio_class TEXT NOT NULL, ioprio_class TEXT NOT NULL,
  sum_ns INTEGER NOT NULL, max_ns INTEGER NOT NULL,
  PRIMARY KEY (interval, prio_class, ioprio_class)) WITHOUT ROWID;
CREATE TABLE vma_sizes (
  interval INTEGER NOT NULL, min_pages INTEGER NOT NULL, faults INTEGER NOT NULL,
  retries INTEGER NOT NULL, wait_ns INTEGER NOT NULL,
  PRIMARY KEY (interval, min_pages)) WITHOUT ROWID;
";

/// `label` of the I/O-wait histograms: `normal/be`.
pub fn io_label(prio: PrioClass, ioprio: IoprioClass) -> String {
    format!("{}/{}", prio.name(), ioprio.name())
}

pub fn io_of_label(label: &str) -> Option<usize> {
    let (prio, ioprio) = label.split_once('/')?;
    let index = io_index(PrioClass::from_name(prio)?, IoprioClass::from_name(ioprio)?);
    Some(index as usize)
}

pub fn write(tx: &Transaction<'_>, id: i64, now: &Anatomy, then: &Anatomy) -> rusqlite::Result<()> {
    let mut insert = tx.prepare_cached("INSERT INTO retries VALUES (?, ?, ?)")?;
    for reason in RetryReason::ALL {
        let at = *reason as usize;
        if now.retries[at] != then.retries[at] {
            let n = added(now.retries[at], then.retries[at]);
            insert.execute(params![id, reason.name(), n])?;
        }
    }
    let mut insert = tx.prepare_cached("INSERT INTO folio_states VALUES (?, ?, ?)")?;
    for state in FolioState::ALL {
        let at = *state as usize;
        if now.folio_states[at] != then.folio_states[at] {
            let n = added(now.folio_states[at], then.folio_states[at]);
            insert.execute(params![id, state.name(), n])?;
        }
    }
    let mut insert = tx.prepare_cached("INSERT INTO held_waits VALUES (?, ?, ?, ?)")?;
    for reason in HeldWait::ALL {
        let at = *reason as usize;
        let n = added(now.held_waits[at], then.held_waits[at]);
        let ns = added(now.held_wait_ns[at], then.held_wait_ns[at]);
        if n != 0 || ns != 0 {
            insert.execute(params![id, reason.name(), n, ns])?;
        }
    }
    let mut insert =
        tx.prepare_cached("INSERT INTO components VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
    for kind in Kind::ALL {
        let (now, then) = (
            &now.components[*kind as usize],
            &then.components[*kind as usize],
        );
        if now != then {
            insert.execute(params![
                id,
                kind.name(),
                added(now.faults, then.faults),
                added(now.total_ns, then.total_ns),
                added(now.mmap_lock_wait_ns, then.mmap_lock_wait_ns),
                added(now.io_wait_ns, then.io_wait_ns),
                added(now.run_delay_ns, then.run_delay_ns),
                added(now.userfault_wait_ns, then.userfault_wait_ns),
                added(now.held_wait_ns, then.held_wait_ns),
            ])?;
        }
    }
    let mut insert = tx.prepare_cached("INSERT INTO run_delays VALUES (?, ?, ?, ?, ?)")?;
    for (at, (prio, ioprio)) in Anatomy::io_classes().enumerate() {
        let (now, then) = (&now.io[at], &then.io[at]);
        if now.wait.count != then.wait.count {
            let sum = added(now.run_delay_sum_ns, then.run_delay_sum_ns);
            let max = now.run_delay_max_ns.cast_signed();
            insert.execute(params![id, prio.name(), ioprio.name(), sum, max])?;
        }
    }
    let mut insert = tx.prepare_cached("INSERT INTO vma_sizes VALUES (?, ?, ?, ?, ?)")?;
    for at in 0..now.size_faults.len() {
        let faults = added(now.size_faults[at], then.size_faults[at]);
        let retries = added(now.size_retries[at], then.size_retries[at]);
        let wait = added(now.size_wait_ns[at], then.size_wait_ns[at]);
        if (faults, retries, wait) != (0, 0, 0) {
            insert.execute(params![id, 1_i64 << at, faults, retries, wait])?;
        }
    }
    Ok(())
}

/// Adds what the intervals of `range` hold.
pub fn add(sql: &Connection, to: &mut Anatomy, range: (i64, i64)) -> rusqlite::Result<()> {
    let query = "SELECT reason, count FROM retries WHERE interval BETWEEN ? AND ?";
    each(sql, query, range, |row| {
        let reason = word(row, 0, RetryReason::from_name)?;
        grow(&mut to.retries[reason as usize], row, 1)
    })?;
    let query = "SELECT state, count FROM folio_states WHERE interval BETWEEN ? AND ?";
    each(sql, query, range, |row| {
        let state = word(row, 0, FolioState::from_name)?;
        grow(&mut to.folio_states[state as usize], row, 1)
    })?;
    let query = "SELECT reason, count, sum_ns FROM held_waits WHERE interval BETWEEN ? AND ?";
    each(sql, query, range, |row| {
        let at = word(row, 0, HeldWait::from_name)? as usize;
        grow(&mut to.held_waits[at], row, 1)?;
        grow(&mut to.held_wait_ns[at], row, 2)
    })?;
    let query = "SELECT kind, faults, total_ns, mmap_lock_wait_ns, io_wait_ns, run_delay_ns,
        userfault_wait_ns, held_wait_ns FROM components WHERE interval BETWEEN ? AND ?";
    each(sql, query, range, |row| {
        let c = &mut to.components[word(row, 0, Kind::from_name)? as usize];
        grow(&mut c.faults, row, 1)?;
        grow(&mut c.total_ns, row, 2)?;
        grow(&mut c.mmap_lock_wait_ns, row, 3)?;
        grow(&mut c.io_wait_ns, row, 4)?;
        grow(&mut c.run_delay_ns, row, 5)?;
        grow(&mut c.userfault_wait_ns, row, 6)?;
        grow(&mut c.held_wait_ns, row, 7)
    })?;
    let query = "SELECT prio_class, ioprio_class, sum_ns, max_ns FROM run_delays
        WHERE interval BETWEEN ? AND ?";
    each(sql, query, range, |row| {
        let prio = word(row, 0, PrioClass::from_name)?;
        let ioprio = word(row, 1, IoprioClass::from_name)?;
        let io = &mut to.io[io_index(prio, ioprio) as usize];
        grow(&mut io.run_delay_sum_ns, row, 2)?;
        raise(&mut io.run_delay_max_ns, row, 3)
    })?;
    let query = "SELECT min_pages, faults, retries, wait_ns FROM vma_sizes
        WHERE interval BETWEEN ? AND ?";
    each(sql, query, range, |row| {
        let pages = row.get::<_, i64>(0)?.cast_unsigned();
        let at = pages.checked_ilog2().map_or(usize::MAX, |at| at as usize);
        if at >= to.size_faults.len() {
            return Err(odd(format!("no VMA has {pages} pages")));
        }
        grow(&mut to.size_faults[at], row, 1)?;
        grow(&mut to.size_retries[at], row, 2)?;
        grow(&mut to.size_wait_ns[at], row, 3)
    })
}
