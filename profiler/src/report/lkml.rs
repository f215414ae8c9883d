//! The report as a mail to a kernel list: plain text, 80 columns, no figure without its words. In: a
//! report. Out: a string.

use super::{
    Report, questions,
    table::{Cell, Table, WIDTH},
    text::{blame_tables, decades, losses},
    units::{bytes, clean, percent, time, wrap},
};

pub fn lkml(r: &Report) -> String {
    let mut parts = vec![format!(
        "{}\n\n{}\n",
        wrap(&r.verdict, WIDTH, ""),
        wrap(
            &format!(
                "Measured by vmascope {} on Linux {} {}, {} CPUs, {} pages, for {}; target {}; VMA lock: {}; mmap_lock: {}.",
                r.version,
                r.host.kernel,
                r.host.arch,
                r.host.cpus,
                bytes(r.host.page_size),
                time(r.duration_ns),
                clean(&r.target),
                r.vma_lock,
                r.mmap_lock_mode
            ),
            WIDTH,
            ""
        )
    )];
    parts.push(paths(r));
    parts.extend(decades(r));
    parts.extend(blame_tables(r));
    parts.push(answered(r));
    parts.push(losses(r));
    parts.join("\n")
}

fn paths(r: &Report) -> String {
    let mut table = Table::new(["FAULTS", "count", "share", "p50", "p99", "max"]);
    let (Some(total), Some(paths)) = (r.faults.total, &r.faults.by_path) else {
        return String::new();
    };
    for (path, n) in &paths.0 {
        let Some(n) = n.filter(|n| *n > 0) else {
            continue;
        };
        let latency = r.faults.latency_ns.get(path).and_then(Option::as_ref);
        let mut cells: Vec<Cell> = vec![path.clone().into(), n.into(), percent(n, total).into()];
        cells.extend(super::text::quantiles(latency).map(Cell::from));
        table.rows.push(cells);
    }
    table.render()
}

/// Q1 to Q10.
pub fn answered(r: &Report) -> String {
    let answers = questions::answers(r);
    let each = answers.iter().enumerate().map(|(at, a)| {
        let name = format!("Q{}", at + 1);
        let text = wrap(&a.answer, WIDTH - 5, "").replace('\n', "\n     ");
        format!("{name:<4} {}\n     {text}\n", a.question)
    });
    each.collect()
}
