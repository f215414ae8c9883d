//! `record --app-start`: until the app that is being launched is idle. In: the launch, every interval's
//! counts. Out: the recording, and how it came to its end.

use std::{collections::VecDeque, thread::JoinHandle, time::Duration};

use anyhow::{Result, anyhow};

use super::{Keep, Recorder, Written};
use crate::model::{Batch, Snapshot};

/// In so long, an app that is idle takes fewer faults than one in so many of all it took so far.
const IDLE: (Duration, u64) = (Duration::from_secs(1), 100);

pub struct UntilIdle {
    kept: Box<dyn Recorder>,
    launch: Option<JoinHandle<Result<String, String>>>,
    /// What it said when it had ended.
    told: Option<String>,
    /// Faults, and when they were counted: those of the last second.
    faults: VecDeque<(u64, u64)>,
    idle: bool,
}

impl UntilIdle {
    pub fn new(kept: Box<dyn Recorder>, launch: JoinHandle<Result<String, String>>) -> Self {
        Self {
            kept,
            launch: Some(launch),
            told: None,
            faults: VecDeque::new(),
            idle: false,
        }
    }

    fn launched(&mut self) -> Result<()> {
        if let Some(launch) = self.launch.take_if(|launch| launch.is_finished()) {
            let told = launch.join().map_err(|_| anyhow!("the launch panicked"))?;
            self.told = Some(told.map_err(|why| anyhow!(why))?);
        }
        Ok(())
    }

    fn is_idle(&mut self, now: &Snapshot) -> bool {
        let (at, faults) = (now.duration_ns, now.faults_total());
        self.faults.push_back((at, faults));
        let span = IDLE.0.as_nanos() as u64;
        let mut before = None;
        while let Some(first) = self.faults.pop_front_if(|(then, _)| at - *then >= span) {
            before = Some(first);
        }
        let Some(before) = before else { return false };
        self.faults.push_front(before);
        faults > 0 && (faults - before.1).saturating_mul(IDLE.1) < faults
    }
}

impl Keep for UntilIdle {
    fn events(&mut self, batch: Batch) -> Result<()> {
        self.kept.events(batch)
    }

    fn interval(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.kept.interval(snapshot)?;
        self.launched()?;
        self.idle = self.is_idle(snapshot) && self.told.is_some();
        Ok(())
    }

    fn has_enough(&self) -> bool {
        self.idle
    }
}

impl Recorder for UntilIdle {
    fn finish(mut self: Box<Self>, now: &Snapshot) -> Result<Written> {
        self.launched()?;
        let mut written = self.kept.finish(now)?;
        let seconds = now.duration_ns as f64 / 1e9;
        let end = match self.idle {
            true => format!("idle {seconds:.1} s after the launch"),
            false => format!("not idle in {seconds:.1} s"),
        };
        let told = self.told.map_or("am has not come back".into(), |told| {
            format!("am start: {told}")
        });
        let noted = written
            .note
            .map_or(String::new(), |note| format!("; {note}"));
        written.note = Some(format!("{end}; {told}{noted}"));
        Ok(written)
    }
}
