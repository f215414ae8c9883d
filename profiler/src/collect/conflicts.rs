//! Which writers would have met a fault that waits. In: windows as they close, and the requests for
//! locks that arrived while one was open. Out: conflicts: one for each pair of a write section and a
//! window whose ranges overlap, however many VMAs the section locked.

use std::collections::{HashMap, VecDeque};

use profiler_common::words::{Mode, Op};

use crate::model::{ArrivalEvent, ConflictEvent, WindowEvent};

/// Writers' arrivals remembered in one address space, and address spaces.
const WRITERS_OF_ONE: usize = 8 * 1024;
const MMS: usize = 256;

#[derive(Default)]
pub struct Conflicts {
    writers: HashMap<u64, Writers>,
    last_window: u64,
    forgotten: u64,
    stale: u64,
}

#[derive(Default)]
struct Writers {
    arrived: VecDeque<ArrivalEvent>,
    forgotten_to_ns: u64,
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
        if !self.writers.contains_key(&arrival.mm) && self.writers.len() >= MMS {
            let last = |w: &Writers| w.arrived.back().map_or(0, |a| a.at_ns);
            let oldest = self.writers.iter().min_by_key(|(_, w)| last(w));
            if let Some(mm) = oldest.map(|(mm, _)| *mm) {
                self.writers.remove(&mm);
            }
        }
        let writers = self.writers.entry(arrival.mm).or_default();
        writers.arrived.push_back(arrival.clone());
        if writers.arrived.len() > WRITERS_OF_ONE
            && let Some(old) = writers.arrived.pop_front()
        {
            writers.forgotten_to_ns = old.at_ns;
        }
    }

    /// Gives the window its id, and its conflicts.
    pub fn closed(&mut self, window: &mut WindowEvent) -> Vec<ConflictEvent> {
        self.last_window += 1;
        window.id = self.last_window;
        let Some(writers) = self.writers.get(&window.mm) else {
            return Vec::new();
        };
        if writers.forgotten_to_ns > window.io_ns {
            self.forgotten += 1;
        }
        let meets = |a: &&ArrivalEvent| {
            (window.io_ns..window.close_ns).contains(&a.at_ns)
                && a.start < window.vm_end
                && a.end > window.vm_start
                && a.tid != window.tid
        };
        let mut sections = Vec::new();
        let mut out = Vec::new();
        for a in writers.arrived.iter().filter(meets) {
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
