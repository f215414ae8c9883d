//! The timeline of waits, bounded however many there are: the longest one by one, all of them as a
//! number of threads at a time. In: the waits of a recording. Out: lanes and what is drawn on them;
//! times are nanoseconds since arming.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rusqlite::Row;
use serde::Serialize;

use super::u;
use crate::{recording::Recording, report::units::clean};

/// Waits drawn one by one, the longest; and of each chain the report tells of.
const BARS: u32 = 1500;
const CHAIN_BARS: u32 = 50;
/// Holds drawn below them.
const HOLDS: usize = 3000;
/// Threads drawn.
const LANES: usize = 40;
/// Columns that all waits are put into.
const COLUMNS: usize = 300;

/// The longest waits, each on the lane of its thread, and what held the locks meanwhile.
#[derive(Serialize)]
pub struct Timeline {
    all: Crowd,
    lanes: Vec<Lane>,
    bars: Vec<Bar>,
    holds: Vec<Hold>,
    /// Of the chains that the report tells of: the ids of their roots, in its order.
    roots: Vec<u64>,
    /// Single waits in the recording, and their time; what is drawn of them.
    waits: u64,
    waits_ns: u64,
    drawn_ns: u64,
}

/// How many threads wait, on average over a column.
#[derive(Default, Serialize)]
struct Crowd {
    from_ns: u64,
    to_ns: u64,
    read: Vec<f64>,
    write: Vec<f64>,
    vma: Vec<f64>,
}

#[derive(Serialize)]
struct Lane {
    tgid: u32,
    tid: u32,
    comm: String,
    waited_ns: u64,
}

#[derive(Serialize)]
struct Bar {
    id: u64,
    lane: usize,
    start_ns: u64,
    end_ns: u64,
    lock: String,
    mode: String,
    op: String,
    holder_tid: Option<u32>,
    holder_comm: Option<String>,
    holder_op: Option<String>,
    holder_doing: Option<String>,
    root: u64,
    depth: u32,
}

#[derive(Serialize)]
struct Hold {
    wait: u64,
    lane: usize,
    start_ns: u64,
    end_ns: u64,
}

/// Process and thread.
type Thread = (u32, u32);

struct Found {
    thread: Thread,
    comm: String,
    bar: Bar,
}

pub fn timeline(recording: &Recording) -> rusqlite::Result<Timeline> {
    let sql = recording.sql();
    let armed = recording.session().armed_monotonic_ns;
    let all = "SELECT count(*), coalesce(sum(wait_ns), 0) FROM waits";
    let (waits, waits_ns) = sql.query_row(all, (), |row| Ok((u(row, 0)?, u(row, 1)?)))?;
    let chains = "SELECT id FROM chains ORDER BY blocked_ns DESC, id LIMIT 10";
    let mut roots = sql.prepare(chains)?;
    let roots: Vec<u64> = roots
        .query_map((), |row| u(row, 0))?
        .collect::<rusqlite::Result<_>>()?;

    const BAR: &str = "SELECT id, tgid, tid, comm, start_ns, end_ns, lock, mode, op, holder_tid,
        holder_comm, holder_op, holder_doing, root_wait, depth FROM waits";
    let mut found = BTreeMap::<u64, Found>::new();
    let mut collect = |query: &str, value: i64| -> rusqlite::Result<()> {
        let mut rows = sql.prepare_cached(query)?;
        let mut rows = rows.query([value])?;
        while let Some(row) = rows.next()? {
            let one = bar(row, armed)?;
            found.insert(one.bar.id, one);
        }
        Ok(())
    };
    collect(
        &format!("{BAR} ORDER BY wait_ns DESC, id LIMIT ?"),
        BARS.into(),
    )?;
    let of_root = format!("{BAR} WHERE root_wait = ? ORDER BY wait_ns DESC, id LIMIT {CHAIN_BARS}");
    for root in &roots {
        collect(&of_root, root.cast_signed())?;
    }

    let mut threads = HashMap::<Thread, (String, u64)>::new();
    for f in found.values() {
        let entry = threads
            .entry(f.thread)
            .or_insert_with(|| (f.comm.clone(), 0));
        entry.1 += f.bar.end_ns - f.bar.start_ns;
    }
    let holds = holds(recording, &found.keys().copied().collect(), armed)?;
    for (thread, comm, _) in &holds {
        threads.entry(*thread).or_insert_with(|| (comm.clone(), 0));
    }
    let held = |t: &Thread| holds.iter().filter(|(of, ..)| of == t).count();
    let mut order: Vec<Thread> = threads.keys().copied().collect();
    order.sort_by_cached_key(|t| (std::cmp::Reverse((threads[t].1, held(t))), *t));
    order.truncate(LANES);
    let lane: HashMap<Thread, usize> = order.iter().enumerate().map(|(n, t)| (*t, n)).collect();
    let bars: Vec<Bar> = found
        .into_values()
        .filter_map(|f| {
            Some(Bar {
                lane: *lane.get(&f.thread)?,
                ..f.bar
            })
        })
        .collect();
    Ok(Timeline {
        all: crowd(recording, armed)?,
        drawn_ns: bars.iter().map(|b| b.end_ns - b.start_ns).sum(),
        bars,
        lanes: order
            .iter()
            .map(|t| Lane {
                tgid: t.0,
                tid: t.1,
                comm: clean(&threads[t].0),
                waited_ns: threads[t].1,
            })
            .collect(),
        holds: holds
            .into_iter()
            .filter_map(|(of, _, hold)| {
                Some(Hold {
                    lane: *lane.get(&of)?,
                    ..hold
                })
            })
            .collect(),
        roots,
        waits,
        waits_ns,
    })
}

