//! A recording of which some threads are shown: lists and rows of theirs, sums and estimates of all.

use std::{fs, path::Path};

use serde_json::Value;
use vmascope::{
    model::Thread,
    recording::{Recording, Shown, Writer},
    report, sinks,
};

use crate::{
    older::older,
    support::{self, Scratch, expect},
};

fn recorded(path: &Path) -> Recording {
    let mut writer = Writer::create(path, &support::session()).unwrap();
    writer.events(&support::batch()).unwrap();
    writer.finish(&support::busy(10)).unwrap();
    Recording::open(path).unwrap()
}

fn tid(tid: u32) -> Shown {
    Shown {
        tids: vec![tid],
        ..Shown::default()
    }
}

fn report(recording: &Recording) -> Value {
    serde_json::to_value(report::of(recording).unwrap()).unwrap()
}

/// The different values of a column.
fn of_all(rows: &Value, column: &str) -> Vec<u64> {
    let rows = rows.as_array().unwrap().iter();
    let mut all: Vec<_> = rows.map(|row| row[column].as_u64().unwrap()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[test]
fn lists_are_of_what_is_shown_and_sums_of_all() {
    let dir = Scratch::new("shown");
    let recording = recorded(&dir.file("a.db")).showing(tid(1240));
    let some = report::of(&recording).unwrap();
    expect("report-shown.txt", &report::text(&some));
    let mut some = serde_json::to_value(some).unwrap();
    let mut all = report(&recorded(&dir.file("b.db")));
    assert_eq!(of_all(&all["worst_waits"], "tid"), [1234, 1240, 1241]);
    assert_eq!(some["shown"], "tid 1240");
    for list in ["worst_waits", "worst_faults", "threads"] {
        assert_eq!(of_all(&some[list], "tid"), [1240], "{list}");
    }
    assert_eq!(of_all(&some["processes"], "tgid"), [1234]);
    assert_eq!(some["processes"][0], all["processes"][0]);
    assert_eq!(some["threads_total"], 1);
    let lists = [
        "shown",
        "worst_waits",
        "worst_faults",
        "threads",
        "threads_total",
        "processes",
    ];
    for list in lists {
        (some[list], all[list]) = (Value::Null, Value::Null);
    }
    assert_eq!(some, all);
}

#[test]
fn what_is_chosen_holds_together() {
    let dir = Scratch::new("shown-all");
    let of = |name: &str, shown: Shown| report(&recorded(&dir.file(name)).showing(shown));
    // Events of both threads ended on it, and one thread had none that did.
    let cpu = Shown {
        cpus: vec![1],
        ..Shown::default()
    };
    let on_cpu = of("cpu", cpu.clone());
    assert_eq!(of_all(&on_cpu["worst_waits"], "tid"), [1234, 1240, 1241]);
    assert_eq!(of_all(&on_cpu["threads"], "tid"), [812, 1234, 1240, 1241]);
    let both = of(
        "both",
        Shown {
            tids: vec![1241, 812],
            ..cpu
        },
    );
    assert_eq!(of_all(&both["worst_waits"], "tid"), [1241]);
    let named = Shown {
        comms: vec!["cat".into(), "it's".into()],
        ..Shown::default()
    };
    assert_eq!(named.to_string(), "comm cat, it's");
    let cat = of("comm", named);
    assert_eq!(of_all(&cat["threads"], "tid"), [812]);
    let nobody = of("nobody", tid(99));
    assert_eq!(nobody["threads"], Value::Array(Vec::new()));
    let nobody = recorded(&dir.file("text")).showing(tid(99));
    let text = report::text(&report::of(&nobody).unwrap());
    assert!(text.contains("lists are of tid 99: no such thread was seen"));
}

/// More threads than are listed one by one.
#[test]
fn processes_of_threads_that_are_not_listed_are() {
    let dir = Scratch::new("shown-many");
    let mut counts = support::busy(1);
    let one = counts.threads[0].clone();
    counts.threads.extend((5_000..7_000).map(|tid| Thread {
        tid,
        tgid: tid,
        ..one.clone()
    }));
    let path = dir.file("a.db");
    let writer = Writer::create(&path, &support::session()).unwrap();
    writer.finish(&counts).unwrap();
    let cpu = Shown {
        cpus: vec![1],
        ..Shown::default()
    };
    let all = report(&Recording::open(&path).unwrap());
    let some = report(&Recording::open(&path).unwrap().showing(cpu));
    assert_eq!(of_all(&all["processes"], "tgid").len(), 2_002);
    assert_eq!(some["processes"], all["processes"]);
}

#[test]
fn rows_are_exported_of_what_is_shown() {
    let dir = Scratch::new("shown-rows");
    let lines = |side: &str, table: &str| {
        let file = dir.file(side).join(table).with_extension("csv");
        let text = fs::read_to_string(file).unwrap();
        text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let export = |recording: &Recording, to: &str| {
        sinks::csv::export(recording.narrowed().unwrap(), &dir.file(to)).unwrap();
    };
    export(&recorded(&dir.file("a.db")), "all");
    export(&recorded(&dir.file("b.db")).showing(tid(1241)), "some");
    export(&older(&dir.file("c.db")).showing(tid(1241)), "older");
    for side in ["some", "older"] {
        assert_eq!(lines(side, "waits").len(), 1, "{side}");
        assert_eq!(lines(side, "threads").len(), 1, "{side}");
        assert_eq!(lines(side, "faults").len(), 0, "{side}");
    }
    for table in ["fault_paths", "locks", "windows", "processes", "signals"] {
        assert_eq!(lines("some", table), lines("all", table), "{table}");
    }
    // Their waits', whoever held the lock.
    assert_eq!(lines("some", "segments"), lines("all", "segments"));
    export(&recorded(&dir.file("d.db")).showing(tid(1240)), "other");
    assert_eq!(lines("other", "waits").len(), 1);
    assert_eq!(lines("other", "segments"), [""; 0]);
}
