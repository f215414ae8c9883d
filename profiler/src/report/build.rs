//! From a session and its counts to a report: what is known, what is not, and quantiles.

use std::collections::HashSet;

use profiler_common::words::{
    FallbackReason, FolioState, HeldWait, Kind, Loss, Mode, Op, Path, RetryReason,
};

use super::{
    Compared, Cost, CrossCheck, Distribution, FaultReport, Faults, HolderReport, LockReport,
    MmapLock, Named, OpReport, Report, SignalReport, TaskReport, TaskWaits, WaitReport, anatomy,
    blame::{self, Analysis},
    verdict,
};
use crate::{
    model::{self, Doing, FaultEvent, Hist, Knows, Session, Snapshot, Thread, WaitEvent},
    recording::{self, Recording},
};

/// Threads listed one by one.
pub const THREADS: usize = 1000;
/// Single waits and faults listed.
pub const WORST: u32 = 100;

/// `waits` and `faults` are the longest, longest first.
pub fn build(
    session: &Session,
    counts: &Snapshot,
    waits: &[WaitEvent],
    faults: &[FaultEvent],
    analysis: Analysis,
) -> Report {
    let knows = Knows::of(session);
    let tasks = |all: Vec<Thread>| all.iter().map(|t| task(t, &knows)).collect();
    let mut threads = counts.threads.clone();
    threads.sort_by_key(|t| std::cmp::Reverse((t.faults(), t.waits)));
    threads.truncate(THREADS);
    let with_role = |mut tasks: Vec<TaskReport>| {
        tasks
            .iter_mut()
            .for_each(|t| t.role = model::role(t.tgid, t.tid, &t.comm));
        tasks
    };
    Report {
        schema: session.schema,
        version: session.version.clone(),
        verdict: verdict(session, counts, waits),
        host: session.host.clone(),
        target: session.target.clone(),
        shown: None,
        tier: session.tier.clone(),
        vma_lock: session.vma_lock.clone(),
        mmap_lock_mode: session.mmap_lock.clone(),
        min_us: session.min_us,
        sample: session.sample,
        duration_ns: counts.duration_ns,
        complete: true,
        signals: Named(session.signals.iter().map(signal).collect()),
        loss: named(Loss::ALL, Loss::name, |loss| counts.losses[loss as usize]),
        faults: fault_figures(counts, &knows),
        mmap_lock: MmapLock {
            read: lock(counts, Mode::Read, &knows),
            write: lock(counts, Mode::Write, &knows),
        },
        vma_write: analysis.vma_write,
        chains: analysis.chains,
        inversions: analysis.inversions,
        windows: analysis.windows,
        conflicts: analysis.conflicts,
        what_if: analysis.what_if,
        stacks: analysis.stacks,
        vma_size: anatomy::vma_sizes(&counts.anatomy, &knows),
        cross_check: cross_check(counts, session.target == "system"),
        processes: tasks(counts.processes()),
        threads: with_role(tasks(threads)),
        threads_total: counts.threads.len() as u64,
        worst_waits: waits.iter().map(|w| wait(session, w, &knows)).collect(),
        worst_faults: faults.iter().map(|f| fault(session, f, &knows)).collect(),
        cost: Cost {
            cpu_ns: counts.own_cpu_ns,
            rss_bytes: counts.own_rss_bytes,
            map_bytes: session.map_bytes,
            start_ms: session.start_ms,
            own_faults: counts.own_faults,
            events_emitted: counts.events_emitted,
            events_received: counts.events_received,
        },
    }
}

/// The report of a recording, complete or not.
pub fn of(recording: &Recording) -> recording::Result<Report> {
    let counts = recording.snapshot()?;
    let analysis = blame::of(recording, &counts, &Knows::of(recording.session()))?;
    let mut report = build(
        recording.session(),
        &counts,
        &recording.worst_waits(WORST)?,
        &recording.worst_faults(WORST)?,
        analysis,
    );
    report.complete = recording.complete();
    match recording.shown().is_all() {
        true => Ok(report),
        false => narrowed(report, recording, counts),
    }
}

/// Its lists, of what is shown: threads, their processes, waits and faults. Sums and estimates stay those
/// of all.
fn narrowed(report: Report, recording: &Recording, all: Snapshot) -> recording::Result<Report> {
    let rows = recording.narrowed()?;
    let counts = Snapshot {
        threads: rows.threads()?,
        ..all
    };
    let lists = build(
        rows.session(),
        &counts,
        &rows.worst_waits(WORST)?,
        &rows.worst_faults(WORST)?,
        Analysis::default(),
    );
    // More threads may be shown than are listed one by one.
    let shown: HashSet<u32> = counts.threads.iter().map(|t| t.tgid).collect();
    let mut processes = report.processes;
    processes.retain(|p| shown.contains(&p.tgid));
    Ok(Report {
        shown: Some(rows.shown().to_string()),
        processes,
        threads: lists.threads,
        threads_total: lists.threads_total,
        worst_waits: lists.worst_waits,
        worst_faults: lists.worst_faults,
        ..report
    })
}