fn bar(row: &Row<'_>, armed: u64) -> rusqlite::Result<Found> {
    let holder_comm: Option<String> = row.get(10)?;
    let start_ns = u(row, 4)?.saturating_sub(armed);
    Ok(Found {
        thread: (row.get(1)?, row.get(2)?),
        comm: row.get(3)?,
        bar: Bar {
            id: u(row, 0)?,
            lane: 0,
            start_ns,
            end_ns: u(row, 5)?.saturating_sub(armed).max(start_ns),
            lock: row.get(6)?,
            mode: row.get(7)?,
            op: row.get(8)?,
            holder_tid: row.get::<_, Option<u32>>(9)?.filter(|tid| *tid != 0),
            holder_comm: holder_comm.map(|comm| clean(&comm)),
            holder_op: row.get(11)?,
            holder_doing: row.get(12)?,
            root: u(row, 13)?,
            depth: row.get(14)?,
        },
    })
}

/// The parts of these waits that are blamed on threads with a name.
fn holds(
    recording: &Recording,
    waits: &BTreeSet<u64>,
    armed: u64,
) -> rusqlite::Result<Vec<(Thread, String, Hold)>> {
    let query = "SELECT tgid, tid, comm, start_ns, end_ns FROM segments
        WHERE wait = ? AND kind = 'holder' AND tid > 0";
    let mut statement = recording.sql().prepare(query)?;
    let mut out = Vec::new();
    for wait in waits {
        let mut rows = statement.query([wait.cast_signed()])?;
        while let Some(row) = rows.next()? {
            let hold = Hold {
                wait: *wait,
                lane: 0,
                start_ns: u(row, 3)?.saturating_sub(armed),
                end_ns: u(row, 4)?.saturating_sub(armed),
            };
            out.push(((row.get(0)?, row.get(1)?), row.get(2)?, hold));
        }
    }
    out.sort_by_key(|(_, _, h)| std::cmp::Reverse(h.end_ns.saturating_sub(h.start_ns)));
    out.truncate(HOLDS);
    Ok(out)
}

/// Every single wait, by the part of each column that it covers.
fn crowd(recording: &Recording, armed: u64) -> rusqlite::Result<Crowd> {
    let sql = recording.sql();
    let ends = "SELECT min(start_ns), max(end_ns) FROM waits";
    let ends: (Option<i64>, Option<i64>) =
        sql.query_row(ends, (), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (Some(from), Some(to)) = ends else {
        return Ok(Crowd::default());
    };
    let (from, to) = (from.cast_unsigned(), to.cast_unsigned());
    let width = (to.saturating_sub(from) as f64 / COLUMNS as f64).max(1.0);
    let mut sums = [[0.0; COLUMNS]; 3];
    let mut rows =
        sql.prepare("SELECT start_ns, end_ns, lock = 'vma', mode = 'write' FROM waits")?;
    let mut rows = rows.query(())?;
    while let Some(row) = rows.next()? {
        let start = u(row, 0)?.saturating_sub(from) as f64 / width;
        let end = u(row, 1)?.saturating_sub(from) as f64 / width;
        let kind: (bool, bool) = (row.get(2)?, row.get(3)?);
        let kind = match kind {
            (true, _) => 2,
            (false, write) => usize::from(write),
        };
        for (column, sum) in sums[kind].iter_mut().enumerate().skip(start as usize) {
            let column = column as f64;
            if column >= end {
                break;
            }
            *sum += end.min(column + 1.0) - start.max(column);
        }
    }
    let [read, write, vma] = sums.map(|kind| {
        let rounded = kind.iter().map(|sum| (sum * 1000.0).round() / 1000.0);
        rounded.collect()
    });
    Ok(Crowd {
        from_ns: from.saturating_sub(armed),
        to_ns: to.saturating_sub(armed),
        read,
        write,
        vma,
    })
}
