//! Writing a recording. In: the session, then batches of events and cumulative snapshots. Out: a
//! WAL database in which nothing older than the last call can be lost, and at a clean end one file.

use std::{
    collections::HashMap,
    fs::File,
    path::{Path as FilePath, PathBuf},
};

use profiler_common::{
    hist,
    words::{FallbackReason, Kind, Loss, Mode, Op, Path},
};
use rusqlite::{Connection, Transaction, params, types::Value};

use super::{
    APPLICATION_ID, Error, Head, Recording, Result, anatomy, blame, companions,
    events::Event,
    head,
    part::Base,
    repair,
    schema::{self, decade_lower_ns},
    session,
};
use crate::{
    beside,
    model::{
        Anatomy, Batch, Ground, Hist, Knows, LockSide, Session, Snapshot, StackEvent, Thread,
        session::SCHEMA,
    },
};

pub struct Writer {
    sql: Connection,
    path: PathBuf,
    knows: Knows,
    interval: i64,
    /// The latest snapshot written: rows hold what was added to it.
    last: Snapshot,
    /// Where it begins, if not with the session.
    base: Option<Base>,
}

impl Writer {
    /// Replaces an earlier recording of that name, and nothing else.
    pub fn create(path: &FilePath, session: &Session) -> Result<Writer> {
        let writing = |source| Error::Writing {
            path: path.into(),
            source,
        };
        let blank = make_room(path)?;
        // The change to WAL is written through a journal of its own, which must not be left behind.
        let laid_out = Connection::open(&blank).and_then(|sql| {
            let sql = lay_out(sql, session)?;
            sql.query_row("PRAGMA journal_mode=WAL", (), |_| Ok(()))?;
            sql.close().map_err(|(_, source)| source)
        });
        // From here on there is a recording of that name at every moment, whatever happens.
        let moved = laid_out.map_err(writing).and_then(|()| {
            std::fs::rename(&blank, path).map_err(|source| Error::Unwritable {
                path: path.into(),
                source,
            })
        });
        if moved.is_err() {
            // Why it failed is what matters.
            let _ = std::fs::remove_file(&blank);
        }
        moved?;
        let sql = Connection::open(path).map_err(writing)?;
        Self::begin(sql, path, session).map_err(writing)
    }

    /// Of a session that has been running until `base`, the rest.
    pub fn create_part(path: &FilePath, session: &Session, base: &Snapshot) -> Result<Writer> {
        let from = Base::new(base);
        let mut writer = Self::create(path, &from.session(session))?;
        writer.last.clone_from(base);
        // They are totals, not differences: none of the part's has been written.
        writer.last.threads.clear();
        writer.base = Some(from);
        Ok(writer)
    }

    /// What it takes on disk now.
    pub fn bytes(&self) -> u64 {
        let [wal, _] = companions(&self.path);
        let size = |path: &FilePath| path.metadata().map_or(0, |m| m.len());
        size(&self.path) + size(&wal)
    }

    /// Gone with the process.
    pub fn in_memory(session: &Session) -> Result<Writer> {
        let path = PathBuf::from(":memory:");
        let laid_out = Connection::open_in_memory().and_then(|sql| lay_out(sql, session));
        laid_out
            .and_then(|sql| Self::begin(sql, &path, session))
            .map_err(|source| Error::Writing { path, source })
    }

    /// For a report of what is happening now: gone with the process, and on disk as far as it is large, in a
    /// file without a name. Where none can be made (no TMPDIR, /var/tmp or /tmp), in memory.
    pub fn temporary(session: &Session) -> Result<Writer> {
        match temporary(session) {
            Ok(sql) => {
                let path = PathBuf::from(TEMPORARY);
                Self::begin(sql, &path, session).map_err(|source| failed(&path, source))
            }
            Err(_) => Self::in_memory(session),
        }
    }

