//! The state of `top`: what the keys and the snapshots have made of it. No terminal in here; what keys
//! do is in `keys`.

use std::{borrow::Borrow, sync::Arc, time::Duration};

use profiler_common::words::Path;

use super::{
    events::{Chain, Events},
    feed::Limited,
    heat::Heat,
    look::Look,
    rates::{ProcessRate, Rates},
    view::{Cursor, Page, Sort, State, View},
};
use crate::{
    model::{Batch, Figure, Knows, Segment, Session, Snapshot, WaitEvent},
    report::{self, Named, what_if::Policy},
};

#[derive(Clone)]
pub struct App {
    pub(super) session: Session,
    pub(super) look: Look,
    pub(super) rates: Rates,
    pub(super) heat: Heat,
    pub(super) verdict: String,
    pub(super) duration_ns: u64,
    /// Of the recording that is played.
    pub(super) length_ns: u64,
    pub(super) lost: u64,
    pub(super) sort: Sort,
    pub(super) reverse: bool,
    pub(super) help: bool,
    pub(super) view: View,
    pub(super) page: Page,
    /// The wait of `Page::Wait`.
    pub(super) opened: Option<Box<WaitEvent>>,
    /// First line shown of a list longer than the screen, where there is no cursor.
    pub(super) scroll: usize,
    pub(super) process: Cursor<u32>,
    pub(super) wait: Cursor<u64>,
    /// Which heat map comes first; where there is room for nothing else, `None` is the table.
    pub(super) heat_first: Option<usize>,
    /// Names and numbers must have this in them.
    pub(super) search: String,
    /// The search is being typed.
    pub(super) typing: bool,
    /// The only process that is shown.
    pub(super) only: Option<(u32, String)>,
    /// Said until the next key.
    pub(super) said: String,
    /// What `--max-overhead` did, and why.
    pub(super) limited: String,
    pub(super) interval: Duration,
    /// Of a recording: seconds shown in a second, as a power of two.
    pub(super) speed_log2: i32,
    pub(super) policies: Named<Option<Policy>>,
    pub(super) events: Events,
    /// What is shown while paused.
    pub(super) held: Option<Box<Events>>,
    state: State,
    paused: bool,
}

impl App {
    pub fn new(session: Session, look: Look) -> Self {
        let events = Events::new(&Knows::of(&session));
        Self {
            interval: Duration::from_millis(session.interval_ms),
            session,
            look,
            rates: Rates::default(),
            heat: Heat::default(),
            verdict: NOTHING_YET.into(),
            duration_ns: 0,
            length_ns: 0,
            lost: 0,
            sort: Sort::Faults,
            reverse: false,
            help: false,
            view: View::Overview,
            page: Page::List,
            opened: None,
            scroll: 0,
            process: Cursor::default(),
            wait: Cursor::default(),
            heat_first: None,
            search: String::new(),
            typing: false,
            only: None,
            said: String::new(),
            limited: String::new(),
            speed_log2: 0,
            policies: Named(Vec::new()),
            events,
            held: None,
            state: State::Live,
            paused: false,
        }
    }

    /// What follows comes out of a recording of that length.
    pub fn playing(&mut self, length_ns: u64) {
        self.state = State::Playing;
        self.length_ns = length_ns;
    }

    pub fn ended(&mut self) {
        self.state = State::Ended;
    }

    /// What was done stays on the screen.
    pub fn limited(&mut self, limited: Limited) {
        self.limited = match limited {
            Limited::Sample(sample, why) => {
                self.session.sample = sample;
                why
            }
            Limited::Off(why) => {
                self.state = State::Off;
                why
            }
        };
    }

    /// The recording is at its beginning again, and is played up to where one wants to be.
    pub fn rewound(&mut self) {
        self.rates = Rates::default();
        self.heat = Heat::default();
        self.events.clear();
        self.verdict = NOTHING_YET.into();
        self.duration_ns = 0;
        self.lost = 0;
        self.state = State::Playing;
    }

