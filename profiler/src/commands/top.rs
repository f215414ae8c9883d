//! `vmascope top`: the dashboard, live or from a recording.

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{asked, limit::Limit};
use crate::{
    cli::Top,
    error::Usage,
    recording::Recording,
    session::{self, Live, SessionError},
    sinks::top,
};

/// The first picture comes early, so that there are rates to see within a second.
const SOON: Duration = Duration::from_millis(400);
/// Threads that have exited and are shown one by one: each is in every picture.
const DEAD: usize = 2_048;
/// Pictures after which memory that is free is given back.
const TIDY: u32 = 10;

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
    let mut asked = asked::probing(&args.probing)?;
    asked.request.paced = args.max_overhead.is_some();
    let mut live = session::start(&asked)?;
    live.time_runs(args.bpf_stats || args.max_overhead.is_some())?;
    live.remember_dead(DEAD);
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
            .map(|percent| Limit::new(percent, session.host.cpus, session.sample)),
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
            let limited = self.limit.as_mut().and_then(|l| l.judge(&snapshot));
            let is_last = matches!(limited, Some(top::Limited::Off(_)));
            match &limited {
                Some(top::Limited::Sample(sample, _)) => self.live.sample(*sample)?,
                Some(top::Limited::Off(_)) => self.live.disarm(),
                None => {}
            }
            let update = top::Update {
                snapshot: Arc::new(snapshot),
                events: self.live.events(),
                limited,
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