    fn begin(sql: Connection, path: &FilePath, session: &Session) -> rusqlite::Result<Writer> {
        sql.busy_timeout(std::time::Duration::from_secs(2))?;
        // What is not kept on disk takes no WAL and stays as it is.
        sql.query_row("PRAGMA journal_mode=WAL", (), |_| Ok(()))?;
        sql.pragma_update(None, "synchronous", "NORMAL")?;
        // A checkpoint waits for the disk twice, while events pile up: fewer of them, each of 16 MiB.
        sql.pragma_update(None, "wal_autocheckpoint", 4096)?;
        sql.set_prepared_statement_cache_capacity(32);
        Ok(Writer {
            sql,
            path: path.into(),
            knows: Knows::of(session),
            interval: 0,
            last: Snapshot::empty(),
            base: None,
        })
    }

    /// The last snapshot; then what was written, to be read.
    pub fn into_recording(mut self, now: &Snapshot) -> Result<Recording> {
        self.interval(now)?;
        let set = session::set(&self.sql, "complete", Value::Integer(1));
        set.and_then(|()| Recording::from_sql(self.sql, self.path.clone()))
            .map_err(|source| failed(&self.path, source))
    }

    /// One transaction; hand batches over at most a second old.
    pub fn events(&mut self, batch: &Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let knows = self.knows;
        self.transaction(|tx, _, _| {
            insert_all(tx, &batch.faults, &knows)?;
            insert_all(tx, &batch.waits, &knows)?;
            blame::insert_segments(tx, &batch.waits)?;
            blame::insert_stacks(tx, &batch.stacks)?;
            insert_all(tx, &batch.windows, &knows)?;
            insert_all(tx, &batch.arrivals, &knows)?;
            insert_all(tx, &batch.conflicts, &knows)
        })
    }

    /// Those that earlier batches of the session brought: each comes once, and waits of all times speak of it.
    pub fn stacks(&mut self, known: &[StackEvent]) -> Result<()> {
        self.transaction(|tx, _, _| blame::insert_stacks(tx, known))
    }

    /// One transaction. `now` counts from arming on, as all snapshots do.
    pub fn interval(&mut self, now: &Snapshot) -> Result<()> {
        self.interval += 1;
        let part = self.base.as_ref().map(|base| base.rest(now));
        let now = part.as_ref().unwrap_or(now);
        self.transaction(|tx, interval, last| write_interval(tx, interval, now, last))?;
        self.last.clone_from(now);
        Ok(())
    }

    /// The last snapshot, then the fold into one file.
    pub fn finish(mut self, now: &Snapshot) -> Result<()> {
        if self.interval == 0 || self.base.is_some() || *now != self.last {
            self.interval(now)?;
        }
        let fold = |sql: &Connection| {
            session::set(sql, "complete", Value::Integer(1))?;
            sql.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))?;
            sql.query_row("PRAGMA journal_mode=DELETE", (), |row| {
                row.get::<_, String>(0)
            })
        };
        let busy = Some(rusqlite::ErrorCode::DatabaseBusy);
        match fold(&self.sql) {
            Ok(mode) if mode == "delete" => Ok(()),
            Err(e) if e.sqlite_error_code() != busy => Err(Error::Writing {
                path: self.path,
                source: e,
            }),
            _ => Err(Error::StillOpen { path: self.path }),
        }
    }

    fn transaction(
        &mut self,
        write: impl FnOnce(&Transaction<'_>, i64, &Snapshot) -> rusqlite::Result<()>,
    ) -> Result<()> {
        let (interval, last) = (self.interval, &self.last);
        let run = |sql: &mut Connection| {
            let tx = sql.transaction()?;
            write(&tx, interval, last)?;
            tx.commit()
        };
        run(&mut self.sql).map_err(|source| failed(&self.path, source))
    }
}

/// In the place of a path.
const TEMPORARY: &str = ":temporary:";

