//! Slices, thread by thread: holds, faults with the waits inside them, windows; conflicts as instants.
//! In: the single events of a recording, sorted by SQLite. Out: beginnings and ends, nested.

use std::io;

use profiler_common::words::Op;
use rusqlite::Row;

use super::{
    Trace, Written, args,
    stream::{Args, Stream, What, uuid},
};
use crate::{
    model::{FaultEvent, Knows, WaitEvent, WindowEvent},
    recording::{Event, Recording},
    report::units::clean,
};

/// Numbers of the tracks below a thread's.
const HOLDS: u64 = 1;
const WINDOWS: u64 = 2;

/// What a trace calls the way from a hold to a wait.
fn flow(wait: u64, segment_start_ns: u64) -> u64 {
    uuid(&[5, wait, segment_start_ns])
}

fn u(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.cast_unsigned())
}

/// Slices of one track, which must be inside each other or apart. What would end after the slice
/// around it is cut there, and says so.
struct Nest {
    track: u64,
    open: Vec<(u64, Vec<u64>)>,
}

impl Nest {
    fn new(track: u64) -> Self {
        let open = Vec::new();
        Self { track, open }
    }

    /// `ends`: flows that lead to this slice.
    fn slice<W: io::Write>(
        &mut self,
        out: &mut Stream<W>,
        (start, end): (u64, u64),
        mut what: What,
        ends: Vec<u64>,
    ) -> io::Result<()> {
        self.close(out, start)?;
        let mut until = end.max(start);
        if let Some((outer, _)) = self.open.last()
            && until > *outer
        {
            what.args.put("cut_ns", until - *outer);
            until = *outer;
        }
        out.begin(self.track, start, what)?;
        self.open.push((until, ends));
        Ok(())
    }

    /// Ends what is over at `now`.
    fn close<W: io::Write>(&mut self, out: &mut Stream<W>, now: u64) -> io::Result<()> {
        while let Some((end, flows)) = self.open.pop_if(|(end, _)| *end <= now) {
            out.end(self.track, end, flows)?;
        }
        Ok(())
    }
}

/// Every part of a wait that is blamed on a thread with a name. Where a recording has no parts, the
/// holder that was seen when the wait began.
const HELD: &str = "
SELECT tgid, tid, comm, start_ns, end_ns, wait, op, doing, address, start_ns AS flow_ns
  FROM segments WHERE kind = 'holder' AND tid > 0
UNION ALL
SELECT holder_tgid, holder_tid, holder_comm, start_ns, end_ns, id, holder_op, holder_doing,
  holder_address, start_ns FROM waits
  WHERE holder_tid > 0 AND NOT EXISTS (SELECT 1 FROM segments WHERE wait = waits.id)";

/// A lock held while others waited for it: the parts of their waits, put together.
struct Hold {
    thread: (u32, u32, String),
    start: u64,
    end: u64,
    op: Option<String>,
    doing: Option<String>,
    address: Option<u64>,
    flows: Vec<u64>,
}

impl Hold {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let address: Option<i64> = row.get(8)?;
        Ok(Self {
            thread: (row.get(0)?, row.get(1)?, row.get(2)?),
            start: u(row, 3)?,
            end: u(row, 4)?,
            op: row.get(6)?,
            doing: row.get(7)?,
            address: address.map(i64::cast_unsigned),
            flows: vec![flow(u(row, 5)?, u(row, 9)?)],
        })
    }

    /// Takes in one that began later, if it began before this one ended.
    fn absorb(&mut self, next: &mut Self) -> bool {
        let (tgid, tid, _) = next.thread;
        let same = (self.thread.0, self.thread.1) == (tgid, tid) && next.start < self.end;
        if same {
            self.end = self.end.max(next.end);
            self.flows.append(&mut next.flows);
            self.doing = self.doing.take().or(next.doing.take());
            self.address = self.address.or(next.address);
        }
        same
    }

    fn write<W: io::Write>(self, trace: &mut Trace<W>) -> io::Result<()> {
        let (tgid, tid, comm) = self.thread;
        let thread = trace.thread(tgid, tid, &clean(&comm))?;
        let about = "Locks this thread held while others waited for them";
        let track = trace.stream.child(thread, HOLDS, "holds", Some(about))?;
        let op = self.op.as_deref().unwrap_or(Op::Other.name());
        let mut name = format!("holds {op}");
        if let Some(doing) = &self.doing {
            name.push_str(": ");
            name.push_str(doing);
        }
        let mut args = Args::default();
        args.put("op", op);
        args.put_known("doing", self.doing.as_deref());
        args.put("waits", self.flows.len() as u64);
        if let Some(address) = self.address {
            args.address("address", address);
        }
        let what = What {
            category: "hold",
            name,
            args,
            flows: self.flows,
        };
        trace.stream.begin(track, self.start, what)?;
        trace.stream.end(track, self.end, Vec::new())
    }
}

