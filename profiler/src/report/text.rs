//! The report as one page of text: 80 columns, ASCII, the verdict first. In: a report, nothing
//! else, so the page and the JSON cannot disagree. Out: a string.

use super::{
    Distribution, FaultReport, LockReport, Named, OpReport, Report, TaskReport, TaskWaits,
    WaitReport, anatomy, blame, lkml, stacks,
    table::{Cell, FIRST, Table, WIDTH},
    units::{bytes, clean, count, percent, readers, time, within, wrap},
};
use crate::model::{Figure, Quality, Standing};

/// Rows of the long lists, of processes or threads here; JSON and the recording have them all.
const TASKS: usize = 10;
const OPS: usize = 8;
const WORST: usize = 5;
const CHAINS: usize = 3;

pub fn text(r: &Report) -> String {
    let mut parts = vec![head(r), lkml::answered(r)];
    parts.extend(faults(r));
    parts.extend(anatomy::slow_faults(r));
    parts.extend(anatomy::io_wait(r));
    parts.extend(anatomy::vma_size(r));
    parts.extend(locks(r));
    parts.extend(by_op(r));
    parts.extend(decades(r));
    parts.extend(blame_tables(r));
    parts.extend(worst_waits(r));
    parts.extend(worst_faults(r));
    parts.extend(processes(r));
    parts.extend(threads(r));
    parts.push(trust(r));
    parts.join("\n")
}

/// What `record` says at its end.
pub fn short(r: &Report) -> String {
    let mut parts = vec![head(r)];
    parts.extend(faults(r));
    parts.extend(locks(r));
    parts.push(losses(r));
    parts.join("\n")
}

fn head(r: &Report) -> String {
    let mut out = wrap(&r.verdict, WIDTH, "");
    if !r.complete {
        out.push_str("\n\nThe recording is not complete: it ends with its last interval.");
    }
    let host = format!(
        "{}, Linux {} {}, {} CPUs, {} pages",
        clean(&r.host.name),
        r.host.kernel,
        r.host.arch,
        r.host.cpus,
        bytes(r.host.page_size),
    );
    let mut target = format!(
        "target {}, tier {}, VMA lock {}, mmap_lock {}, events from {} us on",
        clean(&r.target),
        r.tier,
        r.vma_lock,
        r.mmap_lock_mode,
        r.min_us
    );
    if r.sample > 1 {
        target.push_str(&format!(", 1 fault in {} timed", r.sample));
    }
    let mut lines = vec![host, target];
    lines.extend(listed(r));
    let lines = lines.iter().map(|line| wrap(line, WIDTH, "  ") + "\n");
    format!("{out}\n\n{}", lines.collect::<String>())
}

/// What the lists are of, if they are not of all.
pub(super) fn listed(r: &Report) -> Option<String> {
    let shown = clean(r.shown.as_deref()?);
    let none = match r.threads.is_empty() {
        true => ": no such thread was seen",
        false => ", counts and estimates are of all",
    };
    Some(format!("lists are of {shown}{none}"))
}

pub(super) fn duration(ns: Option<u64>) -> String {
    ns.map_or("-".into(), time)
}

pub(super) fn quantiles(d: Option<&Distribution>) -> [String; 3] {
    let of = |f: fn(&Distribution) -> Option<u64>| duration(d.and_then(f));
    [of(|d| d.p50), of(|d| d.p99), of(|d| d.max)]
}

pub(super) fn title(r: &Report, text: &str, figures: &[Figure]) -> String {
    let is_approximate = |figure: &Figure| {
        let signal = r.signal(*figure);
        signal.is_some_and(|s| s.quality == Quality::Approximate)
    };
    if figures.iter().any(is_approximate) {
        format!("{text} (approx.)")
    } else {
        text.to_owned()
    }
}

