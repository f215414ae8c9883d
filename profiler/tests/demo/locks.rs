//! The scenarios in which threads wait for each other: who waited, for how long, in which order.

use serde_json::Value;

use crate::{n, refuses, run};

/// What a machine may lack for a file system of our own that can be frozen.
const NO_FREEZE: [&str; 6] = [
    "needs root",
    "no mke2fs",
    "loop",
    "has this kernel ext4",
    "priority",
    "try a longer",
];
const NO_STORAGE: [&str; 4] = ["needs root", "no FUSE", "cannot mount", "try a longer"];

fn rows<'a>(truth: &'a Value, list: &str) -> Vec<&'a Value> {
    truth[list].as_array().unwrap().iter().collect()
}

fn named<'a>(truth: &'a Value, name: &str) -> &'a Value {
    let found = rows(truth, "threads")
        .into_iter()
        .find(|row| row["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {truth}"))
}

fn took(row: &Value) -> u64 {
    n(row, "end_ns") - n(row, "start_ns")
}

/// What a call may take beyond the thaw on a busy machine.
const SLACK: u64 = 100_000_000;

#[test]
fn a_frozen_file_system_holds_up_the_whole_queue() {
    if refuses(&["freeze", "--delay", "200ms"], &NO_FREEZE) {
        return;
    }
    let (truth, _) = run(&["freeze", "--delay", "400ms", "--waiters", "5"]);
    let (frozen, thawed) = (n(&truth, "frozen_ns"), n(&truth, "thawed_ns"));
    assert!((400_000_000..400_000_000 + SLACK).contains(&(thawed - frozen)));
    let mut tids = Vec::new();
    for (i, letter) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let row = named(&truth, &format!("vma-freeze-{letter}"));
        let after = n(row, "start_ns") - frozen;
        let wanted = 40_000_000 * i as u64;
        assert!((wanted..wanted + SLACK).contains(&after), "{row}");
        let beyond = n(row, "end_ns") - thawed;
        assert!(beyond < SLACK, "{row}");
        tids.push(n(row, "tid"));
    }
    let range = n(&truth, "start")..n(&truth, "end");
    let [a, b] = ["vma-freeze-a", "vma-freeze-b"].map(|name| n(named(&truth, name), "address"));
    assert!(range.contains(&a) && range.contains(&b) && a != b);
    assert_eq!(a, n(&truth, "address"));
    let threads = rows(&truth, "threads");
    let convoy = threads.iter().filter(|row| row["role"] == "convoy");
    let (maps, unmaps): (Vec<&Value>, Vec<&Value>) = convoy.partition(|row| row["call"] == "mmap");
    assert_eq!((maps.len(), unmaps.len()), (5, 5));
    for row in maps {
        assert!(
            n(row, "start_ns") < thawed && n(row, "end_ns") >= thawed,
            "{row}"
        );
        tids.push(n(row, "tid"));
    }
    tids.sort_unstable();
    tids.dedup();
    assert_eq!(tids.len(), 9, "every thread has a tid of its own");
    // Neither image nor mount is left.
    let left = std::fs::read_dir(std::env::temp_dir()).unwrap();
    let name = format!("vmascope-freeze-{}", n(&truth, "pid"));
    assert_eq!(
        left.filter(|e| e.as_ref().unwrap().file_name() == *name)
            .count(),
        0
    );
}

#[test]
fn an_inversion_has_the_priorities_it_says() {
    // Between any two of the threads is a tenth of it, and the nicest one comes first.
    let args = ["inversion", "--delay", "800ms"];
    if refuses(&args, &NO_FREEZE) {
        return;
    }
    let priorities = |args: &[&str]| {
        let (truth, _) = run(args);
        assert_eq!(truth["scenario"], "inversion");
        ["vma-freeze-a", "vma-freeze-b"].map(|name| {
            let row = named(&truth, name);
            ["policy", "nice", "rt_priority"].map(|key| row[key].as_i64().unwrap())
        })
    };
    let [a, [policy, _, rt_priority]] = priorities(&args);
    assert_eq!(a, [0, 19, 0]);
    // Its nice value, inherited, means nothing there.
    assert_eq!((policy, rt_priority), (libc::SCHED_FIFO.into(), 10));
    let [a, b] = priorities(&[args.as_slice(), &["--plain"]].concat());
    assert_eq!(a, b);
}

/// The cost as the rows themselves have it, by another way than the scenario's own.
fn cost(truth: &Value) -> (u64, u64, u64) {
    let end = n(&truth["io"], "answered_ns");
    let calls = rows(truth, "calls");
    let writers: Vec<u64> = calls
        .iter()
        .filter(|row| row["role"] == "writer")
        .map(|row| n(row, "start_ns"))
        .collect();
    let Some(first) = writers.iter().min().copied() else {
        return (0, 0, 0);
    };
    let mut remaining = std::collections::BTreeMap::new();
    for row in &calls {
        let left = end - n(row, "start_ns");
        let most: &mut u64 = remaining.entry(n(row, "tid")).or_default();
        *most = left.max(*most);
    }
    let all: u64 = remaining.values().sum();
    (writers.len() as u64, end - first, all - (end - first))
}

