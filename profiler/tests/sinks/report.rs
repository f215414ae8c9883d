//! The report of hand-made sessions: the page as a whole against files, the JSON by its figures.

use crate::support::{
    self, busy, contended, expect, extreme, faults, idle, locked_down, session, waits,
};
use serde_json::Value;
use vmascope::{
    model::{FaultEvent, HolderInfo, Session, Snapshot, WaitEvent},
    recording::{Recording, Writer},
    report::{self, Analysis, Report, json, short, text, verdict},
};

fn build(
    session: &Session,
    counts: &Snapshot,
    waits: &[WaitEvent],
    faults: &[FaultEvent],
) -> Report {
    report::build(session, counts, waits, faults, Analysis::default())
}

fn worst() -> Vec<WaitEvent> {
    let mut all = waits();
    all.sort_by_key(|w| std::cmp::Reverse(w.duration_ns()));
    all
}

fn page(session: &Session, counts: &Snapshot) -> String {
    let page = text(&build(session, counts, &worst(), &faults()));
    for line in page.lines() {
        assert!(line.chars().count() <= 80, "{}: {line}", line.len());
        assert!(line.is_ascii() && line.trim_end() == line, "{line:?}");
    }
    page
}

/// As a recording of the batch tells it.
fn recorded() -> Report {
    let mut writer = Writer::in_memory(&session()).unwrap();
    writer.events(&support::batch()).unwrap();
    report::of(&writer.into_recording(&busy(10)).unwrap()).unwrap()
}

#[test]
fn who_made_whom_wait() {
    let report = recorded();
    expect("report-blame.txt", &text(&report));
    expect("report-blame.lkml", &report::lkml(&report));
    let v: Value = serde_json::from_str(&json(&report).unwrap()).unwrap();
    assert_eq!(v["vma_write"]["blocked_by"]["fault"], 1);
    assert_eq!(v["vma_write"]["blocked_by_io"], 1);
    assert_eq!(v["vma_write"]["other_part"], 1);
    assert_eq!(v["chains"]["count"], 1);
    assert_eq!(v["chains"]["max_depth"], 3);
    let chain = &v["chains"]["top"][0];
    assert_eq!(chain["root"]["doing"], "page_mkwrite");
    assert_eq!(chain["links"][0]["tid"], 1241);
    assert_eq!(chain["links"][1]["lock"], "vma");
    assert_eq!(v["inversions"]["count"], 1);
    assert_eq!(v["windows"]["count"], 1);
    assert_eq!(v["conflicts"]["exact"], 1);
    assert_eq!(v["conflicts"]["both"], 1);
    let hold = &v["what_if"]["hold_across_io"];
    assert_eq!(hold["lost_ns"], 30_000_000);
    assert_eq!(hold["amplified_ns"], 20_000_000);
    assert_eq!(hold["saved_ns"], 1_250_000);
    let held = &v["what_if"]["held_today"];
    assert_eq!(held["lost_ns"], 41_000_000);
    assert_eq!(held["amplified_ns"], 3_399_000);
    for line in report::lkml(&report).lines() {
        assert!(line.chars().count() <= 80 && line.is_ascii(), "{line:?}");
    }
}

fn as_json(session: &Session, counts: &Snapshot) -> Value {
    let report = build(session, counts, &worst(), &faults());
    serde_json::from_str(&json(&report).unwrap()).unwrap()
}

fn old_kernel() -> Session {
    let mut s = session();
    s.vma_lock = "none".into();
    s
}

#[test]
fn pages() {
    let busy = busy(10);
    expect("report-busy.txt", &page(&session(), &busy));
    expect("report-contended.txt", &page(&contended(session()), &busy));
    expect(
        "report-locked-down.txt",
        &page(&locked_down(session()), &busy),
    );
    expect("report-no-vma-lock.txt", &page(&old_kernel(), &busy));
    expect("report-extreme.txt", &page(&session(), &extreme()));
    let nothing = text(&build(&session(), &idle(10), &[], &[]));
    expect("report-idle.txt", &nothing);
    let brief = short(&build(&session(), &busy, &worst(), &faults()));
    expect("report-short.txt", &brief);
}

#[test]
fn the_whole_json() {
    let report = build(&session(), &busy(2), &worst(), &faults());
    expect("report-busy.json", &json(&report).unwrap());
}

#[test]
fn nothing_found_is_a_confident_answer() {
    let said = verdict(&session(), &idle(10), &[]);
    assert_eq!(
        said,
        "In 10.0 s: no page fault; 0 mmap_lock write waits and 0 VMA-writer waits in 0 write sections, loss 0, hook exact."
    );
}

#[test]
fn a_loss_is_in_the_first_sentence() {
    let mut counts = busy(2);
    counts.losses[0] = 7;
    let said = verdict(&session(), &counts, &worst());
    assert!(
        said.ends_with("7 loss events, so figures may be too low."),
        "{said}"
    );
}

#[test]
fn the_worst_writer_is_named_even_without_its_event() {
    let counts = busy(2);
    let said = verdict(&session(), &counts, &[]);
    assert!(said.contains("worst writer: mprotect"), "{said}");
    let mut counts = counts;
    let longest = counts.locks[1].total().wait_max_ns;
    counts.threads[1].wait_max_ns[1] = longest;
    let said = verdict(&session(), &counts, &[]);
    assert!(
        said.contains("worst writer: mprotect in storm (1234)"),
        "{said}"
    );
}

