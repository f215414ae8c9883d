//! An app's start in the form in which the debate has it: how often its threads took `mmap_lock` and how
//! long they waited, by decade. In: a report. Out: a string.

use super::{
    LockReport, Report,
    table::{Cell, Table},
    text::{decades, duration},
    units::{clean, count, percent, time},
};

pub fn app_start(r: &Report) -> String {
    let mut table = Table::new(["MMAP_LOCK", "acquired", "waited", "total wait", "mean"]);
    for (side, lock) in [("read", &r.mmap_lock.read), ("write", &r.mmap_lock.write)] {
        let total = lock.wait_ns.as_ref().map(|wait| wait.sum);
        table.rows.push(vec![
            side.to_owned().into(),
            lock.acquired.into(),
            lock.waits.into(),
            duration(total).into(),
            mean(lock, total),
        ]);
    }
    let mut text = format!("{}, {}\n\n", clean(&r.target), time(r.duration_ns));
    text.push_str(&table.render());
    text.extend(decades(r).map(|table| format!("\n{table}")));
    let faults = [
        r.faults.total.map(|n| format!("{} faults", count(n))),
        r.faults.major.map(|n| format!("{} major", count(n))),
        on_mmap_lock(r),
    ];
    let faults = faults.into_iter().flatten().collect::<Vec<_>>();
    if !faults.is_empty() {
        text.push_str(&format!("\n{}\n", faults.join(", ")));
    }
    text
}

/// Over all acquisitions, those that did not wait included.
fn mean(lock: &LockReport, total: Option<u64>) -> Cell {
    let mean = lock.acquired.zip(total);
    duration(mean.map(|(n, total)| total / n.max(1))).into()
}

fn on_mmap_lock(r: &Report) -> Option<String> {
    let (total, paths) = (r.faults.total?, r.faults.by_path.as_ref()?);
    let on = |path| paths.get(path).copied().flatten().unwrap_or(0);
    let there = ["mmap_lock", "fallback", "retry"].map(on).iter().sum();
    Some(format!("{} of them on mmap_lock", percent(there, total)))
}