pub fn holds<W: io::Write>(recording: &Recording, trace: &mut Trace<W>) -> Written {
    let query = format!("SELECT * FROM ({HELD}) ORDER BY tgid, tid, start_ns, wait");
    let mut statement = recording.sql().prepare(&query)?;
    let mut rows = statement.query(())?;
    let mut open: Option<Hold> = None;
    while let Some(row) = rows.next()? {
        let mut next = Hold::of(row)?;
        let absorbed = open.as_mut().is_some_and(|hold| hold.absorb(&mut next));
        if !absorbed && let Some(done) = open.replace(next) {
            done.write(trace)?;
        }
    }
    match open {
        Some(last) => Ok(last.write(trace)?),
        None => Ok(()),
    }
}

pub fn faults_and_waits<W: io::Write>(recording: &Recording, trace: &mut Trace<W>) -> Written {
    // Ids are sorted, and each event is looked up when its turn comes: whole rows would not fit.
    const ORDER: &str = "SELECT what, id, tgid, tid FROM (
        SELECT 0 AS what, id, tgid, tid, start_ns, end_ns FROM faults
        UNION ALL SELECT 1, id, tgid, tid, start_ns, end_ns FROM waits)
        ORDER BY tgid, tid, start_ns, end_ns DESC, what, id";
    let sql = recording.sql();
    let knows = Knows::of(recording.session());
    let stacks: args::Stacks = sql
        .prepare("SELECT id, frames FROM stacks")?
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut fault = sql.prepare("SELECT * FROM faults WHERE id = ?")?;
    let mut wait = sql.prepare("SELECT * FROM waits WHERE id = ?")?;
    let mut held = sql.prepare(&format!(
        "SELECT wait, flow_ns FROM ({HELD}) WHERE wait = ?"
    ))?;
    let mut order = sql.prepare(ORDER)?;
    let mut rows = order.query(())?;
    let mut nest: Option<((u32, u32), Nest)> = None;
    while let Some(row) = rows.next()? {
        let (is_wait, id): (bool, i64) = (row.get(0)?, row.get(1)?);
        let thread: (u32, u32) = (row.get(2)?, row.get(3)?);
        let (comm, span, what, flows) = if is_wait {
            let w: WaitEvent = wait.query_row([id], Event::from_row)?;
            let flows = held.query_map([id], |row| Ok(flow(u(row, 0)?, u(row, 1)?)))?;
            let flows = flows.collect::<rusqlite::Result<Vec<u64>>>()?;
            let what = args::wait(&w, &stacks);
            (w.comm, (w.start_ns, w.end_ns), what, flows)
        } else {
            let f: FaultEvent = fault.query_row([id], Event::from_row)?;
            let what = args::fault(&f, &knows);
            (f.comm, (f.start_ns, f.end_ns), what, Vec::new())
        };
        let same = nest.as_ref().is_some_and(|(of, _)| *of == thread);
        if !same {
            if let Some((_, mut done)) = nest.take() {
                done.close(&mut trace.stream, u64::MAX)?;
            }
            let track = trace.thread(thread.0, thread.1, &clean(&comm))?;
            nest = Some((thread, Nest::new(track)));
        }
        if let Some((_, nest)) = &mut nest {
            nest.slice(&mut trace.stream, span, what, flows)?;
        }
    }
    if let Some((_, mut done)) = nest {
        done.close(&mut trace.stream, u64::MAX)?;
    }
    Ok(())
}

pub fn windows<W: io::Write>(recording: &Recording, trace: &mut Trace<W>) -> Written {
    let query = "SELECT * FROM windows ORDER BY tgid, tid, attempt_ns, close_ns DESC";
    let mut statement = recording.sql().prepare(query)?;
    let mut rows = statement.query(())?;
    let mut nest: Option<Nest> = None;
    while let Some(row) = rows.next()? {
        let w: WindowEvent = Event::from_row(row)?;
        let thread = trace.thread(w.tgid, w.tid, &clean(&w.comm))?;
        let about = "Faults that gave up the lock of their VMA, and writers may come in";
        let child = trace
            .stream
            .child(thread, WINDOWS, "windows", Some(about))?;
        if nest.as_ref().is_none_or(|nest| nest.track != child)
            && let Some(mut done) = nest.replace(Nest::new(child))
        {
            done.close(&mut trace.stream, u64::MAX)?;
        }
        if let Some(nest) = &mut nest {
            let span = (w.attempt_ns, w.close_ns);
            nest.slice(&mut trace.stream, span, args::window(&w), Vec::new())?;
        }
    }
    if let Some(mut done) = nest {
        done.close(&mut trace.stream, u64::MAX)?;
    }
    Ok(())
}

pub fn conflicts<W: io::Write>(recording: &Recording, trace: &mut Trace<W>) -> Written {
    for conflict in recording.conflicts() {
        let c = conflict?;
        let track = trace.thread(c.tgid, c.tid, &clean(&c.comm))?;
        trace.stream.instant(track, c.at_ns, args::conflict(&c))?;
    }
    Ok(())
}