    pub fn say(&mut self, text: String) {
        self.said = text;
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub(super) fn is_recording(&self) -> bool {
        matches!(self.state, State::Playing | State::Ended)
    }

    pub fn sort(&self) -> Sort {
        self.sort
    }

    pub fn view(&self) -> View {
        self.view
    }

    pub fn interval(&self) -> Duration {
        self.interval
    }

    pub fn speed(&self) -> f64 {
        f64::from(self.speed_log2).exp2()
    }

    pub fn paused(&self) -> bool {
        self.paused
    }

    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
        self.held = paused.then(|| Box::new(self.events.clone()));
    }

    /// Counted while paused as well, and shown after it.
    pub fn on_events(&mut self, batches: impl IntoIterator<Item = impl Borrow<Batch>>) {
        for batch in batches {
            self.events.fold(batch.borrow());
        }
    }

    pub(super) fn events(&self) -> &Events {
        self.held.as_deref().unwrap_or(&self.events)
    }

    /// One that is not shown, because a later one is due as well.
    pub fn passed(&mut self, now: Arc<Snapshot>) {
        if !self.paused {
            self.heat.advance(&now);
            self.rates.advance(now);
        }
    }

    /// Whether there is something new to draw.
    pub fn on_snapshot(&mut self, now: impl Into<Arc<Snapshot>>) -> bool {
        if self.paused {
            return false;
        }
        let now = now.into();
        self.passed(Arc::clone(&now));
        self.verdict = report::verdict(&self.session, &now, &self.events.worst);
        self.duration_ns = now.duration_ns;
        self.lost = now.lost();
        self.judge();
        true
    }

    /// Policies are worked out only where they are looked at: that takes a while.
    pub(super) fn judge(&mut self) {
        if self.view == View::WhatIf && self.duration_ns > 0 && self.session.has(Figure::WhatIf) {
            self.policies = self.events().policies(self.rates.last());
        }
    }

    /// What a wait that was opened is made of, from the recording.
    pub fn segments(&mut self, segments: Vec<Segment>) {
        if let Some(wait) = &mut self.opened {
            wait.blame.segments = segments;
        }
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

    /// Busiest first; those that did nothing are left out, and those that are not looked for.
    pub(super) fn processes(&self) -> Vec<&ProcessRate> {
        let busy = |p: &&ProcessRate| p.faults_per_s > 0.0 || p.waiting.iter().any(|w| *w > 0.0);
        let wanted = |p: &&ProcessRate| {
            self.only.as_ref().is_none_or(|(tgid, _)| *tgid == p.tgid)
                && self.is_named(&p.comm, p.tgid)
        };
        let all = self.rates.processes.iter();
        let mut all: Vec<_> = all.filter(busy).filter(wanted).collect();
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

    /// The longest, of those that are looked for.
    pub(super) fn waits(&self) -> Vec<&WaitEvent> {
        let all = self.events().worst.iter();
        all.filter(|w| self.is_wanted(w)).collect()
    }

    pub(super) fn chains(&self) -> Vec<&Chain> {
        let wanted = |c: &&Chain| !self.is_narrowed() || c.links.iter().any(|w| self.is_wanted(w));
        self.events().chains.iter().filter(wanted).collect()
    }

    pub(super) fn is_narrowed(&self) -> bool {
        self.only.is_some() || !self.search.is_empty()
    }

    fn is_wanted(&self, wait: &WaitEvent) -> bool {
        let holder = wait.holder.as_ref();
        let has = |tgid: u32| {
            wait.tgid == tgid
                || wait.mm_tgid == Some(tgid)
                || holder.is_some_and(|h| h.tgid == tgid)
        };
        self.only.as_ref().is_none_or(|(tgid, _)| has(*tgid))
            && (self.is_named(&wait.comm, wait.tid)
                || holder.is_some_and(|h| h.tid != 0 && self.is_named(&h.comm, h.tid)))
    }

    fn is_named(&self, comm: &str, id: u32) -> bool {
        let wanted = self.search.to_lowercase();
        wanted.is_empty()
            || comm.to_lowercase().contains(&wanted)
            || id.to_string().contains(&wanted)
    }
}

const NOTHING_YET: &str = "Waiting for the first interval.";
