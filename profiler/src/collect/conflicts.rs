//! Which writers would have met a fault that waits. In: windows as they close, and the requests for
//! locks that arrived while one was open. Out: conflicts: one for each pair of a write section and a
//! window whose ranges overlap, however many VMAs the section locked.

use std::collections::{HashMap, VecDeque};

use profiler_common::words::{Mode, Op};

use crate::model::{ArrivalEvent, ConflictEvent, WindowEvent};

/// Writers' arrivals remembered: of all address spaces, of one, and for how long.
const ARRIVALS: usize = 32 * 1024;
const ARRIVALS_OF_ONE: usize = 8 * 1024;
const KEPT_NS: u64 = 60_000_000_000;
/// Address spaces.
const MMS: usize = 1024;
/// A writer reads the clock just before its record takes its place in the ring: a later one overtakes it
/// there only if it is preempted in between.
const SLACK_NS: u64 = 1_000_000_000;

#[derive(Default)]
pub struct Conflicts {
    writers: HashMap<u64, Writers>,
    /// Arrivals in them.
    remembered: usize,
    /// When the old ones were last looked for.
    swept_ns: u64,
    /// Up to here arrivals of address spaces that are not remembered may be missing.
    forgotten_to_ns: u64,
    last_window: u64,
    forgotten: u64,
    stale: u64,
}

#[derive(Default)]
struct Writers {
    arrived: VecDeque<ArrivalEvent>,
    forgotten_to_ns: u64,
}

impl Writers {
    fn forget_first(&mut self) {
        if let Some(old) = self.arrived.pop_front() {
            self.forgotten_to_ns = self.forgotten_to_ns.max(old.at_ns);
        }
    }

    fn forget_before(&mut self, ns: u64) {
        while self.arrived.front().is_some_and(|a| a.at_ns < ns) {
            self.forget_first();
        }
        // A burst is not to be paid for ever after.
        let room = self.arrived.len() * 2;
        if self.arrived.capacity() > room {
            self.arrived.shrink_to(room);
        }
    }
}

impl Conflicts {
    /// Windows with writers that were forgotten.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Windows that met an exit or exec of their own address space, which cannot be.
    pub fn stale(&self) -> u64 {
        self.stale
    }

    pub fn arrived(&mut self, arrival: &ArrivalEvent) {
        if arrival.mode == Mode::Read || arrival.end <= arrival.start {
            return;
        }
        self.passed(arrival.at_ns);
        if !self.writers.contains_key(&arrival.mm) && self.writers.len() >= MMS {
            self.forget_an_mm();
        }
        let writers = self.writers.entry(arrival.mm).or_default();
        writers.arrived.push_back(arrival.clone());
        self.remembered += 1;
        if writers.arrived.len() > ARRIVALS_OF_ONE {
            writers.forget_first();
            self.remembered -= 1;
        }
        if self.remembered > ARRIVALS {
            let all = self.writers.values().flat_map(|w| &w.arrived);
            let mut times: Vec<u64> = all.map(|a| a.at_ns).collect();
            let middle = times.len() / 2;
            let (_, median, _) = times.select_nth_unstable(middle);
            // At least one goes, though all came at once.
            self.forget_before(*median + 1);
        }
    }

    /// It is this late: what came long ago can be forgotten.
    pub fn passed(&mut self, now_ns: u64) {
        if now_ns >= self.swept_ns.saturating_add(KEPT_NS / 60) {
            self.swept_ns = now_ns;
            self.forget_before(now_ns.saturating_sub(KEPT_NS));
        }
    }

    fn forget_before(&mut self, ns: u64) {
        self.writers.retain(|_, writers| {
            writers.forget_before(ns);
            let any = !writers.arrived.is_empty();
            if !any {
                self.forgotten_to_ns = self.forgotten_to_ns.max(writers.forgotten_to_ns);
            }
            any
        });
        self.remembered = self.writers.values().map(|w| w.arrived.len()).sum();
    }

    /// The one whose last writer came longest ago.
    fn forget_an_mm(&mut self) {
        let last = |w: &Writers| w.arrived.back().map_or(0, |a| a.at_ns);
        let oldest = self.writers.iter().min_by_key(|(_, w)| last(w));
        if let Some(mm) = oldest.map(|(mm, _)| *mm)
            && let Some(writers) = self.writers.remove(&mm)
        {
            self.remembered -= writers.arrived.len();
            self.forgotten_to_ns = self.forgotten_to_ns.max(last(&writers));
        }
    }

