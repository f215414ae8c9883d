//! The tables of waits and what they are due to, of windows, arrivals and conflicts: rows in both
//! directions.

use profiler_common::words::{FolioState, Kind, Mode, Op, RetryReason};
use rusqlite::{CachedStatement, Connection, Row, Transaction, params};

use super::{
    events::{Columns, Event, count, i, u, word, word_or_none},
    session::odd,
};
use crate::model::{
    ArrivalEvent, Blame, ConflictEvent, Doing, HolderInfo, Knows, Segment, SegmentBy, StackEvent,
    WaitEvent, WindowEvent,
};

pub const DDL: &str = "
CREATE TABLE waits (
  id INTEGER PRIMARY KEY, start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL,
  wait_ns INTEGER AS (end_ns - start_ns), cpu INTEGER NOT NULL,
  tid INTEGER NOT NULL, tgid INTEGER NOT NULL, comm TEXT NOT NULL,
  prio INTEGER NOT NULL, policy INTEGER NOT NULL, mm INTEGER NOT NULL, mm_tgid INTEGER,
  lock TEXT NOT NULL, mode TEXT NOT NULL, op TEXT NOT NULL, acquired INTEGER NOT NULL,
  vm_start INTEGER, vm_end INTEGER, op_start INTEGER, op_end INTEGER,
  holder_tid INTEGER, holder_tgid INTEGER, holder_comm TEXT, holder_prio INTEGER,
  holder_readers INTEGER, holder_op TEXT, holder_doing TEXT, holder_address INTEGER,
  same_page INTEGER, last_holder_tid INTEGER, blamed_ns INTEGER NOT NULL,
  handoff_ns INTEGER NOT NULL, blocker_wait INTEGER, root_wait INTEGER NOT NULL,
  depth INTEGER NOT NULL, inversion INTEGER NOT NULL, stack INTEGER, holder_stack INTEGER);
CREATE TABLE stacks (id INTEGER PRIMARY KEY, frames TEXT NOT NULL);
CREATE TABLE segments (
  wait INTEGER NOT NULL, start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL,
  blamed_ns INTEGER NOT NULL, stretches INTEGER NOT NULL, kind TEXT NOT NULL,
  tid INTEGER, tgid INTEGER, comm TEXT, prio INTEGER, op TEXT, doing TEXT, address INTEGER,
  PRIMARY KEY (wait, start_ns)) WITHOUT ROWID;
CREATE TABLE windows (
  id INTEGER PRIMARY KEY, attempt_ns INTEGER NOT NULL, io_ns INTEGER NOT NULL,
  close_ns INTEGER NOT NULL, mm INTEGER NOT NULL, tid INTEGER NOT NULL, tgid INTEGER NOT NULL,
  comm TEXT NOT NULL, prio INTEGER NOT NULL, address INTEGER NOT NULL,
  vm_start INTEGER NOT NULL, vm_end INTEGER NOT NULL, kind TEXT NOT NULL, retry_reason TEXT,
  folio_state TEXT);
CREATE TABLE arrivals (
  id INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL, section_ns INTEGER NOT NULL,
  mm INTEGER NOT NULL, tid INTEGER NOT NULL, tgid INTEGER NOT NULL, comm TEXT NOT NULL,
  prio INTEGER NOT NULL, what TEXT NOT NULL, op TEXT NOT NULL, range_start INTEGER NOT NULL,
  range_end INTEGER NOT NULL, retry INTEGER NOT NULL);
CREATE TABLE conflicts (
  id INTEGER PRIMARY KEY, window INTEGER NOT NULL, at_ns INTEGER NOT NULL,
  tid INTEGER NOT NULL, tgid INTEGER NOT NULL, comm TEXT NOT NULL, prio INTEGER NOT NULL,
  op TEXT NOT NULL, how TEXT NOT NULL);
CREATE VIEW chains AS
  SELECT root_wait AS id, max(depth) AS depth, count(*) AS waits, sum(wait_ns) AS blocked_ns
  FROM waits GROUP BY root_wait HAVING max(depth) >= 3;
";

