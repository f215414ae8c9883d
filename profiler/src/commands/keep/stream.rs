//! `record --csv -`: single waits and faults as CSV, as they come, for a pipe. In: batches. Out: lines of
//! one shape; no recording.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, AsRawFd as _},
    path::Path,
};

use anyhow::{Context as _, Result};
use profiler_common::words::{
    FallbackReason, HeldWait, Kind, Mode, Op, Path as FaultPath, RetryReason,
};

use super::{Keep, Recorder, Written};
use crate::{
    model::{Batch, Doing, FaultEvent, Session, Snapshot, WaitEvent},
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

impl Stream {
    /// `-` is standard output.
    pub fn new(to: &Path, session: &Session) -> Result<Self> {
        let name = to.display().to_string();
        let out: Box<dyn Write> = if name == "-" {
            Box::new(io::stdout())
        } else {
            let file = File::create(to).with_context(|| format!("cannot write {name}"))?;
            user::give(to)?;
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
    fn known<T: ToString>(&self, signal: &str, value: impl FnOnce() -> T) -> String {
        match self.session.has(signal) {
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
            self.known("fault_path", || FaultPath::name(f.path)),
            self.known("fault_kind", || Kind::name(f.kind)),
            reason.into_iter().flatten().next().unwrap_or("").to_owned(),
            format!("{:#x}", f.address),
            f.mmap_wait_ns.to_string(),
            self.known("io_wait", || f.io_wait_ns),
            self.known("held_wait", || f.held_wait_ns),
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
