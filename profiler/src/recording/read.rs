//! Reading a recording, finished, crashed or still being written. In: a file, which is not trusted.
//! Out: what the writer was given, or one line about what is wrong with the file.

use std::{
    cell::Cell,
    marker::PhantomData,
    path::{Path as FilePath, PathBuf},
};

use profiler_common::{
    hist,
    words::{FallbackReason, Kind, Loss, Mode, Op, Path},
};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, types::ValueRef};

use super::{
    Error, Head, Result, Shown, anatomy,
    events::Event,
    head, older,
    schema::{self, thread_columns},
    session::{self, counted, limited, odd},
    shown,
};
use crate::model::{
    ArrivalEvent, ConflictEvent, FaultEvent, Ground, Hist, Segment, Session, Snapshot, Standing,
    Thread, WaitEvent, WindowEvent, session::SCHEMA,
};

pub struct Recording {
    sql: Connection,
    path: PathBuf,
    session: Session,
    complete: bool,
    intervals: Vec<i64>,
    shown: Shown,
    narrowed: Cell<bool>,
}

impl Recording {
    pub fn open(path: &FilePath) -> Result<Recording> {
        let schema = match head(path) {
            Ok(Head::Recording {
                schema: schema @ 0..=SCHEMA,
            }) => schema,
            Ok(Head::Recording { schema: found }) => {
                return Err(Error::Newer {
                    path: path.into(),
                    found,
                });
            }
            Ok(Head::Empty | Head::Other) => {
                return Err(Error::NotARecording { path: path.into() });
            }
            Err(source) => {
                return Err(Error::Unreadable {
                    path: path.into(),
                    source,
                });
            }
        };
        load(path, schema).map_err(|source| Error::Broken {
            path: path.into(),
            source,
        })
    }

    pub(super) fn from_sql(sql: Connection, path: PathBuf) -> rusqlite::Result<Recording> {
        let complete: i64 = sql.query_row(
            "SELECT coalesce(max(value), 0) FROM meta WHERE key = 'complete'",
            (),
            |row| row.get(0),
        )?;
        let intervals = sql
            .prepare("SELECT id FROM intervals ORDER BY id")?
            .query_map((), |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        Ok(Recording {
            session: session::read(&sql)?,
            complete: complete != 0,
            intervals,
            shown: Shown::default(),
            narrowed: Cell::new(false),
            path,
            sql,
        })
    }

    /// What `narrowed` leaves of it.
    pub fn showing(self, shown: Shown) -> Recording {
        Recording { shown, ..self }
    }

    pub fn shown(&self) -> &Shown {
        &self.shown
    }

    /// From here on, only the threads, waits and faults that are shown can be read.
    pub fn narrowed(&self) -> Result<&Recording> {
        if !self.shown.is_all() && !self.narrowed.replace(true) {
            shown::narrow(&self.sql, &self.shown).map_err(|e| self.broken(e))?;
        }
        Ok(self)
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    pub fn path(&self) -> &FilePath {
        &self.path
    }

    /// False after a crash, or while it is being written.
    pub fn complete(&self) -> bool {
        self.complete
    }

    /// Everything counted: of a recording that is not complete, up to its last interval.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let read = || {
            let mut all = Snapshot::empty();
            add(&self.sql, &mut all, i64::MIN, i64::MAX)?;
            all.threads = threads(&self.sql)?;
            Ok(all)
        };
        read().map_err(|e| self.broken(e))
    }

    pub fn threads(&self) -> Result<Vec<Thread>> {
        threads(&self.sql).map_err(|e| self.broken(e))
    }