/// A stack's id, NULL where there is none.
fn kept(stack: u32) -> Option<u32> {
    (stack != 0).then_some(stack)
}

fn lock_of(mode: Mode) -> (&'static str, &'static str) {
    match mode {
        Mode::Read => ("mmap_lock", "read"),
        Mode::Write => ("mmap_lock", "write"),
        Mode::VmaWrite => ("vma", "write"),
    }
}

fn mode_of(lock: &str, mode: &str) -> Option<Mode> {
    Mode::ALL
        .iter()
        .copied()
        .find(|m| lock_of(*m) == (lock, mode))
}

impl Event for WaitEvent {
    const TABLE: &'static str = "waits";
    const DURATION: &'static str = "wait_ns";

    fn statement(sql: &Connection) -> rusqlite::Result<CachedStatement<'_>> {
        sql.prepare_cached(
            "INSERT INTO waits VALUES
             (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,
              ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
    }

    fn insert(&self, statement: &mut CachedStatement<'_>, _: &Knows) -> rusqlite::Result<()> {
        let (lock, mode) = lock_of(self.mode);
        let holder = self.holder.as_ref();
        let blame = &self.blame;
        statement.execute(params![
            i(self.id),
            i(self.start_ns),
            i(self.end_ns),
            self.cpu,
            self.tid,
            self.tgid,
            self.comm,
            self.prio,
            self.policy,
            i(self.mm),
            self.mm_tgid,
            lock,
            mode,
            self.op.name(),
            self.acquired,
            self.vma.map(|(start, _)| i(start)),
            self.vma.map(|(_, end)| i(end)),
            self.range.map(|(start, _)| i(start)),
            self.range.map(|(_, end)| i(end)),
            holder.map(|h| h.tid),
            holder.map(|h| h.tgid),
            holder.map(|h| &h.comm),
            holder.map(|h| h.prio),
            holder.map(|h| h.readers),
            holder.and_then(|h| h.op).map(Op::name),
            holder.and_then(|h| h.doing).map(Doing::name),
            holder.filter(|h| h.address != 0).map(|h| i(h.address)),
            blame.same_page,
            blame.last_holder_tid,
            i(blame.blamed_ns),
            i(blame.handoff_ns),
            blame.blocker_wait.map(i),
            i(blame.root_wait),
            blame.depth,
            blame.inversion,
            kept(self.stack),
            holder.and_then(|h| kept(h.stack)),
        ])?;
        Ok(())
    }

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let mut c = Columns::of(row);
        let (id, start_ns, end_ns) = (c.u64()?, c.count()?, c.count()?);
        c.skip(); // wait_ns
        let (cpu, tid, tgid, comm) = (c.next()?, c.next()?, c.next()?, c.next()?);
        let (prio, policy) = (c.next()?, c.next()?);
        let (mm, mm_tgid) = (c.u64()?, c.next()?);
        let (lock, mode) = (c.text()?, c.text()?);
        let mode = mode_of(lock, mode)
            .ok_or_else(|| odd(format!("no lock is called {lock:?} {mode:?}")))?;
        let (op, acquired) = (c.word(Op::from_name)?, c.next()?);
        let vma = c.u64_or_none()?.zip(c.u64_or_none()?);
        let range = c.u64_or_none()?.zip(c.u64_or_none()?);
        let holder_tid: Option<u32> = c.next()?;
        let mut holder = HolderInfo {
            tid: holder_tid.unwrap_or(0),
            tgid: c.next::<Option<u32>>()?.unwrap_or(0),
            comm: c.text_or_none()?.unwrap_or_default().to_owned(),
            prio: c.next::<Option<i32>>()?.unwrap_or(0),
            readers: c.next::<Option<u32>>()?.unwrap_or(0),
            op: c.word_or_none(Op::from_name)?,
            doing: c.word_or_none(Doing::from_name)?,
            address: c.u64_or_none()?.unwrap_or(0),
            stack: 0,
        };
        let (same_page, last_holder_tid) = (c.next()?, c.next()?);
        let (blamed_ns, handoff_ns) = (c.count()?, c.count()?);
        let (blocker_wait, root_wait) = (c.u64_or_none()?, c.u64()?);
        let (depth, inversion) = (c.next()?, c.next()?);
        let stack = c.next::<Option<u32>>()?.unwrap_or(0);
        holder.stack = c.next::<Option<u32>>()?.unwrap_or(0);
        Ok(WaitEvent {
            id,
            start_ns,
            end_ns,
            cpu,
            tid,
            tgid,
            comm,
            prio,
            policy,
            mm,
            mm_tgid,
            mode,
            op,
            acquired,
            vma,
            range,
            holder: holder_tid.map(|_| holder),
            stack,
            blame: Blame {
                segments: Vec::new(),
                blamed_ns,
                handoff_ns,
                last_holder_tid,
                same_page,
                blocker_wait,
                root_wait,
                depth,
                inversion,
            },
        })
    }
}

