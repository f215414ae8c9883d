//! What keys do to the state. In: keys. Out: what the loop has to do beside drawing.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::{
    app::App,
    heat::Heat,
    view::{Action, Page, View},
};
use crate::report::{Named, units::clean};

/// Lines that a page key goes on by.
const PAGE: isize = 10;
/// Longer than any list.
const SCROLL: usize = 10_000;
/// What the arrows go by in a recording.
const SEEK_S: i64 = 5;
/// Intervals to choose from, in milliseconds; the kernel's counters are read in each.
const INTERVALS: [u64; 7] = [100, 200, 500, 1_000, 2_000, 5_000, 10_000];
/// Speeds of playing, as powers of two: a half to 64.
const SPEEDS: std::ops::RangeInclusive<i32> = -1..=6;
/// Of a search: longer than any name.
const SEARCH: usize = 20;

impl App {
    pub fn on_key(&mut self, key: KeyEvent) -> Action {
        if key.kind == KeyEventKind::Release {
            return Action::None;
        }
        // Escape and the next key, when a slow line brings them at once, read as one with Alt.
        if key.modifiers.contains(KeyModifiers::ALT) {
            let escaped = self.on_key(KeyEvent::from(KeyCode::Esc));
            let without = key.modifiers.difference(KeyModifiers::ALT);
            return match self.on_key(KeyEvent::new(key.code, without)) {
                Action::None => escaped,
                other => other,
            };
        }
        let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if ctrl => return Action::Quit,
            _ if self.typing => return self.typed(key.code),
            KeyCode::Char('q') => return Action::Quit,
            _ => {}
        }
        let had_said = !std::mem::take(&mut self.said).is_empty();
        // Any key closes the help.
        if self.help {
            self.help = false;
            return Action::Redraw;
        }
        match self.pressed(key.code) {
            Action::None if had_said => Action::Redraw,
            other => other,
        }
    }

    fn pressed(&mut self, key: KeyCode) -> Action {
        match key {
            KeyCode::Char('?' | 'h') => self.help = true,
            KeyCode::Char(' ') => self.pause(!self.paused()),
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('r') => self.reverse = !self.reverse,
            KeyCode::Char('c') => self.forget(),
            KeyCode::Char('/') => {
                self.typing = true;
                self.search.clear();
            }
            KeyCode::Char('f') => self.filter(),
            KeyCode::Char('S') if self.is_recording() => self.say(
                "this is a recording: `vmascope export FILE --csv DIR` writes its tables".into(),
            ),
            KeyCode::Char('S') => return Action::Save,
            KeyCode::Char('+' | '=') => return self.faster(1),
            KeyCode::Char('-') => return self.faster(-1),
            KeyCode::Right if self.is_recording() => return Action::Seek(SEEK_S),
            KeyCode::Left if self.is_recording() => return Action::Seek(-SEEK_S),
            KeyCode::Tab => self.show(self.view.beside(1)),
            KeyCode::BackTab => self.show(self.view.beside(View::ALL.len() - 1)),
            KeyCode::Char(n @ '1'..='7') => self.show(View::ALL[n as usize - '1' as usize]),
            KeyCode::Char('j') | KeyCode::Down => self.go(1),
            KeyCode::Char('k') | KeyCode::Up => self.go(-1),
            KeyCode::PageDown => self.go(PAGE),
            KeyCode::PageUp => self.go(-PAGE),
            KeyCode::Home => self.go(-(SCROLL as isize)),
            KeyCode::End => self.go(SCROLL as isize),
            KeyCode::Enter => return self.open(),
            KeyCode::Esc => return self.back(),
            _ => return Action::None,
        }
        Action::Redraw
    }

    /// A key of a search.
    fn typed(&mut self, key: KeyCode) -> Action {
        match key {
            KeyCode::Char(c) if self.search.chars().count() < SEARCH => self.search.push(c),
            KeyCode::Backspace => drop(self.search.pop()),
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.search.clear();
            }
            _ => return Action::None,
        }
        self.scroll = 0;
        Action::Redraw
    }

    fn show(&mut self, view: View) {
        self.view = view;
        self.page = Page::List;
        self.scroll = 0;
        self.judge();
    }

    /// The cursor, where the list has one; else the list itself. At most as far as any list goes:
    /// drawing stops at the end of the one that is shown.
    fn go(&mut self, by: isize) {
        match (self.page, self.view) {
            (Page::List, View::Processes) => {
                let rows = self.process_rows();
                self.process.step(&rows, by);
            }
            (Page::List, View::Waits) => {
                let rows = self.wait_rows();
                self.wait.step(&rows, by);
            }
            _ => self.scroll = self.scroll.saturating_add_signed(by).min(SCROLL),
        }
    }

    pub(super) fn process_rows(&self) -> Vec<u32> {
        self.processes().iter().map(|p| p.tgid).collect()
    }

    pub(super) fn wait_rows(&self) -> Vec<u64> {
        self.waits().iter().map(|w| w.id).collect()
    }

    /// What is under the cursor, or the first.
    fn open(&mut self) -> Action {
        match (self.page, self.view) {
            (Page::List, View::Overview) => self.show(View::Processes),
            (Page::List, View::Histograms) => {
                let next = self.heat_first.unwrap_or(0) + 1;
                self.heat_first = Some(next % Heat::MAPS);
            }
            (Page::List, View::Processes) => {
                let rows = self.process_rows();
                let Some(tgid) = rows.get(self.process.place(&rows).unwrap_or(0)) else {
                    return Action::None;
                };
                self.page = Page::Process(*tgid);
                self.scroll = 0;
            }
            (Page::List, View::Waits) => {
                let waits = self.waits();
                let at = self.wait.place(&self.wait_rows()).unwrap_or(0);
                let Some(wait) = waits.get(at).map(|w| (*w).clone()) else {
                    return Action::None;
                };
                let id = wait.id;
                self.opened = Some(Box::new(wait));
                self.page = Page::Wait;
                self.scroll = 0;
                if self.is_recording() {
                    return Action::Segments(id);
                }
            }
            _ => return Action::None,
        }
        Action::Redraw
    }

    /// One step: out of a page, then of a search, of a filter, and of the list.
    fn back(&mut self) -> Action {
        if self.page != Page::List {
            self.page = Page::List;
            self.scroll = 0;
        } else if self.view == View::Histograms && self.heat_first.is_some() {
            self.heat_first = None;
        } else if !self.search.is_empty() {
            self.search.clear();
        } else if self.only.is_some() {
            self.only = None;
        } else if self.process.is_shown() || self.wait.is_shown() {
            self.process.hide();
            self.wait.hide();
        } else {
            return Action::None;
        }
        Action::Redraw
    }

    /// The process at the cursor becomes the only one, or ceases to be.
    fn filter(&mut self) {
        if self.only.take().is_some() {
            return;
        }
        let tgid = match (self.page, self.view) {
            (Page::Process(tgid), _) => Some(tgid),
            (Page::Wait, _) => self.opened.as_ref().map(|w| w.tgid),
            (Page::List, View::Processes) => {
                let rows = self.process_rows();
                self.process
                    .place(&rows)
                    .and_then(|at| rows.get(at).copied())
            }
            (Page::List, View::Waits) => {
                let at = self.wait.place(&self.wait_rows());
                at.and_then(|at| self.waits().get(at).map(|w| w.tgid))
            }
            _ => None,
        };
        self.only = tgid.map(|tgid| (tgid, self.name_of(tgid)));
        match &self.only {
            Some(_) => self.scroll = 0,
            None => {
                self.say("f filters by the process at the cursor: go there with j and k".into())
            }
        }
    }

    /// Of a process; a recording may know only those of its threads that waited.
    fn name_of(&self, tgid: u32) -> String {
        let process = self.rates.processes.iter().find(|p| p.tgid == tgid);
        let waiter = || self.events().worst.iter().find(|w| w.tgid == tgid);
        match process {
            Some(p) => p.comm.clone(),
            None => waiter().map_or(String::new(), |w| w.comm.clone()),
        }
    }

    fn forget(&mut self) {
        self.events.clear();
        self.pause(self.paused());
        self.policies = Named(Vec::new());
        self.scroll = 0;
    }

    /// A recording, or the next interval of what runs.
    fn faster(&mut self, by: i32) -> Action {
        if self.is_recording() {
            self.speed_log2 = (self.speed_log2 + by).clamp(*SPEEDS.start(), *SPEEDS.end());
            return Action::Redraw;
        }
        let now = self.interval.as_millis() as u64;
        let next = if by > 0 {
            INTERVALS.iter().rev().find(|ms| **ms < now)
        } else {
            INTERVALS.iter().find(|ms| **ms > now)
        };
        let Some(next) = next else {
            return Action::None;
        };
        self.interval = Duration::from_millis(*next);
        self.say(format!("a picture every {}", seconds(*next)));
        Action::Interval
    }

    /// What narrows the lists down, or was said last.
    pub(super) fn status(&self) -> String {
        if !self.said.is_empty() {
            return clean(&self.said);
        }
        if self.typing {
            return format!("search: {}_", clean(&self.search));
        }
        if !self.limited.is_empty() {
            return clean(&self.limited);
        }
        let mut parts = Vec::new();
        if let Some((tgid, comm)) = &self.only {
            parts.push(format!("only {} ({tgid})", clean(comm)));
        }
        if !self.search.is_empty() {
            parts.push(format!("search: {}", clean(&self.search)));
        }
        if !parts.is_empty() {
            parts.push("Esc shows all".into());
        }
        parts.join("   ")
    }
}

fn seconds(ms: u64) -> String {
    if ms < 1_000 {
        format!("{ms} ms")
    } else {
        format!("{} s", ms / 1_000)
    }
}
