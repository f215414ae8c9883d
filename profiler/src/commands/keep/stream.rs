//! `record --csv -`: single waits and faults as CSV, as they come, for a pipe. In: batches. Out: lines of
//! one shape; no recording.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, AsRawFd as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use profiler_common::words::{
    FallbackReason, HeldWait, Kind, Mode, Op, Path as FaultPath, RetryReason,
};

use super::{Keep, Recorder, Written};
use crate::{
    model::{Batch, Doing, FaultEvent, Figure, Session, Snapshot, WaitEvent},
    recording,
    report::{self, Analysis},
    sinks::tables::Clock,
    user,
};

const COLUMNS: [&str; 20] = [
    "time",
    "end_ns",
    "event",
    "duration_ns",
    "pid",
    "tid",
    "comm",
    "prio",
    "path_or_lock",
    "kind_or_op",
    "reason",
    "address",
    "mmap_wait_ns",
    "io_wait_ns",
    "held_wait_ns",
    "holder_tid",
    "holder_comm",
    "holder_op",
    "blamed_ns",
    "depth",
];

/// Whoever read the lines has gone: no error, but the end.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads any more")]
pub struct ReaderGone;

/// A pipe tells its writer at once, not only when the next line is written.
fn nobody_reads(pipe: &impl AsFd) -> io::Result<bool> {
    let mut poll = libc::pollfd {
        fd: pipe.as_fd().as_raw_fd(),
        events: 0,
        revents: 0,
    };
    // SAFETY: one entry, ours, for the time of the call, which does not wait.
    match unsafe { libc::poll(&raw mut poll, 1, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(poll.revents & libc::POLLERR != 0),
    }
}

pub struct Stream {
    out: csv::Writer<Box<dyn Write>>,
    clock: Clock,
    session: Session,
    name: String,
}

/// The file, and whether it was made for it: what was there before, a terminal or a device even, stays
/// whose it is.
fn opened(to: &Path) -> Result<(File, bool)> {
    let name = to.display();
    let made = match File::create_new(to) {
        Ok(file) => return Ok((file, true)),
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        // Opening a pipe to look into it would wait for a writer.
        Err(_) if to.is_file() && recording::is_one(to) => {
            bail!("{name} is a recording, so it is left alone: give --csv another name")
        }
        Err(_) => File::create(to),
    };
    let file = made.with_context(|| format!("cannot write {name}"))?;
    Ok((file, false))
}

impl Stream {
    /// `-` is standard output.
    pub fn new(to: &Path, session: &Session) -> Result<Self> {
        let name = to.display().to_string();
        let out: Box<dyn Write> = if name == "-" {
            Box::new(io::stdout())
        } else {
            let (file, made) = opened(to)?;
            if made {
                user::give(to)?;
            }
            Box::new(file)
        };
        let mut stream = Self {
            out: csv::WriterBuilder::new()
                .terminator(csv::Terminator::CRLF)
                .from_writer(out),
            clock: Clock::new(session),
            session: session.clone(),
            name,
        };
        stream.row(&COLUMNS.map(str::to_owned))?;
        stream.flush()?;
        Ok(stream)
    }

    fn row(&mut self, fields: &[String]) -> Result<()> {
        let written = self.out.write_record(fields);
        self.checked(written.map_err(|e| match e.into_kind() {
            csv::ErrorKind::Io(e) => e,
            other => io::Error::other(format!("{other:?}")),
        }))
    }

    fn flush(&mut self) -> Result<()> {
        let flushed = self.out.flush();
        self.checked(flushed)
    }

    fn checked(&self, done: io::Result<()>) -> Result<()> {
        match done {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(ReaderGone.into()),
            other => other.with_context(|| format!("cannot write {}", self.name)),
        }
    }

    /// Empty where this kernel cannot tell.
    fn known<T: ToString>(&self, figure: Figure, value: impl FnOnce() -> T) -> String {
        match self.session.has(figure) {
            true => value().to_string(),
            false => String::new(),
        }
    }

    fn fault(&mut self, f: &FaultEvent) -> Result<()> {
        let reason = [
            f.fallback.map(FallbackReason::name),
            f.retry.map(RetryReason::name),
            f.held.map(HeldWait::name),
        ];
        let row = [
            self.clock.wall(f.end_ns),
            f.end_ns.to_string(),
            "fault".to_owned(),
            f.duration_ns().to_string(),
            f.tgid.to_string(),
            f.tid.to_string(),
            f.comm.clone(),
            f.prio.to_string(),
            self.known(Figure::FaultPath, || FaultPath::name(f.path)),
            self.known(Figure::FaultKind, || Kind::name(f.kind)),
            reason.into_iter().flatten().next().unwrap_or("").to_owned(),
            format!("{:#x}", f.address),
            f.mmap_wait_ns.to_string(),
            self.known(Figure::IoWait, || f.io_wait_ns),
            self.known(Figure::HeldWait, || f.held_wait_ns),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
        ];
        self.row(&row)
    }

    fn wait(&mut self, w: &WaitEvent) -> Result<()> {
        let lock = match w.mode {
            Mode::Read => "mmap_lock read",
            Mode::Write => "mmap_lock write",
            Mode::VmaWrite => "vma write",
        };
        let holder = w.holder.as_ref().filter(|h| h.tid != 0);
        let op = holder.and_then(|h| h.op).map_or("", Op::name);
        let doing = holder.and_then(|h| h.doing).map_or("", Doing::name);
        let row = [
            self.clock.wall(w.end_ns),
            w.end_ns.to_string(),
            "wait".to_owned(),
            w.duration_ns().to_string(),
            w.tgid.to_string(),
            w.tid.to_string(),
            w.comm.clone(),
            w.prio.to_string(),
            lock.to_owned(),
            w.op.name().to_owned(),
            doing.to_owned(),
            w.range
                .map_or(String::new(), |(start, _)| format!("{start:#x}")),
            String::new(),
            String::new(),
            String::new(),
            holder.map_or(String::new(), |h| h.tid.to_string()),
            holder.map_or(String::new(), |h| h.comm.clone()),
            op.to_owned(),
            w.blame.blamed_ns.to_string(),
            w.blame.depth.to_string(),
        ];
        self.row(&row)
    }
}

impl Keep for Stream {
    fn events(&mut self, batch: Batch) -> Result<()> {
        let mut faults = batch.faults.iter().collect::<Vec<_>>();
        let mut waits = batch.waits.iter().collect::<Vec<_>>();
        faults.sort_by_key(|fault| fault.end_ns);
        waits.sort_by_key(|wait| wait.end_ns);
        let mut faults = faults.into_iter().peekable();
        for wait in waits {
            while let Some(fault) = faults.next_if(|fault| fault.end_ns < wait.end_ns) {
                self.fault(fault)?;
            }
            self.wait(wait)?;
        }
        for fault in faults {
            self.fault(fault)?;
        }
        self.flush()
    }

    fn interval(&mut self, _now: &Snapshot) -> Result<()> {
        self.flush()?;
        match self.name == "-" && nobody_reads(&io::stdout())? {
            true => Err(ReaderGone.into()),
            false => Ok(()),
        }
    }
}

impl Recorder for Stream {
    fn finish(mut self: Box<Self>, now: &Snapshot) -> Result<Written> {
        self.flush()?;
        let counts = report::build(&self.session, now, &[], &[], Analysis::default());
        Ok(Written {
            files: Vec::new(),
            note: Some(report::short(&counts)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::recording::Writer;

    #[test]
    fn only_a_file_that_it_made_is_given_away() {
        let dir = std::env::temp_dir().join(format!("vmascope-lines-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let made = |to: &Path| opened(to).unwrap().1;
        assert!(!made(Path::new("/dev/null")));
        let lines = dir.join("lines.csv");
        assert!(made(&lines));
        fs::write(&lines, "of yesterday").unwrap();
        assert!(!made(&lines));
        assert_eq!(fs::read(&lines).unwrap(), b"");

        let kept = dir.join("a.db");
        let writer = Writer::create(&kept, &Session::blank()).unwrap();
        writer.finish(&Snapshot::empty()).unwrap();
        let whole = fs::read(&kept).unwrap();
        let said = opened(&kept).unwrap_err().to_string();
        assert!(said.contains("a.db is a recording"), "{said}");
        assert_eq!(fs::read(&kept).unwrap(), whole);
        assert!(opened(&dir).is_err() && opened(&dir.join("no/lines")).is_err());
        fs::remove_dir_all(dir).unwrap();
    }
}
