//! `S`: the last minute as a recording and a folder of CSV files, in the current directory. In: what
//! `top` has seen. Out: files that belong to the caller, and a line that names them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::feed::Limited;
use crate::{
    model::{Batch, Session, Snapshot},
    recording::{LastSeconds, Recording},
    sinks::{Result, csv},
    user,
};

const KEPT: Duration = Duration::from_secs(60);
/// A few megabytes: `top` is to stay small. `record --ring` keeps more.
const EVENTS: usize = 10_000;

pub struct Kept {
    last: LastSeconds,
    /// The latest, also while what is shown is paused.
    now: Option<Arc<Snapshot>>,
}

impl Kept {
    pub fn new(session: &Session) -> Self {
        Self {
            last: LastSeconds::new(session, KEPT, EVENTS),
            now: None,
        }
    }

    pub fn limited(&mut self, limited: &Limited) {
        if let Limited::Sample(sample, _) = limited {
            self.last.sampled(*sample);
        }
    }

    pub fn see(&mut self, batches: Vec<Batch>, now: Option<&Arc<Snapshot>>) {
        for batch in batches {
            self.last.events(batch);
        }
        if let Some(now) = now {
            self.last.interval(now);
            self.now = Some(Arc::clone(now));
        }
    }

    /// What came of it, in a line.
    pub fn save(&self) -> String {
        let Some(now) = &self.now else {
            return "nothing was seen yet: try again in a second".into();
        };
        match self.write(now) {
            Ok(said) => said,
            Err(e) => format!("not saved: {e}"),
        }
    }

    fn write(&self, now: &Snapshot) -> Result<String> {
        let (path, folder) = names();
        let span = self.last.write(&path, now)?;
        csv::export(&Recording::open(&path)?, &folder)?;
        user::give_all(&folder).map_err(|source| super::Error::Write {
            path: folder.clone(),
            source,
        })?;
        // The names first: the line may be cut.
        Ok(format!(
            "{} and {}/ have the last {}",
            path.display(),
            folder.display(),
            span.said()
        ))
    }
}

/// The first that are free.
fn names() -> (PathBuf, PathBuf) {
    let mut n = 1;
    loop {
        let name = PathBuf::from(format!("vmascope-top-{n}"));
        let (path, folder) = (name.with_extension("db"), name.with_extension("csv"));
        if !path.exists() && !folder.exists() {
            return (path, folder);
        }
        n += 1;
    }
}
