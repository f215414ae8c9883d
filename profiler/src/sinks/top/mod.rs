//! `top`: one calm screen, live or from a recording. In: snapshots, of which only the latest
//! counts, and keys. Out: a terminal, left as it was found.

mod app;
mod digest;
mod events;
mod feed;
mod heat;
mod keys;
mod look;
mod rates;
mod render;
mod save;
mod terminal;
mod view;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender},
    },
    time::{Duration, Instant},
};

use crossterm::event::{self, Event};
use tokio::signal::unix::{SignalKind, signal};

pub use app::App;
pub use feed::{Limited, Playback, Update};
pub use look::{Look, Theme};
pub use render::draw;
pub use view::{Action, Sort, State, View};

use super::{Error, Result};
use crate::{model::Session, recording::Recording};
use feed::{Feed, Player};
use save::Kept;

/// How long a key may wait for its answer.
const TICK: Duration = Duration::from_millis(100);

/// A running session: its pictures come in, and how often they are wanted goes out.
pub struct Source {
    pub updates: Receiver<Update>,
    pub interval: Sender<Duration>,
}

/// Shows snapshots as they come, until `q`, a signal, or the end of the sender.
pub fn run(source: Source, session: &Session, theme: Theme) -> Result<()> {
    Show {
        app: App::new(session.clone(), Look::of_environment(theme)),
        feed: Feed::Live(source.updates),
        interval: Some(source.interval),
        kept: Some(Kept::new(session)),
    }
    .run()
}

/// Plays a recording at its own speed, then stays at its end until `q`.
pub fn play(recording: &Recording, theme: Theme) -> Result<()> {
    let mut app = App::new(recording.session().clone(), Look::of_environment(theme));
    let length_ns = recording.snapshot()?.duration_ns;
    app.playing(length_ns);
    Show {
        app,
        feed: Feed::Recorded(Box::new(Player::new(recording, length_ns))),
        interval: None,
        kept: None,
    }
    .run()
}

struct Show<'a> {
    app: App,
    feed: Feed<'a>,
    interval: Option<Sender<Duration>>,
    kept: Option<Kept>,
}

impl Show<'_> {
    fn run(mut self) -> Result<()> {
        let signals = Signals::watch().map_err(Error::Terminal)?;
        let mut screen = terminal::Screen::enter()?;
        let mut then = Instant::now();
        let mut dirty = true;
        while !signals.caught() {
            if dirty {
                screen.draw(|frame| draw(frame, &self.app))?;
            }
            dirty = false;
            if event::poll(TICK).map_err(Error::Terminal)? {
                match event::read().map_err(Error::Terminal)? {
                    Event::Key(key) => match self.app.on_key(key) {
                        Action::Quit => break,
                        Action::None => {}
                        Action::Redraw => dirty = true,
                        other => {
                            self.act(other, &mut screen)?;
                            dirty = true;
                        }
                    },
                    Event::Resize(..) => dirty = true,
                    _ => {}
                }
            }
            let now = Instant::now();
            if !self.app.paused() {
                let passed = now.saturating_duration_since(then);
                self.feed.pass(passed.mul_f64(self.app.speed()));
            }
            then = now;
            match self.look()? {
                Seen::Nothing => {}
                Seen::New => dirty = true,
                Seen::End => break,
            }
        }
        Ok(())
    }

    /// What a key asked for that the state cannot do itself.
    fn act(&mut self, action: Action, screen: &mut terminal::Screen) -> Result<()> {
        match action {
            Action::Interval => {
                // If nobody listens, the session has ended: that is told below.
                let sender = self.interval.as_ref();
                let _ = sender.map(|to| to.send(self.app.interval()));
            }
            Action::Seek(seconds) => {
                let paused = self.app.paused();
                self.app.pause(false);
                if self.feed.seek(seconds)? {
                    self.app.rewound();
                }
                self.look()?;
                self.app.pause(paused);
            }
            Action::Segments(wait) => {
                let segments = self.feed.segments(wait)?;
                self.app.segments(segments);
            }
            Action::Save => {
                if let Some(kept) = &self.kept {
                    // It takes a moment, in which no key is heard.
                    self.app.say("writing...".into());
                    screen.draw(|frame| draw(frame, &self.app))?;
                    self.app.say(kept.save());
                }
            }
            Action::None | Action::Redraw | Action::Quit => {}
        }
        Ok(())
    }

    /// Takes in what is due.
    fn look(&mut self) -> Result<Seen> {
        let mut latest = None;
        let mut seen = Seen::Nothing;
        // A recording that is paused is not over, wherever it stands.
        while !(self.app.paused() && self.app.is_recording()) {
            let news = self.feed.next()?;
            self.app.on_events(&news.events);
            if let Some(kept) = &mut self.kept {
                kept.see(news.events, news.snapshot.as_ref());
            }
            if let Some(limited) = news.limited {
                if let Some(kept) = &mut self.kept {
                    kept.limited(&limited);
                }
                self.app.limited(limited);
                seen = Seen::New;
            }
            if news.end {
                match self.app.state() {
                    State::Live => return Ok(Seen::End),
                    State::Playing => {
                        self.app.ended();
                        seen = Seen::New;
                    }
                    State::Off | State::Ended => {}
                }
            }
            let Some(snapshot) = news.snapshot else {
                break;
            };
            if let Some(before) = latest.replace(snapshot) {
                self.app.passed(before);
            }
        }
        if let Some(latest) = latest
            && self.app.on_snapshot(latest)
        {
            seen = Seen::New;
        }
        Ok(seen)
    }
}

enum Seen {
    Nothing,
    New,
    /// Of a running session, without a reason that could be shown.
    End,
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