fn faults(r: &Report) -> Option<String> {
    let f = &r.faults;
    let total = f.total?;
    let name = title(r, "FAULTS", &[Figure::FaultCount, Figure::FaultPath]);
    let mut table = Table::new([&name, "count", "share", "major", "p50", "p99", "max"]);
    let mut row = |name: &str, n: u64, major: Option<u64>, latency: &str| {
        let latency = f.latency_ns.get(latency).and_then(Option::as_ref);
        let mut cells: Vec<Cell> = vec![name.to_owned().into(), n.into()];
        cells.extend([percent(n, total).into(), major.into()]);
        cells.extend(quantiles(latency).map(Cell::from));
        table.rows.push(cells);
    };
    if let Some(paths) = &f.by_path {
        for (path, n) in &paths.0 {
            let Some(n) = n.filter(|n| *n > 0) else {
                continue;
            };
            let major = f.major_by_path.as_ref().and_then(|m| *m.get(path)?);
            row(path, n, major, path);
        }
    }
    row("all", total, f.major, "all");
    let mut out = table.render();
    let mut list = |name: String, of: Option<&Named<u64>>| {
        let seen = of.map(|of| of.0.iter().filter(|(_, n)| *n > 0).collect::<Vec<_>>());
        let Some(seen) = seen.filter(|s| !s.is_empty()) else {
            return;
        };
        let each = |(word, n): &&(String, u64)| format!("{word} {}", count(*n));
        let all: Vec<_> = seen.iter().map(each).collect();
        let line = format!("{name}: {}", all.join(", "));
        out.push_str(&wrap(&line, WIDTH, "  "));
        out.push('\n');
    };
    list(title(r, "kinds", &[Figure::FaultKind]), f.by_kind.as_ref());
    let reasons = title(r, "fallback reasons", &[Figure::FallbackReason]);
    list(reasons, f.fallbacks.as_ref());
    let reasons = &f.reasons;
    let name = title(r, "retry reasons", &[Figure::RetryReason]);
    list(name, reasons.retries.as_ref());
    let name = title(r, "folio at a retry", &[Figure::FolioState]);
    list(name, reasons.folio_state.as_ref());
    let name = title(r, "waits with the lock held", &[Figure::HeldWait]);
    list(name, reasons.held_waits.as_ref());
    Some(out)
}

fn locks(r: &Report) -> Option<String> {
    let name = title(
        r,
        "MMAP_LOCK",
        &[Figure::MmapLockWait, Figure::MmapLockHold],
    );
    let mut table = Table::new([&name, "count", "sum", "mean", "p50", "p99", "max"]);
    for (mode, side) in [("read", &r.mmap_lock.read), ("write", &r.mmap_lock.write)] {
        if let Some(n) = side.acquired {
            table
                .rows
                .push(vec![format!("{mode} acquired").into(), n.into()]);
        }
        for (what, of) in [("waits", &side.wait_ns), ("holds", &side.hold_ns)] {
            let Some(d) = of else { continue };
            let mean = duration(d.sum.checked_div(d.count));
            let mut cells: Vec<Cell> = vec![format!("{mode} {what}").into(), d.count.into()];
            cells.extend([time(d.sum).into(), mean.into()]);
            cells.extend(quantiles(Some(d)).map(Cell::from));
            table.rows.push(cells);
        }
    }
    (!table.is_empty()).then(|| table.render())
}

fn by_op(r: &Report) -> Option<String> {
    let name = title(r, "BY OP", &[Figure::MmapLockOp]);
    let mut table = Table::new([
        &name, "acquired", "waits", "wait sum", "wait max", "hold sum", "hold max",
    ]);
    let mut side = |mode: &str, side: &LockReport| {
        let mut ops: Vec<&(String, OpReport)> = side.by_op.iter().flat_map(|ops| &ops.0).collect();
        ops.sort_by_key(|(_, o)| std::cmp::Reverse((o.wait_sum_ns, o.hold_sum_ns)));
        for (op, o) in ops.into_iter().take(OPS) {
            let mut cells: Vec<Cell> = vec![format!("{mode} {op}").into()];
            cells.extend([o.acquired.into(), o.waits.into()]);
            let times = [o.wait_sum_ns, o.wait_max_ns, o.hold_sum_ns, o.hold_max_ns];
            cells.extend(times.map(|ns| Cell::from(duration(ns))));
            table.rows.push(cells);
        }
    };
    side("read", &r.mmap_lock.read);
    side("write", &r.mmap_lock.write);
    (!table.is_empty()).then(|| table.render())
}

pub(super) fn decades(r: &Report) -> Option<String> {
    let (read, write) = (&r.mmap_lock.read, &r.mmap_lock.write);
    let (Some(read), Some(write)) = (&read.acquire_decades, &write.acquire_decades) else {
        let why = if r.mmap_lock_mode == "contended" {
            "uncontended acquisitions are not seen; use --mmap-lock all"
        } else {
            let signal = r.signal(Figure::MmapLockAcquired);
            signal.map_or("acquisitions are not seen", |s| s.reason.as_str())
        };
        let line = format!("No table of acquisitions by decade: {why}.");
        return Some(wrap(&line, WIDTH, "  ") + "\n");
    };
    let mut table = Table::new([
        "ACQUIRED IN us",
        "[0,1)",
        "[1,10)",
        "[10,100)",
        "[100,1k)",
        "[1k,10k)",
        "[10k,inf)",
    ]);
    for (mode, decades) in [("read", read), ("write", write)] {
        let mut row: Vec<Cell> = vec![mode.to_owned().into()];
        row.extend(decades.iter().map(|n| Cell::from(*n)));
        table.rows.push(row);
    }
    Some(table.render())
}