pub(super) fn named<W: Copy, V>(
    words: &[W],
    name: impl Fn(W) -> &'static str,
    value: impl Fn(W) -> V,
) -> Named<V> {
    let entry = |w: &W| (name(*w).to_owned(), value(*w));
    Named(words.iter().map(entry).collect())
}

fn signal(s: &model::Signal) -> (String, SignalReport) {
    let report = SignalReport {
        quality: s.quality,
        hook: s.hook.clone(),
        reason: s.reason.clone(),
    };
    (s.name.clone(), report)
}

fn by_path(knows: &Knows, count: impl Fn(Path) -> u64) -> Option<Named<Option<u64>>> {
    let value = |p| knows.path(p).then(|| count(p));
    knows.path.then(|| named(Path::ALL, Path::name, value))
}

fn fault_figures(counts: &Snapshot, knows: &Knows) -> Faults {
    let major = counts.majors_total();
    let unfinished = counts.path(Path::Error).count + counts.path(Path::Interrupted).count;
    let by_kind = |kind: Kind| {
        let of_path = |f: &model::FaultStats| f.by_kind[kind as usize];
        counts.faults.iter().map(of_path).sum::<u64>()
    };
    let reason = |r| counts.fallbacks[r as usize];
    let mut all = Hist::default();
    counts.faults.iter().for_each(|f| all.add(&f.latency));
    let mut latency = named(Path::ALL, Path::name, |p| {
        (knows.latency && knows.path(p)).then(|| distribution(&counts.path(p).latency))
    });
    latency
        .0
        .push(("all".into(), knows.latency.then(|| distribution(&all))));
    Faults {
        total: knows.count.then(|| counts.faults_total()),
        major: knows.count.then_some(major),
        minor: knows
            .count
            .then(|| counts.faults_total().saturating_sub(major + unfinished)),
        gup: (knows.all_ends && knows.path).then(|| counts.path(Path::Gup).count),
        remote: (knows.all_ends && knows.path).then(|| counts.path(Path::Remote).count),
        by_path: by_path(knows, |p| counts.path(p).count),
        major_by_path: by_path(knows, |p| counts.path(p).major),
        fallbacks: knows
            .fallback
            .then(|| named(FallbackReason::ALL, FallbackReason::name, reason)),
        retry_attempts: knows.all_ends.then(|| counts.anatomy.retries_total()),
        by_kind: knows.kind.then(|| named(Kind::ALL, Kind::name, by_kind)),
        latency_ns: latency,
        reasons: anatomy::reasons(&counts.anatomy, knows),
    }
}

pub(super) fn distribution(hist: &Hist) -> Distribution {
    let hdr = (hist.count > 0).then(|| hist.hdr());
    let at = |q: f64| Some(hdr.as_ref()?.value_at_quantile(q).min(hist.max_ns));
    Distribution {
        count: hist.count,
        sum: hist.sum_ns,
        max: (hist.count > 0).then_some(hist.max_ns),
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
    }
}

fn lock(counts: &Snapshot, mode: Mode, knows: &Knows) -> LockReport {
    let side = &counts.locks[mode as usize];
    let total = side.total();
    let op = |op: &Op| {
        let o = side.by_op[*op as usize];
        let report = OpReport {
            acquired: knows.acquired.then_some(o.acquired),
            waits: knows.wait.then_some(o.waits),
            wait_sum_ns: knows.wait.then_some(o.wait_sum_ns),
            wait_max_ns: knows.wait.then_some(o.wait_max_ns),
            holds: knows.hold.then_some(o.holds),
            hold_sum_ns: knows.hold.then_some(o.hold_sum_ns),
            hold_max_ns: knows.hold.then_some(o.hold_max_ns),
        };
        let seen = [report.acquired, report.waits, report.holds];
        let seen = seen.iter().any(|n| n.is_some_and(|n| n > 0));
        seen.then(|| (op.name().to_owned(), report))
    };
    LockReport {
        acquired: knows.acquired.then_some(total.acquired),
        waits: knows.wait.then_some(total.waits),
        wait_ns: knows.wait.then(|| distribution(&side.wait)),
        hold_ns: knows.hold.then(|| distribution(&side.hold)),
        by_op: knows
            .op
            .then(|| Named(Op::ALL.iter().filter_map(op).collect())),
        acquire_decades: knows.acquired.then(|| side.decades.to_vec()),
    }
}