    /// Cumulative snapshots in their order. Threads are kept as totals only: the last one has them.
    pub fn intervals(&self) -> Intervals<'_> {
        Intervals {
            recording: self,
            next: 0,
            so_far: Snapshot::empty(),
        }
    }

    pub fn waits(&self) -> Events<'_, WaitEvent> {
        Events::new(self)
    }

    /// Waits that say more than how long they were: for a VMA, behind somebody less important, in a
    /// chain, or behind a fault in its second attempt. Most are none of these, and SQLite skips them
    /// many times faster than we could read them.
    pub fn telling_waits(&self) -> Events<'_, WaitEvent> {
        Events {
            only: "lock = 'vma' OR inversion != 0 OR holder_doing = 'tried_io' OR root_wait != id",
            ..Events::new(self)
        }
    }

    pub fn faults(&self) -> Events<'_, FaultEvent> {
        Events::new(self)
    }

    pub fn windows(&self) -> Events<'_, WindowEvent> {
        Events::new(self)
    }

    pub fn arrivals(&self) -> Events<'_, ArrivalEvent> {
        Events::new(self)
    }

    pub fn conflicts(&self) -> Events<'_, ConflictEvent> {
        Events::new(self)
    }

    /// The wait of that id; `None` if it was below the threshold, or lost.
    pub fn wait(&self, id: u64) -> Result<Option<WaitEvent>> {
        self.one("SELECT * FROM waits WHERE id = ?", id)
    }

    /// What that wait is made of, by who held the lock.
    pub fn segments(&self, wait: u64) -> Result<Vec<Segment>> {
        super::blame::segments(&self.sql, wait).map_err(|e| self.broken(e))
    }

    /// Rows of `waits` and of `faults`.
    pub fn events_in_all(&self) -> Result<(u64, u64)> {
        let query = "SELECT (SELECT count(*) FROM waits), (SELECT count(*) FROM faults)";
        let read = self.sql.query_row(query, (), |row| {
            let n = |at| counted(row.get(at)?);
            Ok((n(0)?, n(1)?))
        });
        read.map_err(|e| self.broken(e))
    }

    pub(super) fn one<E: Event>(&self, query: &str, id: u64) -> Result<Option<E>> {
        let read = || -> rusqlite::Result<Option<E>> {
            let mut statement = self.sql.prepare_cached(query)?;
            statement
                .query_row([id.cast_signed()], |row| E::from_row(row))
                .optional()
        };
        read().map_err(|e| self.broken(e))
    }

    /// Longest first.
    pub fn worst_waits(&self, n: u32) -> Result<Vec<WaitEvent>> {
        self.worst(n)
    }

    /// Longest first.
    pub fn worst_faults(&self, n: u32) -> Result<Vec<FaultEvent>> {
        self.worst(n)
    }

    fn worst<E: Event>(&self, n: u32) -> Result<Vec<E>> {
        let (table, duration) = (E::TABLE, E::DURATION);
        let query = format!("SELECT * FROM {table} ORDER BY {duration} DESC, id LIMIT ?");
        let read = || -> rusqlite::Result<Vec<E>> {
            self.sql
                .prepare_cached(&query)?
                .query_map([n], |row| E::from_row(row))?
                .collect()
        };
        read().map_err(|e| self.broken(e))
    }

    /// For exports that copy tables as they are.
    pub(crate) fn sql(&self) -> &Connection {
        &self.sql
    }

    pub(crate) fn broken(&self, source: rusqlite::Error) -> Error {
        Error::Broken {
            path: self.path.clone(),
            source,
        }
    }
}

fn load(path: &FilePath, schema: u32) -> rusqlite::Result<Recording> {
    // Read-only, so that looking at a crashed recording leaves its three files as they are.
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let sql = Connection::open_with_flags(path, flags)?;
    sql.busy_timeout(std::time::Duration::from_secs(2))?;
    sql.pragma_update(None, "trusted_schema", false)?;
    // rusqlite takes it for granted that the names of columns are UTF-8, and panics if they are not.
    each(
        &sql,
        "SELECT sql FROM sqlite_schema LIMIT ?, ?",
        (0, -1),
        |row| row.get::<_, Option<String>>(0).map(drop),
    )?;
    if schema < SCHEMA {
        sql.execute_batch(older::VIEWS)?;
    }
    Recording::from_sql(sql, path.into())
}

/// See [`Recording::intervals`].
pub struct Intervals<'a> {
    recording: &'a Recording,
    next: usize,
    so_far: Snapshot,
}

impl Iterator for Intervals<'_> {
    type Item = Result<Snapshot>;

    fn next(&mut self) -> Option<Self::Item> {
        let id = *self.recording.intervals.get(self.next)?;
        self.next += 1;
        let sql = &self.recording.sql;
        let mut read = || {
            add(sql, &mut self.so_far, id, id)?;
            if self.next == self.recording.intervals.len() {
                self.so_far.threads = threads(sql)?;
            }
            Ok(self.so_far.clone())
        };
        Some(read().map_err(|e| self.recording.broken(e)))
    }
}

/// Single events in the order they were written, fetched by the page.
pub struct Events<'a, E> {
    recording: &'a Recording,
    /// A condition in SQL.
    only: &'static str,
    after: i64,
    page: std::vec::IntoIter<E>,
    done: bool,
    event: PhantomData<E>,
}

const PAGE: u32 = 1000;

impl<'a, E: Event> Events<'a, E> {
    fn new(recording: &'a Recording) -> Self {
        Self {
            recording,
            only: "1",
            after: i64::MIN,
            page: Vec::new().into_iter(),
            done: false,
            event: PhantomData,
        }
    }

