//! The words for what can be on the screen: views, the order of processes, what is played, and what
//! the loop is asked to do about a key. No state in here.

use profiler_common::words::Mode;

use super::rates::ProcessRate;

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

    pub(super) fn beside(self, step: usize) -> Self {
        Self::ALL[(self as usize + step) % Self::ALL.len()]
    }
}

/// What the loop has to do about a key, beside drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    None,
    Redraw,
    Quit,
    /// The interval of a running session is another.
    Interval,
    /// Of a recording that is played, in seconds from here.
    Seek(i64),
    /// A wait was opened whose segments are still in the recording.
    Segments(u64),
    /// Write what was seen of late.
    Save,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Live,
    /// The programs were taken off; the last figures stay.
    Off,
    Playing,
    Ended,
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
    pub(super) fn next(self) -> Self {
        match self {
            Sort::Faults => Sort::Major,
            Sort::Major => Sort::MmapLock,
            Sort::MmapLock => Sort::ReadWait,
            Sort::ReadWait => Sort::WriteWait,
            Sort::WriteWait => Sort::Faults,
        }
    }

    pub(super) fn of(self, p: &ProcessRate) -> f64 {
        match self {
            Sort::Faults => p.faults_per_s,
            Sort::Major => p.major_per_s,
            Sort::MmapLock => p.mmap_lock_per_s,
            Sort::ReadWait => p.waiting[Mode::Read as usize],
            Sort::WriteWait => p.waiting[Mode::Write as usize],
        }
    }
}

/// What is shown instead of a view's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    List,
    /// One process, by its id.
    Process(u32),
    /// One wait: it is kept apart, as the list may forget it.
    Wait,
}

/// A place in a list whose rows come and go: it stays with its row while that is there.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<K> {
    key: Option<K>,
    at: usize,
}

impl<K> Default for Cursor<K> {
    fn default() -> Self {
        Self { key: None, at: 0 }
    }
}

impl<K: Copy + PartialEq> Cursor<K> {
    /// Where it is among `rows`; `None` until it was moved.
    pub fn place(&self, rows: &[K]) -> Option<usize> {
        let key = self.key?;
        let at = rows.iter().position(|row| *row == key);
        at.or_else(|| Some(self.at.min(rows.len().checked_sub(1)?)))
    }

    /// The first step only shows it.
    pub fn step(&mut self, rows: &[K], by: isize) {
        let last = rows.len().saturating_sub(1);
        let at = match self.place(rows) {
            Some(at) => at.saturating_add_signed(by).min(last),
            None => 0,
        };
        self.key = rows.get(at).copied();
        self.at = at;
    }

    pub fn hide(&mut self) {
        *self = Self::default();
    }

    pub fn is_shown(&self) -> bool {
        self.key.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_stays_with_its_row() {
        let mut cursor = Cursor::default();
        assert_eq!(cursor.place(&[7, 8, 9]), None);
        cursor.step(&[7, 8, 9], 1);
        cursor.step(&[7, 8, 9], 1);
        assert_eq!(cursor.place(&[7, 8, 9]), Some(1));
        assert_eq!(cursor.place(&[9, 7, 8]), Some(2));
        // Gone: the row that is now there.
        assert_eq!(cursor.place(&[7, 9]), Some(1));
        assert_eq!(cursor.place(&[7]), Some(0));
        assert_eq!(cursor.place(&[]), None);
        cursor.step(&[7, 8, 9], -5);
        assert_eq!(cursor.place(&[7, 8, 9]), Some(0));
        cursor.step(&[7, 8, 9], 50);
        assert_eq!(cursor.place(&[7, 8, 9]), Some(2));
    }
}
