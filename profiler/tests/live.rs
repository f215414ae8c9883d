//! The real probes on this machine's own kernel, whatever tier it has. Needs root.

use std::sync::{Mutex, MutexGuard, PoisonError};

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
