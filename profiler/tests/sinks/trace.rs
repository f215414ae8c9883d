//! Traces and pages: what can be told without Perfetto's schema and without a browser. What is made
//! here stays in the build folder, where `cargo xtask ci` holds it against both.

use std::{fs, path::PathBuf};

use crate::support::{self, Scratch};
use vmascope::{
    model::{Batch, Session, Snapshot},
    recording::{Recording, Writer},
    sinks,
};

const HOSTILE: &str = "</script><img src=x onerror=alert(1)>";

fn recorded(path: &std::path::Path, session: &Session, batch: &Batch, end: &Snapshot) -> Recording {
    let mut writer = Writer::create(path, session).unwrap();
    writer.interval(&support::busy(1)).unwrap();
    writer.events(batch).unwrap();
    writer.finish(end).unwrap();
    Recording::open(path).unwrap()
}

/// Many waits, many of them at once, of threads with any name.
fn crowd() -> Batch {
    let mut batch = support::batch();
    let (wait, fault) = (batch.waits[0].clone(), batch.faults[0].clone());
    for n in 0..5_000_u64 {
        let mut wait = wait.clone();
        wait.id = 1_000 + n;
        wait.start_ns += n * 37_000;
        wait.end_ns = wait.start_ns + 20_000 + n % 97 * 1_000;
        wait.tid = 2_000 + (n % 300) as u32;
        wait.comm = HOSTILE[..15].into();
        wait.blame.root_wait = wait.id;
        wait.blame.depth = 1;
        batch.waits.push(wait);
    }
    let mut fault = fault;
    fault.name = HOSTILE.into();
    fault.start_ns += 600_000_000;
    fault.end_ns += 600_000_000;
    batch.faults.push(fault);
    batch
}

#[test]
fn traces_and_pages_for_other_judges() {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("export");
    fs::create_dir_all(&dir).unwrap();
    let anew = |name: &str| {
        let path = dir.join(format!("{name}.db"));
        let _ = fs::remove_file(&path);
        path
    };
    let (session, down) = (support::session(), support::locked_down(support::session()));
    for (name, session, batch, end) in [
        ("busy", &session, &support::batch(), support::busy(2)),
        ("crowd", &session, &crowd(), support::busy(3)),
        ("extreme", &session, &support::batch(), support::extreme()),
        ("locked-down", &down, &support::batch(), support::busy(2)),
    ] {
        let recording = recorded(&anew(name), session, batch, &end);
        let trace = dir.join(format!("{name}.pftrace"));
        sinks::perfetto::export(&recording, &trace).unwrap();
        sinks::html::export(&recording, &dir.join(format!("{name}.html"))).unwrap();
    }
    let path = anew("empty");
    let writer = Writer::create(&path, &session).unwrap();
    writer.finish(&Snapshot::empty()).unwrap();
    let recording = Recording::open(&path).unwrap();
    sinks::perfetto::export(&recording, &dir.join("empty.pftrace")).unwrap();
    sinks::html::export(&recording, &dir.join("empty.html")).unwrap();
}

/// The same recording gives the same bytes, and a name goes in once.
#[test]
fn a_trace_is_small_and_the_same_each_time() {
    let dir = Scratch::new("trace");
    let batch = crowd();
    let recording = recorded(
        &dir.file("a.db"),
        &support::session(),
        &batch,
        &support::busy(2),
    );
    let traces = ["a", "b"].map(|name| {
        let path = dir.file(name);
        sinks::perfetto::export(&recording, &path).unwrap();
        fs::read(path).unwrap()
    });
    assert!(traces[0] == traces[1]);
    let text = String::from_utf8_lossy(&traces[0]);
    assert_eq!(text.matches("handoff_ns").count(), 1);
    assert_eq!(text.matches("wait vma write mprotect").count(), 1);
    let each = traces[0].len() / batch.waits.len();
    assert!(each < 500, "{each} bytes for a wait");
}

/// Slices of a track are inside each other or apart, whatever the clocks say.
#[test]
fn a_slice_that_reaches_out_is_cut_and_says_so() {
    let dir = Scratch::new("trace-cut");
    let trace = |name: &str, later_ns: u64| {
        let mut batch = support::batch();
        let fault = batch.faults[0].clone();
        let mut wait = batch.waits[0].clone();
        (wait.tid, wait.tgid) = (fault.tid, fault.tgid);
        wait.start_ns = fault.start_ns + 1_000;
        wait.end_ns = fault.end_ns + later_ns;
        batch.waits = vec![wait];
        let db = dir.file(&format!("{name}.db"));
        let recording = recorded(&db, &support::session(), &batch, &support::busy(2));
        let path = dir.file(name);
        sinks::perfetto::export(&recording, &path).unwrap();
        String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()
    };
    assert!(!trace("inside", 0).contains("cut_ns"));
    assert!(trace("outside", 1).contains("cut_ns"));
}

fn data_of(page: &str) -> serde_json::Value {
    let data = page.split("id=\"data\">").nth(1).unwrap();
    serde_json::from_str(data.split("</script>").next().unwrap()).unwrap()
}

#[test]
fn nothing_is_split_by_a_path_that_is_not_known() {
    let dir = Scratch::new("page-unknown");
    let session = support::locked_down(support::session());
    let batch = support::batch();
    let recording = recorded(&dir.file("a.db"), &session, &batch, &support::busy(2));
    let data = data_of(&sinks::html::page(&recording).unwrap());
    let paths = data["heat"]["paths"].as_array().unwrap();
    assert_eq!(paths.len(), 1);
    assert_eq!(paths[0]["path"], "any path");
    let trace = dir.file("trace");
    sinks::perfetto::export(&recording, &trace).unwrap();
    let trace = fs::read(trace).unwrap();
    assert!(!String::from_utf8_lossy(&trace).contains("faults vma_lock"));
}

#[test]
fn a_page_is_bounded_and_names_stay_names() {
    let dir = Scratch::new("page");
    let mut session = support::session();
    session.target = format!("cmd: {HOSTILE}");
    let recording = recorded(&dir.file("a.db"), &session, &crowd(), &support::busy(2));
    let page = sinks::html::page(&recording).unwrap();
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
    assert!(!page.contains("<img"), "a name became an element");
    assert_eq!(page.matches("</script>").count(), 2);
    assert!(
        page.contains("&lt;/script&gt;&lt;img src=x"),
        "in the title"
    );
    // The name of SVG's namespace, which nobody fetches, and nothing else.
    assert_eq!(page.matches("://").count(), 1);
    // The data is what the report says.
    let data = data_of(&page);
    assert_eq!(
        data["report"]["faults"]["total"],
        support::busy(2).faults_total()
    );
    assert_eq!(data["timeline"]["waits"], 5_003);
    assert!(data["timeline"]["bars"].as_array().unwrap().len() <= 2_000);
    assert!(data["timeline"]["lanes"].as_array().unwrap().len() <= 40);
    let cells = data["heat"]["paths"].as_array().unwrap().iter();
    let counts = cells.flat_map(|p| p["cells"].as_array().unwrap());
    let timed: u64 = counts.map(|c| c[2].as_u64().unwrap()).sum();
    assert_eq!(
        timed,
        support::busy(2).faults_total(),
        "every fault is on the map"
    );
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let dir = Scratch::new("trace-bad");
    let recording = recorded(
        &dir.file("a.db"),
        &support::session(),
        &support::batch(),
        &support::busy(2),
    );
    for export in [sinks::perfetto::export, sinks::html::export] {
        let e = export(&recording, &dir.file("no/such/file")).unwrap_err();
        assert!(e.to_string().contains("cannot write"), "{e}");
    }
}
