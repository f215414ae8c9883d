//! Who reads a recording while it is written, and what a live report is read for. Needs root.

use std::{
    fs,
    path::Path,
    process::{Child, Command},
    thread::sleep,
    time::Duration,
};

use vmascope::recording::{Recording, repair};

use crate::{Load, Scratch, alone, companion, record, vmascope, wait_for};

/// In the midst of the faults, of which there must be some soon.
fn reads(reader: &Recording) -> impl Sized + '_ {
    for _ in 0..100 {
        let mut faults = reader.faults();
        if faults.next().is_some() {
            return faults;
        }
        sleep(Duration::from_millis(100));
    }
    panic!("no fault was recorded");
}

/// What a recorder says whose recording is being read when it ends.
fn ends_while_read(mut child: Child, path: &Path, load: Load) -> String {
    wait_for(path, &mut child);
    let reader = Recording::open(path).unwrap();
    let _faults = reads(&reader);
    let ended = child.wait_with_output().unwrap();
    drop(load);
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success(), "{said}");
    said
}

/// It is whole, though not folded. And what is said of it is what `report` says.
#[test]
fn a_reader_makes_no_error_of_a_recording() {
    let _alone = alone();
    let dir = Scratch::new("read");
    let path = dir.file("a.db");
    let load = Load::start();
    let said = ends_while_read(record(&path, &["-d", "3s"]), &path, load);
    assert!(said.contains("has it open"), "{said}");
    assert!(Recording::open(&path).unwrap().complete(), "{said}");
    let report = vmascope(&["report"], &path);
    let report = String::from_utf8(report.stdout).unwrap();
    let (_, short) = said.split_once('\n').unwrap();
    let (short, _) = short.split_once("\nrecording: ").unwrap();
    assert!(short.lines().count() > 10, "{said}");
    for line in short.lines() {
        assert!(report.lines().any(|l| l == line), "{line}\n{report}");
    }
}

/// Its part is whole, though not folded; and what is no recording is no part.
#[test]
fn a_reader_does_not_end_a_row_of_recordings() {
    let _alone = alone();
    let dir = Scratch::new("rotate-read");
    for n in 1..=4 {
        fs::write(dir.file(&format!("a-00000{n}.db")), "notes").unwrap();
    }
    let load = Load::start();
    let more = ["-d", "4s", "--max-age", "1s", "--keep", "9"];
    let first = dir.file("a-000005.db");
    let said = ends_while_read(record(&dir.file("a.db"), &more), &first, load);
    assert!(said.contains("vmascope repair"), "{said}");
    assert!(dir.file("a-000006.db").exists(), "{said}");
    assert!(Recording::open(&first).unwrap().complete(), "{said}");
    repair(&first).unwrap();
    assert!(!companion(&first, "-wal").exists());
    for n in 1..=4 {
        assert_eq!(
            fs::read(dir.file(&format!("a-00000{n}.db"))).unwrap(),
            b"notes"
        );
    }
}

/// A page about ten moments, not about one.
#[test]
fn a_live_report_knows_when_it_was() {
    let _alone = alone();
    let load = Load::start();
    let done = Command::new(env!("CARGO_BIN_EXE_vmascope"))
        .args(["report", "-d", "2s", "-i", "200ms", "--format", "html"])
        .args(["-p", &std::process::id().to_string()])
        .output()
        .unwrap();
    drop(load);
    assert!(done.status.success(), "{done:?}");
    let page = String::from_utf8(done.stdout).unwrap();
    let (_, edges) = page.split_once("\"edges_ns\":[").unwrap();
    let (edges, _) = edges.split_once(']').unwrap();
    assert!(edges.split(',').count() > 6, "{edges}");
}
