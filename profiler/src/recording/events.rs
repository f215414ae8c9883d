//! Single events as rows, in both directions: what all have in common, and `faults`. Addresses and kernel pointers
//! keep their 64 bits: SQL shows the upper half as negative numbers.

use profiler_common::words::{FallbackReason, FolioState, HeldWait, Kind, Path, RetryReason};
use rusqlite::{
    CachedStatement, Connection, Row, params,
    types::{FromSql, ValueRef},
};

use super::session::{counted, odd};
use crate::model::{FaultEvent, Knows};

/// A row type of its own table.
pub trait Event: Sized {
    const TABLE: &'static str;
    const DURATION: &'static str;

    fn statement(sql: &Connection) -> rusqlite::Result<CachedStatement<'_>>;
    /// A word that is only a placeholder becomes NULL, which reads back as the first of its list, the
    /// placeholder.
    fn insert(&self, statement: &mut CachedStatement<'_>, knows: &Knows) -> rusqlite::Result<()>;
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self>;
}

/// Counts are below 2^63 in practice; addresses are not, and come back by the same cast.
pub(super) fn i(value: u64) -> i64 {
    value.cast_signed()
}

pub(super) fn count(row: &Row<'_>, column: &str) -> rusqlite::Result<u64> {
    counted(row.get(column)?)
}

pub(super) fn u(row: &Row<'_>, column: &str) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.cast_unsigned())
}

/// A row's columns in their order: asking for each by name would compare names for longer than all
/// the rest takes.
pub(super) struct Columns<'a> {
    row: &'a Row<'a>,
    at: usize,
}

impl<'a> Columns<'a> {
    pub fn of(row: &'a Row<'a>) -> Self {
        Self { row, at: 0 }
    }

    pub fn skip(&mut self) {
        self.at += 1;
    }

    pub fn next<T: FromSql>(&mut self) -> rusqlite::Result<T> {
        self.at += 1;
        self.row.get(self.at - 1)
    }

    pub fn count(&mut self) -> rusqlite::Result<u64> {
        counted(self.next()?)
    }

    pub fn u64(&mut self) -> rusqlite::Result<u64> {
        self.next::<i64>().map(i64::cast_unsigned)
    }

    pub fn u64_or_none(&mut self) -> rusqlite::Result<Option<u64>> {
        Ok(self.next::<Option<i64>>()?.map(i64::cast_unsigned))
    }

    pub fn text_or_none(&mut self) -> rusqlite::Result<Option<&'a str>> {
        self.at += 1;
        Ok(self.row.get_ref(self.at - 1)?.as_str_or_null()?)
    }

    pub fn text(&mut self) -> rusqlite::Result<&'a str> {
        self.text_or_none()
            .and_then(|text| text.ok_or_else(|| odd(format!("no text in column {}", self.at - 1))))
    }

    pub fn word<T>(&mut self, named: fn(&str) -> Option<T>) -> rusqlite::Result<T> {
        let name = self.text()?;
        named(name).ok_or_else(|| {
            odd(format!(
                "nothing is called {name:?} in column {}",
                self.at - 1
            ))
        })
    }

    pub fn word_or_none<T>(&mut self, named: fn(&str) -> Option<T>) -> rusqlite::Result<Option<T>> {
        match self.text_or_none()? {
            None => Ok(None),
            Some(name) => named(name).map(Some).ok_or_else(|| {
                odd(format!(
                    "nothing is called {name:?} in column {}",
                    self.at - 1
                ))
            }),
        }
    }
}

pub(super) fn word<T>(
    row: &Row<'_>,
    column: &str,
    named: fn(&str) -> Option<T>,
) -> rusqlite::Result<T> {
    let name: String = row.get(column)?;
    named(&name).ok_or_else(|| odd(format!("no {column} is called {name:?}")))
}

pub(super) fn word_or_none<T>(
    row: &Row<'_>,
    column: &str,
    named: fn(&str) -> Option<T>,
) -> rusqlite::Result<Option<T>> {
    match row.get_ref(column)? {
        ValueRef::Null => Ok(None),
        _ => word(row, column, named).map(Some),
    }
}

/// NULL where this kernel cannot tell; the session says so too.
fn or_nothing<T: FromSql + Default>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    Ok(row.get::<_, Option<T>>(column)?.unwrap_or_default())
}

