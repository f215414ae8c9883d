//! What becomes of what is measured: one recording, a row of them, the last seconds when something
//! happens, or lines for a pipe. In: batches and snapshots, as they come. Out: files, and where they are.

mod flight;
mod rotate;
mod start;
mod stream;
mod trigger;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};

pub use flight::Flight;
pub use rotate::Rotating;
pub use start::UntilIdle;
pub use stream::{ReaderGone, Stream};
pub use trigger::Trigger;

use super::measure::Keep;
use crate::{
    cli::Record,
    model::{Batch, Session, Snapshot},
    recording::{self, Error, Writer},
    user,
};

/// What was written: the files that are there now, the latest last.
pub struct Written {
    pub files: Vec<PathBuf>,
    /// What else is to be said, in a line.
    pub note: Option<String>,
}

/// A `Keep` that ends in files.
pub trait Recorder: Keep {
    fn finish(self: Box<Self>, now: &Snapshot) -> Result<Written>;
}

pub fn recorder(args: &Record, session: &Session) -> Result<Box<dyn Recorder>> {
    if let Some(to) = &args.csv {
        return Ok(Box::new(Stream::new(to, session)?));
    }
    if let Some(ring) = args.ring {
        return Ok(Box::new(Flight::new(args, ring, session)?));
    }
    if args.max_size.is_some() || args.max_age.is_some() {
        return Ok(Box::new(Rotating::new(args, session)?));
    }
    Ok(Box::new(Single {
        writer: Writer::create(&args.output, session)?,
        path: args.output.clone(),
    }))
}

struct Single {
    writer: Writer,
    path: PathBuf,
}

impl Keep for Single {
    fn events(&mut self, batch: Batch) -> Result<()> {
        Ok(self.writer.events(&batch)?)
    }

    fn interval(&mut self, snapshot: &Snapshot) -> Result<()> {
        Ok(self.writer.interval(snapshot)?)
    }
}

impl Recorder for Single {
    fn finish(self: Box<Self>, now: &Snapshot) -> Result<Written> {
        let note = unless_open(self.writer.finish(now))?.err();
        user::give(&self.path)?;
        Ok(Written {
            files: vec![self.path],
            note,
        })
    }
}

/// The latest of a row of recordings, if it was written in that time.
pub fn latest(output: &Path, since: Duration) -> Option<PathBuf> {
    Numbered::new(output).ok()?.latest(since)
}

/// What somebody has open is whole, but for the fold into one file: who reads a recording must not make an
/// error of it. Inside: what is to be said of it.
fn unless_open<T>(done: recording::Result<T>) -> recording::Result<Result<T, String>> {
    match done {
        Err(open @ Error::StillOpen { .. }) => Ok(Err(open.to_string())),
        done => done.map(Ok),
    }
}

/// Numbered files beside each other: NAME-000001.EXT, and so on after the highest there is, so that
/// no earlier one is lost.
struct Numbered {
    folder: PathBuf,
    stem: String,
    extension: String,
    next: u32,
}

impl Numbered {
    fn new(output: &Path) -> Result<Self> {
        let text = |part: Option<&std::ffi::OsStr>| {
            part.map(|p| p.to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        let folder = match output.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let mut numbered = Self {
            folder,
            stem: text(output.file_stem()),
            extension: output
                .extension()
                .map(|e| format!(".{}", e.to_string_lossy()))
                .unwrap_or_default(),
            next: 1,
        };
        let taken = numbered.numbers()?;
        numbered.next = taken.last().map_or(1, |n| n + 1);
        Ok(numbered)
    }

    /// Of those that were written in that time, the latest.
    fn latest(&self, since: Duration) -> Option<PathBuf> {
        let path = self.path(*self.numbers().ok()?.last()?);
        let age = path.metadata().ok()?.modified().ok()?.elapsed();
        // A clock that was set says nothing.
        age.is_ok_and(|age| age <= since).then_some(path)
    }

    fn path(&self, number: u32) -> PathBuf {
        let (stem, extension) = (&self.stem, &self.extension);
        self.folder.join(format!("{stem}-{number:06}{extension}"))
    }

    fn take(&mut self) -> PathBuf {
        self.next += 1;
        self.path(self.next - 1)
    }

    /// Of the files that are there, in order.
    fn numbers(&self) -> Result<Vec<u32>> {
        let folder = || format!("cannot read the folder {}", self.folder.display());
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.folder).with_context(folder)? {
            let name = entry.with_context(folder)?.file_name();
            let name = name.to_string_lossy();
            let number = name
                .strip_prefix(&self.stem)
                .and_then(|rest| rest.strip_prefix('-'))
                .and_then(|rest| rest.strip_suffix(&self.extension))
                .filter(|digits| digits.len() == 6)
                .and_then(|digits| digits.parse::<u32>().ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_after_the_highest() {
        let dir = std::env::temp_dir().join(format!("vmascope-numbered-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let output = dir.join("a.db");
        let mut first = Numbered::new(&output).unwrap();
        assert_eq!(first.take(), dir.join("a-000001.db"));
        for name in [
            "a-000007.db",
            "a-000003.db",
            "a-9.db",
            "b-000009.db",
            "a-000008.txt",
        ] {
            fs::write(dir.join(name), "").unwrap();
        }
        let mut next = Numbered::new(&output).unwrap();
        assert_eq!(next.numbers().unwrap(), [3, 7]);
        assert_eq!(next.take(), dir.join("a-000008.db"));
        fs::remove_dir_all(dir).unwrap();
    }
}
