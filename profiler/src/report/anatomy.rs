//! The part of the report on the inside of slow faults. In: the counts, and what of them is known.
//! Out: figures, and their tables for the page of text.

use profiler_common::words::{FolioState, HeldWait, IoprioClass, Kind, PrioClass, RetryReason};
use serde::Serialize;

use super::{
    Distribution, Named, Report,
    build::{distribution, named},
    table::{Cell, Table},
    text::{duration, quantiles, title},
    units::{bytes, time},
};
use crate::model::{self, Anatomy, Figure, Hist, Knows};

/// Sums over the faults that left the common path; the parts and the rest add up to the total.
#[derive(Clone, Debug, Serialize)]
pub struct Components {
    pub faults: u64,
    pub total: u64,
    pub mmap_lock_wait: Option<u64>,
    /// With the lock given up, until the thread was woken.
    pub io_wait: Option<u64>,
    /// From there until it ran.
    pub run_delay: Option<u64>,
    pub userfault_wait: Option<u64>,
    pub held_wait: Option<u64>,
    pub rest: u64,
}

/// VMAs of at least `min_pages` and less than twice as many.
#[derive(Clone, Debug, Serialize)]
pub struct VmaSize {
    pub min_pages: u64,
    /// Estimated from one common fault in 16.
    pub faults: u64,
    pub retries: u64,
    pub wait_ns: u64,
}

