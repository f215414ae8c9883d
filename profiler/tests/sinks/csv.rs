//! The CSV export against the recording it came from.

use std::{collections::HashMap, fs, path::Path};

use crate::support::{self, Scratch};
use vmascope::{
    recording::{Recording, Writer},
    sinks,
};

fn exported(dir: &Scratch) -> std::path::PathBuf {
    let path = dir.file("a.vmas");
    let mut writer = Writer::create(&path, &support::session()).unwrap();
    writer.interval(&support::busy(1)).unwrap();
    writer.events(&support::batch()).unwrap();
    writer.finish(&support::busy(2)).unwrap();
    let out = dir.file("deep/csv");
    sinks::csv::export(&Recording::open(&path).unwrap(), &out).unwrap();
    out
}

fn rows(dir: &Path, table: &str) -> Vec<HashMap<String, String>> {
    let mut reader = csv::Reader::from_path(dir.join(format!("{table}.csv"))).unwrap();
    reader.deserialize().map(Result::unwrap).collect()
}

fn sum(rows: &[HashMap<String, String>], column: &str) -> u64 {
    rows.iter().map(|r| r[column].parse::<u64>().unwrap()).sum()
}

#[test]
fn every_table_is_a_file_that_adds_up() {
    let dir = Scratch::new("csv");
    let out = exported(&dir);
    let want = support::busy(2);
    assert_eq!(
        sum(&rows(&out, "fault_paths"), "count"),
        want.faults_total()
    );
    assert_eq!(
        sum(&rows(&out, "fault_kinds"), "count"),
        want.faults_total()
    );
    assert_eq!(
        sum(&rows(&out, "locks"), "waits"),
        want.locks.iter().map(|l| l.total().waits).sum::<u64>()
    );
    assert_eq!(rows(&out, "threads").len(), want.threads.len());
    assert_eq!(rows(&out, "processes").len(), want.processes().len());
    assert_eq!(rows(&out, "losses").len(), 0);
    let threads: u64 = want.threads.iter().map(|t| t.minor).sum();
    assert_eq!(sum(&rows(&out, "processes"), "minor"), threads);

    let meta: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(out.join("meta.json")).unwrap()).unwrap();
    assert_eq!(meta["session"]["host"]["name"], "testbox");
    assert_eq!(meta["loss"]["ring_full"], 0);
    assert_eq!(meta["complete"], true);
    for file in meta["files"].as_array().unwrap() {
        assert!(out.join(file.as_str().unwrap()).exists());
    }
    assert_eq!(
        fs::read_dir(&out).unwrap().count(),
        1 + meta["files"].as_array().unwrap().len()
    );
}

#[test]
fn single_events_keep_their_values() {
    let dir = Scratch::new("csv-events");
    let out = exported(&dir);
    let faults = rows(&out, "faults");
    assert_eq!(faults[0]["comm"], "cat, \"quoted\"");
    assert_eq!(faults[0]["address"], "0x7f1234567000");
    assert_eq!(faults[0]["latency_ns"], "48000000");
    assert_eq!(faults[0]["fallback_reason"], "");
    assert_eq!(faults[1]["fallback_reason"], "write_active");
    assert_eq!(faults[1]["vm_flags"], "0xffffffffffffffff");
    // Armed at .123456789, the fault began 100 ms later.
    assert_eq!(faults[0]["time"], "2026-09-21T14:13:20.223456789Z");
    assert_eq!(
        faults[0]["start_ns"],
        (support::ARMED_NS + 100_000_000).to_string()
    );
    let waits = rows(&out, "waits");
    assert_eq!(waits[0]["mm"], "0xffff88810a0b0c00");
    assert_eq!(
        (
            waits[2]["holder_comm"].as_str(),
            waits[2]["acquired"].as_str()
        ),
        ("storm", "0")
    );
    assert_eq!(waits[0]["lock"], "vma");
    assert_eq!(waits[0]["vm_start"], "0x7f1234560000");
    assert_eq!(rows(&out, "conflicts")[0]["how"], "exact");
    assert_eq!(rows(&out, "arrivals")[2]["what"], "mmap_read");
    assert_eq!(rows(&out, "chains")[0]["blocked_ns"], "44600000");
    let raw = fs::read_to_string(out.join("waits.csv")).unwrap();
    assert!(raw.lines().count() == 4 && raw.matches("\r\n").count() == 4);
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let dir = Scratch::new("csv-bad");
    exported(&dir);
    let recording = Recording::open(&dir.file("a.vmas")).unwrap();
    let e = sinks::csv::export(&recording, &dir.file("a.vmas"))
        .unwrap_err()
        .to_string();
    assert!(
        e.contains("cannot write") && e.contains("a.vmas") && !e.contains('\n'),
        "{e}"
    );
}
