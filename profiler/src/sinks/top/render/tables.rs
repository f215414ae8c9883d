//! The three tables of the screen: faults by path, `mmap_lock`, processes.

use profiler_common::words::{Mode, Path};
use ratatui::{style::Style, text::Line};

use super::columns::{Row, column, table};
use crate::{
    model::{Figure, Hist, Quality},
    report::units::{clean, percent, rate, time},
    sinks::top::{
        app::App,
        rates::PathRate,
        view::{Sort, State},
    },
};

/// First columns of the two upper tables, and of the third: a pid and a name of fifteen bytes.
const NAME: usize = 12;
const PROCESS: usize = 7 + 1 + 15;

fn title(app: &App, text: &str, figure: Figure) -> String {
    match app.session.signal(figure).map(|s| s.quality) {
        Some(Quality::Approximate) => format!("{text} ~"),
        _ => text.to_owned(),
    }
}

fn quantiles(hist: &Hist, known: bool, style: Style) -> Vec<(String, Style)> {
    let cell = |ns: Option<u64>| (ns.filter(|_| known).map_or("-".into(), time), style);
    vec![
        cell(hist.quantile(0.5)),
        cell(hist.quantile(0.99)),
        cell((hist.count > 0).then_some(hist.max_ns)),
    ]
}

pub fn faults(app: &App, width: usize) -> Vec<Line<'static>> {
    let known = app.session.has(Figure::FaultLatency);
    let all = &app.rates.all;
    let row = |name: &str, p: &'_ PathRate, style: Style| {
        let share = percent((p.per_s * 1e3) as u64, (all.per_s * 1e3) as u64);
        let mut cells = vec![
            (rate(p.per_s), style),
            (share, style),
            (rate(p.major_per_s), style),
        ];
        cells.extend(quantiles(&p.latency, known, style));
        (name.to_owned(), cells)
    };
    let mut rows = Vec::new();
    let paths = if app.session.has(Figure::FaultPath) {
        app.paths()
    } else {
        Vec::new()
    };
    for path in paths {
        let p = &app.rates.paths[path as usize];
        // Waiting for mmap_lock is what these two are about.
        let style = match path {
            Path::Fallback | Path::Retry if p.per_s > 0.0 => app.look.wait(),
            _ => Style::new(),
        };
        let (name, cells) = row(path.name(), p, style);
        let trend = Some(&p.trend);
        rows.push(Row { name, cells, trend });
    }
    let (name, cells) = row("all", all, Style::new());
    let trend = Some(&all.trend);
    rows.push(Row { name, cells, trend });
    let columns = [
        column("per s", 9, 0),
        column("share", 7, 3),
        column("major/s", 7, 1),
        column("p50", 7, 1),
        column("p99", 7, 0),
        column("max", 7, 2),
    ];
    let head = title(app, "FAULTS", Figure::FaultPath);
    table(app.look, &head, NAME, &columns, &rows, width)
}

pub fn locks(app: &App, width: usize) -> Vec<Line<'static>> {
    let row = |mode: &Mode| {
        let known = app.session.has(Figure::waits(*mode));
        let l = &app.rates.locks[*mode as usize];
        let style = if l.waits_per_s > 0.0 {
            app.look.wait()
        } else {
            Style::new()
        };
        let figure = |known: bool, text: String| {
            let text = if known { text } else { "-".into() };
            (text, style)
        };
        let mut cells = vec![
            figure(known, rate(l.waits_per_s)),
            figure(known, threads(l.waiting)),
            figure(
                known
                    && app.session.mmap_lock == "all"
                    && app.session.has(Figure::MmapLockAcquired),
                rate(l.acquired_per_s),
            ),
        ];
        cells.extend(quantiles(&l.wait, known, style));
        let name = mode.name().to_owned();
        let trend = Some(&l.trend);
        Row { name, cells, trend }
    };
    let columns = [
        column("waits/s", 9, 0),
        column("waiting", 8, 1),
        column("taken/s", 7, 3),
        column("p50", 7, 1),
        column("p99", 7, 0),
        column("max", 7, 2),
    ];
    let rows: Vec<_> = Mode::ALL.iter().map(row).collect();
    let head = title(app, "MMAP_LOCK", Figure::MmapLockWait);
    table(app.look, &head, NAME, &columns, &rows, width)
}

/// Waiting time over time, as a share of one thread: `12.3 %`, and `3.2 thr` when several wait.
pub fn threads(waiting: f64) -> String {
    if waiting >= 1.0 {
        format!("{} thr", rate(waiting))
    } else {
        percent((waiting * 1e6) as u64, 1_000_000)
    }
}

pub fn processes(app: &App, width: usize, height: usize) -> Vec<Line<'static>> {
    if height < 2 {
        return Vec::new();
    }
    let shown = app.processes();
    let row = |p: &&crate::sinks::top::rates::ProcessRate| {
        let plain = |text| (text, Style::new());
        let wait = |mode: Mode| {
            let w = p.waiting[mode as usize];
            let style = if w > 0.0 {
                app.look.wait()
            } else {
                Style::new()
            };
            let known = app.session.has(Figure::MmapLockWait);
            (if known { threads(w) } else { "-".into() }, style)
        };
        Row {
            name: format!("{:>7} {}", p.tgid, clean(&p.comm)),
            cells: vec![
                plain(rate(p.faults_per_s)),
                plain(rate(p.major_per_s)),
                plain(if app.session.has(Figure::FaultPath) {
                    rate(p.mmap_lock_per_s)
                } else {
                    "-".into()
                }),
                wait(Mode::Read),
                wait(Mode::Write),
                plain(p.standing.short()),
            ],
            trend: None,
        }
    };
    let rows: Vec<_> = shown.iter().take(height - 1).map(row).collect();
    let head = |sort: Sort, text: &str, width, spare| {
        let mark = if app.sort == sort {
            app.look.sorted(app.reverse)
        } else {
            ""
        };
        // The column that was asked for is never given up.
        let spare = if app.sort == sort { 0 } else { spare };
        column(&format!("{text}{mark}"), width, spare)
    };
    let mut columns = vec![
        head(Sort::Faults, "faults/s", 9, 0),
        head(Sort::Major, "major/s", 8, 3),
        head(Sort::MmapLock, "mmap_lock/s", 12, 4),
        head(Sort::ReadWait, "read wait", 10, 2),
        head(Sort::WriteWait, "write wait", 11, 1),
    ];
    // Only Android has something to say there.
    if shown.iter().any(|p| p.standing.ground.is_some()) {
        columns.push(column("ground", 7, 5));
    }
    let mut lines = table(app.look, "    PID PROCESS", PROCESS, &columns, &rows, width);
    if rows.is_empty() {
        let why = match app.state() {
            _ if app.is_narrowed() && !app.rates.processes.is_empty() => {
                "(none of that name is busy)"
            }
            State::Playing => "(a recording tells of processes at its end)",
            State::Live | State::Off | State::Ended => "(none had a fault or waited)",
        };
        lines.push(Line::styled(why, app.look.dim()));
    }
    lines
}
