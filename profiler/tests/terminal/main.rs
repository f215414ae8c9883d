//! `vmascope` on a real terminal: what `top` shows, that the terminal is left as it was found on every way
//! out, what Ctrl-C does. What runs live needs root.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod detach;
mod export;
mod interrupt;
mod live;
mod pty;
mod sample;

use std::{
    process::{Command, Stdio},
    sync::mpsc::channel,
    time::Duration,
};

use pty::Pty;
use sample::Scratch;
use vmascope::sinks::top::{self, Source, Theme};

pub fn vmascope(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmascope"));
    command.args(args);
    command
}

/// Playing a recording of ten seconds.
fn playing(scratch: &Scratch, args: &[&str]) -> Pty {
    let mut command = vmascope(&["top"]);
    command.args(args).arg(sample::recording(scratch));
    Pty::run(command, 80, 24)
}

#[test]
fn q_leaves_everything_as_it_was() {
    let scratch = Scratch::new("terminal-q");
    let mut top = playing(&scratch, &[]);
    top.shows("1 Overview");
    assert!(top.screen().contains("playing"));
    top.keys("q");
    let (status, said) = top.ended();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
}

#[test]
fn signals_leave_everything_as_it_was() {
    for number in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        let scratch = Scratch::new(&format!("terminal-signal-{number}"));
        let top = playing(&scratch, &[]);
        top.shows("1 Overview");
        top.signal(number);
        let (status, said) = top.ended();
        assert_eq!((status.code(), said.as_str()), (Some(0), ""), "{number}");
    }
}

#[test]
fn an_error_is_one_line_on_a_terminal_that_works() {
    let scratch = Scratch::new("terminal-error");
    let path = sample::recording(&scratch);
    // No word of a wait is true any more from the middle on.
    sample::break_it(&path);
    let mut command = vmascope(&["top"]);
    command.arg(&path);
    let mut top = Pty::run(command, 80, 24);
    top.shows("1 Overview");
    top.keys("\x1b[C\x1b[C");
    let (status, said) = top.ended();
    assert_eq!(status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("sample.db"), "{said}");
}

#[test]
fn a_panic_leaves_the_terminal_usable() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "panics_when_told", "--nocapture", "--ignored"]);
    let top = Pty::run(command, 80, 24);
    top.shows("1 Overview");
    let (_, said) = top.ended();
    assert!(said.contains("told to panic"), "{said}");
}

/// The other half of the test above, in a process of its own.
#[test]
#[ignore = "panics"]
fn panics_when_told() {
    let (updates, pictures) = channel();
    let (interval, _intervals) = channel();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(700));
        let _until_here = updates;
        panic!("told to panic");
    });
    let source = Source {
        updates: pictures,
        interval,
    };
    top::run(source, &sample::session(), Theme::Auto).unwrap();
}

#[test]
fn a_terminal_that_changes_its_size_is_drawn_anew() {
    let scratch = Scratch::new("terminal-size");
    let mut top = playing(&scratch, &[]);
    top.shows("7 Doctor");
    top.resize(30, 8);
    top.shows("too small: 30x8");
    top.resize(160, 50);
    top.shows("/ search");
    top.keys("q");
    top.ended();
}

#[test]
fn a_recording_is_played_with_time_control() {
    let scratch = Scratch::new("terminal-time");
    let mut top = playing(&scratch, &[]);
    top.shows("playing 1.00 s / 10.0 s");
    top.keys("\x1b[C");
    top.until(|s| s.contains("playing 6.") || s.contains("playing 7."));
    top.keys(" ");
    top.shows("paused at");
    top.keys("\x1b[D");
    top.until(|s| s.contains("paused at 1.") || s.contains("paused at 2."));
    top.keys("+ ");
    top.shows(" x2");
    top.keys("++++");
    top.shows("end of recording 10.0 s");
    // A wait, and who held the lock, which only the recording knows.
    top.keys("3j\r");
    let page = top.shows("BY WHOM");
    assert!(
        page.contains("sleeper (77) waited 500 ms on mmap write"),
        "{page}"
    );
    assert!(page.contains("holder (78) prio 120, mmap"), "{page}");
    top.keys("q");
    let (status, _) = top.ended();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn ascii_and_no_colour_where_they_are_asked_for() {
    let scratch = Scratch::new("terminal-ascii");
    let mut command = vmascope(&["top"]);
    command.arg(sample::recording(&scratch));
    command.env("NO_COLOR", "1").env("LC_ALL", "C");
    // `Pty` would take the locale away.
    let mut shell = Command::new("env");
    shell.args(["LC_ALL=C", "NO_COLOR=1"]);
    shell.arg(command.get_program()).args(command.get_args());
    let mut top = Pty::run(shell, 80, 24);
    let screen = top.shows("end of");
    assert!(screen.is_ascii(), "{screen}");
    top.keys("q");
    top.ended();
}

/// Ten waits are too few to compare, and no fault has its time.
#[test]
fn what_a_condition_cannot_be_told_of_is_said() {
    let scratch = Scratch::new("terminal-untold");
    let path = sample::recording(&scratch).display().to_string();
    for (condition, why) in [
        ("mean(mmap_lock_wait.write) > +10%", "too little data"),
        ("p99(faults) > 1ms", "nothing of it was seen"),
        ("rate(faults) > +10%", ""),
    ] {
        let done = vmascope(&["diff", &path, &path, "--fail-if", condition])
            .output()
            .unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(0), "{said}");
        let wanted = match why {
            "" => String::new(),
            why => format!("vmascope: {condition}: cannot be told: {why}: "),
        };
        assert!(said.starts_with(&wanted), "{said}");
        assert_eq!(said.lines().count(), usize::from(!why.is_empty()), "{said}");
    }
}

/// Flags are looked at before the terminal is.
#[test]
fn bad_flags_are_one_line() {
    for args in [
        &["top", "--theme", "pink"][..],
        &["top", "--max-overhead", "0%"],
        &["top", "-i", "1ms"],
        &["top", "--bpf-stats", "a.db"],
        &["top", "-p", "1", "a.db"],
    ] {
        let done = vmascope(args).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(2), "{args:?}: {said}");
        assert!(done.stdout.is_empty());
        assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
    }
    // `top | cat`
    let piped = vmascope(&["top"]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(piped.stderr).unwrap();
    assert_eq!(piped.status.code(), Some(2), "{said}");
    assert!(
        said.contains("needs a terminal") && said.lines().count() == 1,
        "{said}"
    );
}
