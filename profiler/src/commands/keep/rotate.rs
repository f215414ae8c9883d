//! `record --max-size`, `--max-age`: a row of recordings, of which the oldest go. Each is a whole one,
//! with its own totals.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};

use super::{Keep, Numbered, Recorder, Written, unless_open};
use crate::{
    cli::Record,
    model::{Batch, Session, Snapshot},
    recording::{self, Writer},
    user,
};

pub struct Rotating {
    names: Numbered,
    writer: Writer,
    number: u32,
    session: Session,
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
            max_bytes: args.max_size.unwrap_or(u64::MAX),
            max_age: args.max_age.unwrap_or(Duration::MAX),
            keep: args.keep,
            began_ns: 0,
            deleted: 0,
            unfolded: 0,
        })
    }

    fn turn(&mut self, now: &Snapshot) -> Result<()> {
        let number = self.names.next;
        let next = Writer::create_part(&self.names.take(), &self.session, now)?;
        let done = std::mem::replace(&mut self.writer, next).finish(now);
        self.unfolded += usize::from(unless_open(done)?.is_err());
        user::give(&self.names.path(self.number))?;
        (self.number, self.began_ns) = (number, now.duration_ns);
        self.delete_oldest()
    }

    fn delete_oldest(&mut self) -> Result<()> {
        let files = Self::files(&self.names)?;
        for path in &files[..files.len().saturating_sub(self.keep)] {
            recording::delete(path).with_context(|| format!("cannot delete {}", path.display()))?;
            self.deleted += 1;
        }
        Ok(())
    }

    /// Other files may have such names, too: they are neither counted nor deleted.
    fn files(names: &Numbered) -> Result<Vec<PathBuf>> {
        let paths = names.numbers()?.into_iter().map(|n| names.path(n));
        Ok(paths.filter(|path| recording::is_one(path)).collect())
    }
}

impl Keep for Rotating {
    fn events(&mut self, batch: Batch) -> Result<()> {
        Ok(self.writer.events(&batch)?)
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
        let files = Self::files(&self.names)?;
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
