//! The sentences of the report, its verdict and its answers, where a figure is missing, is nothing, or is
//! not the only one; and that a figure that is missing is `null` elsewhere too.

use profiler_common::words::{HeldWait, Kind, Loss, Mode, Op};
use serde_json::{Value, json};
use vmascope::{
    model::{Batch, Doing, Quality, Session, Snapshot, WaitEvent},
    recording::Writer,
    report::{self, Report, json as to_json, lkml, verdict},
    sinks::prometheus::{Exposition, Format},
};

use crate::support::{self, busy, contended, idle, session};

const MS: u64 = 1_000_000;
const RT: &str = "PREEMPT_RT: the lock does not tell who holds it, or that somebody waits";

fn with(mut session: Session, signal: &str, quality: Quality, reason: &str) -> Session {
    let signals = session.signals.iter_mut();
    for s in signals.filter(|s| s.name == signal) {
        s.quality = quality;
        s.reason = reason.to_owned();
    }
    session
}

fn preempt_rt() -> Session {
    with(session(), "mmap_lock_holder", Quality::Unavailable, RT)
}

/// What was counted of waits, all of one length.
fn waited(counts: &mut Snapshot, mode: Mode, op: Op, waits: u64, ns: u64) {
    let side = &mut counts.locks[mode as usize];
    let sums = &mut side.by_op[op as usize];
    sums.waits += waits;
    sums.wait_sum_ns += waits * ns;
    sums.wait_max_ns = sums.wait_max_ns.max(ns);
    (0..waits).for_each(|_| side.wait.record(ns));
}

fn recorded(session: &Session, batch: &Batch, counts: &Snapshot) -> Report {
    let mut writer = Writer::in_memory(session).unwrap();
    writer.events(batch).unwrap();
    report::of(&writer.into_recording(counts).unwrap()).unwrap()
}

fn as_json(report: &Report) -> Value {
    serde_json::from_str(&to_json(report).unwrap()).unwrap()
}

/// The answer to a question, in one line.
fn answer(report: &Report, question: u32) -> String {
    let mail = lkml(report);
    let from = mail.find(&format!("\nQ{question} ")).unwrap();
    let lines = mail[from + 1..].lines().skip(1);
    let lines: Vec<_> = lines.take_while(|l| l.starts_with(' ')).collect();
    let words: Vec<_> = lines.iter().flat_map(|l| l.split_whitespace()).collect();
    words.join(" ")
}

#[test]
fn the_worst_writer_is_that_of_both_locks() {
    let mut counts = idle(10);
    waited(&mut counts, Mode::VmaWrite, Op::Mprotect, 1, 12_000);
    waited(&mut counts, Mode::Write, Op::Fork, 5, 2_000 * MS);
    let said = verdict(&session(), &counts, &[]);
    assert_eq!(
        said,
        "In 10.0 s: no page fault; 1 VMA-writer wait of 12.0 us and 5 mmap_lock write waits of 10.0 s in all, worst writer: fork, waited 2.00 s for mmap_lock."
    );
    // The other way round, with its event.
    waited(&mut counts, Mode::VmaWrite, Op::Mprotect, 1, 41_200 * MS);
    let mut wait = support::waits().swap_remove(0);
    wait.end_ns = wait.start_ns + 41_200 * MS;
    let said = verdict(&session(), &counts, &[wait]);
    let worst = "worst writer: mprotect in storm (1234), waited 41.2 s for a VMA, blocked by storm-fault-1 (1240) in page_mkwrite.";
    assert!(said.ends_with(worst), "{said}");
}

#[test]
fn a_vma_writer_is_told_of_where_mmap_lock_is_not_seen() {
    let blind = with(session(), "mmap_lock_wait", Quality::Unavailable, "no hook");
    let mut counts = idle(10);
    waited(&mut counts, Mode::VmaWrite, Op::Mprotect, 1, 12_000);
    let said = verdict(&blind, &counts, &[]);
    assert_eq!(
        said,
        "In 10.0 s: no page fault; 1 VMA-writer wait of 12.0 us in all, worst writer: mprotect, waited 12.0 us; waits for mmap_lock cannot be seen (no hook)."
    );
}

#[test]
fn a_confident_answer_is_as_sure_as_its_worst_hook() {
    let of = |signal: &str| {
        let session = with(session(), signal, Quality::Approximate, "");
        verdict(&session, &idle(10), &[])
    };
    for signal in ["mmap_lock_wait", "vma_write_wait"] {
        let said = of(signal);
        assert!(said.ends_with("loss 0, hook approximate."), "{said}");
    }
    assert!(of("fault_kind").ends_with("loss 0, hook exact."));
}

