//! One process: its faults by path, what it waited for and made others wait for, why its slow faults
//! were slow, in how big VMAs, and its threads. Counts are of the counters, since arming; what is told
//! by single events is said to be.

use profiler_common::{
    hist::LOG2_BUCKETS,
    words::{Mode, Op, Path},
};
use ratatui::{
    style::Style,
    text::{Line, Span},
};

use super::{
    columns::{Row, column, table},
    part, tables,
};
use crate::{
    model::{Figure, Process, Thread},
    report::units::{bytes, clean, count, percent, short, time, within},
    sinks::top::{
        app::App,
        digest::{Digest, Sum},
        rates::ProcessRate,
    },
};

/// A number, a name of fifteen bytes, and the mark of one that exited.
const NAME: usize = 7 + 1 + 15 + 2;

pub fn draw(app: &App, tgid: u32, width: usize) -> Vec<Line<'static>> {
    let last = app.rates.last();
    let threads: Vec<&Thread> = last.threads.iter().filter(|t| t.tgid == tgid).collect();
    let Some(main) = threads.iter().find(|t| t.tid == tgid).or(threads.first()) else {
        let text = format!("process {tgid} is not known any more: Esc goes back");
        return vec![Line::styled(text, app.look.dim())];
    };
    let mut all = Process {
        comm: main.comm.clone(),
        container: main.container.clone(),
        ns_pid: main.ns_pid,
        exited: true,
        ..Process::default()
    };
    for t in &threads {
        all.absorb(t);
        all.exited &= t.exited;
    }
    let mut lines = head(app, tgid, &all, &threads, width);
    lines.extend(now(app, tgid, width));
    lines.push(Line::default());
    lines.extend(faults(app, &all, width));
    if let Some(digest) = app.events().digests.of(tgid) {
        lines.extend(events(app, digest, width));
    }
    lines.push(Line::default());
    lines.extend(list(app, threads, width));
    lines
}

fn head(
    app: &App,
    tgid: u32,
    p: &Process,
    threads: &[&Thread],
    width: usize,
) -> Vec<Line<'static>> {
    let living = threads.iter().filter(|t| !t.exited).count();
    let inside = p.ns_pid.map(|n| format!(", {}", within(n, &p.container)));
    let inside = inside.unwrap_or_default();
    let mut text = format!("{} ({tgid}{inside})", clean(&p.comm));
    if p.exited {
        text.push_str(", exited");
    }
    let main = threads.iter().find(|t| t.tid == tgid);
    let ground = main.map_or(String::new(), |t| t.standing.short());
    if !ground.is_empty() {
        text.push_str(&format!(", {ground}"));
    }
    let n = threads.len() as u64;
    text.push_str(&format!(", {n} thread{}", plural(n)));
    if living < threads.len() && !p.exited {
        text.push_str(&format!(", {living} of them living"));
    }
    if p.map_count > 0 {
        let size = bytes(p.total_vm.saturating_mul(app.session.host.page_size));
        text.push_str(&format!(", {} VMAs, {size}", count(p.map_count)));
    }
    let lines = super::text(&text, width).into_iter();
    lines.map(|line| line.style(app.look.head())).collect()
}

/// Of the last interval: a recording tells of processes only at its end.
fn now(app: &App, tgid: u32, width: usize) -> Vec<Line<'static>> {
    let is_it = |p: &&ProcessRate| p.tgid == tgid && !app.is_recording();
    let Some(p) = app.rates.processes.iter().find(is_it) else {
        return Vec::new();
    };
    let text = format!(
        "now {} faults/s, {} of them major; waiting for mmap_lock {} to read, {} to write",
        crate::report::units::rate(p.faults_per_s),
        crate::report::units::rate(p.major_per_s),
        tables::threads(p.waiting[Mode::Read as usize]),
        tables::threads(p.waiting[Mode::Write as usize]),
    );
    super::text(&text, width)
}

