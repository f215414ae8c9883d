//! `export FILE --FORMAT -`: the same to standard output, whatever that is.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, Write as _},
    process::Stdio,
};

use crate::{pty::Pty, sample, sample::Scratch, vmascope};

#[test]
fn a_dash_is_standard_output() {
    let scratch = Scratch::new("export-dash");
    let recording = sample::recording(&scratch).display().to_string();
    let file = scratch.0.join("out");
    for format in [
        "--json",
        "--folded",
        "--flamegraph",
        "--hlog",
        "--html",
        "--perfetto",
    ] {
        let mut to_file = vmascope(&["export", &recording, format]);
        assert!(to_file.arg(&file).status().unwrap().success());
        let wanted = fs::read(&file).unwrap();
        let mut to_pipe = vmascope(&["export", &recording, format, "-"]);
        to_pipe.current_dir(&scratch.0);
        let done = to_pipe.output().unwrap();
        assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
        assert!(done.stdout == wanted && !wanted.is_empty(), "{format}");
    }
    assert!(!scratch.0.join("-").exists());
}

#[test]
fn what_is_in_the_file_before_stays() {
    let scratch = Scratch::new("export-append");
    let recording = sample::recording(&scratch).display().to_string();
    let path = scratch.0.join("all.json");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    file.write_all(b"before\n").unwrap();
    let mut command = vmascope(&["export", &recording, "--json", "-"]);
    command.stdout(file.try_clone().unwrap());
    assert!(command.status().unwrap().success());
    file.write_all(b"after\n").unwrap();
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("before\n{\""), "{text}");
    assert!(text.ends_with("}\nafter\n") && text.lines().count() > 10);
}

#[test]
fn a_reader_that_leaves_is_no_error_and_a_full_device_is() {
    let scratch = Scratch::new("export-pipe");
    let recording = sample::recording(&scratch).display().to_string();
    let args = ["export", &recording, "--json", "-"];
    let mut command = vmascope(&args);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");

    let full = File::options().write(true).open("/dev/full").unwrap();
    let done = vmascope(&args).stdout(full).output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1), "{said}");
    let wanted = "vmascope: cannot write to standard output: No space left";
    assert!(
        said.starts_with(wanted) && said.lines().count() == 1,
        "{said}"
    );
}

/// Whether it goes well or not.
#[test]
fn only_what_an_export_makes_is_moved_or_deleted() {
    let scratch = Scratch::new("export-beside");
    let good = sample::recording(&scratch);
    let broken = scratch.0.join("broken.db");
    let whole = fs::read(&good).unwrap();
    fs::write(&broken, &whole[..whole.len() / 2]).unwrap();
    let at = |name: &str| scratch.0.join(name);
    fs::create_dir_all(at("out-new")).unwrap();
    fs::write(at("out-new/x"), "precious").unwrap();
    fs::write(at("out.json-new"), "precious").unwrap();
    fs::create_dir_all(at("out")).unwrap();
    fs::write(at("out/waits.csv"), "of yesterday").unwrap();
    fs::write(at("out/notes"), "precious").unwrap();
    let names = || {
        let all = fs::read_dir(&scratch.0).unwrap();
        let mut all: Vec<_> = all.map(|entry| entry.unwrap().file_name()).collect();
        all.sort();
        all
    };
    let before = names();
    let export = |file: &std::path::Path, format: &str, to: &str| {
        let mut command = vmascope(&["export"]);
        command.arg(file).arg(format).arg(at(to));
        command.output().unwrap()
    };
    for format in ["--csv", "--json"] {
        let to = ["out", "out.json"][usize::from(format == "--json")];
        let failed = export(&broken, format, to);
        assert_eq!(failed.status.code(), Some(1), "{failed:?}");
        assert_eq!(names(), before);
    }
    let kept = fs::read_to_string(at("out/waits.csv")).unwrap();
    assert_eq!(kept, "of yesterday");
    for (format, to) in [
        ("--csv", "out"),
        ("--csv", "in/there"),
        ("--json", "out.json"),
    ] {
        let done = export(&good, format, to);
        assert!(done.status.success(), "{done:?}");
    }
    assert_eq!(names().len(), before.len() + 2);
    assert!(at("in/there/waits.csv").is_file() && at("out.json").is_file());
    assert!(fs::read_to_string(at("out/waits.csv")).unwrap().len() > 100);
    for kept in ["out-new/x", "out.json-new", "out/notes"] {
        assert_eq!(fs::read_to_string(at(kept)).unwrap(), "precious");
    }
}

#[test]
fn a_terminal_gets_text_only() {
    let scratch = Scratch::new("export-terminal");
    let recording = sample::recording(&scratch).display().to_string();
    let (status, said) =
        Pty::run(vmascope(&["export", &recording, "--perfetto", "-"]), 80, 24).ended();
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(
        said.contains("use --perfetto FILE") && said.lines().count() == 1,
        "{said}"
    );
    let terminal = Pty::run(vmascope(&["export", &recording, "--folded", "-"]), 80, 24);
    terminal.shows("sleeper;mmap");
    let (status, said) = terminal.ended();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
}