#[test]
fn each_reason_to_doubt_is_told() {
    let said = |losses: &[(Loss, u64)], missed: u64| {
        let mut counts = busy(10);
        losses
            .iter()
            .for_each(|(l, n)| counts.losses[*l as usize] = *n);
        counts.threads[0].minor += missed;
        let all = verdict(&session(), &counts, &[]);
        all.split_once("waited 245 us").unwrap().1.to_owned()
    };
    use Loss::{RecursionMisses, RingFull, UnmatchedEntry, UnmatchedExit};
    assert_eq!(said(&[], 0), ".");
    assert_eq!(
        said(&[(RingFull, 7), (RecursionMisses, 3)], 5),
        "; hooks missed < 0.1 % of 20,005 faults; 7 loss events, so figures may be too low."
    );
    // Skipped hooks are no loss of their own, and a few of them are nothing to speak of.
    assert_eq!(said(&[(RecursionMisses, 20), (UnmatchedExit, 3)], 0), ".");
    assert_eq!(
        said(&[(RecursionMisses, 5_504), (UnmatchedEntry, 2_000)], 0),
        "; hooks were skipped 5,504 times."
    );
    assert_eq!(
        said(
            &[(UnmatchedEntry, 200), (UnmatchedExit, 100), (RingFull, 1)],
            40
        ),
        "; hooks were skipped 300 times and missed 0.2 % of 20,040 faults; 1 loss event, so figures may be too low."
    );
}

#[test]
fn no_holder_no_chain_and_no_inversion() {
    let mut counts = busy(10);
    waited(&mut counts, Mode::VmaWrite, Op::Mprotect, 1, 41_200_000);
    let report = recorded(&preempt_rt(), &support::batch(), &counts);
    let v = as_json(&report);
    assert_eq!(
        (&v["chains"], &v["inversions"]),
        (&Value::Null, &Value::Null)
    );
    let inverted = &v["vma_write"]["inversions"];
    assert_eq!(*inverted, json!({"count": 1, "blocked_ns": 41_000_000}));
    assert_eq!(
        answer(&report, 4),
        format!(
            "Cannot be told here: {RT}. Waits for a VMA behind a less important thread: 1, 41.0 ms in all."
        )
    );
    let waits = v["worst_waits"].as_array().unwrap();
    assert_eq!(
        (&waits[0]["lock"], &waits[0]["depth"]),
        (&json!("vma"), &json!(2))
    );
    for key in ["blamed_ns", "depth", "inversion"] {
        assert_eq!(waits[1][key], Value::Null, "{key}");
    }
    for policy in ["retry_vma", "held_today"] {
        assert_eq!(v["what_if"][policy]["bound"], "lower bound", "{policy}");
    }

    let known = as_json(&recorded(&session(), &support::batch(), &counts));
    assert_eq!(known["chains"]["count"], 1);
    assert_eq!(known["what_if"]["held_today"]["bound"], "measured");
    let nothing = recorded(&session(), &Batch::default(), &counts);
    assert_eq!(as_json(&nothing)["chains"]["count"], 0);
    assert_eq!(
        answer(&nothing, 4),
        "No chain: nobody waited for a thread that was waiting itself. No priority inversion."
    );
}

#[test]
fn a_chain_of_uncertain_holders_says_so() {
    let why = "sampled when the wait begins";
    let unsure = with(session(), "mmap_lock_holder", Quality::Approximate, why);
    let report = recorded(&unsure, &support::batch(), &busy(10));
    let said = answer(&report, 4);
    let end = "Who held mmap_lock is approximate: sampled when the wait begins.";
    assert!(said.ends_with(end), "{said}");
    assert!(lkml(&report).contains("\nCHAINS (approx.)\n"));
}

fn scraped(session: Session) -> String {
    let mut exposition = Exposition::new(session, 10);
    exposition.events(support::batch());
    let mut now = busy(10);
    now.at_ns += 100_000 * MS;
    String::from_utf8(exposition.interval(&now).page(Format::Text).to_vec()).unwrap()
}

#[test]
fn a_policy_is_not_judged_by_folios_that_are_not_seen() {
    let unseen = with(session(), "folio_state", Quality::Unavailable, "no exits");
    let report = recorded(&unseen, &support::batch(), &busy(10));
    let policies = &as_json(&report)["what_if"];
    assert!(policies["hold_across_io"].is_object());
    let series = |policy| format!("\nvmascope_what_if_saved_seconds_total{{policy=\"{policy}\"}} ");
    let (known, page) = (scraped(session()), scraped(unseen));
    assert!(page.contains(&series("hold_across_io")));
    for policy in ["no_drop_uptodate", "no_drop_uptodate_no_writeback"] {
        assert_eq!(policies[policy], Value::Null, "{policy}");
        assert!(known.contains(&series(policy)) && !page.contains(&series(policy)));
    }
    let row = report::text(&report);
    let row = row.lines().find(|l| l.starts_with("no_drop_uptodate "));
    let cells: Vec<_> = row.unwrap().split_whitespace().skip(1).collect();
    assert_eq!(cells, ["-"; 6]);
}

#[test]
fn a_scraper_is_not_told_of_chains_that_cannot_be_seen() {
    let gone = [
        "vmascope_chains_total",
        "vmascope_inversions_total",
        "vmascope_what_if_lost_seconds_total{policy=\"retry_vma\"}",
        "vmascope_what_if_amplified_seconds_total{policy=\"held_today\"}",
    ];
    let (known, unknown) = (scraped(session()), scraped(preempt_rt()));
    for name in gone {
        assert!(known.contains(&format!("\n{name} ")), "{name}: {known}");
        assert!(!unknown.contains(&format!("\n{name} ")), "{name}");
    }
    let stays = "\nvmascope_what_if_lost_seconds_total{policy=\"held_today\"} ";
    assert!(unknown.contains(stays));
}