fn task(t: &Thread, knows: &Knows) -> TaskReport {
    let waits = |mode: Mode| {
        let at = mode as usize;
        knows.wait.then(|| TaskWaits {
            waits: t.waits[at],
            wait_sum_ns: t.wait_sum_ns[at],
            wait_max_ns: t.wait_max_ns[at],
        })
    };
    TaskReport {
        tgid: t.tgid,
        tid: t.tid,
        comm: t.comm.clone(),
        container: (!t.container.is_empty()).then(|| t.container.clone()),
        ground: t.standing.ground,
        oom_score_adj: t.standing.oom_score_adj,
        role: None,
        ns_pid: t.ns_pid,
        exited: t.exited,
        faults: t.faults(),
        minor: t.minor,
        major: t.major,
        missed: t.missed(),
        by_path: by_path(knows, |p| t.on_path(p)),
        latency_sum_ns: knows.latency.then_some(t.sum_ns),
        latency_max_ns: knows.latency.then_some(t.max_ns),
        read: waits(Mode::Read),
        write: waits(Mode::Write),
        map_count: (t.map_count > 0).then_some(t.map_count),
        total_vm_pages: (t.total_vm > 0).then_some(t.total_vm),
    }
}

fn wait(session: &Session, w: &WaitEvent, knows: &Knows) -> WaitReport {
    let blamed = knows.holder || w.mode == Mode::VmaWrite;
    WaitReport {
        wait_ns: w.duration_ns(),
        start_ns: w.start_ns.saturating_sub(session.armed_monotonic_ns),
        lock: if w.mode == Mode::VmaWrite {
            "vma"
        } else {
            "mmap_lock"
        },
        mode: if w.mode == Mode::Read {
            "read"
        } else {
            "write"
        },
        op: w.op.name(),
        tid: w.tid,
        tgid: w.tgid,
        comm: w.comm.clone(),
        prio: w.prio,
        mm_tgid: w.mm_tgid,
        acquired: w.acquired,
        holder: w.holder.as_ref().map(|h| HolderReport {
            tid: h.tid,
            tgid: h.tgid,
            comm: h.comm.clone(),
            prio: h.prio,
            readers: h.readers,
            op: h.op.map(Op::name),
            doing: h.doing.map(Doing::name),
        }),
        blamed_ns: blamed.then_some(w.blame.blamed_ns),
        depth: blamed.then_some(w.blame.depth),
        inversion: blamed.then_some(w.blame.inversion),
    }
}

fn fault(session: &Session, f: &FaultEvent, knows: &Knows) -> FaultReport {
    FaultReport {
        latency_ns: f.duration_ns(),
        start_ns: f.start_ns.saturating_sub(session.armed_monotonic_ns),
        path: knows.path(f.path).then(|| f.path.name()),
        kind: knows.kind.then(|| f.kind.name()),
        fallback_reason: f.fallback.map(FallbackReason::name),
        major: f.major,
        retry_reason: f.retry.map(RetryReason::name),
        held_wait: f.held.map(HeldWait::name),
        folio_state: f.folio.map(FolioState::name),
        mmap_wait_ns: f.mmap_wait_ns,
        io_wait_ns: knows.io_wait.then_some(f.io_wait_ns),
        run_delay_ns: knows.run_delay.then_some(f.run_delay_ns),
        userfault_wait_ns: knows.userfault_wait.then_some(f.userfault_wait_ns),
        held_wait_ns: knows.held_wait.then_some(f.held_wait_ns),
        file: (knows.kind && !f.name.is_empty()).then(|| f.name.clone()),
        vma_bytes: knows.kind.then(|| f.vm_end.saturating_sub(f.vm_start)),
        attempts: knows.kind.then_some(f.attempts),
        tid: f.tid,
        tgid: f.tgid,
        comm: f.comm.clone(),
        prio: f.prio,
        address: f.address,
    }
}

/// `pgfault` counts what ended, errors and vmascope's own faults included. `pgmajfault` is counted
/// where I/O starts, so a fault that started it and was interrupted is in the kernel's figure only.
fn cross_check(counts: &Snapshot, whole_system: bool) -> CrossCheck {
    let compared = |kernel: u64, measured: u64| Compared {
        kernel,
        measured,
        difference: measured.wrapping_sub(kernel).cast_signed(),
    };
    let accounted = counts.threads.iter().map(|t| t.minor + t.major).sum();
    let finished = |t: &Thread| t.faults() - t.on_path(Path::Error) - t.on_path(Path::Interrupted);
    let measured = counts.threads.iter().map(finished).sum();
    let ended = counts.faults_total() - counts.path(Path::Interrupted).count;
    let vma_lock = |i: usize| {
        let kept = counts.vmstat_vma_lock.filter(|_| whole_system)?;
        Some(kept[i])
    };
    CrossCheck {
        threads: compared(accounted, measured),
        pgfault: whole_system.then(|| compared(counts.vmstat_pgfault, ended + counts.own_faults)),
        pgmajfault: whole_system.then(|| compared(counts.vmstat_pgmajfault, counts.majors_total())),
        vma_lock_success: vma_lock(0).map(|n| compared(n, counts.path(Path::VmaLock).count)),
        vma_lock_abort: vma_lock(1).map(|n| compared(n, counts.fallbacks.iter().sum())),
    }
}