    /// Gives the window its id, and its conflicts.
    pub fn closed(&mut self, window: &mut WindowEvent) -> Vec<ConflictEvent> {
        self.last_window += 1;
        window.id = self.last_window;
        let writers = self.writers.get(&window.mm);
        let of_this = writers.map_or(0, |w| w.forgotten_to_ns);
        if self.forgotten_to_ns.max(of_this) > window.io_ns {
            self.forgotten += 1;
        }
        let Some(Writers { arrived, .. }) = writers else {
            return Vec::new();
        };
        let recent = arrived
            .iter()
            .rev()
            .take_while(|a| a.at_ns.saturating_add(SLACK_NS) >= window.io_ns)
            .count();
        let meets = |a: &&ArrivalEvent| {
            (window.io_ns..window.close_ns).contains(&a.at_ns)
                && a.start < window.vm_end
                && a.end > window.vm_start
                && a.tid != window.tid
        };
        let mut sections = Vec::new();
        let mut out = Vec::new();
        for a in arrived.range(arrived.len() - recent..).filter(meets) {
            if matches!(a.op, Op::Exit | Op::Exec) {
                self.stale += 1;
                continue;
            }
            let exact = a.mode == Mode::VmaWrite;
            let section = (a.tid, if exact { a.section_ns } else { a.at_ns }, exact);
            if sections.contains(&section) {
                continue;
            }
            sections.push(section);
            out.push(ConflictEvent {
                window: window.id,
                at_ns: a.at_ns,
                tid: a.tid,
                tgid: a.tgid,
                comm: a.comm.clone(),
                prio: a.prio,
                op: a.op,
                exact,
            });
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use profiler_common::words::Kind;

    use super::*;

    const S: u64 = 1_000_000_000;

    fn arrival(mm: u64, tid: u32, at_ns: u64) -> ArrivalEvent {
        ArrivalEvent {
            at_ns,
            section_ns: at_ns,
            mm,
            tid,
            tgid: 1,
            comm: String::new(),
            prio: 120,
            mode: Mode::VmaWrite,
            op: Op::Mmap,
            start: 0x1000,
            end: 0x2000,
            retry: false,
        }
    }

    fn window(mm: u64, io_ns: u64, close_ns: u64) -> WindowEvent {
        WindowEvent {
            id: 0,
            attempt_ns: io_ns,
            io_ns,
            close_ns,
            mm,
            tid: 999,
            tgid: 1,
            comm: String::new(),
            prio: 120,
            address: 0x1000,
            vm_start: 0x1000,
            vm_end: 0x2000,
            kind: Kind::File,
            retry: None,
            folio: None,
        }
    }

    #[test]
    fn those_that_came_while_it_was_open_in_order() {
        let mut c = Conflicts::default();
        // The third was overtaken.
        for (tid, at) in [(1, S), (2, 5 * S), (3, 5 * S - 1), (4, 6 * S), (5, 9 * S)] {
            c.arrived(&arrival(7, tid, at));
        }
        let tids = |c: &mut Conflicts, mm, from, to| -> Vec<u32> {
            let met = c.closed(&mut window(mm, from, to));
            met.iter().map(|conflict| conflict.tid).collect()
        };
        assert_eq!(tids(&mut c, 7, 5 * S - 1, 9 * S), [2, 3, 4]);
        assert_eq!(tids(&mut c, 7, 0, 10 * S), [1, 2, 3, 4, 5]);
        assert!(tids(&mut c, 8, 0, 10 * S).is_empty());
        assert_eq!(c.forgotten(), 0);
    }

    #[test]
    fn what_is_old_goes_with_its_memory_and_a_longer_window_says_so() {
        let mut c = Conflicts::default();
        for i in 0..5_000 {
            c.arrived(&arrival(7, 1, S + i));
        }
        c.passed(30 * S);
        assert_eq!((c.remembered, c.writers.len()), (5_000, 1));
        c.arrived(&arrival(7, 2, 30 * S));
        c.passed(70 * S);
        assert_eq!((c.remembered, c.writers.len()), (1, 1));
        assert!(c.writers[&7].arrived.capacity() <= 4);
        assert_eq!(c.closed(&mut window(7, 20 * S, 70 * S)).len(), 1);
        assert_eq!(c.forgotten(), 0);
        assert_eq!(c.closed(&mut window(7, S, 70 * S)).len(), 1);
        assert_eq!(c.forgotten(), 1);
        c.passed(100 * S);
        assert_eq!((c.remembered, c.writers.len()), (0, 0));
        c.closed(&mut window(7, 29 * S, 100 * S));
        assert_eq!(c.forgotten(), 2);
        c.closed(&mut window(7, 31 * S, 100 * S));
        assert_eq!(c.forgotten(), 2);
    }

    #[test]
    fn an_address_space_that_is_forgotten_is_told() {
        let mut c = Conflicts::default();
        for mm in 0..=MMS as u64 {
            c.arrived(&arrival(mm, 1, S + mm));
        }
        assert_eq!((c.remembered, c.writers.len()), (MMS, MMS));
        assert_eq!(c.closed(&mut window(0, S - 1, 2 * S)), []);
        assert_eq!(c.forgotten(), 1);
        assert_eq!(c.closed(&mut window(1, S + 1, 2 * S)).len(), 1);
        assert_eq!(c.forgotten(), 1);
    }

    #[test]
    fn memory_is_bounded_however_many_come() {
        let mut c = Conflicts::default();
        for i in 0..4 * ARRIVALS as u64 {
            c.arrived(&arrival(i % 100, 1, S + i));
            assert!(c.remembered <= ARRIVALS);
        }
        let kept: Vec<_> = c.writers.values().map(|w| &w.arrived).collect();
        let places: usize = kept.iter().map(|a| a.capacity()).sum();
        assert_eq!(c.remembered, kept.iter().map(|a| a.len()).sum::<usize>());
        assert!(places <= 4 * ARRIVALS, "{places}");
        // All at once.
        for i in 0..4 * ARRIVALS as u64 {
            c.arrived(&arrival(i % 100, 1, 2 * S));
            assert!(c.remembered <= ARRIVALS);
        }
    }
}