pub fn insert_stacks(tx: &Transaction<'_>, stacks: &[StackEvent]) -> rusqlite::Result<()> {
    let mut insert = tx.prepare_cached("INSERT OR IGNORE INTO stacks VALUES (?, ?)")?;
    for stack in stacks {
        insert.execute(params![stack.id, stack.frames])?;
    }
    Ok(())
}

pub fn insert_segments(tx: &Transaction<'_>, waits: &[WaitEvent]) -> rusqlite::Result<()> {
    let mut insert =
        tx.prepare_cached("INSERT INTO segments VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
    let mut one = |wait: u64, s: &Segment| {
        let holder = match &s.by {
            SegmentBy::Holder(h) => Some(h),
            _ => None,
        };
        insert.execute(params![
            i(wait),
            i(s.start_ns),
            i(s.end_ns),
            i(s.blamed_ns),
            s.stretches,
            s.by.name(),
            holder.map(|h| h.tid),
            holder.map(|h| h.tgid),
            holder.map(|h| &h.comm),
            holder.map(|h| h.prio),
            holder.and_then(|h| h.op).map(Op::name),
            holder.and_then(|h| h.doing).map(Doing::name),
            holder.filter(|h| h.address != 0).map(|h| i(h.address)),
        ])
    };
    for wait in waits {
        for segment in &wait.blame.segments {
            one(wait.id, segment)?;
        }
    }
    Ok(())
}

/// In the order in which they began.
pub fn segments(sql: &Connection, wait: u64) -> rusqlite::Result<Vec<Segment>> {
    let query = "SELECT start_ns, end_ns, blamed_ns, stretches, kind, tid, tgid, comm, prio, op,
        doing, address FROM segments WHERE wait = ? ORDER BY start_ns";
    let mut statement = sql.prepare_cached(query)?;
    let rows = statement.query_map([i(wait)], segment)?;
    rows.collect()
}

fn segment(row: &Row<'_>) -> rusqlite::Result<Segment> {
    let kind: String = row.get("kind")?;
    let by = match kind.as_str() {
        "holder" => SegmentBy::Holder(HolderInfo {
            tid: row.get("tid")?,
            tgid: row.get("tgid")?,
            comm: row.get("comm")?,
            prio: row.get("prio")?,
            op: word_or_none(row, "op", Op::from_name)?,
            doing: word_or_none(row, "doing", Doing::from_name)?,
            address: row
                .get::<_, Option<i64>>("address")?
                .map_or(0, i64::cast_unsigned),
            ..HolderInfo::default()
        }),
        "readers" => SegmentBy::Readers,
        "others" => SegmentBy::Others,
        "handoff" => SegmentBy::Handoff,
        "unknown" => SegmentBy::Unknown,
        other => return Err(odd(format!("nobody holds a lock as {other:?}"))),
    };
    Ok(Segment {
        start_ns: u(row, "start_ns")?,
        end_ns: u(row, "end_ns")?,
        blamed_ns: u(row, "blamed_ns")?,
        stretches: row.get("stretches")?,
        by,
    })
}

impl Event for WindowEvent {
    const TABLE: &'static str = "windows";
    const DURATION: &'static str = "close_ns - io_ns";

    fn statement(sql: &Connection) -> rusqlite::Result<CachedStatement<'_>> {
        sql.prepare_cached(
            "INSERT INTO windows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
    }

    fn insert(&self, statement: &mut CachedStatement<'_>, _: &Knows) -> rusqlite::Result<()> {
        statement.execute(params![
            i(self.id),
            i(self.attempt_ns),
            i(self.io_ns),
            i(self.close_ns),
            i(self.mm),
            self.tid,
            self.tgid,
            self.comm,
            self.prio,
            i(self.address),
            i(self.vm_start),
            i(self.vm_end),
            self.kind.name(),
            self.retry.map(RetryReason::name),
            self.folio.map(FolioState::name),
        ])?;
        Ok(())
    }

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(WindowEvent {
            id: u(row, "id")?,
            attempt_ns: count(row, "attempt_ns")?,
            io_ns: count(row, "io_ns")?,
            close_ns: count(row, "close_ns")?,
            mm: u(row, "mm")?,
            tid: row.get("tid")?,
            tgid: row.get("tgid")?,
            comm: row.get("comm")?,
            prio: row.get("prio")?,
            address: u(row, "address")?,
            vm_start: u(row, "vm_start")?,
            vm_end: u(row, "vm_end")?,
            kind: word(row, "kind", Kind::from_name)?,
            retry: word_or_none(row, "retry_reason", RetryReason::from_name)?,
            folio: word_or_none(row, "folio_state", FolioState::from_name)?,
        })
    }
}

