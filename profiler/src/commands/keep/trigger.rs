//! `--trigger 'wait>50ms'`: what makes the flight recorder write.

use std::{str::FromStr, time::Duration};

use profiler_common::words::Mode;

use crate::{cli::duration, model::Batch};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger {
    what: What,
    over: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Fault,
    /// Any of the modes.
    Wait,
    Mode(Mode),
}

const NAMES: [(&str, What); 5] = [
    ("wait", What::Wait),
    ("fault", What::Fault),
    ("read", What::Mode(Mode::Read)),
    ("write", What::Mode(Mode::Write)),
    ("vma_write", What::Mode(Mode::VmaWrite)),
];

impl FromStr for Trigger {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || NAMES.map(|(name, _)| name).join(", ");
        let (name, over) = text
            .split_once('>')
            .ok_or_else(|| format!("no `>` in it: try 'wait>50ms'; there are {}", names()))?;
        let name = name.trim();
        let (_, what) = NAMES
            .into_iter()
            .find(|(n, _)| *n == name)
            .ok_or_else(|| format!("nothing is called `{name}`: there are {}", names()))?;
        let over = duration(over.trim())?;
        Ok(Self { what, over })
    }
}

impl Trigger {
    /// Whether one of the events is a reason to write.
    pub fn is_in(&self, batch: &Batch) -> bool {
        let over = u64::try_from(self.over.as_nanos()).unwrap_or(u64::MAX);
        let mut waits = batch.waits.iter();
        match self.what {
            What::Fault => batch.faults.iter().any(|f| f.duration_ns() > over),
            What::Wait => waits.any(|w| w.duration_ns() > over),
            What::Mode(mode) => waits.any(|w| w.mode == mode && w.duration_ns() > over),
        }
    }

    pub fn over(&self) -> Duration {
        self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trigger_is_a_name_and_a_time() {
        let trigger: Trigger = "wait>50ms".parse().unwrap();
        assert_eq!(
            (trigger.what, trigger.over),
            (What::Wait, Duration::from_millis(50))
        );
        let spaced: Trigger = "vma_write > 2s".parse().unwrap();
        assert_eq!(spaced.what, What::Mode(Mode::VmaWrite));
        for bad in [
            "",
            "wait",
            "wait>",
            "wait>x",
            "lock>1s",
            ">1s",
            "wait>-1s",
            "wait>0",
            "wait>1s>2s",
        ] {
            let error = bad.parse::<Trigger>().unwrap_err();
            assert!(!error.is_empty() && !error.contains('\n'), "{bad}: {error}");
        }
    }
}
