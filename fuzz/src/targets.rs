//! What is done with an input, one function per target. In: bytes, whatever they are. Out: nothing;
//! a panic, an endless loop or an error of several lines is a finding.
//!
//! The profiler's tests run the same functions on the corpus that is kept (tests/sinks/corpus.rs).

use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use rusqlite::{Connection, types::Value};
use vmascope::{
    cli,
    commands::Trigger,
    diff::Condition,
    kernel::btf::Btf,
    recording::{Recording, Writer, repair},
    report, sinks,
    sinks::folded::By,
};

use crate::support::{self, Scratch};

type Target = fn(&[u8]);

/// Each target by the name of its program and of its folder in the corpus.
pub const TARGETS: [(&str, Target); 4] = [
    ("btf", btf),
    ("recording", recording),
    ("rows", rows),
    ("words", words),
];

/// Types of a kernel, asked for what the loader asks.
pub fn btf(input: &[u8]) {
    let Ok(btf) = Btf::parse(input.to_vec()) else {
        return;
    };
    for path in [
        "mm_struct.mmap_lock",
        "vm_area_struct.vm_lock.lock.count",
        "task_struct",
        "inode.i_sb.s_dev",
    ] {
        btf.offset(path);
        btf.member_type(path);
    }
    for (name, enumerator) in [
        ("fault_flag", "FAULT_FLAG_TRIED"),
        ("vm_fault_reason", "VM_FAULT_RETRY"),
    ] {
        btf.enumerator(name, enumerator);
    }
    let functions = ["handle_mm_fault", "io_schedule"];
    let tracepoints = ["sched_switch", "mmap_lock_released"];
    for name in functions {
        btf.params(name);
    }
    for name in tracepoints {
        btf.tracepoint_args(name);
    }
    let some = Btf::parse(btf.only(functions.into_iter(), tracepoints.into_iter()));
    assert!(some.is_ok(), "what is left of good BTF is good");
}

/// A file, as it might come from another machine or from a disk that failed.
pub fn recording(input: &[u8]) {
    let path = SCRATCH.put("fuzz.vmas", input);
    read(
        &path,
        usize::from(input.last().copied().unwrap_or_default()),
    );
    // Writes to the file: after all that reads it.
    if let Err(error) = repair(&path) {
        one_line(&error);
    }
}

/// A sound file whose rows say anything: bytes changed at random hardly ever get past SQLite. The
/// first byte chooses who reads it, the rest is one change after the other.
pub fn rows(input: &[u8]) {
    let Some((reader, changes)) = input.split_first() else {
        return;
    };
    let path = SCRATCH.put("rows.vmas", &SCRATCH.template);
    let changed = Connection::open(&path).and_then(|sql| {
        sql.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN")?;
        let mut bytes = Bytes(changes);
        // A few are enough for what hangs on several, and more are slow.
        for _ in 0..16 {
            let Some(change) = bytes.change() else { break };
            // What the table does not take, no reader meets.
            let _ = change.apply(&sql);
        }
        sql.execute_batch("COMMIT")
    });
    changed.expect("the template is a database");
    read(&path, usize::from(*reader));
}

/// What is typed on the command line, and is a small language.
pub fn words(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Ok(duration) = cli::duration(text) {
        assert!(!duration.is_zero(), "{text:?} is no time at all");
    }
    if let Ok(trigger) = text.parse::<Trigger>() {
        trigger.is_in(&BATCH);
    }
    if let Ok(condition) = text.parse::<Condition>() {
        let again = condition.to_string().parse::<Condition>();
        assert_eq!(again.as_ref(), Ok(&condition), "it is read as it is shown");
    }
}

/// Takes away the files of this process: what is static is never dropped.
pub fn clear() {
    let _ = fs::remove_dir_all(&SCRATCH.dir.0);
}

static BATCH: LazyLock<vmascope::model::Batch> = LazyLock::new(support::batch);
static SCRATCH: LazyLock<Place> = LazyLock::new(Place::new);

/// A folder for the files of this process, and a good recording.
struct Place {
    dir: Scratch,
    template: Vec<u8>,
    /// Columns by table.
    columns: Vec<(String, Vec<String>)>,
}