#[test]
fn conflicts_cost_what_the_calls_own_times_say() {
    if refuses(&["conflict", "--delay", "300ms"], &NO_STORAGE) {
        return;
    }
    for args in [
        &["--writers", "7", "--others", "20"][..],
        &[
            "--writers",
            "7",
            "--others",
            "20",
            "--split",
            "--from",
            "one",
        ],
        &["--writers", "0", "--others", "3"],
    ] {
        let args = [&["conflict", "--delay", "400ms"], args].concat();
        let (truth, _) = run(&args);
        let policy = &truth["hold_across_io"];
        let said = ["conflicts", "lost_ns", "amplified_ns"].map(|key| n(policy, key));
        assert_eq!(said, <[u64; 3]>::from(cost(&truth)), "{args:?}");
        let range = n(&truth, "start")..n(&truth, "end");
        assert_eq!(range.start, n(&truth["fault"], "address"));
        for row in rows(&truth, "calls") {
            let hits = range.contains(&n(row, "address"));
            assert_eq!(hits, row["role"] == "writer", "{row}");
        }
        // A writer out of its turn would find the protection that it asks for, and lock nothing.
        let calls = rows(&truth, "calls");
        let writers = calls.iter().filter(|row| row["role"] == "writer");
        let names: Vec<&str> = writers.filter_map(|row| row["name"].as_str()).collect();
        assert!(names.is_sorted(), "{names:?}");
        // The one the scenario is there for: the fault gave its lock up, and nobody waited.
        let longest = rows(&truth, "calls").into_iter().map(took).max();
        assert!(longest < Some(SLACK));
    }
}

#[test]
fn a_latch_holds_the_lock_across_the_answer() {
    let args = [
        "conflict",
        "--writers",
        "0",
        "--others",
        "0",
        "--busy",
        "200ms",
    ];
    if refuses(&args, &NO_STORAGE) {
        return;
    }
    let (truth, _) = run(&args);
    let busy = &truth["busy"];
    // The call itself may begin late, too.
    assert!(took(busy).abs_diff(200_000_000) < SLACK, "{busy}");
    let late = n(&truth["fault"], "end_ns") - n(&truth["io"], "answered_ns");
    assert!((50_000_000..100_000_000 + SLACK).contains(&late), "{late}");
}

#[test]
fn a_fork_comes_while_all_faults_wait() {
    if refuses(
        &["fork", "--faulters", "1", "--delay", "200ms"],
        &NO_STORAGE,
    ) {
        return;
    }
    // More than the kernel would ask storage for at one time by itself.
    let (truth, _) = run(&["fork", "--faulters", "20", "--delay", "600ms"]);
    let faults = rows(&truth, "faults");
    assert_eq!(faults.len(), 20);
    let fork = &truth["fork"];
    assert_eq!(fork["tid"], truth["pid"]);
    let mut ranges = Vec::new();
    for fault in &faults {
        assert!(n(fault, "io_start_ns") < n(fork, "start_ns"), "{fault}");
        assert!(n(fork, "end_ns") < n(fault, "io_end_ns"), "{fault}");
        assert!(took(fault) >= 600_000_000, "{fault}");
        ranges.push((n(fault, "start"), n(fault, "end")));
    }
    ranges.sort_unstable();
    assert!(
        ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0),
        "{ranges:?}"
    );
    let last = faults.iter().map(|fault| n(fault, "io_end_ns")).max();
    let lost = n(&truth["hold_across_io"], "lost_ns");
    assert_eq!(Some(lost + n(fork, "start_ns")), last);
}

#[test]
fn a_reader_reads_beside_busy_threads() {
    let (truth, _) = run(&["reader", "--duration", "500ms"]);
    assert!(n(&truth["reader"], "reads") > 0);
    assert_ne!(truth["reader"]["tgid"], truth["pid"]);
    for thread in rows(&truth, "threads") {
        assert_eq!(thread["tgid"], truth["pid"]);
        let (calls, total) = (n(thread, "calls"), n(thread, "total_ns"));
        assert!(calls > 10 && total >= n(thread, "max_ns"), "{thread}");
        assert!(total <= took(thread), "{thread}");
    }
}

#[test]
fn stress_does_everything_and_accounts_for_its_faults() {
    let (truth, total) = run(&[
        "stress",
        "--threads",
        "3",
        "--duration",
        "700ms",
        "--seed",
        "5",
    ]);
    let threads = rows(&truth, "threads");
    assert_eq!(threads.len(), 3);
    let mut calls = std::collections::BTreeMap::new();
    let mut faults = 0;
    for thread in threads {
        for (op, count) in thread["calls"].as_object().unwrap() {
            *calls.entry(op.clone()).or_insert(0) += count.as_u64().unwrap();
        }
        assert!(
            n(thread, "minor") > 0 && took(thread) >= 700_000_000,
            "{thread}"
        );
        faults += n(thread, "minor") + n(thread, "major");
    }
    assert_eq!(calls.len(), 10);
    assert!(calls.values().all(|count| *count > 0), "{calls:?}");
    // The rest is the main thread's, and what the children needed to end.
    assert!(faults <= total, "said {faults}, the kernel counted {total}");
}
