//! How fast single waits are written: `cargo run --release -p profiler --example recording_speed -- 10000000
//! FILE`. In: how many, and where. Out: the recording, and its rate beside that of a bare loop of a
//! prepared statement over the same rows.

use std::{path::Path, time::Instant};

use anyhow::{Context as _, Result, ensure};
use profiler_common::words::{Mode, Op};
use rusqlite::{Connection, params_from_iter, types::Value};
use vmascope::{
    kernel::host,
    model::{
        Batch, Blame, HolderInfo, Segment, SegmentBy, Session, Snapshot, WaitEvent, session::SCHEMA,
    },
    recording::{Recording, Writer},
};

/// As a busy ring hands them over.
const BATCH: u64 = 4096;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let count: u64 = args.next().context("how many waits?")?.parse()?;
    let file = args.next().context("which file?")?;
    let path = Path::new(&file);
    let began = Instant::now();
    let mut writer = Writer::create(path, &session())?;
    let mut id = 0;
    while id < count {
        let last = (id + BATCH).min(count);
        let waits = (id..last).map(wait).collect();
        writer.events(&Batch {
            waits,
            ..Batch::default()
        })?;
        id = last;
    }
    writer.finish(&Snapshot::empty())?;
    let ours = began.elapsed().as_secs_f64();
    ensure!(
        Recording::open(path)?.events_in_all()?.0 == count,
        "rows are missing"
    );
    let bare = bare(path)?;
    println!(
        "{count} waits: {:.0}/s with their segments; a bare loop over the same rows {:.0}/s: {:.2}x",
        count as f64 / ours,
        count as f64 / bare,
        bare / ours
    );
    Ok(())
}

/// Seconds to copy the same rows of both tables into an empty file, row by row.
fn bare(from: &Path) -> Result<f64> {
    let to = from.with_extension("bare");
    std::fs::remove_file(&to).ok();
    let (source, sql) = (Connection::open(from)?, Connection::open(&to)?);
    sql.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=4096",
    )
    .or_else(|e| match e {
        // A pragma that answers with a row.
        rusqlite::Error::ExecuteReturnedResults => Ok(()),
        e => Err(e),
    })?;
    let mut seconds = 0.0;
    for table in ["waits", "segments"] {
        let ddl: String = source.query_row(
            "SELECT sql FROM sqlite_schema WHERE name = ?",
            [table],
            |row| row.get(0),
        )?;
        sql.execute_batch(&ddl)?;
        let mut columns = source.prepare(&format!("PRAGMA table_xinfo({table})"))?;
        // `hidden` is not 0 where a column is worked out.
        let columns: Vec<String> = columns
            .query_map((), |row| {
                Ok((row.get::<_, String>("name")?, row.get("hidden")?))
            })?
            .filter_map(|column| match column {
                Ok((name, 0)) => Some(Ok(name)),
                Ok(_) => None,
                Err(e) => Some(Err(e)),
            })
            .collect::<rusqlite::Result<_>>()?;
        let names = columns.join(", ");
        let marks = vec!["?"; columns.len()].join(", ");
        let mut insert = sql.prepare(&format!("INSERT INTO {table} ({names}) VALUES ({marks})"))?;
        let mut select = source.prepare(&format!("SELECT {names} FROM {table}"))?;
        let mut rows = select.query(())?;
        let mut page: Vec<Vec<Value>> = Vec::new();
        let mut more = true;
        while more {
            page.clear();
            while page.len() < BATCH as usize {
                let Some(row) = rows.next()? else {
                    more = false;
                    break;
                };
                let values = (0..columns.len()).map(|at| row.get(at));
                page.push(values.collect::<rusqlite::Result<_>>()?);
            }
            let began = Instant::now();
            sql.execute_batch("BEGIN")?;
            for row in &page {
                insert.execute(params_from_iter(row))?;
            }
            sql.execute_batch("COMMIT")?;
            seconds += began.elapsed().as_secs_f64();
        }
    }
    drop(sql);
    std::fs::remove_file(to)?;
    Ok(seconds)
}

/// Some are told from others; one in twenty is of a VMA's lock.
fn wait(id: u64) -> WaitEvent {
    let start_ns = 1_000_000_000 + id * 1_000;
    let end_ns = start_ns + 10_000 + id * 7_919 % 1_000_000;
    let mode = match id % 20 {
        0 => Mode::VmaWrite,
        n if n % 2 == 0 => Mode::Read,
        _ => Mode::Write,
    };
    let holder = HolderInfo {
        tid: 2_000 + (id % 64) as u32,
        tgid: 2_000,
        comm: "holder".into(),
        prio: 120,
        op: Some(Op::Munmap),
        ..HolderInfo::default()
    };
    let segments = vec![Segment {
        start_ns,
        end_ns,
        blamed_ns: end_ns - start_ns,
        stretches: 1,
        by: SegmentBy::Holder(holder.clone()),
    }];
    WaitEvent {
        id: id + 1,
        start_ns,
        end_ns,
        cpu: (id % 8) as u32,
        tid: 1_000 + (id % 256) as u32,
        tgid: 1_000,
        comm: format!("worker-{}", id % 256),
        prio: 120,
        policy: 0,
        mm: 0xffff_8881_0a0b_0c00,
        mm_tgid: Some(1_000),
        mode,
        op: Op::Mmap,
        acquired: true,
        vma: None,
        range: Some((0x7f00_0000_0000, 0x7f00_0001_0000)),
        holder: Some(holder),
        stack: 0,
        blame: Blame {
            segments,
            blamed_ns: end_ns - start_ns,
            root_wait: id + 1,
            depth: 2,
            ..Blame::default()
        },
    }
}

fn session() -> Session {
    Session {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").into(),
        host: host::host(),
        tier: "full".into(),
        target: "made up".into(),
        vma_lock: "refcount".into(),
        mmap_lock: "all".into(),
        min_us: 10,
        sample: 1,
        interval_ms: 1000,
        signals: Vec::new(),
        armed_monotonic_ns: 1_000_000_000,
        armed_boottime_ns: 1_000_000_000,
        armed_realtime_ns: 1_800_000_000_000_000_000,
        map_bytes: 0,
        start_ms: 0.0,
    }
}