    fn fetch(&mut self) -> rusqlite::Result<()> {
        let query = format!(
            "SELECT * FROM {} WHERE id > ? AND ({}) ORDER BY id LIMIT ?",
            E::TABLE,
            self.only
        );
        let mut statement = self.recording.sql.prepare_cached(&query)?;
        let mut rows = statement.query((self.after, PAGE))?;
        let mut page = Vec::new();
        while let Some(row) = rows.next()? {
            self.after = row.get("id")?;
            page.push(E::from_row(row)?);
        }
        self.done = page.len() < PAGE as usize;
        self.page = page.into_iter();
        Ok(())
    }
}

impl<E: Event> Iterator for Events<'_, E> {
    type Item = Result<E>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(event) = self.page.next() {
            return Some(Ok(event));
        }
        if self.done {
            return None;
        }
        if let Err(e) = self.fetch() {
            self.done = true;
            return Some(Err(self.recording.broken(e)));
        }
        self.page.next().map(Ok)
    }
}

pub(super) fn each(
    sql: &Connection,
    query: &str,
    (first, last): (i64, i64),
    mut row: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut statement = sql.prepare_cached(query)?;
    let mut rows = statement.query((first, last))?;
    while let Some(r) = rows.next()? {
        row(r)?;
    }
    Ok(())
}

/// Undoes the writer's difference.
pub(super) fn grow(sum: &mut u64, row: &Row<'_>, column: usize) -> rusqlite::Result<()> {
    let more = row.get::<_, i64>(column)?.cast_unsigned();
    *sum = limited(sum.wrapping_add(more))?;
    Ok(())
}

pub(super) fn raise(max: &mut u64, row: &Row<'_>, column: usize) -> rusqlite::Result<()> {
    *max = (*max).max(counted(row.get(column)?)?);
    Ok(())
}

pub(super) fn word<T>(
    row: &Row<'_>,
    column: usize,
    named: fn(&str) -> Option<T>,
) -> rusqlite::Result<T> {
    let name: String = row.get(column)?;
    named(&name).ok_or_else(|| odd(format!("no such word: {name:?}")))
}

/// Adds what intervals `first` to `last` hold.
fn add(sql: &Connection, to: &mut Snapshot, first: i64, last: i64) -> rusqlite::Result<()> {
    let range = (first, last);
    let query = "SELECT * FROM intervals WHERE id BETWEEN ? AND ? ORDER BY id";
    each(sql, query, range, |row| {
        to.at_ns = counted(row.get(1)?)?;
        to.duration_ns = counted(row.get(2)?)?;
        grow(&mut to.own_faults, row, 3)?;
        grow(&mut to.events_emitted, row, 4)?;
        grow(&mut to.events_received, row, 5)?;
        grow(&mut to.vmstat_pgfault, row, 6)?;
        grow(&mut to.vmstat_pgmajfault, row, 7)?;
        if !matches!(row.get_ref(8)?, ValueRef::Null) {
            let [success, abort] = to.vmstat_vma_lock.get_or_insert_default();
            grow(success, row, 8)?;
            grow(abort, row, 9)?;
        }
        grow(&mut to.own_cpu_ns, row, 10)?;
        to.own_rss_bytes = counted(row.get(11)?)?;
        Ok(())
    })?;
    let query = "SELECT path, count, major FROM fault_paths WHERE interval BETWEEN ? AND ?";
    each(sql, query, range, |row| {
        let path = &mut to.faults[word(row, 0, Path::from_name)? as usize];
        grow(&mut path.count, row, 1)?;
        grow(&mut path.major, row, 2)
    })?;
    let query = "SELECT path, kind, count FROM fault_kinds WHERE interval BETWEEN ? AND ?";
    each(sql, query, range, |row| {
        let path = &mut to.faults[word(row, 0, Path::from_name)? as usize];
        grow(
            &mut path.by_kind[word(row, 1, Kind::from_name)? as usize],
            row,
            2,
        )
    })?;
    let query = "SELECT reason, count FROM fallbacks WHERE interval BETWEEN ? AND ?";
    each(sql, query, range, |row| {
        let reason = word(row, 0, FallbackReason::from_name)?;
        grow(&mut to.fallbacks[reason as usize], row, 1)
    })?;
    let query = "SELECT reason, count FROM losses WHERE interval BETWEEN ? AND ?";
    each(sql, query, range, |row| {
        grow(
            &mut to.losses[word(row, 0, Loss::from_name)? as usize],
            row,
            1,
        )
    })?;
    let query = "SELECT mode, op, acquired, waits, wait_sum_ns, wait_max_ns, holds, hold_sum_ns,
        hold_max_ns FROM locks WHERE interval BETWEEN ? AND ?";
    each(sql, query, range, |row| {
        let side = &mut to.locks[word(row, 0, Mode::from_name)? as usize];
        let op = &mut side.by_op[word(row, 1, Op::from_name)? as usize];
        grow(&mut op.acquired, row, 2)?;
        grow(&mut op.waits, row, 3)?;
        grow(&mut op.wait_sum_ns, row, 4)?;
        raise(&mut op.wait_max_ns, row, 5)?;
        grow(&mut op.holds, row, 6)?;
        grow(&mut op.hold_sum_ns, row, 7)?;
        raise(&mut op.hold_max_ns, row, 8)
    })?;
    anatomy::add(sql, &mut to.anatomy, range)?;
    add_hists(sql, to, range)
}

