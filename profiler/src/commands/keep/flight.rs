//! `record --ring 60s`: the last seconds are kept in memory (`LastSeconds`), and written when a trigger
//! says so or SIGUSR1 comes.
//!
//! A file holds what led to its trigger and what came until the next interval. Then nothing is
//! written for as long as the ring is, but for a signal, so that a bad minute is not a thousand files.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;

use super::{Keep, Numbered, Recorder, Trigger, Written, unless_open};
use crate::{
    cli::Record,
    error::say,
    model::{Batch, Session, Snapshot},
    recording::{LastSeconds, ns},
    user,
};

/// Some hundred megabytes at most.
const EVENTS: usize = 200_000;

pub struct Flight {
    names: Numbered,
    ring: Duration,
    last: LastSeconds,
    triggers: Vec<Trigger>,
    asked: Option<&'static str>,
    quiet_until_ns: u64,
    ignored: u64,
    files: Vec<PathBuf>,
}

impl Flight {
    pub fn new(args: &Record, ring: Duration, session: &Session) -> Result<Self> {
        Ok(Self {
            names: Numbered::new(&args.output)?,
            ring,
            last: LastSeconds::new(session, ring, EVENTS),
            triggers: args.trigger.clone(),
            asked: None,
            quiet_until_ns: 0,
            ignored: 0,
            files: Vec::new(),
        })
    }

    fn write(&mut self, why: &str, now: &Snapshot) -> Result<()> {
        let path = self.names.take();
        let told = match unless_open(self.last.write(&path, now))? {
            Ok(span) => format!("the last {} are in {}", span.said(), path.display()),
            Err(open) => open,
        };
        user::give(&path)?;
        say(&format!("{why}: {told}"));
        self.files.push(path);
        self.last.begin_anew(now);
        self.quiet_until_ns = self.last.now_ns() + ns(self.ring);
        Ok(())
    }
}

impl Keep for Flight {
    fn events(&mut self, batch: Batch) -> Result<()> {
        if self.triggers.iter().any(|t| t.is_in(&batch)) {
            if self.last.now_ns() < self.quiet_until_ns {
                self.ignored += 1;
            } else {
                self.asked = self.asked.or(Some("triggered"));
            }
        }
        self.last.events(batch);
        Ok(())
    }

    fn interval(&mut self, now: &Snapshot) -> Result<()> {
        self.last.interval(now);
        match self.asked.take() {
            Some(why) => self.write(why, now),
            None => Ok(()),
        }
    }

    fn called(&mut self) {
        self.asked = Some("SIGUSR1");
    }
}

impl Recorder for Flight {
    fn finish(mut self: Box<Self>, now: &Snapshot) -> Result<Written> {
        if let Some(why) = self.asked.take() {
            self.last.interval(now);
            self.write(why, now)?;
        }
        let count = self.files.len();
        let mut note = match count {
            0 => "nothing was written: no trigger fired, and no SIGUSR1 came".to_owned(),
            1 => "1 recording:".to_owned(),
            n => format!("{n} recordings; the latest:"),
        };
        if self.ignored > 0 {
            note.insert_str(
                0,
                &format!("{} triggers soon after another; ", self.ignored),
            );
        }
        Ok(Written {
            files: self.files,
            note: Some(note),
        })
    }
}
