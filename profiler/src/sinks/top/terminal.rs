//! The terminal while `top` has it: raw mode and the alternate screen, undone on every way out.
//! Releases abort on panic without unwinding, so the panic hook undoes it too.

use std::{
    io::{self, IsTerminal as _, Stdout},
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

use crossterm::{
    cursor::Show,
    execute,
    terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
};
use ratatui::{Frame, Terminal, backend::CrosstermBackend};

use crate::sinks::{Error, Result};

static ENTERED: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

pub struct Screen(Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    pub fn enter() -> Result<Self> {
        if !io::stdout().is_terminal() {
            return Err(Error::NotATerminal);
        }
        HOOK.call_once(|| {
            let next = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                leave();
                next(panic);
            }));
        });
        ENTERED.store(true, Ordering::SeqCst);
        let enter = || {
            enable_raw_mode()?;
            execute!(io::stdout(), EnterAlternateScreen)?;
            Terminal::new(CrosstermBackend::new(io::stdout()))
        };
        enter().map(Self).map_err(|e| {
            leave();
            Error::Terminal(e)
        })
    }

    pub fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> Result<()> {
        self.0.draw(draw).map(|_| ()).map_err(Error::Terminal)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

/// Once; what comes later finds it done.
pub fn leave() {
    if ENTERED.swap(false, Ordering::SeqCst) {
        // Nothing can be said about a failure: the terminal is what would say it.
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}