fn failed(path: &FilePath, source: rusqlite::Error) -> Error {
    match path == FilePath::new(TEMPORARY) {
        true => Error::Temporary { source },
        false => Error::Writing {
            path: path.into(),
            source,
        },
    }
}

fn temporary(session: &Session) -> rusqlite::Result<Connection> {
    let sql = Connection::open("")?;
    // Of what is in memory: 16 MiB.
    sql.pragma_update(None, "cache_size", -16_384)?;
    sql.query_row("PRAGMA journal_mode=MEMORY", (), |_| Ok(()))?;
    let mut sql = lay_out(sql, session)?;
    // SQLite makes the file only when it is needed; whether it can be is to be known now.
    let tx = sql.transaction()?;
    session::set(&tx, "complete", Value::Integer(0))?;
    tx.cache_flush()?;
    tx.commit()?;
    Ok(sql)
}

/// A file beside it that will become the recording.
fn make_room(path: &FilePath) -> Result<PathBuf> {
    let unwritable = |source| Error::Unwritable {
        path: path.into(),
        source,
    };
    // A device or a pipe would be replaced, and opening one may wait for ever.
    if std::fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir()) {
        return Err(Error::Occupied { path: path.into() });
    }
    match head(path) {
        Ok(Head::Recording { .. }) if repair::is_open(path) => {
            return Err(Error::Taken { path: path.into() });
        }
        Ok(Head::Recording { .. } | Head::Empty) => {}
        Ok(Head::Other) => return Err(Error::Occupied { path: path.into() }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(unwritable(e)),
    }
    // A WAL left by a crash would be replayed into the new file.
    for old in companions(path) {
        match std::fs::remove_file(old) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(unwritable(e)),
            _ => {}
        }
    }
    let (blank, file) = beside::make(path, |blank| File::create_new(blank)).map_err(unwritable)?;
    match give_to_caller(&file) {
        Ok(()) => Ok(blank),
        Err(e) => {
            let _ = std::fs::remove_file(&blank);
            Err(unwritable(e))
        }
    }
}

/// Under sudo the recording belongs to who typed the command; SQLite gives -wal and -shm the owner
/// of the main file.
fn give_to_caller(file: &File) -> std::io::Result<()> {
    let id = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    match std::os::unix::fs::fchown(file, id("SUDO_UID"), id("SUDO_GID")) {
        // Not root: the file is the caller's already.
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        done => done,
    }
}

/// The tables alone, in memory: to ask what columns they have.
pub fn empty_tables() -> rusqlite::Result<Connection> {
    let sql = Connection::open_in_memory()?;
    sql.execute_batch(&schema::ddl())?;
    Ok(sql)
}

/// The tables, empty, and the session.
fn lay_out(mut sql: Connection, session: &Session) -> rusqlite::Result<Connection> {
    let tx = sql.transaction()?;
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", SCHEMA)?;
    tx.execute_batch(&schema::ddl())?;
    session::write(&tx, session)?;
    session::set(&tx, "complete", Value::Integer(0))?;
    tx.commit()?;
    Ok(sql)
}

fn insert_all<E: Event>(tx: &Transaction<'_>, events: &[E], knows: &Knows) -> rusqlite::Result<()> {
    let mut statement = E::statement(tx)?;
    events
        .iter()
        .try_for_each(|e| e.insert(&mut statement, knows))
}

/// Modular, so that reading adds up to the same value whatever a counter did.
pub(super) fn added(now: u64, then: u64) -> i64 {
    now.wrapping_sub(then).cast_signed()
}

