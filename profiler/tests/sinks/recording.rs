//! What goes into a recording comes out of it, also after a crash; anything else is refused.

use std::{fs, path::Path};

use crate::support::{self, ARMED_NS, Scratch};
use vmascope::{
    model::{Batch, Snapshot},
    recording::{Error, Recording, Writer},
};

fn full(path: &Path, seconds: u64) -> Writer {
    let mut writer = Writer::create(path, &support::session()).unwrap();
    for second in 1..=seconds {
        writer.interval(&support::busy(second)).unwrap();
    }
    writer.events(&support::batch()).unwrap();
    writer
}

#[test]
fn a_finished_recording_is_one_file_and_tells_all() {
    let dir = Scratch::new("finished");
    let path = dir.file("a.vmas");
    full(&path, 3).finish(&support::busy(4)).unwrap();
    assert_eq!(fs::read_dir(&dir.0).unwrap().count(), 1, "one file");

    let r = Recording::open(&path).unwrap();
    assert!(r.complete());
    assert_eq!(r.session(), &support::session());
    assert_eq!(r.snapshot().unwrap(), support::busy(4));
    let events: Vec<_> = r.waits().map(Result::unwrap).collect();
    assert_eq!(events, support::waits());
    let events: Vec<_> = r.faults().map(Result::unwrap).collect();
    assert_eq!(events, support::faults());
    assert_eq!(r.worst_waits(2).unwrap()[1], support::waits()[2]);
    assert_eq!(r.worst_faults(1).unwrap(), support::faults()[..1]);

    let intervals: Vec<_> = r.intervals().map(Result::unwrap).collect();
    assert_eq!(intervals.len(), 4);
    for (at, got) in intervals.iter().enumerate() {
        let mut want = support::busy(at as u64 + 1);
        if at < 3 {
            want.threads.clear();
        }
        assert!(*got == want, "interval {at}");
    }
}

#[test]
fn extremes_and_emptiness_survive() {
    let dir = Scratch::new("extremes");
    for (name, snapshot) in [("x", support::extreme()), ("e", Snapshot::empty())] {
        let path = dir.file(name);
        let writer = Writer::create(&path, &support::session()).unwrap();
        writer.finish(&snapshot).unwrap();
        let r = Recording::open(&path).unwrap();
        assert!(r.snapshot().unwrap() == snapshot, "{name}");
        assert_eq!(r.waits().count() + r.faults().count(), 0);
    }
}

/// The writer is never dropped cleanly: its three files are copied as a crash would leave them.
#[test]
fn a_crash_loses_nothing_that_was_handed_over() {
    let dir = Scratch::new("crash");
    let path = dir.file("live.vmas");
    let writer = full(&path, 2);
    for suffix in ["", "-wal", "-shm"] {
        let from = dir.file(&format!("live.vmas{suffix}"));
        fs::copy(from, dir.file(&format!("copy.vmas{suffix}"))).unwrap();
    }
    let r = Recording::open(&dir.file("copy.vmas")).unwrap();
    assert!(!r.complete());
    assert_eq!(r.snapshot().unwrap(), support::busy(2));
    assert_eq!(r.waits().count(), 3);
    drop(r);
    assert!(
        dir.file("copy.vmas-wal").metadata().unwrap().len() > 0,
        "reading folds nothing"
    );

    // Without -shm, as after a reboot; and the original is still being written.
    fs::remove_file(dir.file("copy.vmas-shm")).unwrap();
    let r = Recording::open(&dir.file("copy.vmas")).unwrap();
    assert_eq!(r.snapshot().unwrap(), support::busy(2));
    drop(r);
    let live = Recording::open(&path).unwrap();
    assert_eq!(live.snapshot().unwrap(), support::busy(2));
    drop(live);
    writer.finish(&support::busy(3)).unwrap();
}

#[test]
fn a_crash_before_the_first_interval_is_a_recording_too() {
    let dir = Scratch::new("crash-early");
    let path = dir.file("a.vmas");
    let writer = Writer::create(&path, &support::session()).unwrap();
    let r = Recording::open(&path).unwrap();
    assert_eq!(r.snapshot().unwrap(), Snapshot::empty());
    assert_eq!(r.intervals().count(), 0);
    drop((r, writer));
}

