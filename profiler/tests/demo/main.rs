//! The stimuli say the truth: their figures against what the kernel counted for the whole process.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod locks;

use std::{
    io::Read as _,
    process::{Command, Stdio},
};

use serde_json::Value;

/// The truth a scenario printed, and the faults (minor + major) of its whole process as wait4
/// counted them.
#[expect(
    clippy::zombie_processes,
    reason = "wait4 below waits, and gives the rusage"
)]
fn run(args: &[&str]) -> (Value, u64) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_vmascope"))
        .arg("demo")
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut text = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    // SAFETY: rusage is plain integers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let mut status = 0;
    // SAFETY: valid pointers; the child is ours and nobody else waits for it.
    let pid = unsafe { libc::wait4(child.id() as i32, &raw mut status, 0, &raw mut usage) };
    assert_eq!((pid as u32, status), (child.id(), 0), "{text}");
    assert_eq!(text.lines().count(), 1);
    let truth: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(truth["pid"], child.id());
    (truth, (usage.ru_minflt + usage.ru_majflt) as u64)
}

fn n(value: &Value, key: &str) -> u64 {
    value[key]
        .as_u64()
        .unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn faults(thread: &Value) -> u64 {
    n(thread, "minor") + n(thread, "major")
}

#[test]
fn touch_faults_once_a_page() {
    let (few, baseline) = run(&["touch", "--pages", "1"]);
    let (many, total) = run(&["touch", "--pages", "3001"]);
    assert_eq!(many["scenario"], "touch");
    assert_eq!(many["tid"], many["pid"]);
    assert_eq!((faults(&few), faults(&many)), (1, 3001));
    assert_eq!(
        n(&many, "end") - n(&many, "start"),
        3001 * n(&many, "page_size")
    );
    assert!(n(&many, "elapsed_ns") > 0);
    // The rest of the program is the same in both; start-up varies by a few pages.
    let extra = total as i64 - baseline as i64;
    assert!(
        (2900..=3100).contains(&extra),
        "3000 more pages, {extra} more faults"
    );
}

/// One fault a page, each of them timed.
fn walked(args: &[&str], pages: usize, major: u64) -> Value {
    let truth = touched(args, pages);
    assert_eq!(n(&truth, "major"), major);
    truth
}

/// The same where the kernel may call any of them major.
fn touched(args: &[&str], pages: usize) -> Value {
    let (truth, _) = run(&[args, &["--pages", &pages.to_string()]].concat());
    assert_eq!(truth["scenario"], args[0]);
    assert_eq!(faults(&truth), pages as u64);
    assert_eq!(truth["fault_ns"].as_array().unwrap().len(), pages);
    truth
}

#[test]
fn copies_and_shared_memory_fault_once_a_page() {
    walked(&["cow"], 300, 0);
    walked(&["shmem"], 300, 0);
}

/// What a machine may refuse: then in one line that says why.
fn refuses(args: &[&str], reasons: &[&str]) -> bool {
    let done = Command::new(env!("CARGO_BIN_EXE_vmascope"))
        .arg("demo")
        .args(args)
        .output()
        .unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    if !done.status.success() {
        let known = reasons.iter().any(|reason| said.contains(reason));
        assert!(known && said.lines().count() == 1, "{said}");
    }
    !done.status.success()
}

#[test]
fn huge_pages_are_one_fault_each() {
    if !refuses(&["thp", "--pages", "1"], &["huge page"]) {
        assert!(n(&walked(&["thp"], 2, 0), "step") > 65536);
    }
}

#[test]
fn userfaults_wait_for_their_answers() {
    if refuses(&["userfault", "--pages", "1"], &["does not allow"]) {
        return;
    }
    // One that waits under mmap_lock comes again with FAULT_FLAG_TRIED, which mm_account_fault
    // counts as major.
    let truth = touched(&["userfault", "--delay", "3ms"], 7);
    assert_eq!(truth["answers"].as_array().unwrap().len(), 7);
    assert!(n(&truth, "wait_ns") >= 7 * 3_000_000);
}

#[test]
fn a_file_on_slow_storage_is_all_major_faults() {
    let few = ["file", "--pages", "2", "--delay", "1ms"];
    if refuses(&few, &["needs root", "no FUSE", "cannot mount"]) {
        return;
    }
    let (truth, _) = run(&[
        "file",
        "--pages",
        "9",
        "--threads",
        "3",
        "--delay",
        "4ms",
        "--hold",
    ]);
    assert_eq!(n(&truth, "major"), 9);
    let threads = truth["threads"].as_array().unwrap();
    let sum: u64 = threads.iter().map(|t| n(t, "major")).sum();
    assert_eq!((threads.len(), sum), (3, 9));
    assert_eq!(truth["requests"].as_array().unwrap().len(), 9);
    let waited: u64 = threads
        .iter()
        .flat_map(|t| t["fault_ns"].as_array().unwrap())
        .map(|ns| ns.as_u64().unwrap())
        .sum();
    let io = n(&truth, "io_ns");
    assert!(io >= 9 * 4_000_000 && waited >= io, "{io} of {waited}");
}

#[test]
fn swapped_pages_are_all_major_faults() {
    let areas = std::fs::read_to_string("/proc/swaps").unwrap();
    let known = ["needs root", "zram", "page-cluster", "MADV_PAGEOUT"];
    if !refuses(&["swap", "--zram", "--pages", "1"], &known) {
        let truth = walked(&["swap", "--zram"], 9, 9);
        assert_eq!(truth["backing"], "zram");
    }
    assert_eq!(std::fs::read_to_string("/proc/swaps").unwrap(), areas);
}

#[test]
fn storm_accounts_for_every_thread() {
    let (truth, total) = run(&["storm", "--threads", "2", "--duration", "300ms"]);
    let threads = truth["threads"].as_array().unwrap();
    let role = |i: usize| threads[i]["role"].as_str().unwrap();
    assert_eq!(
        (threads.len(), role(0), role(1), role(2)),
        (3, "faulter", "faulter", "writer")
    );
    let mut tids: Vec<u64> = threads.iter().map(|t| n(t, "tid")).collect();
    tids.push(n(&truth["main"], "tid"));
    tids.sort_unstable();
    tids.dedup();
    assert_eq!(tids.len(), 4, "every thread has a tid of its own");
    for t in &threads[..2] {
        let (faults, touched) = (faults(t), n(t, "touched"));
        assert!(
            touched >= 64 && (touched..touched + 100).contains(&faults),
            "{t}"
        );
    }
    assert!(n(&truth, "mprotects") >= 4);
    assert!(n(&truth, "mprotect_sum_ns") >= n(&truth, "mprotect_max_ns"));
    // What the threads and main said is all there was, but for printing it.
    let said = threads.iter().map(faults).sum::<u64>() + faults(&truth["main"]);
    assert!(
        (said..said + 200).contains(&total),
        "said {said}, the kernel counted {total}"
    );
}