impl Place {
    fn new() -> Self {
        let dir = Scratch::new("fuzz");
        let path = dir.file("template.vmas");
        let mut writer = Writer::create(&path, &support::session()).expect("room for a file");
        writer.interval(&support::busy(1)).expect("room for a file");
        writer.events(&support::batch()).expect("room for a file");
        writer.finish(&support::busy(2)).expect("room for a file");
        let sql = Connection::open(&path).expect("a database");
        Self {
            columns: columns(&sql).expect("a database"),
            template: fs::read(&path).expect("what was just written"),
            dir,
        }
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.file(name);
        for suffix in ["-wal", "-shm", "-journal"] {
            let _ = fs::remove_file(self.dir.file(&format!("{name}{suffix}")));
        }
        fs::write(&path, bytes).expect("room for a file");
        path
    }
}

fn columns(sql: &Connection) -> rusqlite::Result<Vec<(String, Vec<String>)>> {
    let all = "SELECT m.name, c.name FROM sqlite_schema m, pragma_table_info(m.name) c
        WHERE m.type = 'table' ORDER BY m.name, c.cid";
    let mut tables: Vec<(String, Vec<String>)> = Vec::new();
    let mut statement = sql.prepare(all)?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let (table, column): (String, String) = (row.get(0)?, row.get(1)?);
        match tables.last_mut() {
            Some((name, columns)) if *name == table => columns.push(column),
            _ => tables.push((table, vec![column])),
        }
    }
    Ok(tables)
}

/// One of the readers there are; each says what is wrong in one line, or reads to the end.
fn read(path: &Path, reader: usize) {
    let out = SCRATCH.dir.file("out");
    let recording = match Recording::open(path) {
        Ok(recording) => recording,
        Err(error) => return one_line(&error),
    };
    let told = match reader % 8 {
        0 => sinks::csv::export(&recording, &out.with_extension("csv")),
        1 => sinks::json::export(&recording, &out),
        2 => sinks::hlog::export(&recording, &out),
        3 => sinks::perfetto::export(&recording, &out),
        4 => sinks::html::page(&recording).map(drop),
        5 => sinks::folded::export(&recording, &out, By::Holder),
        6 => sinks::folded::flamegraph(&recording, &out, By::Waiter),
        _ => {
            match report::of(&recording) {
                Ok(report) => {
                    assert!(!report::text(&report).is_empty());
                    report::short(&report);
                    report::lkml(&report);
                    report::json(&report).expect("words and numbers are JSON");
                }
                Err(error) => one_line(&error),
            }
            return;
        }
    };
    if let Err(error) = told {
        one_line(&error);
    }
}

fn one_line(error: &dyn std::error::Error) {
    let text = error.to_string();
    assert!(!text.is_empty() && !text.trim().contains('\n'), "{text}");
}

/// A value to be put somewhere; the places are counted round.
struct Change {
    table: usize,
    column: usize,
    row: u8,
    value: Value,
}

impl Change {
    fn apply(self, sql: &Connection) -> rusqlite::Result<()> {
        let (table, columns) = &SCRATCH.columns[self.table % SCRATCH.columns.len()];
        let column = &columns[self.column % columns.len()];
        // By the first column, which has an index: tables without row ids have no other name for a row.
        let count: i64 = sql.query_row(&format!("SELECT count(*) FROM {table}"), (), |row| {
            row.get(0)
        })?;
        let key = &columns[0];
        let nth = i64::from(self.row) % count.max(1);
        let old: Value = sql.query_row(
            &format!("SELECT \"{column}\" FROM {table} ORDER BY \"{key}\" LIMIT 1 OFFSET ?"),
            [nth],
            |row| row.get(0),
        )?;
        let change =
            format!("UPDATE OR IGNORE {table} SET \"{column}\" = ?1 WHERE \"{column}\" IS ?2");
        sql.execute(&change, (self.value, old)).map(drop)
    }
}

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    fn change(&mut self) -> Option<Change> {
        let [table, column, row, kind] = self.take()?;
        let value = match kind % 6 {
            0 => Value::Null,
            1 => Value::Integer(i64::from_le_bytes(self.take()?)),
            2 => Value::Real(f64::from_le_bytes(self.take()?)),
            3 => {
                // The ends of what a column can hold.
                let [which] = self.take()?;
                let ends = [i64::MAX, i64::MIN, -1, 0, 1, 1 << 32, u32::MAX.into(), 64];
                Value::Integer(ends[usize::from(which) % ends.len()])
            }
            other => {
                let [length] = self.take()?;
                let length = usize::from(length).min(self.0.len());
                let (text, tail) = self.0.split_at(length);
                self.0 = tail;
                match other {
                    4 => Value::Text(String::from_utf8_lossy(text).into_owned()),
                    _ => Value::Blob(text.to_vec()),
                }
            }
        };
        Some(Change {
            table: table.into(),
            column: column.into(),
            row,
            value,
        })
    }
}