#[test]
fn a_reader_at_the_end_is_told_of_not_waited_for_ever() {
    let dir = Scratch::new("reader");
    let path = dir.file("a.vmas");
    let writer = full(&path, 1);
    let reader = Recording::open(&path).unwrap();
    let mut waits = reader.waits();
    waits.next().unwrap().unwrap();
    let end = writer.finish(&support::busy(2));
    assert!(matches!(end, Err(Error::StillOpen { .. })), "{end:?}");
    drop(reader);
    assert!(Recording::open(&path).unwrap().complete());
}

#[test]
fn only_a_recording_is_replaced() {
    let dir = Scratch::new("replace");
    let path = dir.file("notes.txt");
    fs::write(&path, "not to be lost").unwrap();
    let refused = Writer::create(&path, &support::session());
    assert!(matches!(refused, Err(Error::Occupied { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), "not to be lost");

    let other = dir.file("other.sqlite");
    rusqlite::Connection::open(&other)
        .unwrap()
        .execute_batch("CREATE TABLE precious (x)")
        .unwrap();
    let refused = Writer::create(&other, &support::session());
    assert!(matches!(refused, Err(Error::Occupied { .. })));

    let pipe = dir.file("pipe");
    let name = std::ffi::CString::new(pipe.to_str().unwrap()).unwrap();
    // SAFETY: a string that ends with a zero.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let refused = Writer::create(&pipe, &support::session());
    assert!(matches!(refused, Err(Error::Occupied { .. })));
    assert!(!fs::metadata(&pipe).unwrap().is_file());

    // A finished one, a crashed one and an empty file may be.
    let path = dir.file("a.vmas");
    full(&path, 2).finish(&support::busy(2)).unwrap();
    let live = full(&dir.file("live"), 1);
    for suffix in ["", "-wal", "-shm"] {
        let from = dir.file(&format!("live{suffix}"));
        fs::copy(from, dir.file(&format!("a.vmas{suffix}"))).unwrap();
    }
    drop(live);
    let writer = Writer::create(&path, &support::session()).unwrap();
    writer.finish(&support::idle(1)).unwrap();
    assert_eq!(
        Recording::open(&path).unwrap().snapshot().unwrap(),
        support::idle(1)
    );
    fs::write(dir.file("empty"), "").unwrap();
    Writer::create(&dir.file("empty"), &support::session()).unwrap();
}

/// Also between two transactions.
#[test]
fn one_that_is_being_written_is_not_replaced() {
    let dir = Scratch::new("taken");
    let path = dir.file("a.vmas");
    let writer = Writer::create(&path, &support::session()).unwrap();
    let refused = Writer::create(&path, &support::session());
    assert!(matches!(refused, Err(Error::Taken { .. })), "at once");
    drop(writer);
    let writer = full(&path, 2);
    let refused = Writer::create(&path, &support::session());
    let said = refused.err().unwrap().to_string();
    assert!(said.contains("a.vmas") && said.contains("-o"), "{said}");
    writer.finish(&support::busy(3)).unwrap();
    let kept = Recording::open(&path).unwrap();
    assert!(kept.complete());
    assert_eq!(kept.snapshot().unwrap(), support::busy(3));
    // A finished one may be replaced though it is being read.
    let mut waits = kept.waits();
    waits.next().unwrap().unwrap();
    let writer = Writer::create(&path, &support::session()).unwrap();
    writer.finish(&support::idle(1)).unwrap();
}

#[test]
fn a_report_without_a_file_keeps_its_events_on_disk() {
    let mut writer = Writer::temporary(&support::session()).unwrap();
    let mut batch = support::batch();
    let one = support::waits().remove(0);
    batch.waits.clear();
    for id in 1..=100_000 {
        let mut wait = one.clone();
        wait.id = id;
        batch.waits.push(wait);
    }
    writer.events(&batch).unwrap();
    let files = fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| {
        let fd = fd.unwrap().path();
        let name = fs::read_link(&fd).ok()?.display().to_string();
        let bytes = fs::metadata(&fd).ok()?.len();
        (name.contains("etilqs_") && name.ends_with("(deleted)")).then_some(bytes)
    });
    let bytes = files.max().unwrap();
    assert!(bytes > 1 << 20, "{bytes}");
    let recording = writer.into_recording(&support::busy(1)).unwrap();
    assert_eq!(recording.waits().count(), 100_000);
    assert_eq!(recording.snapshot().unwrap(), support::busy(1));
    assert!(recording.complete());
}

#[test]
fn a_file_of_a_like_name_is_left_alone() {
    let dir = Scratch::new("beside");
    fs::write(dir.file("a.vmas-new"), "precious").unwrap();
    for _ in 0..2 {
        let writer = Writer::create(&dir.file("a.vmas"), &support::session()).unwrap();
        writer.finish(&support::idle(1)).unwrap();
    }
    fs::create_dir(dir.file("folder")).unwrap();
    let refused = Writer::create(&dir.file("folder"), &support::session());
    assert!(refused.is_err());
    let kept = fs::read_to_string(dir.file("a.vmas-new")).unwrap();
    assert_eq!(kept, "precious");
    assert_eq!(fs::read_dir(&dir.0).unwrap().count(), 3, "and no others");
}

#[test]
fn errors_are_one_line_with_the_file_and_a_remedy() {
    let dir = Scratch::new("errors");
    let say = |r: Result<Recording, Error>| r.err().unwrap().to_string();
    let missing = say(Recording::open(&dir.file("none")));
    assert!(missing.contains("none: No such file"), "{missing}");

    fs::write(dir.file("text"), "SQLite format 3\0 but not really").unwrap();
    for bad in ["text", "empty"] {
        if bad == "empty" {
            fs::write(dir.file(bad), "").unwrap();
        }
        let e = say(Recording::open(&dir.file(bad)));
        assert!(e.contains("is not a vmascope recording"), "{e}");
    }

    let newer = dir.file("newer.vmas");
    full(&newer, 1).finish(&support::busy(1)).unwrap();
    let sql = rusqlite::Connection::open(&newer).unwrap();
    sql.pragma_update(None, "user_version", 99).unwrap();
    drop(sql);
    let e = say(Recording::open(&newer));
    assert!(e.contains("schema 99") && !e.contains('\n'), "{e}");

    let e = Writer::create(&dir.file("no/such/dir.vmas"), &support::session())
        .err()
        .unwrap()
        .to_string();
    assert!(e.contains("cannot write") && e.contains("-o"), "{e}");
    let e = Writer::create(&dir.0, &support::session())
        .err()
        .unwrap()
        .to_string();
    assert!(e.contains("cannot write"), "{e}");
}

/// Bytes are flipped, rows are given words nobody knows: an error each time, never a panic.
#[test]
fn a_broken_recording_is_an_error() {
    let dir = Scratch::new("broken");
    let path = dir.file("a.vmas");
    full(&path, 2).finish(&support::busy(2)).unwrap();
    let good = fs::read(&path).unwrap();
    let mut failed = 0;
    for seed in 0..200usize {
        let mut bad = good.clone();
        for n in 0..40 {
            let at = 100 + (seed * 7919 + n * 104_729) % (bad.len() - 100);
            bad[at] ^= 0xa5;
        }
        if seed % 3 == 0 {
            bad.truncate(100 + seed * bad.len() / 200);
        }
        fs::write(&path, &bad).unwrap();
        let read = || -> Result<(), Error> {
            let r = Recording::open(&path)?;
            r.snapshot()?;
            r.waits().try_for_each(|w| w.map(drop))?;
            r.faults().try_for_each(|w| w.map(drop))?;
            r.intervals().try_for_each(|w| w.map(drop))
        };
        failed += u32::from(read().is_err());
    }
    assert!(failed > 100, "{failed} of 200 broken files were noticed");

    fs::write(&path, &good).unwrap();
    let sql = rusqlite::Connection::open(&path).unwrap();
    sql.execute("UPDATE waits SET op = 'juggle' WHERE id = 150", ())
        .unwrap();
    drop(sql);
    let r = Recording::open(&path).unwrap();
    let e = r.waits().find_map(Result::err).unwrap().to_string();
    assert!(
        e.contains("broken recording") && e.contains("juggle"),
        "{e}"
    );
}

#[test]
fn what_was_not_known_is_null() {
    let dir = Scratch::new("unknown");
    let path = dir.file("a.vmas");
    let session = support::locked_down(support::session());
    let mut writer = Writer::create(&path, &session).unwrap();
    let batch = Batch {
        faults: support::faults(),
        ..Batch::default()
    };
    writer.events(&batch).unwrap();
    writer.finish(&support::busy(1)).unwrap();
    let sql = rusqlite::Connection::open(&path).unwrap();
    let nulls = "SELECT count(*) FROM faults WHERE path IS NULL AND kind IS NULL";
    let nulls: i64 = sql.query_row(nulls, (), |row| row.get(0)).unwrap();
    assert_eq!(nulls, 2);
    assert_eq!(Recording::open(&path).unwrap().faults().count(), 2);
}

/// The promise of docs/formats.md: plain SQL gives the figures.
#[test]
fn sql_alone_can_read_it() {
    let dir = Scratch::new("sql");
    let path = dir.file("a.vmas");
    full(&path, 3).finish(&support::busy(3)).unwrap();
    let sql = rusqlite::Connection::open(&path).unwrap();
    let one = |query: &str| {
        sql.query_row(query, (), |row| row.get::<_, i64>(0))
            .unwrap() as u64
    };
    let want = support::busy(3);
    assert_eq!(
        one("SELECT sum(count) FROM fault_paths"),
        want.faults_total()
    );
    assert_eq!(
        one("SELECT sum(count) FROM histograms WHERE name = 'fault_latency'"),
        want.faults_total()
    );
    assert_eq!(
        one("SELECT faults_vma_lock FROM processes WHERE tgid = 1234"),
        3 * 1300
    );
    assert_eq!(
        one("SELECT count(*) FROM processes WHERE comm = 'storm'"),
        1
    );
    assert_eq!(
        one("SELECT value FROM meta WHERE key = 'armed_monotonic_ns'"),
        ARMED_NS
    );
    assert_eq!(one("SELECT max(wait_ns) FROM waits"), 41_200_000);
    assert_eq!(one("PRAGMA application_id"), 0x766d_6173);
    assert_eq!(one("PRAGMA user_version"), 2);
}

#[test]
fn the_formats_page_knows_every_column_and_its_queries_run() {
    let page = include_str!("../../../docs/formats.md");
    let dir = Scratch::new("page");
    let path = dir.file("a.vmas");
    full(&path, 1).finish(&support::busy(1)).unwrap();
    let sql = rusqlite::Connection::open(&path).unwrap();
    let columns = "SELECT m.name, c.name FROM sqlite_schema m, pragma_table_xinfo(m.name) c";
    let mut columns = sql.prepare(columns).unwrap();
    let columns = columns
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(|row| row.unwrap())
        .collect::<Vec<(String, String)>>();
    assert!(columns.len() > 100, "{}", columns.len());
    for (table, column) in columns {
        let row = format!("| `{table}` |");
        let row = page.lines().find(|l| l.starts_with(&row));
        let row = row.unwrap_or_else(|| panic!("no row for {table}"));
        let made_of_words = ["faults_", "read_", "write_", "vma_write_"]
            .iter()
            .any(|p| column.starts_with(p));
        let key = [
            "interval",
            "path",
            "kind",
            "reason",
            "state",
            "prio_class",
            "ioprio_class",
            "min_pages",
            "mode",
            "op",
            "name",
            "label",
        ];
        let known = row.contains(&format!("`{column}`")) || key.contains(&column.as_str());
        assert!(
            known || made_of_words || table == "processes",
            "{table}.{column}"
        );
    }
    let queries = page
        .split("```sql")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let queries: Vec<_> = queries
        .split(';')
        .filter(|q| !q.trim().is_empty())
        .collect();
    assert_eq!(queries.len(), 5);
    for query in queries {
        let mut statement = sql.prepare(query).unwrap();
        let mut rows = statement.query(()).unwrap();
        assert!(rows.next().unwrap().is_some(), "{query} finds nothing");
    }
}
