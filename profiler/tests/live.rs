#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use profiler_common::words::Loss;
use vmascope::{
    loader::{HookChoice, Request, Targets},
    session::{self, Asked},
};

fn asked() -> Asked {
    Asked {
        request: Request {
            hooks: HookChoice::Auto,
            mmap_lock_all: None,
            no_vma_lock: false,
            targets: Targets::Everybody,
            min_us: 0,
            sample: 1,
            paced: false,
            stacks: false,
            empty: false,
        },
        btf: None,
        target: "system".into(),
        interval_ms: 1000,
    }
}

/// Loading keeps the whole process from opening files for a moment: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn faults_of_a_child_are_counted() {
    let _alone = alone();
    let mut live = match session::start(&asked()) {
        Ok(live) => live,
        Err(e) => panic!("{e}"),
    };
    live.arm().unwrap();
    let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    let (session, snapshot, events) = live.stop().unwrap();
    for s in &session.signals {
        println!("{:20} {:?} {} | {}", s.name, s.quality, s.hook, s.reason);
    }
    println!(
        "maps {} bytes, start {} ms",
        session.map_bytes, session.start_ms
    );
    println!(
        "losses {:?} emitted {} received {}",
        snapshot.losses, snapshot.events_emitted, snapshot.events_received
    );
    println!("events {}", events.iter().map(|b| b.len()).sum::<usize>());
    for f in &snapshot.faults {
        print!("{} ", f.count);
    }
    for side in &snapshot.locks {
        println!(
            "lock {:?} {:?} wait {} hold {}",
            side.total(),
            side.decades,
            side.wait.count,
            side.hold.count
        );
    }
    let p = snapshot
        .processes()
        .into_iter()
        .find(|p| p.tgid == pid)
        .expect("the child faulted");
    println!("{p:?}");
    assert!(p.minor > 20);
    assert!(p.exited);
    // Our own are counted apart: those of a fork and of reading maps.
    assert!(snapshot.own_faults > 20, "{} own", snapshot.own_faults);
    let me = std::process::id();
    assert!(snapshot.threads.iter().all(|t| t.tgid != me));
}

/// What is timed stands for all, before the pace is changed and after.
#[test]
fn fewer_faults_can_be_timed_while_the_programs_run() {
    let _alone = alone();
    let mut storm = std::process::Command::new(env!("CARGO_BIN_EXE_vmascope"))
        .args(["demo", "storm", "--threads", "1", "--duration", "20s"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut asked = asked();
    asked.request.paced = true;
    asked.request.targets = Targets::Processes {
        tgids: vec![storm.id()],
        follow: false,
    };
    let mut live = session::start(&asked).unwrap();
    live.arm().unwrap();
    let pid = storm.id() as i32;
    // Counters are not read at one moment, so nothing runs while they are.
    let still = |live: &mut session::Live| {
        // SAFETY: no pointers.
        unsafe { libc::kill(pid, libc::SIGSTOP) };
        std::thread::sleep(Duration::from_millis(100));
        let snapshot = live.snapshot().unwrap();
        // SAFETY: no pointers.
        unsafe { libc::kill(pid, libc::SIGCONT) };
        snapshot
    };
    let over = |live: &mut session::Live| {
        let before = still(live);
        std::thread::sleep(Duration::from_millis(800));
        let after = still(live);
        let (mut faults, mut stood_for, mut in_steps) = (0, 0, 0);
        for (a, b) in after.faults.iter().zip(&before.faults) {
            faults += a.count - b.count;
            for (a, b) in a.latency.slots.iter().zip(&b.latency.slots) {
                let grown = a - b;
                stood_for += grown;
                in_steps += if grown % 16 == 0 { grown } else { 0 };
            }
        }
        (faults, stood_for, in_steps)
    };
    let (faults, stood_for, in_steps) = over(&mut live);
    assert!(faults > 1_000, "{faults}");
    assert!(
        stood_for.abs_diff(faults) * 100 < faults,
        "{stood_for} of {faults}"
    );
    assert!(in_steps * 2 < faults, "{in_steps} of {faults}");
    live.sample(16).unwrap();
    let (faults, stood_for, in_steps) = over(&mut live);
    storm.kill().unwrap();
    storm.wait().unwrap();
    assert!(faults > 1_000, "{faults}");
    assert!(
        stood_for.abs_diff(faults) * 100 < faults * 5,
        "{stood_for} of {faults}"
    );
    // Faults that left the common path stand for themselves.
    assert!(in_steps * 2 > faults, "{in_steps} of {faults}");
}

/// Only the target and its children, whatever runs beside them.
#[test]
fn strangers_do_not_count() {
    let _alone = alone();
    // Waits until its input ends.
    let mut quiet = std::process::Command::new("/bin/cat")
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut asked = asked();
    asked.request.targets = Targets::Processes {
        tgids: vec![quiet.id()],
        follow: true,
    };
    let mut live = session::start(&asked).unwrap();
    live.arm().unwrap();
    for _ in 0..20 {
        std::process::Command::new("/bin/true").status().unwrap();
    }
    drop(quiet.stdin.take());
    quiet.wait().unwrap();
    let (_, snapshot, _) = live.stop().unwrap();
    for t in &snapshot.threads {
        assert_eq!(t.tgid, quiet.id(), "{} was counted", t.comm);
    }
    assert!(
        snapshot.faults_total() < 100,
        "{} faults of a cat",
        snapshot.faults_total()
    );
}

/// A command may have more descendants than there can be targets, or rows, at one time.
#[test]
fn descendants_without_number_are_all_counted() {
    let _alone = alone();
    let script =
        "read go; i=0; while [ $i -lt 10000 ]; do (:); i=$((i+1)); done; echo done; read end";
    let mut shell = std::process::Command::new("/bin/sh")
        .args(["-c", script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let (mut input, output) = (shell.stdin.take().unwrap(), shell.stdout.take().unwrap());
    let mut asked = asked();
    asked.request.targets = Targets::Processes {
        tgids: vec![shell.id()],
        follow: true,
    };
    let mut live = session::start(&asked).unwrap();
    live.remember_dead(100);
    live.arm().unwrap();
    let before = faults_of(shell.id());
    input.write_all(b"go\n").unwrap();
    let done = std::thread::spawn(move || BufReader::new(output).lines().next());
    while !done.is_finished() {
        std::thread::sleep(Duration::from_millis(500));
        live.snapshot().unwrap();
    }
    // All are gone, and have been told of twice.
    live.snapshot().unwrap();
    live.snapshot().unwrap();
    let truth = faults_of(shell.id()) - before;
    let snapshot = live.snapshot().unwrap();
    drop(input);
    shell.wait().unwrap();
    let counted: u64 = snapshot.threads.iter().map(|t| t.minor + t.major).sum();
    assert!(
        truth > 100_000 && counted.abs_diff(truth) * 100 < truth,
        "{counted} of {truth}"
    );
    assert!(snapshot.threads.len() <= 104, "{}", snapshot.threads.len());
    assert_eq!(snapshot.losses[Loss::MapFull as usize], 0);
}

/// By the kernel: of a process and its children, once it has waited for them.
fn faults_of(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let fields = rest.split_whitespace().skip(7).take(4);
    fields.map(|n| n.parse::<u64>().unwrap()).sum()
}
