//! The command line as a shell sees it: exit codes, one-line errors with the remedy, and what is
//! generated from the definition. Needs no privilege and no eBPF.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::process::{Command, Output, Stdio};

fn vmascope(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vmascope"))
        .args(args)
        .output()
        .unwrap()
}

fn stdout(args: &[&str]) -> String {
    let done = vmascope(args);
    assert_eq!(done.status.code(), Some(0), "{args:?}");
    String::from_utf8(done.stdout).unwrap()
}

/// The one line on standard error; nothing may be on standard output.
#[track_caller]
fn error(args: &[&str], code: i32) -> String {
    let done = vmascope(args);
    let line = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(code), "{args:?}: {line}");
    assert!(done.stdout.is_empty(), "{args:?} printed something");
    assert_eq!(line.lines().count(), 1, "{args:?}: {line}");
    let line = line.trim_end();
    line.strip_prefix("vmascope: ").unwrap_or(line).to_owned()
}

#[test]
fn every_command_has_help() {
    let help = stdout(&["--help"]);
    for command in [
        "top",
        "record",
        "report",
        "export",
        "demo",
        "doctor",
        "completions",
        "man",
    ] {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
        assert!(stdout(&[command, "--help"]).contains("Usage: vmascope"));
    }
    assert!(stdout(&["demo", "storm", "--help"]).contains("--threads"));
}

#[test]
fn without_a_terminal_there_is_help_instead_of_a_dashboard() {
    let done = vmascope(&[]);
    assert_eq!(done.status.code(), Some(2));
    assert!(
        String::from_utf8(done.stdout)
            .unwrap()
            .contains("Usage: vmascope")
    );
}

#[test]
fn the_version_is_the_package_s() {
    let expected = format!("vmascope {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(stdout(&["--version"]), expected);
}

#[test]
fn completions_for_three_shells() {
    for (shell, sign) in [
        ("bash", "complete -F _vmascope"),
        ("zsh", "#compdef vmascope"),
        ("fish", "complete -c vmascope"),
    ] {
        let script = stdout(&["completions", shell]);
        assert!(script.contains(sign), "{shell}");
        assert!(
            script.contains("mmap-lock"),
            "{shell} lacks a flag of record"
        );
    }
    assert!(error(&["completions", "tcsh"], 2).contains("bash"));
}

#[test]
fn the_manual_is_one_page_with_everything() {
    let page = stdout(&["man"]);
    for wanted in [
        ".TH vmascope 1",
        "VMASCOPE RECORD",
        "VMASCOPE DEMO TOUCH",
        "EXIT STATUS",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
}

#[test]
fn a_closed_pipe_is_no_panic() {
    for args in [
        &["man"][..],
        &["completions", "bash"],
        &["demo", "touch", "--pages", "1"],
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_vmascope"))
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let done = child.wait_with_output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert_eq!(
            (done.status.code(), said.as_str()),
            (Some(0), ""),
            "{args:?}"
        );
    }
}

#[test]
fn usage_errors_name_the_thing_and_the_remedy() {
    for (args, wanted) in [
        (
            &["dance"][..],
            "unknown command `dance`: choose from top, record,",
        ),
        (
            &["demo", "flood"],
            "unknown scenario `flood`: choose from touch, storm",
        ),
        (&["record", "--sample", "3"], "must be a power of two"),
        (
            &["record", "--keep", "3", "--ring", "10s", "-d", "1ms"],
            "--keep is about the recordings that --max-size and --max-age make: add one",
        ),
        (
            &["record", "-d", "10x"],
            "unknown unit `x`: use us, ms, s, m or h",
        ),
        (&["record", "-d", "0"], "must be more than 0"),
        (&["record", "-d", "9999999h"], "at most 8760h"),
        (&["record", "-i", "1ms"], "at least 10ms"),
        (&["record", "-p", "-1"], "see `vmascope record --help`"),
        (
            &["record", "--hooks", "best"],
            "[possible values: auto, fentry, kprobe, tracepoint]",
        ),
        (&["record", "-p", "1", "--", "true"], "cannot be used with"),
        (
            &["record", "-o", "-"],
            "to stream single events, use --csv -",
        ),
        (&["report"], "--duration <TIME>"),
        (
            &["report", "a.db", "-p", "1"],
            "'[FILE]' cannot be used with",
        ),
        (&["report", "--uid", "0", "a.db"], "'[FILE]' cannot be used"),
        (
            &["export", "a.db", "--csv", "-"],
            "use --csv DIR, or --json -",
        ),
        (
            &["export", "a.db", "--json", "-", "--hlog", "-"],
            "give the others a FILE",
        ),
        (&["export", "a.db"], "--csv <DIR>"),
        (
            &["export", "a.db", "--comm", "x", "--hlog", "-"],
            "'--comm <NAME>' cannot be used with '--hlog <FILE>'",
        ),
        (
            &["report", "a.db", "-C", "1", "--format", "lkml"],
            "use --format text, json or html",
        ),
        (&["demo", "storm", "--threads", "0"], "0 is not in 1..=256"),
        (&["demo", "touch", "--pages", "0"], "0 is not in 1"),
    ] {
        let line = error(args, 2);
        assert!(line.contains(wanted), "{args:?}: {line}");
    }
}

#[test]
fn bad_input_is_one_line_and_a_code() {
    let line = error(&["record", "-p", "4194305", "-d", "1s"], 2);
    assert!(line.contains("4194305"), "{line}");
    let line = error(&["report", "/nonexistent.db"], 1);
    assert_eq!(
        line,
        "cannot read /nonexistent.db: No such file or directory (os error 2)"
    );
    let line = error(&["report", "/etc/passwd"], 1);
    assert!(
        line.starts_with("/etc/passwd is not a vmascope recording: "),
        "{line}"
    );
    let line = error(&["export", "/etc/passwd", "--csv", "/nonexistent/csv"], 1);
    assert!(
        line.starts_with("/etc/passwd is not a vmascope recording: "),
        "{line}"
    );
    let line = error(&["demo", "touch", "--pages", "99999999999999"], 1);
    assert!(line.ends_with("ask for fewer with --pages"), "{line}");
    let line = error(&["record", "--user", "nobody here", "--", "true"], 2);
    assert!(line.contains("/etc/passwd"), "{line}");
}
