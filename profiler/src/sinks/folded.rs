//! Folded stacks and flame graphs by the time that was waited. In: the waits of a recording and their
//! segments. Out: `frame;frame;frame ns` lines, as flame graph tools read them, or an SVG.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Write as _},
    path::Path,
};

use inferno::flamegraph::{self, Options};
use rusqlite::Row;

use super::{Error, Result};
use crate::{
    recording::{Recording, counted, limited},
    report::units::clean,
};

/// Whose stacks: of those who waited, or of those they waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    #[default]
    Waiter,
    Holder,
}

const WAITERS: &str = "SELECT waits.comm, op, frames, lock || ' ' || mode,
    holder_comm, holder_op, holder_doing, sum(wait_ns)
    FROM waits LEFT JOIN stacks ON stacks.id = waits.stack GROUP BY 1, 2, 3, 4, 5, 6, 7";
/// A wait that has no parts is whoever's that was seen when it began.
const HOLDERS: &str = "SELECT kind, holder, holds, doing, lock, waiter, waits, sum(ns) FROM (
    SELECT s.kind, s.comm AS holder, s.op AS holds, s.doing, w.lock || ' ' || w.mode AS lock,
      w.comm AS waiter, w.op AS waits, s.blamed_ns AS ns
    FROM segments s JOIN waits w ON w.id = s.wait
    UNION ALL
    SELECT iif(holder_comm = '', 'readers', 'unknown'), nullif(holder_comm, ''), holder_op,
      holder_doing, lock || ' ' || mode, comm, op, wait_ns
    FROM waits WHERE NOT EXISTS (SELECT 1 FROM segments WHERE wait = waits.id)
    ) GROUP BY 1, 2, 3, 4, 5, 6, 7";

pub fn export(recording: &Recording, path: &Path, by: By) -> Result<()> {
    let lines = lines(recording, by)?;
    let write = || -> io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        for line in &lines {
            writeln!(out, "{line}")?;
        }
        out.flush()
    };
    write().map_err(|source| Error::Write {
        path: path.into(),
        source,
    })
}

pub fn flamegraph(recording: &Recording, path: &Path, by: By) -> Result<()> {
    let lines = lines(recording, by)?;
    let session = recording.session();
    let mut options = Options::default();
    options.title = match by {
        By::Waiter => "Time waited for mmap_lock and VMA locks, by waiter",
        By::Holder => "Time waited for mmap_lock and VMA locks, by holder",
    }
    .into();
    options.subtitle = Some(format!(
        "{}, Linux {}, {}; waits from {} us on",
        clean(&session.target),
        session.host.kernel,
        session.host.arch,
        session.min_us
    ));
    options.count_name = "ns".into();
    // It refuses to draw nothing.
    let nothing = ["no waits 1".to_owned()];
    let lines = if lines.is_empty() {
        &nothing[..]
    } else {
        &lines
    };
    let mut draw = || -> io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        let drawn =
            flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut out);
        drawn.map_err(io::Error::other)?;
        out.flush()
    };
    draw().map_err(|source| Error::Write {
        path: path.into(),
        source,
    })
}

/// The frames of a row, the outermost first.
type Stack = fn(&Row<'_>) -> rusqlite::Result<Vec<String>>;

/// Sorted; each stack once.
fn lines(recording: &Recording, by: By) -> Result<Vec<String>> {
    let (query, stack): (_, Stack) = match by {
        By::Waiter => (WAITERS, waiter),
        By::Holder => (HOLDERS, holder),
    };
    let read = || -> rusqlite::Result<BTreeMap<String, u64>> {
        let mut sums = BTreeMap::new();
        let mut statement = recording.sql().prepare(query)?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let ns = counted(row.get::<_, Option<i64>>(7)?.unwrap_or(0))?;
            let sum: &mut u64 = sums.entry(stack(row)?.join(";")).or_default();
            *sum = limited(*sum + ns)?;
        }
        Ok(sums)
    };
    let sums = read().map_err(|e| recording.broken(e))?;
    Ok(sums
        .into_iter()
        .map(|(s, ns)| format!("{s} {ns}"))
        .collect())
}

fn waiter(row: &Row<'_>) -> rusqlite::Result<Vec<String>> {
    let text = |at| row.get::<_, Option<String>>(at);
    let mut stack = vec![frame(&text(0)?.unwrap_or_default())];
    match text(2)? {
        Some(frames) => stack.extend(frames.split(';').map(frame)),
        None => stack.push(frame(&text(1)?.unwrap_or_default())),
    }
    stack.push(frame(&text(3)?.unwrap_or_default()));
    if let Some(comm) = text(4)? {
        let named = if comm.is_empty() { "readers" } else { &comm };
        let at = text(6)?.or(text(5)?);
        let at = at.map(|at| format!(" in {at}")).unwrap_or_default();
        stack.push(frame(&format!("held by {named}{at}")));
    }
    Ok(stack)
}

fn holder(row: &Row<'_>) -> rusqlite::Result<Vec<String>> {
    let text = |at| row.get::<_, Option<String>>(at);
    let mut stack = Vec::new();
    // Not by a holder: the kind says what it was.
    stack.push(frame(&text(1)?.or(text(0)?).unwrap_or_default()));
    stack.extend(text(2)?.map(|op| frame(&op)));
    stack.extend(text(3)?.map(|doing| frame(&doing)));
    stack.push(frame(&text(4)?.unwrap_or_default()));
    let (comm, op) = (text(5)?.unwrap_or_default(), text(6)?.unwrap_or_default());
    stack.push(frame(&format!("blocks {comm} in {op}")));
    Ok(stack)
}

/// A name may hold what separates frames.
fn frame(name: &str) -> String {
    clean(&name.replace(';', ":").replace(['\n', '\r'], " "))
}
