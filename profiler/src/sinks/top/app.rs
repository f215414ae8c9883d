//! The state of `top`: what the keys and the snapshots have made of it. No terminal in here.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use profiler_common::words::{Mode, Path};

use super::{
    events::Events,
    look::Look,
    rates::{ProcessRate, Rates},
};
use crate::{
    model::{Batch, Quality, Session, Snapshot},
    report::{self, Named, what_if::Policy},
};

/// One screen of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    Overview,
    Processes,
    Waits,
    Chains,
    Histograms,
    WhatIf,
    Doctor,
}

impl View {
    pub const ALL: [View; 7] = [
        View::Overview,
        View::Processes,
        View::Waits,
        View::Chains,
        View::Histograms,
        View::WhatIf,
        View::Doctor,
    ];

    pub fn name(self) -> &'static str {
        match self {
            View::Overview => "Overview",
            View::Processes => "Processes",
            View::Waits => "Waits",
            View::Chains => "Chains",
            View::Histograms => "Histograms",
            View::WhatIf => "What-if",
            View::Doctor => "Doctor",
        }
    }

    fn beside(self, step: usize) -> Self {
        Self::ALL[(self as usize + step) % Self::ALL.len()]
    }
}

/// What the loop has to do about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    None,
    Redraw,
    Quit,
}

/// The column that processes are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Faults,
    Major,
    MmapLock,
    ReadWait,
    WriteWait,
}

impl Sort {
    fn next(self) -> Self {
        match self {
            Sort::Faults => Sort::Major,
            Sort::Major => Sort::MmapLock,
            Sort::MmapLock => Sort::ReadWait,
            Sort::ReadWait => Sort::WriteWait,
            Sort::WriteWait => Sort::Faults,
        }
    }

    fn of(self, p: &ProcessRate) -> f64 {
        match self {
            Sort::Faults => p.faults_per_s,
            Sort::Major => p.major_per_s,
            Sort::MmapLock => p.mmap_lock_per_s,
            Sort::ReadWait => p.waiting[Mode::Read as usize],
            Sort::WriteWait => p.waiting[Mode::Write as usize],
        }
    }
}

/// Lines that a page key goes on by.
const PAGE: usize = 10;
/// Longer than any list.
const SCROLL: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Live,
    Playing,
    Ended,
}

#[derive(Clone)]
pub struct App {
    pub(super) session: Session,
    pub(super) look: Look,
    pub(super) rates: Rates,
    pub(super) verdict: String,
    pub(super) duration_ns: u64,
    pub(super) lost: u64,
    pub(super) rss_bytes: u64,
    pub(super) sort: Sort,
    pub(super) reverse: bool,
    pub(super) help: bool,
    pub(super) view: View,
    /// First line shown of a list longer than the screen.
    pub(super) scroll: usize,
    pub(super) policies: Named<Policy>,
    events: Events,
    /// What is shown while paused.
    held: Option<Box<Events>>,
    state: State,
    paused: bool,
}

impl App {
    pub fn new(session: Session, look: Look) -> Self {
        let exact = session
            .signal("vma_write_wait")
            .is_some_and(|s| s.quality == Quality::Exact);
        Self {
            session,
            look,
            rates: Rates::default(),
            verdict: "Waiting for the first interval.".into(),
            duration_ns: 0,
            lost: 0,
            rss_bytes: 0,
            sort: Sort::Faults,
            reverse: false,
            help: false,
            view: View::Overview,
            scroll: 0,
            policies: Named(Vec::new()),
            events: Events::new(exact),
            held: None,
            state: State::Live,
            paused: false,
        }
    }

    /// What follows comes out of a recording.
    pub fn playing(&mut self) {
        self.state = State::Playing;
    }

