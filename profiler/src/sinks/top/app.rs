//! The state of `top`: what the keys and the snapshots have made of it. No terminal in here.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use profiler_common::words::{Mode, Path};

use super::{
    look::Look,
    rates::{ProcessRate, Rates},
};
use crate::{
    model::{Session, Snapshot},
    report,
};

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Live,
    Playing,
    Ended,
}

#[derive(Clone, Debug)]
pub struct App {
    pub(super) session: Session,
    pub(super) look: Look,
    pub(super) rates: Rates,
    pub(super) verdict: String,
    pub(super) duration_ns: u64,
    pub(super) lost: u64,
    pub(super) rss_bytes: u64,
    pub(super) sort: Sort,
    pub(super) help: bool,
    state: State,
    paused: bool,
}

impl App {
    pub fn new(session: Session, look: Look) -> Self {
        Self {
            session,
            look,
            rates: Rates::default(),
            verdict: "Waiting for the first interval.".into(),
            duration_ns: 0,
            lost: 0,
            rss_bytes: 0,
            sort: Sort::Faults,
            help: false,
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
                Action::Redraw
            }
            KeyCode::Char('s') => {
                self.sort = self.sort.next();
                Action::Redraw
            }
            _ => Action::None,
        }
    }

    /// Whether there is something new to draw.
    pub fn on_snapshot(&mut self, now: &Snapshot) -> bool {
        if self.paused {
            return false;
        }
        self.rates.advance(now);
        self.verdict = report::verdict(&self.session, now, &[]);
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
        all
    }
}