/// `what` of an arrival.
fn what(mode: Mode) -> &'static str {
    match mode {
        Mode::Read => "mmap_read",
        Mode::Write => "mmap_write",
        Mode::VmaWrite => "vma_write",
    }
}

impl Event for ArrivalEvent {
    const TABLE: &'static str = "arrivals";
    const DURATION: &'static str = "0";

    fn statement(sql: &Connection) -> rusqlite::Result<CachedStatement<'_>> {
        sql.prepare_cached("INSERT INTO arrivals VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
    }

    fn insert(&self, statement: &mut CachedStatement<'_>, _: &Knows) -> rusqlite::Result<()> {
        statement.execute(params![
            i(self.at_ns),
            i(self.section_ns),
            i(self.mm),
            self.tid,
            self.tgid,
            self.comm,
            self.prio,
            what(self.mode),
            self.op.name(),
            i(self.start),
            i(self.end),
            self.retry,
        ])?;
        Ok(())
    }

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let named = |name: &str| Mode::ALL.iter().copied().find(|m| what(*m) == name);
        Ok(ArrivalEvent {
            at_ns: count(row, "at_ns")?,
            section_ns: count(row, "section_ns")?,
            mm: u(row, "mm")?,
            tid: row.get("tid")?,
            tgid: row.get("tgid")?,
            comm: row.get("comm")?,
            prio: row.get("prio")?,
            mode: word(row, "what", named)?,
            op: word(row, "op", Op::from_name)?,
            start: u(row, "range_start")?,
            end: u(row, "range_end")?,
            retry: row.get("retry")?,
        })
    }
}

impl Event for ConflictEvent {
    const TABLE: &'static str = "conflicts";
    const DURATION: &'static str = "0";

    fn statement(sql: &Connection) -> rusqlite::Result<CachedStatement<'_>> {
        sql.prepare_cached("INSERT INTO conflicts VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)")
    }

    fn insert(&self, statement: &mut CachedStatement<'_>, _: &Knows) -> rusqlite::Result<()> {
        statement.execute(params![
            i(self.window),
            i(self.at_ns),
            self.tid,
            self.tgid,
            self.comm,
            self.prio,
            self.op.name(),
            if self.exact { "exact" } else { "inferred" },
        ])?;
        Ok(())
    }

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(ConflictEvent {
            window: u(row, "window")?,
            at_ns: count(row, "at_ns")?,
            tid: row.get("tid")?,
            tgid: row.get("tgid")?,
            comm: row.get("comm")?,
            prio: row.get("prio")?,
            op: word(row, "op", Op::from_name)?,
            exact: row.get::<_, String>("how")? == "exact",
        })
    }
}