fn u_or_zero(row: &Row<'_>, column: &str) -> rusqlite::Result<u64> {
    or_nothing::<i64>(row, column).map(i64::cast_unsigned)
}

fn word_if_known<T: Copy>(
    row: &Row<'_>,
    column: &str,
    named: fn(&str) -> Option<T>,
    placeholder: T,
) -> rusqlite::Result<T> {
    match row.get_ref(column)? {
        ValueRef::Null => Ok(placeholder),
        _ => word(row, column, named),
    }
}

impl Event for FaultEvent {
    const TABLE: &'static str = "faults";
    const DURATION: &'static str = "latency_ns";

    fn statement(sql: &Connection) -> rusqlite::Result<CachedStatement<'_>> {
        sql.prepare_cached(
            "INSERT INTO faults VALUES
             (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,
              ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
    }

    fn insert(&self, statement: &mut CachedStatement<'_>, knows: &Knows) -> rusqlite::Result<()> {
        statement.execute(params![
            i(self.start_ns),
            i(self.end_ns),
            self.cpu,
            self.tid,
            self.tgid,
            self.comm,
            self.prio,
            self.policy,
            i(self.address),
            knows.kind.then(|| i(self.vm_start)),
            knows.kind.then(|| i(self.vm_end)),
            knows.kind.then(|| i(self.vm_flags)),
            knows.path.then(|| self.path.name()),
            knows.kind.then(|| self.kind.name()),
            self.fallback.map(FallbackReason::name),
            knows.kind.then_some(self.attempts),
            self.major,
            self.retry.map(RetryReason::name),
            self.held.map(HeldWait::name),
            self.folio.map(FolioState::name),
            i(self.mmap_wait_ns),
            knows.io_wait.then(|| i(self.io_wait_ns)),
            knows.run_delay.then(|| i(self.run_delay_ns)),
            knows.userfault_wait.then(|| i(self.userfault_wait_ns)),
            knows.held_wait.then(|| i(self.held_wait_ns)),
            self.ioprio,
            knows.kind.then_some(self.dev),
            knows.kind.then(|| i(self.ino)),
            knows.kind.then_some(&self.name),
            knows.kind.then_some(self.fault_flags),
            knows.kind.then_some(self.ret),
        ])?;
        Ok(())
    }

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(FaultEvent {
            start_ns: count(row, "start_ns")?,
            end_ns: count(row, "end_ns")?,
            cpu: row.get("cpu")?,
            tid: row.get("tid")?,
            tgid: row.get("tgid")?,
            comm: row.get("comm")?,
            prio: row.get("prio")?,
            policy: row.get("policy")?,
            address: u(row, "address")?,
            vm_start: u_or_zero(row, "vm_start")?,
            vm_end: u_or_zero(row, "vm_end")?,
            vm_flags: u_or_zero(row, "vm_flags")?,
            path: word_if_known(row, "path", Path::from_name, Path::ALL[0])?,
            kind: word_if_known(row, "kind", Kind::from_name, Kind::ALL[0])?,
            fallback: word_or_none(row, "fallback_reason", FallbackReason::from_name)?,
            attempts: or_nothing(row, "attempts")?,
            major: row.get("major")?,
            retry: word_or_none(row, "retry_reason", RetryReason::from_name)?,
            held: word_or_none(row, "held_wait", HeldWait::from_name)?,
            folio: word_or_none(row, "folio_state", FolioState::from_name)?,
            mmap_wait_ns: count(row, "mmap_wait_ns")?,
            io_wait_ns: counted(or_nothing(row, "io_wait_ns")?)?,
            run_delay_ns: counted(or_nothing(row, "run_delay_ns")?)?,
            userfault_wait_ns: counted(or_nothing(row, "userfault_wait_ns")?)?,
            held_wait_ns: counted(or_nothing(row, "held_wait_ns")?)?,
            ioprio: row.get("ioprio")?,
            dev: or_nothing(row, "dev")?,
            ino: u_or_zero(row, "ino")?,
            name: or_nothing(row, "file")?,
            fault_flags: or_nothing(row, "fault_flags")?,
            ret: or_nothing(row, "ret")?,
        })
    }
}
