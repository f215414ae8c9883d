//! Recordings of schema 1: read by everything that reads today's, and what they do not have is missing.

use std::{fs, path::Path};

use crate::support::{self, Scratch};
use vmascope::{
    recording::{Recording, Writer},
    report,
    sinks::{self, folded::By},
};

/// Makes of a recording what it was then.
const AS_IT_WAS: &str = "
    DROP VIEW chains; DROP TABLE segments; DROP TABLE windows; DROP TABLE arrivals;
    DROP TABLE conflicts; DROP TABLE stacks; ALTER TABLE locks RENAME TO mmap_lock;
    UPDATE histograms SET name = 'mmap_lock_wait' WHERE name = 'lock_wait';
    UPDATE histogram_totals SET name = 'mmap_lock_wait' WHERE name = 'lock_wait';
    DROP VIEW processes;
    ALTER TABLE threads DROP COLUMN container;
    ALTER TABLE threads DROP COLUMN ground;
    ALTER TABLE threads DROP COLUMN oom_score_adj;
    ALTER TABLE threads DROP COLUMN ns_pid;
    ALTER TABLE threads DROP COLUMN vma_write_waits;
    ALTER TABLE threads DROP COLUMN vma_write_wait_sum_ns;
    ALTER TABLE threads DROP COLUMN vma_write_wait_max_ns;
    CREATE VIEW processes AS SELECT tgid, min(comm) AS comm, min(exited) AS exited,
      sum(minor) AS minor, sum(major) AS major FROM threads GROUP BY tgid;
    CREATE TABLE old (
      id INTEGER PRIMARY KEY, start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL,
      wait_ns INTEGER AS (end_ns - start_ns), cpu INTEGER, tid INTEGER, tgid INTEGER,
      comm TEXT, prio INTEGER, policy INTEGER, mm INTEGER, mm_tgid INTEGER, mode TEXT,
      op TEXT, acquired INTEGER, holder_tid INTEGER, holder_tgid INTEGER, holder_comm TEXT,
      holder_prio INTEGER, holder_reader INTEGER);
    INSERT INTO old SELECT id, start_ns, end_ns, cpu, tid, tgid, comm, prio, policy, mm,
      mm_tgid, mode, op, acquired, holder_tid, holder_tgid, holder_comm, holder_prio,
      holder_readers FROM waits;
    DROP TABLE waits; ALTER TABLE old RENAME TO waits;
    DELETE FROM signals WHERE name IN ('vma_write_wait', 'windows', 'what_if');
    UPDATE meta SET value = 1 WHERE key = 'schema';
    PRAGMA user_version = 1;";

fn full(path: &Path) {
    let mut writer = Writer::create(path, &support::session()).unwrap();
    writer.interval(&support::busy(1)).unwrap();
    writer.events(&support::batch()).unwrap();
    writer.finish(&support::busy(2)).unwrap();
}

pub fn older(path: &Path) -> Recording {
    full(path);
    let sql = rusqlite::Connection::open(path).unwrap();
    sql.execute_batch(AS_IT_WAS).unwrap();
    drop(sql);
    Recording::open(path).unwrap()
}

#[test]
fn what_it_holds_is_read() {
    let dir = Scratch::new("older");
    let r = older(&dir.file("a.vmas"));
    let mut want = support::busy(2);
    // Of them there were none.
    for t in &mut want.threads {
        (t.waits[2], t.wait_sum_ns[2], t.wait_max_ns[2]) = (0, 0, 0);
        t.container.clear();
        t.ns_pid = None;
    }
    assert_eq!(r.snapshot().unwrap(), want);
    let waits: Vec<_> = r.waits().map(Result::unwrap).collect();
    assert_eq!(waits.len(), support::waits().len());
    assert_eq!((waits[0].blame.depth, waits[0].blame.root_wait), (1, 100));
    assert_eq!(
        r.windows().count() + r.arrivals().count() + r.conflicts().count(),
        0
    );
    // As a wait's page in `top` asks for them.
    for wait in waits {
        assert_eq!(r.segments(wait.id).unwrap(), []);
    }
}

#[test]
fn what_it_has_not_is_missing_and_not_nothing() {
    let dir = Scratch::new("older-report");
    let report = report::of(&older(&dir.file("a.vmas"))).unwrap();
    let v: serde_json::Value = serde_json::from_str(&report::json(&report).unwrap()).unwrap();
    for key in [
        "vma_write",
        "chains",
        "inversions",
        "windows",
        "conflicts",
        "what_if",
    ] {
        assert!(v[key].is_null(), "{key}: {}", v[key]);
    }
    let mail = report::lkml(&report);
    assert!(
        mail.contains("a recording of schema 1 has no blame"),
        "{mail}"
    );
}

#[test]
fn every_format_has_the_columns_of_today() {
    let dir = Scratch::new("older-exports");
    let old = older(&dir.file("old.vmas"));
    full(&dir.file("new.vmas"));
    let new = Recording::open(&dir.file("new.vmas")).unwrap();
    for (recording, to) in [(&old, "old"), (&new, "new")] {
        sinks::csv::export(recording, &dir.file(to)).unwrap();
    }
    for table in fs::read_dir(dir.file("new")).unwrap() {
        let name = table.unwrap().file_name();
        let head = |side: &str| {
            let text = fs::read_to_string(dir.file(side).join(&name)).unwrap();
            let line = text.lines().next().unwrap_or_default();
            line.split(',').map(str::to_owned).collect::<Vec<_>>()
        };
        let (old, new) = (head("old"), head("new"));
        // A view of the file itself, which is as it was.
        if name != "processes.csv" {
            let missing: Vec<_> = new.iter().filter(|c| !old.contains(c)).collect();
            assert_eq!(missing, Vec::<&String>::new(), "{name:?}");
            assert_eq!(old.len(), new.len(), "{name:?}: {old:?}");
        }
    }
    sinks::json::export(&old, &dir.file("json")).unwrap();
    sinks::perfetto::export(&old, &dir.file("pftrace")).unwrap();
    sinks::html::export(&old, &dir.file("html")).unwrap();
    sinks::hlog::export(&old, &dir.file("hlog")).unwrap();
    for by in [By::Waiter, By::Holder] {
        sinks::folded::export(&old, &dir.file("folded"), by).unwrap();
    }
}