/// `comm (tid)`, short enough for a column.
fn who(comm: &str, tid: u32) -> String {
    format!("{} ({tid})", clean(comm))
}

/// VMA writers, chains, and what other policies would have cost.
pub(super) fn blame_tables(r: &Report) -> Vec<String> {
    [
        vma_writers(r),
        chains(r),
        r.stacks.as_ref().map(stacks::text),
        what_if(r),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn vma_writers(r: &Report) -> Option<String> {
    let v = r.vma_write.as_ref().filter(|v| v.waits > 0)?;
    let name = title(r, "VMA WRITERS", &[Figure::VmaWriteWait]);
    let mut table = Table::new([&name, "locked", "waits", "wait sum", "wait max"]);
    for (op, o) in &v.by_op.as_ref()?.0 {
        if o.waits.is_some_and(|n| n > 0) {
            table.rows.push(vec![
                op.clone().into(),
                o.acquired.into(),
                o.waits.into(),
                duration(o.wait_sum_ns).into(),
                duration(o.wait_max_ns).into(),
            ]);
        }
    }
    Some(table.render())
}

fn chains(r: &Report) -> Option<String> {
    let chains = r.chains.as_ref().filter(|c| c.count > 0)?;
    let mut out = title(r, "CHAINS", &[Figure::MmapLockHolder]) + "\n";
    for c in chains.top.iter().take(CHAINS) {
        let root = &c.root;
        let doing = root.doing.or(root.op).unwrap_or("unknown");
        out.push_str(&format!(
            "{:>9}  {}, prio {}: {doing}; depth {}, {} waits\n",
            time(c.blocked_ns),
            who(&root.comm, root.tid),
            root.prio,
            c.depth,
            count(c.waits)
        ));
        for (depth, link) in c.links.iter().rev().enumerate() {
            out.push_str(&linked(depth, link));
        }
    }
    Some(out)
}

fn linked(depth: usize, link: &blame::Link) -> String {
    let indent = "  ".repeat(depth.min(8));
    let (lock, op) = (link.lock.unwrap_or("-"), link.op.unwrap_or("-"));
    format!(
        "           {indent}<- {}, prio {}: {op}, waited {} for {}\n",
        who(&link.comm, link.tid),
        link.prio,
        duration(link.wait_ns),
        if lock == "vma" { "the VMA" } else { lock }
    )
}

fn what_if(r: &Report) -> Option<String> {
    let policies = r.what_if.as_ref()?;
    let mut told = policies.0.iter().filter_map(|(_, policy)| policy.as_ref());
    if !told.any(|p| p.count > 0 || p.conflicts > 0) {
        return None;
    }
    let mut table = Table::new([
        "WHAT IF",
        "faults",
        "saved",
        "lost",
        "amplified",
        "conflicts",
        "bound",
    ]);
    for (name, p) in &policies.0 {
        let name = match name.as_str() {
            "no_drop_uptodate_no_writeback" => "no_drop_.._no_wb",
            other => other,
        };
        let mut row: Vec<Cell> = vec![name.to_owned().into()];
        match p {
            Some(p) => row.extend([
                p.count.into(),
                time(p.saved_ns).into(),
                time(p.lost_ns).into(),
                time(p.amplified_ns).into(),
                p.conflicts.into(),
                p.bound.to_owned().into(),
            ]),
            None => row.extend((0..6).map(|_| Cell::from(None))),
        }
        table.rows.push(row);
    }
    let mut out = table.render();
    if let Some(c) = &r.conflicts
        && let (Some(exact), Some(both)) = (c.exact, c.both)
    {
        let line = format!(
            "conflicts: {} by the VMAs locked, {} by the ranges of system calls, {} by both",
            count(exact),
            count(c.inferred),
            count(both)
        );
        out.push_str(&wrap(&line, WIDTH, "  "));
        out.push('\n');
    }
    Some(out)
}

fn worst_waits(r: &Report) -> Option<String> {
    let columns = [
        ("op", Figure::MmapLockOp),
        ("holder", Figure::MmapLockHolder),
    ];
    let doubtful = |(name, figure)| {
        let quality = r.signal(figure)?.quality;
        (quality == Quality::Approximate).then_some(name)
    };
    let doubtful: Vec<&str> = columns.into_iter().filter_map(doubtful).collect();
    let mut head = "LONGEST WAITS".to_owned();
    if !doubtful.is_empty() {
        head.push_str(&format!(" ({} approx.)", doubtful.join(" and ")));
    }
    let line = |w: &WaitReport| {
        let gave_up = if w.acquired { "" } else { " (gave up)" };
        let holder = w.holder.as_ref().map_or(String::new(), |h| {
            if h.tid == 0 {
                return format!(", held by {}", readers(h.readers));
            }
            let doing = match h.doing.or(h.op) {
                Some("lock") => " that waited itself".into(),
                Some(doing) => format!(" in {doing}"),
                None => String::new(),
            };
            let share = match w.blamed_ns {
                None | Some(0) => String::new(),
                Some(ns) => format!("{} ", percent(ns, w.wait_ns)),
            };
            format!(", {share}held by {}{doing}", who(&h.comm, h.tid))
        });
        let lock = if w.lock == "vma" { "vma" } else { w.mode };
        let (op, waiter) = (w.op, who(&w.comm, w.tid));
        let inversion = match w.inversion {
            Some(true) => ", inversion",
            _ => "",
        };
        (
            w.wait_ns,
            format!("{lock} {op} in {waiter}{gave_up}{holder}{inversion}"),
        )
    };
    list(&head, r.worst_waits.iter().take(WORST).map(line))
}

fn worst_faults(r: &Report) -> Option<String> {
    let line = |f: &FaultReport| {
        let mut words = vec![if f.major { "major" } else { "minor" }];
        words.extend(f.kind);
        words.push("fault");
        let path = f.path.map_or(String::new(), |p| format!(", path {p}"));
        let reason = f.retry_reason.map_or(String::new(), |r| format!(" ({r})"));
        let held = f.held_wait.unwrap_or_default();
        let parts = [
            (Some(f.mmap_wait_ns), "for mmap_lock"),
            (f.io_wait_ns, "for I/O"),
            (f.run_delay_ns, "to run"),
            (f.userfault_wait_ns, "for userfaultfd"),
            (f.held_wait_ns, held),
        ];
        let waits = parts.iter().filter(|(ns, _)| ns.is_some_and(|ns| ns > 0));
        let waits: Vec<_> = waits
            .map(|(ns, what)| format!("{} {what}", duration(*ns)))
            .collect();
        let waited = if waits.is_empty() {
            String::new()
        } else {
            format!(", waited {}", waits.join(", "))
        };
        let file = match f.file.as_deref().unwrap_or_default() {
            "" => String::new(),
            name => format!(" on {}", clean(name)),
        };
        let (what, who) = (words.join(" "), who(&f.comm, f.tid));
        (
            f.latency_ns,
            format!("{what}{file} in {who}{path}{reason}{waited}"),
        )
    };
    list(
        "LONGEST FAULTS",
        r.worst_faults.iter().take(WORST).map(line),
    )
}

/// Durations with a sentence each.
fn list(head: &str, lines: impl Iterator<Item = (u64, String)>) -> Option<String> {
    let lines: Vec<_> = lines
        .map(|(ns, text)| wrap_after(&format!("{:>9}  {text}", time(ns)), 11))
        .collect();
    (!lines.is_empty()).then(|| format!("{head}\n{}\n", lines.join("\n")))
}

fn processes(r: &Report) -> Option<String> {
    let mut out = tasks("PROCESSES", &r.processes, |p| p.tgid)?;
    let elsewhere = r.processes.iter().take(TASKS).filter_map(|p| {
        let place = within(p.ns_pid?, p.container.as_deref().unwrap_or_default());
        Some(format!("{} is {place}", who(&p.comm, p.tgid)))
    });
    let elsewhere: Vec<_> = elsewhere.collect();
    if !elsewhere.is_empty() {
        let text = format!("In pid namespaces: {}.", elsewhere.join(", "));
        out.push_str(&format!("{}\n", wrap(&text, WIDTH, "  ")));
    }
    Some(out)
}

/// Where some were chosen.
fn threads(r: &Report) -> Option<String> {
    r.shown.as_ref()?;
    tasks("THREADS", &r.threads, |t| t.tid)
}

fn tasks(name: &str, tasks: &[TaskReport], id: fn(&TaskReport) -> u32) -> Option<String> {
    let mut table = Table::new([
        name, "faults", "major", "fallback", "retry", "rd. wait", "wr. wait",
    ]);
    for p in tasks.iter().take(TASKS) {
        let path = |name| p.by_path.as_ref().and_then(|b| *b.get(name)?);
        let wait = |w: &Option<TaskWaits>| duration(w.map(|w| w.wait_sum_ns));
        table.rows.push(vec![
            format!("{}{}", who(&p.comm, id(p)), standing(p)).into(),
            p.faults.into(),
            p.major.into(),
            path("fallback").into(),
            path("retry").into(),
            wait(&p.read).into(),
            wait(&p.write).into(),
        ]);
    }
    if table.is_empty() {
        return None;
    }
    let mut out = table.render();
    if tasks.len() > TASKS {
        out.push_str(&format!("and {} more\n", tasks.len() - TASKS));
    }
    Some(out)
}

/// ` fg 0`, ` bg 905`; nothing where Android has nothing to do with it.
fn standing(p: &TaskReport) -> String {
    let standing = Standing {
        oom_score_adj: p.oom_score_adj,
        ground: p.ground,
    };
    match standing.short() {
        none if none.is_empty() => none,
        short => format!(" {short}"),
    }
}

/// A name in the margin, then text beside it.
fn note(name: &str, text: &str) -> String {
    wrap_after(&format!("{name:<FIRST$}  {text}"), FIRST + 2) + "\n"
}

pub(super) fn losses(r: &Report) -> String {
    let lost = r.loss.0.iter().filter(|(_, n)| *n > 0);
    let lost: Vec<_> = lost
        .map(|(why, n)| format!("{why} {}", count(*n)))
        .collect();
    let none = "none".to_owned();
    note(
        "LOSSES",
        &if lost.is_empty() {
            none
        } else {
            lost.join(", ")
        },
    )
}

/// What the figures are worth: losses, signals that are not exact, the kernel's own counts, cost.
fn trust(r: &Report) -> String {
    let mut out = losses(r);
    let mut line = |name: &str, text: &str| out.push_str(&note(name, text));
    let mut first = "NOT EXACT";
    // Signals of one hook share why no better hook was had: said once.
    let mut said = Vec::new();
    for (name, s) in &r.signals.0 {
        let how = match s.quality {
            Quality::Exact => continue,
            Quality::Approximate => "approx.",
            Quality::Unavailable => "unavailable",
        };
        let new: Vec<_> = s
            .reason
            .split("; ")
            .filter(|why| !said.contains(why))
            .collect();
        let why = if new.is_empty() {
            "as above".into()
        } else {
            new.join("; ")
        };
        line(first, &format!("{name} {how}: {why}"));
        said.extend(new);
        first = "";
    }
    let c = &r.cross_check;
    let all = [
        ("threads: getrusage", Some(&c.threads)),
        ("pgfault: /proc/vmstat", c.pgfault.as_ref()),
        ("pgmajfault: /proc/vmstat", c.pgmajfault.as_ref()),
        (
            "vma_lock_success: /proc/vmstat",
            c.vma_lock_success.as_ref(),
        ),
        ("vma_lock_abort: /proc/vmstat", c.vma_lock_abort.as_ref()),
    ];
    let mut first = "CROSS-CHECK";
    for (name, c) in all {
        let Some(c) = c else { continue };
        let sign = ["-", "", "+"][(c.difference.signum() + 1) as usize];
        let by = format!("{sign}{}", count(c.difference.unsigned_abs()));
        let (kernel, ours) = (count(c.kernel), count(c.measured));
        line(
            first,
            &format!("{name} {kernel}, measured {ours}, difference {by}"),
        );
        first = "";
    }
    let c = &r.cost;
    let cpu = percent(c.cpu_ns, r.duration_ns);
    line(
        "OWN COST",
        &format!(
            "{} CPU ({} of one), {} resident, {} maps, start {}, {} own faults",
            time(c.cpu_ns),
            cpu,
            bytes(c.rss_bytes),
            bytes(c.map_bytes),
            time((c.start_ms * 1e6) as u64),
            count(c.own_faults)
        ),
    );
    out
}

/// Like `wrap`, but blanks inside the first `keep` characters stay.
fn wrap_after(line: &str, keep: usize) -> String {
    let at = line
        .char_indices()
        .nth(keep)
        .map_or(line.len(), |(at, _)| at);
    let (head, tail) = line.split_at(at);
    let indent = " ".repeat(keep);
    format!(
        "{head}{}",
        wrap(tail, WIDTH - keep, "").replace('\n', &format!("\n{indent}"))
    )
}