#[test]
fn json_adds_up() {
    let counts = busy(10);
    let r = as_json(&session(), &counts);
    let f = &r["faults"];
    let sum = |v: &Value| {
        v.as_object()
            .unwrap()
            .values()
            .filter_map(Value::as_u64)
            .sum::<u64>()
    };
    assert_eq!(f["total"], counts.faults_total());
    assert_eq!(sum(&f["by_path"]), counts.faults_total());
    assert_eq!(sum(&f["by_kind"]), counts.faults_total());
    assert_eq!(f["latency_ns"]["all"]["count"], counts.faults_total());
    assert_eq!(
        f["major"].as_u64().unwrap() + f["minor"].as_u64().unwrap(),
        counts.faults_total()
    );
    assert_eq!(r["cross_check"]["pgfault"]["difference"], 0);
    let write = &r["mmap_lock"]["write"];
    let ops: u64 = write["by_op"]
        .as_object()
        .unwrap()
        .values()
        .map(|op| op["acquired"].as_u64().unwrap())
        .sum();
    assert_eq!(write["acquired"], ops);
    let decades: u64 = write["acquire_decades"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!(decades, ops);
    let faults: u64 = r["processes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["faults"].as_u64().unwrap())
        .sum();
    let threads: u64 = counts.threads.iter().map(|t| t.faults()).sum();
    assert_eq!(faults, threads);
}

#[test]
fn what_cannot_be_known_is_null_and_never_zero() {
    let r = as_json(&contended(session()), &busy(2));
    let read = &r["mmap_lock"]["read"];
    for key in ["acquired", "hold_ns", "acquire_decades"] {
        assert_eq!(read[key], Value::Null, "{key}");
    }
    assert_eq!(read["by_op"]["fault"]["acquired"], Value::Null);
    assert!(read["waits"].as_u64().unwrap() > 0);

    let r = as_json(&locked_down(session()), &busy(2));
    let f = &r["faults"];
    for key in [
        "by_path",
        "major_by_path",
        "by_kind",
        "fallbacks",
        "gup",
        "retry_attempts",
        "retries",
        "held_waits",
        "folio_state",
        "components_by_kind_ns",
        "io_wait_ns",
    ] {
        assert_eq!(f[key], Value::Null, "{key}");
    }
    assert_eq!(f["latency_ns"]["vma_lock"], Value::Null);
    assert!(f["latency_ns"]["all"]["p50"].as_u64().unwrap() > 0);

    let r = as_json(&old_kernel(), &busy(2));
    assert_eq!(r["faults"]["by_path"]["vma_lock"], Value::Null);
    assert_eq!(r["faults"]["fallbacks"], Value::Null);

    let r = as_json(&session(), &busy(2));
    for key in [
        "vma_write",
        "chains",
        "inversions",
        "windows",
        "conflicts",
        "what_if",
    ] {
        assert_eq!(r.get(key), Some(&Value::Null), "{key}");
    }
    let components = &r["faults"]["components_ns"];
    let parts = [
        "mmap_lock_wait",
        "io_wait",
        "run_delay",
        "userfault_wait",
        "held_wait",
        "rest",
    ];
    let sum: u64 = parts.iter().map(|p| components[p].as_u64().unwrap()).sum();
    assert_eq!(components["total"], sum);
    assert_eq!(r["faults"]["retry_attempts"], 40);
    // Of nothing there is no quantile, but there is a count.
    let none = &r["faults"]["latency_ns"]["gup"];
    assert_eq!(
        *none,
        serde_json::json!({"count": 0, "sum": 0, "max": null, "p50": null, "p90": null, "p99": null, "p999": null})
    );
    let mut other = session();
    other.target = "pid 1".into();
    let check = &as_json(&other, &busy(2))["cross_check"];
    assert_eq!(check["pgfault"], Value::Null);
    assert_eq!(check["threads"]["difference"], 0);
}

#[test]
fn names_cannot_speak_to_the_terminal() {
    let mut counts = busy(1);
    counts.threads[0].comm = "\x1b]0;gotcha\x07".into();
    let mut w = waits();
    w[0].comm = "\x1b[2J".into();
    w[0].end_ns += 1_000_000_000;
    let page = text(&build(&session(), &counts, &w, &[]));
    assert!(
        !page.contains('\x1b') && page.contains("?]0;gotcha?"),
        "{page}"
    );
}

#[test]
fn readers_that_nobody_knows_are_counted() {
    let mut w = waits();
    w[1].holder = Some(HolderInfo {
        readers: 3,
        ..HolderInfo::default()
    });
    let report = build(&session(), &busy(1), &w, &[]);
    let page = text(&report);
    assert!(page.contains(", held by 3 readers"), "{page}");
    let json: Value = serde_json::to_value(&report).unwrap();
    let waits = json["worst_waits"].as_array().unwrap();
    assert!(
        waits.iter().any(|w| w["holder"]["readers"] == 3),
        "{waits:?}"
    );
}

#[test]
fn a_recording_gives_the_live_report_again() {
    let dir = support::Scratch::new("report");
    let path = dir.file("a.vmas");
    let mut writer = Writer::create(&path, &session()).unwrap();
    writer.events(&support::batch()).unwrap();
    writer.interval(&busy(1)).unwrap();
    let partial = report::of(&Recording::open(&path).unwrap()).unwrap();
    assert!(text(&partial).contains("not complete"));
    writer.finish(&busy(2)).unwrap();
    let again = report::of(&Recording::open(&path).unwrap()).unwrap();
    let mut writer = Writer::in_memory(&session()).unwrap();
    writer.events(&support::batch()).unwrap();
    let live = report::of(&writer.into_recording(&busy(2)).unwrap()).unwrap();
    assert!(json(&again).unwrap() == json(&live).unwrap());
}
