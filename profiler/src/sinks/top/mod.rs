//! `top`: one calm screen, live or from a recording. In: snapshots, of which only the latest
//! counts, and keys. Out: a terminal, left as it was found.

mod app;
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

pub use app::{Action, App, Sort, State};
pub use feed::Playback;
pub use look::Look;
pub use render::draw;

use super::{Error, Result};
use crate::{
    model::{Session, Snapshot},
    recording::Recording,
};
use feed::{Feed, Next};

/// How long a key may wait for its answer.
const TICK: Duration = Duration::from_millis(100);

/// Shows snapshots as they come, until `q`, a signal, or the end of the sender.
pub fn run(snapshots: Receiver<Arc<Snapshot>>, session: &Session) -> Result<()> {
    let app = App::new(session.clone(), Look::of_environment());
    show(app, Feed::Live(snapshots))
}

/// Plays a recording at its own speed, then stays at its end until `q`.
pub fn play(recording: &Recording) -> Result<()> {
    let mut app = App::new(recording.session().clone(), Look::of_environment());
    app.playing();
    show(
        app,
        Feed::Recorded(Box::new(Playback::new(recording.intervals()))),
    )
}

fn show(mut app: App, mut feed: Feed<'_>) -> Result<()> {
    let stop = on_signals().map_err(Error::Terminal)?;
    let mut screen = terminal::Screen::enter()?;
    let mut then = Instant::now();
    let mut dirty = true;
    while !stop.load(Ordering::Relaxed) {
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
        match feed.next(now - then, app.paused())? {
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

/// Set when the process is asked to end: the terminal has to be put right first.
fn on_signals() -> std::io::Result<Arc<AtomicBool>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let entered = runtime.enter();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    drop(entered);
    let stop = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&stop);
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                    _ = hangup.recv() => {}
                }
            });
            set.store(true, Ordering::Relaxed);
        })?;
    Ok(stop)
}