#[test]
fn nothing_is_not_counted_in_words() {
    let mut counts = busy(10);
    counts.locks[Mode::Read as usize].by_op[Op::Fault as usize].waits = 0;
    counts.anatomy.size_wait_ns.fill(0);
    let report = recorded(&session(), &Batch::default(), &counts);
    let said = answer(&report, 3);
    assert!(
        said.ends_with("20,000 faults did. No fault waited for it."),
        "{said}"
    );
    assert_eq!(
        answer(&report, 5),
        "VMAs of 1 GiB and more took 68.0 % of the faults; none was seen to wait."
    );
    counts.locks[Mode::Read as usize].by_op[Op::Fault as usize].waits = 1;
    let report = recorded(&session(), &Batch::default(), &counts);
    let said = answer(&report, 3);
    assert!(said.contains(" Faults waited for it 1 time, "), "{said}");
}

#[test]
fn a_writer_that_does_not_wait_is_not_denied_where_it_is_not_seen() {
    let said = |session: Session| answer(&recorded(&session, &Batch::default(), &idle(10)), 8);
    assert_eq!(said(session()), "Nobody was seen to write.");
    assert_eq!(
        said(contended(session())),
        "No writer waited for mmap_lock. Writers that did not wait are not seen here: not asked for: --mmap-lock all."
    );
}

/// A VMA writer's wait behind a fault that waits for this.
fn behind(held: HeldWait, id: u64) -> WaitEvent {
    let mut wait = support::waits().swap_remove(0);
    wait.id = id;
    wait.blame.root_wait = id;
    wait.holder.as_mut().unwrap().doing = Some(Doing::Held(held));
    wait
}

#[test]
fn a_fault_in_reclaim_waits_with_its_lock_too() {
    let held = [HeldWait::PageMkwrite, HeldWait::Reclaim, HeldWait::Reclaim];
    let batch = Batch {
        waits: (1..).zip(held).map(|(id, held)| behind(held, id)).collect(),
        ..Batch::default()
    };
    let mut counts = busy(10);
    waited(&mut counts, Mode::VmaWrite, Op::Mprotect, 3, 41_200_000);
    let report = recorded(&session(), &batch, &counts);
    let said = answer(&report, 1);
    let end = "were blocked by: fault 3. The fault was on a page being written in 0, elsewhere in the VMA in 3; it waited with its lock held in 3 (page_mkwrite 1, reclaim 2).";
    assert!(said.ends_with(end), "{said}");
    let vma_write = &as_json(&report)["vma_write"];
    assert_eq!(vma_write["blocked_by_io"], 1);
    assert_eq!(vma_write["blocked_by_held"]["reclaim"], 2);
}

#[test]
fn an_object_of_words_has_them_all() {
    let v = as_json(&recorded(&session(), &support::batch(), &busy(10)));
    let blocked_by = json!({
        "fault": 1, "madvise": 0, "proc": 0, "uffd": 0, "binder": 0, "other": 0, "unknown": 0
    });
    assert_eq!(v["vma_write"]["blocked_by"], blocked_by);
    let keys = |v: &Value| {
        let mut keys: Vec<_> = v.as_object().unwrap().keys().cloned().collect();
        keys.sort_unstable();
        keys
    };
    let mut kinds: Vec<_> = Kind::ALL.iter().map(|k| k.name()).collect();
    kinds.sort_unstable();
    assert_eq!(keys(&v["faults"]["components_by_kind_ns"]), kinds);
    for policy in keys(&v["what_if"]) {
        assert_eq!(
            keys(&v["what_if"][&policy]["saved_by_kind"]),
            kinds,
            "{policy}"
        );
    }
    assert_eq!(
        v["what_if"]["hold_across_io"]["saved_by_kind"]["file"],
        1_250_000
    );
    assert_eq!(v["what_if"]["hold_across_io"]["saved_by_kind"]["anon"], 0);
}

#[test]
fn memory_without_a_name_has_none() {
    let v = as_json(&recorded(&session(), &support::batch(), &busy(1)));
    let files: Vec<_> = v["worst_faults"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| &f["file"])
        .collect();
    assert_eq!(files, [&json!("data, \"cold\".bin"), &Value::Null]);
}

#[test]
fn what_is_counted_twice_shows_in_the_cross_check() {
    let mut counts = busy(2);
    counts.threads[1].minor -= 7;
    counts.threads[2].minor += 3;
    let v = as_json(&recorded(&session(), &Batch::default(), &counts));
    let check = &v["cross_check"]["threads"];
    assert_eq!(check["difference"], 4);
    assert_eq!(
        check["measured"].as_i64().unwrap() - check["kernel"].as_i64().unwrap(),
        4
    );
}