fn write_interval(
    tx: &Transaction<'_>,
    id: i64,
    now: &Snapshot,
    then: &Snapshot,
) -> rusqlite::Result<()> {
    let vma_lock = |i: usize| {
        let then = then.vmstat_vma_lock.unwrap_or_default();
        now.vmstat_vma_lock.map(|now| added(now[i], then[i]))
    };
    tx.prepare_cached("INSERT INTO intervals VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?
        .execute(params![
            id,
            now.at_ns.cast_signed(),
            now.duration_ns.cast_signed(),
            added(now.own_faults, then.own_faults),
            added(now.events_emitted, then.events_emitted),
            added(now.events_received, then.events_received),
            added(now.vmstat_pgfault, then.vmstat_pgfault),
            added(now.vmstat_pgmajfault, then.vmstat_pgmajfault),
            vma_lock(0),
            vma_lock(1),
            added(now.own_cpu_ns, then.own_cpu_ns),
            now.own_rss_bytes.cast_signed(),
        ])?;
    write_faults(tx, id, now, then)?;
    anatomy::write(tx, id, &now.anatomy, &then.anatomy)?;
    for (at, (prio, ioprio)) in Anatomy::io_classes().enumerate() {
        let (now, then) = (&now.anatomy.io[at].wait, &then.anatomy.io[at].wait);
        let label = anatomy::io_label(prio, ioprio);
        write_hist(tx, id, schema::hist::IO, &label, now, then)?;
    }
    for mode in Mode::ALL {
        let side = *mode as usize;
        write_lock(tx, id, *mode, &now.locks[side], &then.locks[side])?;
    }
    let mut insert = tx.prepare_cached("INSERT INTO losses VALUES (?, ?, ?)")?;
    for loss in Loss::ALL {
        let n = added(now.losses[*loss as usize], then.losses[*loss as usize]);
        if n != 0 {
            insert.execute(params![id, loss.name(), n])?;
        }
    }
    write_threads(tx, &now.threads, &then.threads)
}

fn write_faults(
    tx: &Transaction<'_>,
    id: i64,
    now: &Snapshot,
    then: &Snapshot,
) -> rusqlite::Result<()> {
    let mut insert = tx.prepare_cached("INSERT INTO fault_paths VALUES (?, ?, ?, ?)")?;
    let mut insert_kind = tx.prepare_cached("INSERT INTO fault_kinds VALUES (?, ?, ?, ?)")?;
    for path in Path::ALL {
        let (now, then) = (now.path(*path), then.path(*path));
        let (count, major) = (added(now.count, then.count), added(now.major, then.major));
        if count != 0 || major != 0 {
            insert.execute(params![id, path.name(), count, major])?;
        }
        for kind in Kind::ALL {
            let n = added(now.by_kind[*kind as usize], then.by_kind[*kind as usize]);
            if n != 0 {
                insert_kind.execute(params![id, path.name(), kind.name(), n])?;
            }
        }
        let name = schema::hist::FAULT;
        write_hist(tx, id, name, path.name(), &now.latency, &then.latency)?;
    }
    let mut insert = tx.prepare_cached("INSERT INTO fallbacks VALUES (?, ?, ?)")?;
    for reason in FallbackReason::ALL {
        let at = *reason as usize;
        let n = added(now.fallbacks[at], then.fallbacks[at]);
        if n != 0 {
            insert.execute(params![id, reason.name(), n])?;
        }
    }
    Ok(())
}

fn write_lock(
    tx: &Transaction<'_>,
    id: i64,
    mode: Mode,
    now: &LockSide,
    then: &LockSide,
) -> rusqlite::Result<()> {
    let mut insert =
        tx.prepare_cached("INSERT INTO locks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
    for op in Op::ALL {
        let (now, then) = (&now.by_op[*op as usize], &then.by_op[*op as usize]);
        if now != then {
            insert.execute(params![
                id,
                mode.name(),
                op.name(),
                added(now.acquired, then.acquired),
                added(now.waits, then.waits),
                added(now.wait_sum_ns, then.wait_sum_ns),
                now.wait_max_ns.cast_signed(),
                added(now.holds, then.holds),
                added(now.hold_sum_ns, then.hold_sum_ns),
                now.hold_max_ns.cast_signed(),
            ])?;
        }
    }
    let mode = mode.name();
    write_hist(tx, id, schema::hist::WAIT, mode, &now.wait, &then.wait)?;
    write_hist(tx, id, schema::hist::HOLD, mode, &now.hold, &then.hold)?;
    let mut insert = tx.prepare_cached("INSERT INTO histograms VALUES (?, ?, ?, ?, ?, ?)")?;
    for decade in 0..hist::DECADES {
        let n = added(now.decades[decade], then.decades[decade]);
        let lower = decade_lower_ns(decade).map(u64::cast_signed);
        let upper = decade_lower_ns(decade + 1).map(u64::cast_signed);
        if n != 0 {
            insert.execute(params![id, schema::hist::ACQUIRE, mode, lower, upper, n])?;
        }
    }
    Ok(())
}

fn write_hist(
    tx: &Transaction<'_>,
    id: i64,
    name: &str,
    label: &str,
    now: &Hist,
    then: &Hist,
) -> rusqlite::Result<()> {
    if now == then {
        return Ok(());
    }
    tx.prepare_cached("INSERT INTO histogram_totals VALUES (?, ?, ?, ?, ?, ?)")?
        .execute(params![
            id,
            name,
            label,
            added(now.count, then.count),
            added(now.sum_ns, then.sum_ns),
            now.max_ns.cast_signed(),
        ])?;
    let mut insert = tx.prepare_cached("INSERT INTO histograms VALUES (?, ?, ?, ?, ?, ?)")?;
    for (slot, (now, then)) in now.slots.iter().zip(&then.slots).enumerate() {
        if now != then {
            // The last slot has no upper edge.
            let upper = i64::try_from(hist::upper(slot)).ok();
            let lower = hist::lower(slot).cast_signed();
            insert.execute(params![id, name, label, lower, upper, added(*now, *then)])?;
        }
    }
    Ok(())
}

/// Only what changed: most threads of a system are idle in any one interval.
fn write_threads(tx: &Transaction<'_>, now: &[Thread], then: &[Thread]) -> rusqlite::Result<()> {
    let key = |t: &Thread| (t.tgid, t.tid);
    let mut old: HashMap<_, _> = then.iter().map(|t| (key(t), t)).collect();
    let marks = vec!["?"; schema::thread_columns().len()].join(", ");
    let mut insert =
        tx.prepare_cached(&format!("INSERT OR REPLACE INTO threads VALUES ({marks})"))?;
    for thread in now {
        if old.remove(&key(thread)) != Some(thread) {
            insert.execute(rusqlite::params_from_iter(thread_row(thread)))?;
        }
    }
    // Dead threads beyond what `collect` remembers one by one live on in their process.
    let mut delete = tx.prepare_cached("DELETE FROM threads WHERE tgid = ? AND tid = ?")?;
    for key in old.into_keys() {
        delete.execute(key)?;
    }
    Ok(())
}

/// In the order of `schema::thread_columns`.
fn thread_row(thread: &Thread) -> Vec<Value> {
    let count = |n: u64| Value::Integer(n.cast_signed());
    let mut row: Vec<Value> = vec![
        thread.tid.into(),
        thread.tgid.into(),
        thread.comm.clone().into(),
        thread.container.clone().into(),
        thread
            .standing
            .ground
            .map_or("", Ground::name)
            .to_owned()
            .into(),
        thread.standing.oom_score_adj.into(),
        thread.ns_pid.into(),
        thread.exited.into(),
    ];
    row.extend(thread.by_path.map(count));
    row.extend([thread.minor, thread.major, thread.sum_ns, thread.max_ns].map(count));
    let buckets = thread.log2_us.map(|n| n.to_string());
    row.push(format!("[{}]", buckets.join(",")).into());
    for mode in 0..Mode::COUNT {
        row.push(count(thread.waits[mode]));
        row.push(count(thread.wait_sum_ns[mode]));
        row.push(count(thread.wait_max_ns[mode]));
    }
    row.extend([thread.map_count, thread.total_vm].map(count));
    row
}