/// Time in `io_schedule` inside faults, by the priority of the thread.
#[derive(Clone, Debug, Serialize)]
pub struct IoWait {
    pub prio_class: &'static str,
    pub ioprio_class: &'static str,
    pub wait_ns: Distribution,
    pub run_delay_sum_ns: Option<u64>,
    pub run_delay_max_ns: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Reasons {
    /// Attempts that returned `VM_FAULT_RETRY`.
    pub retries: Option<Named<u64>>,
    /// Faults, by the longest of their held waits; and the time of each.
    pub held_waits: Option<Named<u64>>,
    pub held_wait_ns: Option<Named<u64>>,
    /// Of attempts that returned `VM_FAULT_RETRY`.
    pub folio_state: Option<Named<u64>>,
    pub components_ns: Components,
    pub components_by_kind_ns: Option<Named<Components>>,
    /// By priority class.
    pub io_wait_ns: Option<Named<Distribution>>,
    /// By priority class and I/O class, where there were any.
    pub io_wait: Option<Vec<IoWait>>,
}

pub fn reasons(a: &Anatomy, knows: &Knows) -> Reasons {
    let held = knows.held_wait;
    let kinds = || {
        named(Kind::ALL, Kind::name, |kind| {
            components(&a.components[kind as usize], knows)
        })
    };
    Reasons {
        retries: knows.retry_reason.then(|| {
            named(RetryReason::ALL, RetryReason::name, |r| {
                a.retries[r as usize]
            })
        }),
        held_waits: held
            .then(|| named(HeldWait::ALL, HeldWait::name, |r| a.held_waits[r as usize])),
        held_wait_ns: held.then(|| {
            named(HeldWait::ALL, HeldWait::name, |r| {
                a.held_wait_ns[r as usize]
            })
        }),
        folio_state: knows.folio_state.then(|| {
            named(FolioState::ALL, FolioState::name, |s| {
                a.folio_states[s as usize]
            })
        }),
        components_ns: components(&a.components_total(), knows),
        components_by_kind_ns: knows.kind.then(kinds),
        io_wait_ns: knows.io_wait.then(|| by_class(a)),
        io_wait: knows.io_wait.then(|| io_waits(a, knows)),
    }
}

fn components(c: &model::Components, knows: &Knows) -> Components {
    Components {
        faults: c.faults,
        total: c.total_ns,
        mmap_lock_wait: knows.wait.then_some(c.mmap_lock_wait_ns),
        io_wait: knows.io_wait.then_some(c.io_wait_ns),
        run_delay: knows.run_delay.then_some(c.run_delay_ns),
        userfault_wait: knows.userfault_wait.then_some(c.userfault_wait_ns),
        held_wait: knows.held_wait.then_some(c.held_wait_ns),
        rest: c.rest_ns(),
    }
}

fn by_class(a: &Anatomy) -> Named<Distribution> {
    named(PrioClass::ALL, PrioClass::name, |class| {
        let mut sum = Hist::default();
        for ((prio, _), io) in Anatomy::io_classes().zip(&a.io) {
            if prio == class {
                sum.add(&io.wait);
            }
        }
        distribution(&sum)
    })
}

fn io_waits(a: &Anatomy, knows: &Knows) -> Vec<IoWait> {
    let figures = |((prio, ioprio), io): ((PrioClass, IoprioClass), &model::IoWait)| IoWait {
        prio_class: prio.name(),
        ioprio_class: ioprio.name(),
        wait_ns: distribution(&io.wait),
        run_delay_sum_ns: knows.run_delay.then_some(io.run_delay_sum_ns),
        run_delay_max_ns: knows.run_delay.then_some(io.run_delay_max_ns),
    };
    Anatomy::io_classes()
        .zip(&a.io)
        .filter(|(_, io)| io.wait.count > 0)
        .map(figures)
        .collect()
}

pub fn vma_sizes(a: &Anatomy, knows: &Knows) -> Option<Vec<VmaSize>> {
    let row = |i: usize| VmaSize {
        min_pages: 1 << i,
        faults: a.size_faults[i],
        retries: a.size_retries[i],
        wait_ns: a.size_wait_ns[i],
    };
    knows
        .vma_size
        .then(|| (0..a.size_faults.len()).map(row).collect())
}

/// Where the time of slow faults went, by kind.
pub fn slow_faults(r: &Report) -> Option<String> {
    let reasons = &r.faults.reasons;
    let mut table = Table::new([
        "ANATOMY", "count", "total", "mm lock", "I/O", "delay", "uffd", "held", "rest",
    ]);
    let mut row = |name: &str, c: &Components| {
        let mut cells: Vec<Cell> = vec![name.to_owned().into(), c.faults.into()];
        cells.push(time(c.total).into());
        let parts = [
            c.mmap_lock_wait,
            c.io_wait,
            c.run_delay,
            c.userfault_wait,
            c.held_wait,
        ];
        cells.extend(parts.map(|ns| Cell::from(duration(ns))));
        cells.push(time(c.rest).into());
        table.rows.push(cells);
    };
    if reasons.components_ns.faults == 0 {
        return None;
    }
    if let Some(kinds) = &reasons.components_by_kind_ns {
        for (kind, c) in kinds.0.iter().filter(|(_, c)| c.faults > 0) {
            row(kind, c);
        }
    }
    row("all", &reasons.components_ns);
    Some(table.render())
}

/// I/O under faults, by the priority of who waited.
pub fn io_wait(r: &Report) -> Option<String> {
    let name = title(r, "I/O WAIT", &[Figure::IoWait]);
    let mut table = Table::new([&name, "count", "sum", "p50", "p99", "max", "run delay"]);
    for io in r.faults.reasons.io_wait.as_ref()? {
        let class = format!("{}, io {}", io.prio_class, io.ioprio_class);
        let mut cells: Vec<Cell> = vec![class.into(), io.wait_ns.count.into()];
        cells.push(time(io.wait_ns.sum).into());
        cells.extend(quantiles(Some(&io.wait_ns)).map(Cell::from));
        cells.push(duration(io.run_delay_sum_ns).into());
        table.rows.push(cells);
    }
    (!table.is_empty()).then(|| table.render())
}

/// Sixteen-fold steps: the recording has every power of two.
pub fn vma_size(r: &Report) -> Option<String> {
    const STEP: usize = 4;
    let name = title(r, "VMA SIZE", &[Figure::VmaSize]);
    let mut table = Table::new([&name, "faults", "retries", "waited"]);
    for sizes in r.vma_size.as_ref()?.chunks(STEP) {
        let sum = |f: fn(&VmaSize) -> u64| sizes.iter().map(f).sum::<u64>();
        let (faults, retries, wait) = (sum(|s| s.faults), sum(|s| s.retries), sum(|s| s.wait_ns));
        if faults + retries + wait > 0 {
            let first = sizes.first().map_or(0, |s| s.min_pages);
            let from = first.saturating_mul(r.host.page_size);
            let cells: [Cell; 4] = [
                format!("from {}", bytes(from)).into(),
                faults.into(),
                retries.into(),
                time(wait).into(),
            ];
            table.rows.push(cells.into());
        }
    }
    (!table.is_empty()).then(|| table.render())
}
