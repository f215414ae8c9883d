//! `top` beside `demo storm`, as a person would use it: the views, a page, a search, a saved minute.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use vmascope::recording::Recording;

use crate::{pty::Pty, sample::Scratch, vmascope};

pub struct Storm(pub Child);

impl Storm {
    pub fn start() -> Self {
        let storm = vmascope(&["demo", "storm", "--threads", "2", "--duration", "60s"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(storm.unwrap())
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A row's figure: the first number after `name`.
fn figure(screen: &str, name: &str) -> Option<f64> {
    let row = screen.lines().find(|l| l.trim_start().starts_with(name))?;
    let words = row.trim_start().strip_prefix(name)?;
    words
        .split_whitespace()
        .next()?
        .replace(',', "")
        .parse()
        .ok()
}

#[test]
fn a_storm_is_seen() {
    let scratch = Scratch::new("terminal-live");
    let storm = Storm::start();
    let pid = storm.0.id().to_string();
    let mut command = vmascope(&["top", "-p", &pid, "--bpf-stats"]);
    command.current_dir(&scratch.0);
    let begin = Instant::now();
    let mut top = Pty::run(command, 100, 30);
    let has = |s: &str, name: &str, least: f64| figure(s, name).is_some_and(|n| n > least);
    let overview = top.until(|s| has(s, "all", 1_000.0) && has(s, "write", 0.0));
    println!("rates after {:?}:\n{overview}", begin.elapsed());
    assert!(
        overview.contains(&format!("target pid {pid}")),
        "{overview}"
    );
    assert!(overview.contains("BPF"), "{overview}");

    // The process, and its threads.
    top.keys("2j\r");
    let page = top.shows("SINCE ARMING");
    assert!(page.contains(&format!("({pid})")), "{page}");
    top.keys("\x1b[F");
    let page = top.shows("storm-writer");
    assert!(page.contains("storm-faulter"), "{page}");
    top.keys("\x1b");
    top.until(|s| !s.contains("SINCE ARMING"));

    // Its writer waits; one of the waits, and who was in the way.
    top.keys("3");
    top.shows("storm-writer");
    top.keys("j\r");
    let wait = top.shows("BY WHOM");
    assert!(wait.contains("waited"), "{wait}");
    top.keys("\x1b4");
    top.until(|s| !s.contains("BY WHOM"));
    top.keys("5");
    top.shows("FAULTS OVER TIME");
    top.keys("7");
    top.shows("per-VMA lock");

    // A search that finds nothing, then the process.
    top.keys("2/nobody");
    top.shows("none of that name");
    // At another pace in the same breath, as a slow line brings it; and kept.
    top.keys("\x1b+");
    top.shows("every 500 ms");
    top.until(|s| !s.contains("nobody"));
    top.shows(&pid);
    top.keys("S");
    let said = top.until(|s| s.contains("have the last") || s.contains("not saved"));
    assert!(
        said.contains("vmascope-top-1.db and vmascope-top-1.csv/"),
        "{said}"
    );
    top.keys("q");
    let (status, said) = top.ended();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));

    let recording = Recording::open(&scratch.0.join("vmascope-top-1.db")).unwrap();
    assert!(recording.complete());
    let all = recording.snapshot().unwrap();
    assert!(all.faults_total() > 1_000 && all.duration_ns > 100_000_000);
    assert!(recording.waits().next().is_some_and(|w| w.is_ok()));
    let csv = scratch.0.join("vmascope-top-1.csv/waits.csv");
    let lines = BufReader::new(std::fs::File::open(csv).unwrap()).lines();
    assert!(lines.count() > 10);
}

#[test]
fn what_costs_too_much_is_taken_off() {
    let storm = Storm::start();
    let pid = storm.0.id().to_string();
    let args = ["top", "-p", &pid, "-i", "200ms", "--max-overhead", "0.01%"];
    let mut top = Pty::run(vmascope(&args), 120, 30);
    // First it is tried with less.
    top.shows("1 fault in 4 timed: the programs took");
    top.shows("1 fault in 64 timed");
    let off = top.shows("off since");
    assert!(
        off.contains("off: the programs took") && off.contains("--max-overhead 0.01%"),
        "{off}"
    );
    // The last figures stay, and keys are heard.
    std::thread::sleep(Duration::from_millis(500));
    top.keys("7");
    let doctor = top.shows("per-VMA lock");
    assert!(doctor.contains("off since"), "{doctor}");
    top.keys("q");
    let (status, said) = top.ended();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
}
