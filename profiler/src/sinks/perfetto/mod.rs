//! A recording as a Perfetto trace: per thread its faults and waits, what it held while others
//! waited, and its windows; arrows from the holder to who waited; counters over time. In: a
//! recording. Out: one file, written as the recording is read, so that neither has to fit in memory.
//!
//! Packets may stand in any order: readers sort by time, and keep the order of the file where times
//! are equal. So a track's own events are written in order, and holds before the waits they lead to.

mod args;
mod counters;
mod proto;
mod slices;
mod stream;

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufWriter},
    path::Path,
};

use super::{Error, Result};
use crate::{model::Session, recording::Recording, report::units::clean};
use stream::{Args, Stream, What};

pub fn export(recording: &Recording, path: &Path) -> Result<()> {
    let file = File::create(path).map_err(Failed::Write);
    file.and_then(|file| write(recording, BufWriter::new(file)))
        .map_err(|e| match e {
            Failed::Sql(e) => recording.broken(e).into(),
            Failed::Read(e) => e.into(),
            Failed::Write(source) => Error::Write {
                path: path.into(),
                source,
            },
        })
}

enum Failed {
    Sql(rusqlite::Error),
    Read(crate::recording::Error),
    Write(io::Error),
}

impl From<rusqlite::Error> for Failed {
    fn from(e: rusqlite::Error) -> Self {
        Self::Sql(e)
    }
}

impl From<crate::recording::Error> for Failed {
    fn from(e: crate::recording::Error) -> Self {
        Self::Read(e)
    }
}

impl From<io::Error> for Failed {
    fn from(e: io::Error) -> Self {
        Self::Write(e)
    }
}

type Written = std::result::Result<(), Failed>;

fn write<W: io::Write>(recording: &Recording, out: W) -> Written {
    let session = recording.session();
    let mut trace = Trace {
        stream: Stream::new(out, session)?,
        names: Names::of(recording)?,
    };
    let root = trace.stream.child(
        0,
        0,
        "vmascope",
        Some("What was counted, interval by interval, and how many wait at a time"),
    )?;
    let armed = session.armed_monotonic_ns;
    trace
        .stream
        .instant(root, armed, about(session, recording)?)?;
    counters::write(recording, &mut trace.stream, root)?;
    slices::holds(recording, &mut trace)?;
    slices::faults_and_waits(recording, &mut trace)?;
    slices::windows(recording, &mut trace)?;
    slices::conflicts(recording, &mut trace)?;
    Ok(trace.stream.finish()?)
}

/// The stream, and who the threads in it are.
struct Trace<W> {
    stream: Stream<W>,
    names: Names,
}

impl<W: io::Write> Trace<W> {
    /// The track of a thread; `comm` is its name where the recording has no better one.
    fn thread(&mut self, tgid: u32, tid: u32, comm: &str) -> io::Result<u64> {
        let process = self.names.processes.get(&tgid).map_or(comm, String::as_str);
        let process = self.stream.process(tgid, process)?;
        let name = self.names.threads.get(&(tgid, tid));
        let name = name.map_or(comm, String::as_str);
        self.stream.thread(process, tgid, tid, name)
    }
}

#[derive(Default)]
struct Names {
    processes: HashMap<u32, String>,
    threads: HashMap<(u32, u32), String>,
}

impl Names {
    fn of(recording: &Recording) -> rusqlite::Result<Self> {
        let sql = recording.sql();
        let mut names = Self::default();
        let mut threads = sql.prepare("SELECT tgid, tid, comm FROM threads")?;
        let mut rows = threads.query(())?;
        while let Some(row) = rows.next()? {
            let comm: String = row.get(2)?;
            names
                .threads
                .insert((row.get(0)?, row.get(1)?), clean(&comm));
        }
        let mut processes = sql.prepare("SELECT tgid, comm FROM processes")?;
        let mut rows = processes.query(())?;
        while let Some(row) = rows.next()? {
            let comm: String = row.get(1)?;
            names.processes.insert(row.get(0)?, clean(&comm));
        }
        Ok(names)
    }
}

/// What was measured, how, and what was lost: without it the slices say less than they seem to.
fn about(session: &Session, recording: &Recording) -> crate::recording::Result<What> {
    let counts = recording.snapshot()?;
    let mut args = Args::default();
    args.put("version", session.version.as_str());
    args.put("schema", session.schema);
    args.put("target", clean(&session.target).as_str());
    args.put("host", clean(&session.host.name).as_str());
    args.put("kernel", clean(&session.host.kernel).as_str());
    args.put("tier", session.tier.as_str());
    args.put("vma_lock", session.vma_lock.as_str());
    args.put("mmap_lock", session.mmap_lock.as_str());
    args.put("min_us", session.min_us);
    args.put("sample", session.sample);
    args.put("complete", recording.complete());
    args.put("duration_ns", counts.duration_ns);
    args.put("faults_total", counts.faults_total());
    args.put("lost", counts.lost());
    Ok(What {
        category: "recording",
        name: "recording".into(),
        args,
        ..What::default()
    })
}