fn faults(app: &App, p: &Process, width: usize) -> Vec<Line<'static>> {
    let look = app.look;
    let text = format!(
        "SINCE ARMING  {} faults, {} minor, {} major",
        count(p.faults()),
        count(p.minor),
        count(p.major)
    );
    let mut lines = vec![Line::styled(part(&text, width), look.head())];
    if app.session.has(Figure::FaultPath) && p.faults() > 0 {
        let paths = Path::ALL.iter().filter(|path| p.on_path(**path) > 0);
        let each = paths.map(|path| {
            let n = p.on_path(*path);
            format!("{} {} ({})", path.name(), count(n), percent(n, p.faults()))
        });
        lines.extend(super::text(&each.collect::<Vec<_>>().join(", "), width));
    }
    let timed: u64 = p.log2_us.iter().sum();
    if app.session.has(Figure::FaultLatency) && timed > 0 {
        let bar = |n: &u64| {
            if *n == 0 {
                0.0
            } else {
                1.0 + (*n as f64).log2()
            }
        };
        let bars = look.bars(p.log2_us.iter().map(bar), LOG2_BUCKETS);
        let empty = |(c, n): (char, &u64)| if *n == 0 { ' ' } else { c };
        let bars: String = bars.chars().zip(&p.log2_us).map(empty).collect();
        lines.push(Line::from(vec![
            Span::raw("latency from 1 us up ".to_owned()),
            Span::styled(bars, look.trend()),
            Span::raw(format!(" max {}", time(p.max_ns))),
        ]));
    }
    if app.session.has(Figure::MmapLockWait) {
        let modes = Mode::ALL.iter().filter(|m| p.waits[**m as usize] > 0);
        let each = modes.map(|m| {
            let i = *m as usize;
            format!(
                "{} {} in {} wait{}, max {}",
                mode(*m),
                time(p.wait_sum_ns[i]),
                count(p.waits[i]),
                plural(p.waits[i]),
                time(p.wait_max_ns[i])
            )
        });
        let each: Vec<_> = each.collect();
        if !each.is_empty() {
            lines.extend(super::text(
                &format!("waited for {}", each.join("; ")),
                width,
            ));
        }
    }
    lines
}

fn plural(n: u64) -> &'static str {
    if n == 1 { "" } else { "s" }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Read => "mmap read",
        Mode::Write => "mmap write",
        Mode::VmaWrite => "vma write",
    }
}

/// What single events of it come to, longest first.
fn events(app: &App, digest: &Digest, width: usize) -> Vec<Line<'static>> {
    let mut rows: Vec<(String, Sum)> = Vec::new();
    for ((m, op), sum) in &digest.waits {
        rows.push((format!("waited on {} for {}", mode(*m), op.name()), *sum));
    }
    for (op, sum) in &digest.blamed {
        let op = op.map_or("something", Op::name);
        rows.push((format!("in others' way with {op}"), *sum));
    }
    for ((what, why), sum) in &digest.reasons {
        rows.push((format!("faults: {what} {why}"), *sum));
    }
    for (size, sum) in &digest.sizes {
        rows.push((format!("faults in VMAs from {}", bytes(1 << size)), *sum));
    }
    let row = |(name, sum): (String, Sum)| Row {
        name,
        cells: vec![
            (short(sum.count), Style::new()),
            (time(sum.sum_ns), Style::new()),
            (time(sum.max_ns), Style::new()),
        ],
        trend: None,
    };
    let rows: Vec<_> = rows.into_iter().map(row).collect();
    if rows.is_empty() {
        return Vec::new();
    }
    let columns = [
        column("events", 7, 1),
        column("time", 8, 0),
        column("longest", 8, 2),
    ];
    let head = format!("FROM {} us ON", app.session.min_us);
    let mut lines = vec![Line::default()];
    lines.extend(table(app.look, &head, 36, &columns, &rows, width));
    lines
}

/// Most faults first, then those that waited.
fn list(app: &App, mut threads: Vec<&Thread>, width: usize) -> Vec<Line<'static>> {
    threads.sort_by_key(|t| {
        let waited: u64 = t.wait_sum_ns.iter().sum();
        std::cmp::Reverse((t.faults(), waited))
    });
    let under_mmap_lock = |t: &Thread| {
        [Path::Fallback, Path::Retry, Path::MmapLock]
            .map(|path| t.on_path(path))
            .iter()
            .sum::<u64>()
    };
    let row = |t: &&Thread| {
        let known = |figure: Figure, text: String| {
            let text = if app.session.has(figure) {
                text
            } else {
                "-".into()
            };
            (text, Style::new())
        };
        let waited = |m: Mode| known(Figure::MmapLockWait, time(t.wait_sum_ns[m as usize]));
        let gone = if t.exited { " x" } else { "" };
        // The thread that draws says so by its name.
        let main = if t.tid == t.tgid { "*" } else { " " };
        Row {
            name: format!("{main}{:>6} {}{gone}", t.tid, clean(&t.comm)),
            cells: vec![
                (short(t.faults()), Style::new()),
                (short(t.major), Style::new()),
                known(Figure::FaultPath, short(under_mmap_lock(t))),
                waited(Mode::Read),
                waited(Mode::Write),
                known(
                    Figure::VmaWriteWait,
                    time(t.wait_sum_ns[Mode::VmaWrite as usize]),
                ),
            ],
            trend: None,
        }
    };
    let rows: Vec<_> = threads.iter().map(row).collect();
    let columns = [
        column("faults", 8, 0),
        column("major", 7, 3),
        column("mmap_lock", 9, 4),
        column("read wait", 9, 2),
        column("write wait", 10, 1),
        column("vma wait", 9, 5),
    ];
    table(
        app.look,
        "    TID THREAD, x: exited",
        NAME,
        &columns,
        &rows,
        width,
    )
}
