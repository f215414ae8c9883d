//! The stimuli say the truth: their figures against what the kernel counted for the whole process.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

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
