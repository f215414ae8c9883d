//! `top`: one calm screen, live or from a recording. In: snapshots, of which only the latest
//! counts, and keys. Out: a terminal, left as it was found.

mod app;
mod events;
mod feed;
mod look;
mod rates;
mod render;
mod terminal;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    time::{Duration, Instant},
};

use crossterm::event::{self, Event};
use tokio::signal::unix::{SignalKind, signal};

pub use app::{Action, App, Sort, State, View};
pub use feed::{Playback, Update};
pub use look::Look;
pub use render::draw;

use super::{Error, Result};
use crate::{model::Session, recording::Recording};
use feed::{Feed, Next, RecordedEvents};

/// How long a key may wait for its answer.
const TICK: Duration = Duration::from_millis(100);

/// Shows snapshots as they come, until `q`, a signal, or the end of the sender.
pub fn run(updates: Receiver<Update>, session: &Session) -> Result<()> {
    let app = App::new(session.clone(), Look::of_environment());
    show(app, Feed::Live(updates))
}

/// Plays a recording at its own speed, then stays at its end until `q`.
pub fn play(recording: &Recording) -> Result<()> {
    let mut app = App::new(recording.session().clone(), Look::of_environment());
    app.playing();
    show(
        app,
        Feed::Recorded(
            Box::new(Playback::new(recording.intervals())),
            Box::new(RecordedEvents::of(recording)),
        ),
    )
}

fn show(mut app: App, mut feed: Feed<'_>) -> Result<()> {
    let signals = Signals::watch().map_err(Error::Terminal)?;
    let mut screen = terminal::Screen::enter()?;
    let mut then = Instant::now();
    let mut dirty = true;
    while !signals.caught() {
        if dirty {
            screen.draw(|frame| draw(frame, &app))?;
        }
        dirty = false;
        if event::poll(TICK).map_err(Error::Terminal)? {
            match event::read().map_err(Error::Terminal)? {
                Event::Key(key) => match app.on_key(key) {
                    Action::Quit => break,
                    Action::Redraw => dirty = true,
                    Action::None => {}
                },
                Event::Resize(..) => dirty = true,
                _ => {}
            }
        }
        let now = Instant::now();
        let mut events = Vec::new();
        let next = feed.next(now - then, app.paused(), &mut events)?;
        app.on_events(events);
        match next {
            Next::Nothing => {}
            Next::Snapshot(snapshot) => dirty |= app.on_snapshot(&snapshot),
            Next::End if app.state() == State::Playing => {
                app.ended();
                dirty = true;
            }
            Next::End if app.state() == State::Ended => {}
            Next::End => break,
        }
        then = now;
    }
    Ok(())
}

/// Whether the process was asked to end: the terminal has to be put right first.
struct Signals {
    caught: Arc<AtomicBool>,
    shown: Arc<AtomicBool>,
}

/// How long the loop may take to notice.
const GRACE: Duration = Duration::from_secs(1);

impl Signals {
    fn watch() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let entered = runtime.enter();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        drop(entered);
        let caught = Arc::new(AtomicBool::new(false));
        let shown = Arc::new(AtomicBool::new(true));
        let (set, still_shown) = (Arc::clone(&caught), Arc::clone(&shown));
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                let number = runtime.block_on(async {
                    tokio::select! {
                        _ = terminate.recv() => libc::SIGTERM,
                        _ = interrupt.recv() => libc::SIGINT,
                        _ = hangup.recv() => libc::SIGHUP,
                    }
                });
                set.store(true, Ordering::Relaxed);
                std::thread::sleep(GRACE);
                // crossterm never stops reading from a terminal that went away.
                if still_shown.load(Ordering::Relaxed) {
                    terminal::leave();
                    std::process::exit(128 + number);
                }
            })?;
        Ok(Self { caught, shown })
    }

    fn caught(&self) -> bool {
        self.caught.load(Ordering::Relaxed)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.shown.store(false, Ordering::Relaxed);
    }
}