    pub fn ended(&mut self) {
        self.state = State::Ended;
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn sort(&self) -> Sort {
        self.sort
    }

    pub fn paused(&self) -> bool {
        self.paused
    }

    pub fn on_key(&mut self, key: KeyEvent) -> Action {
        if key.kind == KeyEventKind::Release {
            return Action::None;
        }
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Action::Quit,
            KeyCode::Char('q') => Action::Quit,
            // Any key closes the help.
            _ if self.help => {
                self.help = false;
                Action::Redraw
            }
            KeyCode::Char('?' | 'h') => {
                self.help = true;
                Action::Redraw
            }
            KeyCode::Char(' ') => {
                self.paused = !self.paused;
                self.held = self.paused.then(|| Box::new(self.events.clone()));
                Action::Redraw
            }
            KeyCode::Char('s') => {
                self.sort = self.sort.next();
                Action::Redraw
            }
            KeyCode::Char('c') => {
                self.events.clear();
                self.held = self.paused.then(|| Box::new(self.events.clone()));
                self.policies = Named(Vec::new());
                self.scroll_to(0)
            }
            KeyCode::Char('r') => {
                self.reverse = !self.reverse;
                Action::Redraw
            }
            KeyCode::Tab => self.show(self.view.beside(1)),
            KeyCode::BackTab => self.show(self.view.beside(View::ALL.len() - 1)),
            KeyCode::Char(n @ '1'..='7') => self.show(View::ALL[n as usize - '1' as usize]),
            KeyCode::Char('j') | KeyCode::Down => self.scroll_to(self.scroll + 1),
            KeyCode::Char('k') | KeyCode::Up => self.scroll_to(self.scroll.saturating_sub(1)),
            KeyCode::PageDown => self.scroll_to(self.scroll + PAGE),
            KeyCode::PageUp => self.scroll_to(self.scroll.saturating_sub(PAGE)),
            KeyCode::Home => self.scroll_to(0),
            _ => Action::None,
        }
    }

    fn show(&mut self, view: View) -> Action {
        self.view = view;
        self.scroll_to(0)
    }

    /// At most as far as any list goes; drawing stops at the end of the one that is shown.
    fn scroll_to(&mut self, line: usize) -> Action {
        self.scroll = line.min(SCROLL);
        Action::Redraw
    }

    pub fn view(&self) -> View {
        self.view
    }

    /// Counted while paused as well, and shown after it.
    pub fn on_events(&mut self, batches: impl IntoIterator<Item = Batch>) {
        for batch in batches {
            self.events.fold(batch);
        }
    }

    pub(super) fn events(&self) -> &Events {
        self.held.as_deref().unwrap_or(&self.events)
    }

    /// Whether there is something new to draw.
    pub fn on_snapshot(&mut self, now: &Snapshot) -> bool {
        if self.paused {
            return false;
        }
        self.rates.advance(now);
        self.verdict = report::verdict(&self.session, now, &self.events.worst);
        self.policies = self.events.policies(now);
        self.duration_ns = now.duration_ns;
        self.lost = now.lost();
        self.rss_bytes = now.own_rss_bytes;
        true
    }

    /// Paths worth a row: the usual ones of this kernel, and any that was seen.
    pub(super) fn paths(&self) -> Vec<Path> {
        let usual: &[Path] = match self.session.vma_lock.as_str() {
            "none" => &[Path::MmapLock],
            _ => &[Path::VmaLock, Path::Fallback, Path::Retry],
        };
        let shown = |p: &Path| usual.contains(p) || self.rates.paths[*p as usize].total > 0;
        Path::ALL.iter().copied().filter(shown).collect()
    }

    /// Busiest first; those that did nothing are left out.
    pub(super) fn processes(&self) -> Vec<&ProcessRate> {
        let busy = |p: &&ProcessRate| p.faults_per_s > 0.0 || p.waiting.iter().any(|w| *w > 0.0);
        let mut all: Vec<_> = self.rates.processes.iter().filter(busy).collect();
        let key = |p: &ProcessRate| (self.sort.of(p), p.faults_per_s);
        all.sort_by(|a, b| {
            let (a_key, b_key) = (key(a), key(b));
            let order = b_key.0.total_cmp(&a_key.0);
            order
                .then(b_key.1.total_cmp(&a_key.1))
                .then(a.tgid.cmp(&b.tgid))
        });
        if self.reverse {
            all.reverse();
        }
        all
    }
}