fn add_hists(sql: &Connection, to: &mut Snapshot, range: (i64, i64)) -> rusqlite::Result<()> {
    let query = "SELECT name, label, count, sum_ns, max_ns FROM histogram_totals
        WHERE interval BETWEEN ? AND ?";
    each(sql, query, range, |row| {
        let hist = hist_of(to, row)?;
        grow(&mut hist.count, row, 2)?;
        grow(&mut hist.sum_ns, row, 3)?;
        raise(&mut hist.max_ns, row, 4)
    })?;
    let query =
        "SELECT name, label, lower_ns, count FROM histograms WHERE interval BETWEEN ? AND ?";
    each(sql, query, range, |row| {
        let lower = counted(row.get(2)?)?;
        if row.get_ref(0)?.as_str()? == schema::hist::ACQUIRE {
            let side = &mut to.locks[word(row, 1, Mode::from_name)? as usize];
            return grow(&mut side.decades[hist::decade_of(lower)], row, 3);
        }
        grow(&mut hist_of(to, row)?.slots[hist::slot_of(lower)], row, 3)
    })
}

/// The histogram that the row's `name` and `label` speak of.
fn hist_of<'a>(to: &'a mut Snapshot, row: &Row<'_>) -> rusqlite::Result<&'a mut Hist> {
    match row.get_ref(0)?.as_str()? {
        schema::hist::FAULT => Ok(&mut to.faults[word(row, 1, Path::from_name)? as usize].latency),
        schema::hist::WAIT | older::WAIT => {
            Ok(&mut to.locks[word(row, 1, Mode::from_name)? as usize].wait)
        }
        schema::hist::HOLD => Ok(&mut to.locks[word(row, 1, Mode::from_name)? as usize].hold),
        schema::hist::IO => {
            let label = row.get_ref(1)?.as_str()?;
            let at = anatomy::io_of_label(label)
                .ok_or_else(|| odd(format!("no priority class is called {label:?}")))?;
            Ok(&mut to.anatomy.io[at].wait)
        }
        other => Err(odd(format!("no histogram is called {other:?}"))),
    }
}

fn threads(sql: &Connection) -> rusqlite::Result<Vec<Thread>> {
    let columns: Vec<_> = thread_columns().into_iter().map(|c| c.name).collect();
    let query = format!(
        "SELECT {} FROM threads ORDER BY tgid, tid",
        columns.join(", ")
    );
    sql.prepare(&query)?.query_map((), thread)?.collect()
}

fn thread(row: &Row<'_>) -> rusqlite::Result<Thread> {
    let mut out = Thread {
        tid: row.get(0)?,
        tgid: row.get(1)?,
        comm: row.get(2)?,
        container: row.get(3)?,
        standing: Standing {
            ground: Ground::named(row.get_ref(4)?.as_str()?),
            oom_score_adj: row.get(5)?,
        },
        ns_pid: row.get(6)?,
        exited: row.get(7)?,
        ..Thread::default()
    };
    // The order of `thread_columns`.
    let mut at = 8;
    let mut next = || {
        at += 1;
        counted(row.get(at - 1)?)
    };
    for n in &mut out.by_path {
        *n = next()?;
    }
    for n in [
        &mut out.minor,
        &mut out.major,
        &mut out.sum_ns,
        &mut out.max_ns,
    ] {
        *n = next()?;
    }
    let buckets: String = row.get("fault_log2_us")?;
    out.log2_us = serde_json::from_str(&buckets).map_err(|e| odd(e.to_string()))?;
    let mut at = row.as_ref().column_index("fault_log2_us")? + 1;
    for mode in 0..Mode::COUNT {
        for n in [
            &mut out.waits[mode],
            &mut out.wait_sum_ns[mode],
            &mut out.wait_max_ns[mode],
        ] {
            *n = counted(row.get(at)?)?;
            at += 1;
        }
    }
    out.map_count = counted(row.get(at)?)?;
    out.total_vm = counted(row.get(at + 1)?)?;
    Ok(out)
}
