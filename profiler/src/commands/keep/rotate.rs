//! `record --max-size`, `--max-age`: a row of recordings, of which the oldest go. Each is a whole one,
//! with its own totals.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};

use super::{Keep, Numbered, Recorder, Written, unless_open};
use crate::{
    cli::Record,
    model::{Batch, Session, Snapshot, StackEvent},
    recording::{self, Writer},
    user,
};

/// Recordings, where nobody says how many.
const KEEP: usize = 10;

pub struct Rotating {
    names: Numbered,
    writer: Writer,
    number: u32,
    session: Session,
    /// All so far: each comes once, and waits of any file may speak of it.
    stacks: Vec<StackEvent>,
    max_bytes: u64,
    max_age: Duration,
    keep: usize,
    /// When the present one began, since arming.
    began_ns: u64,
    deleted: usize,
    /// Finished, but left as three files.
    unfolded: usize,
}

impl Rotating {
    pub fn new(args: &Record, session: &Session) -> Result<Self> {
        let mut names = Numbered::new(&args.output)?;
        let number = names.next;
        Ok(Self {
            writer: Writer::create(&names.take(), session)?,
            number,
            names,
            session: session.clone(),
            stacks: Vec::new(),
            max_bytes: args.max_size.unwrap_or(u64::MAX),
            max_age: args.max_age.unwrap_or(Duration::MAX),
            keep: args.keep.unwrap_or(KEEP),
            began_ns: 0,
            deleted: 0,
            unfolded: 0,
        })
    }

    fn turn(&mut self, now: &Snapshot) -> Result<()> {
        let number = self.names.next;
        let mut next = Writer::create_part(&self.names.take(), &self.session, now)?;
        next.stacks(&self.stacks)?;
        let done = std::mem::replace(&mut self.writer, next).finish(now);
        self.unfolded += usize::from(unless_open(done)?.is_err());
        user::give(&self.names.path(self.number))?;
        (self.number, self.began_ns) = (number, now.duration_ns);
        self.delete_oldest()
    }

    fn delete_oldest(&mut self) -> Result<()> {
        let files = Self::files(&self.names, Some(self.number))?;
        for path in &files[..files.len().saturating_sub(self.keep)] {
            recording::delete(path).with_context(|| format!("cannot delete {}", path.display()))?;
            self.deleted += 1;
        }
        Ok(())
    }

    /// Other files may have such names, too: they are neither counted nor deleted. The one that is being
    /// written is one, and not opened: closing it again would take SQLite's lock off it.
    fn files(names: &Numbered, writing: Option<u32>) -> Result<Vec<PathBuf>> {
        let mut numbers = names.numbers()?;
        numbers.retain(|n| Some(*n) == writing || recording::is_one(&names.path(*n)));
        Ok(numbers.into_iter().map(|n| names.path(n)).collect())
    }
}

impl Keep for Rotating {
    fn events(&mut self, batch: Batch) -> Result<()> {
        self.writer.events(&batch)?;
        self.stacks.extend(batch.stacks);
        Ok(())
    }

    fn interval(&mut self, now: &Snapshot) -> Result<()> {
        self.writer.interval(now)?;
        let age = Duration::from_nanos(now.duration_ns.saturating_sub(self.began_ns));
        if self.writer.bytes() >= self.max_bytes || age >= self.max_age {
            self.turn(now)?;
        }
        Ok(())
    }
}

impl Recorder for Rotating {
    fn finish(mut self: Box<Self>, now: &Snapshot) -> Result<Written> {
        self.unfolded += usize::from(unless_open(self.writer.finish(now))?.is_err());
        user::give(&self.names.path(self.number))?;
        let files = Self::files(&self.names, None)?;
        let unfolded = match self.unfolded {
            0 => String::new(),
            n => format!("; {n} were being read and need `vmascope repair`"),
        };
        let deleted = match self.deleted {
            0 => String::new(),
            n => format!("; {n} older ones were deleted (--keep {})", self.keep),
        };
        Ok(Written {
            note: Some(format!(
                "{} recordings{deleted}{unfolded}; the latest:",
                files.len()
            )),
            files,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::fd::AsRawFd as _, path::Path};

    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("vmascope-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn rotating(dir: &Path) -> Rotating {
        let output = dir.join("a.db").display().to_string();
        let args = ["vmascope", "record", "--max-age", "1s", "-o", &output];
        let Some(Command::Record(args)) = Cli::parse_from(args).command else {
            panic!("no record");
        };
        Rotating::new(&args, &Session::blank()).unwrap()
    }

    fn at(seconds: u64) -> Snapshot {
        let mut now = Snapshot::empty();
        now.duration_ns = seconds * 1_000_000_000;
        now
    }

    /// As another process sees it.
    fn is_locked(path: &Path) -> bool {
        let file = fs::File::options()
            .write(true)
            .read(true)
            .open(path)
            .unwrap();
        let mut lock = libc::flock {
            l_type: libc::F_WRLCK as _,
            l_whence: libc::SEEK_SET as _,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        // SAFETY: a lock of ours, for the time of the call.
        let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
        assert_eq!(done, 0);
        lock.l_type != libc::F_UNLCK as i16
    }

    #[test]
    fn the_one_that_is_being_written_keeps_its_lock() {
        let dir = scratch("rotate-lock");
        let mut row = rotating(&dir);
        row.interval(&at(1)).unwrap();
        row.interval(&at(2)).unwrap();
        assert!(is_locked(&dir.join("a-000003.db")));
        let written = Box::new(row).finish(&at(3)).unwrap();
        assert_eq!(written.files.len(), 3);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn each_has_the_stacks_of_those_before() {
        let dir = scratch("rotate-stacks");
        let mut row = rotating(&dir);
        let frames = "a;b".to_owned();
        row.events(Batch {
            stacks: vec![StackEvent { id: 1, frames }],
            ..Batch::default()
        })
        .unwrap();
        row.interval(&at(1)).unwrap();
        Box::new(row).finish(&at(2)).unwrap();
        let recording = recording::Recording::open(&dir.join("a-000002.db")).unwrap();
        let frames: String = recording
            .sql()
            .query_row("SELECT frames FROM stacks", (), |row| row.get(0))
            .unwrap();
        assert_eq!(frames, "a;b");
        fs::remove_dir_all(dir).unwrap();
    }
}
