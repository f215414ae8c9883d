//! `vmascope top`: the dashboard, live or from a recording.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal as _},
    process::ExitCode,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::asked;
use crate::{
    cli::Top,
    error::Usage,
    model::Snapshot,
    recording::Recording,
    session::{self, Live, SessionError},
    sinks::top,
};

/// The first picture comes early, so that there are rates to see within a second.
const SOON: Duration = Duration::from_millis(400);
/// Pictures after which memory that is free is given back.
const TIDY: u32 = 10;
/// Intervals that the cost of the programs is judged by.
const JUDGED: usize = 3;

pub fn run(args: &Top) -> Result<ExitCode> {
    if !io::stdout().is_terminal() {
        let why = "top needs a terminal: use `vmascope report -d 10s`, or `vmascope record`";
        return Err(Usage(why.into()).into());
    }
    match &args.file {
        Some(path) => top::play(&Recording::open(path)?, args.theme)?,
        None => live(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn live(args: &Top) -> Result<()> {
    share_heap();
    let mut live = session::start(&asked::probing(&args.probing)?)?;
    live.time_runs(args.bpf_stats || args.max_overhead.is_some())?;
    live.arm()?;
    let session = live.session.clone();
    let (pictures, updates) = channel();
    let (interval, intervals) = channel();
    let poller = Poller {
        live,
        interval: args.probing.interval,
        intervals,
        pictures,
        limit: args
            .max_overhead
            .map(|percent| Limit::new(percent, session.host.cpus)),
    };
    let poller = std::thread::Builder::new()
        .name("vmascope-poll".into())
        .spawn(move || poller.run())
        .context("cannot start a thread")?;
    top::run(top::Source { updates, interval }, &session, args.theme)?;
    // Nobody listens any more, so the poller ends; its error ended the screen.
    if poller.is_finished() {
        match poller.join() {
            Ok(polled) => polled?,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    Ok(())
}

/// Three threads pass batches and pictures on to each other: with a heap for each, what one gives back
/// none of the others can use, and memory is a quarter more. They seldom allocate at the same time.
fn share_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointers; no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

struct Poller {
    live: Live,
    interval: Duration,
    intervals: Receiver<Duration>,
    pictures: Sender<top::Update>,
    limit: Option<Limit>,
}

impl Poller {
    /// Until nobody looks any more.
    fn run(mut self) -> std::result::Result<(), SessionError> {
        let mut due = Instant::now() + self.interval.min(SOON);
        let mut pictures = 0u32;
        while self.sleep(&mut due) {
            pictures = pictures.wrapping_add(1);
            if pictures.is_multiple_of(TIDY) {
                session::give_back();
            }
            let snapshot = self.live.snapshot()?;
            let off = self.limit.as_mut().and_then(|l| l.is_exceeded(&snapshot));
            let is_last = off.is_some();
            if is_last {
                self.live.disarm();
            }
            let update = top::Update {
                snapshot: Arc::new(snapshot),
                events: self.live.events(),
                off,
            };
            if self.pictures.send(update).is_err() || is_last {
                break;
            }
            due = (due + self.interval).max(Instant::now());
        }
        Ok(())
    }

    /// Until then, or another interval's end. False: nobody looks any more.
    fn sleep(&mut self, due: &mut Instant) -> bool {
        loop {
            let left = due.saturating_duration_since(Instant::now());
            match self.intervals.recv_timeout(left) {
                Ok(interval) => {
                    self.interval = interval;
                    *due = (*due).min(Instant::now() + interval);
                }
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }
}

/// `--max-overhead`.
struct Limit {
    /// Of the time of all CPUs.
    percent: f64,
    cpus: u32,
    /// Time since arming, and what the programs had run for.
    seen: VecDeque<(u64, u64)>,
}

impl Limit {
    fn new(percent: f64, cpus: u32) -> Self {
        Self {
            percent,
            cpus,
            seen: VecDeque::new(),
        }
    }

    /// Why the programs are to be taken off.
    fn is_exceeded(&mut self, now: &Snapshot) -> Option<String> {
        let now = (now.duration_ns, now.own_bpf_ns?);
        self.seen.push_back(now);
        if self.seen.len() <= JUDGED {
            return None;
        }
        let then = self.seen.pop_front()?;
        let time = now.0.saturating_sub(then.0).max(1) as f64 * f64::from(self.cpus.max(1));
        let percent = now.1.saturating_sub(then.1) as f64 / time * 100.0;
        (percent > self.percent).then(|| {
            format!(
                "off: the programs took {percent:.1} % of all CPUs, more than --max-overhead {}%",
                self.percent
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_for_the_last_intervals_and_all_cpus() {
        let mut limit = Limit::new(2.0, 4);
        let mut is_exceeded = |seconds: u64, bpf_ms: u64| {
            let now = Snapshot {
                duration_ns: seconds * 1_000_000_000,
                own_bpf_ns: Some(bpf_ms * 1_000_000),
                ..Snapshot::empty()
            };
            limit.is_exceeded(&now)
        };
        // A start that costs much is no reason: three intervals have to pass.
        for seconds in 0..3 {
            assert_eq!(is_exceeded(seconds, seconds * 1_000), None);
        }
        assert!(is_exceeded(3, 2_100).is_some());
        // Three seconds of four CPUs are 12 s, and 2 % of them 240 ms.
        assert!(is_exceeded(4, 2_150).is_some());
        assert!(is_exceeded(5, 2_200).is_none());
        assert!(is_exceeded(6, 2_339).is_none());
        let why = is_exceeded(7, 2_400).unwrap();
        assert!(
            why.starts_with("off: the programs took 2.1 % of all CPUs"),
            "{why}"
        );
        assert_eq!(limit.is_exceeded(&Snapshot::empty()), None);
    }
}
