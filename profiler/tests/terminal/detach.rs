//! A recorder that outlives the terminal it was started on: `record --detach`, `status`, `stop`. Needs root.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use vmascope::recording::Recording;

use crate::{live::Storm, pty::Pty, sample::Scratch, vmascope};

/// `stop` without a name ends the only one that runs.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(folder: &Path, args: &[&str]) -> Output {
    let mut command = vmascope(args);
    command.current_dir(folder).stdin(Stdio::null());
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The process that a caller names.
fn pid_of(said: &str) -> i32 {
    let (_, rest) = said.split_once("in process ").unwrap();
    let (pid, _) = rest.split_once(',').unwrap();
    pid.parse().unwrap()
}

#[test]
fn a_recorder_outlives_its_terminal() {
    let _alone = alone();
    let scratch = Scratch::new("detach-terminal");
    let storm = Storm::start();
    let pid = storm.0.id().to_string();
    let mut shell = Command::new("sh");
    let script = r#""$0" record --detach -d 60s -p "$1" -o a.db 2>&1; cat"#;
    shell.args(["-c", script, env!("CARGO_BIN_EXE_vmascope"), &pid]);
    shell.current_dir(&scratch.0);
    let terminal = Pty::run(shell, 120, 24);
    let said = terminal.shows("what it says is in");
    assert!(said.contains("until `vmascope stop "), "{said}");
    // It hangs up.
    drop(terminal);
    std::thread::sleep(Duration::from_secs(2));
    let path = scratch.0.join("a.db");
    let status = text(&run(Path::new("/"), &["status"]).stdout);
    let wanted = format!("{}: process ", path.display());
    assert!(
        status.starts_with(&wanted) && status.ends_with(&format!("pid {pid}\n")),
        "{status}"
    );
    let stopped = run(&scratch.0, &["stop"]);
    let said = text(&stopped.stdout);
    assert_eq!(
        (stopped.status.code(), stopped.stderr.len()),
        (Some(0), 0),
        "{stopped:?}"
    );
    assert!(
        said.contains("minor faults") && said.ends_with("vmascope report a.db\n"),
        "{said}"
    );
    let recording = Recording::open(&path).unwrap();
    let all = recording.snapshot().unwrap();
    assert!(recording.complete() && all.duration_ns > 2_000_000_000);
    assert!(all.faults_total() > 1_000);
    assert!(all.threads.iter().all(|t| t.tgid == storm.0.id()));
    let status = text(&run(&scratch.0, &["status", "a.db"]).stdout);
    assert_eq!(status, "a.db: finished; `vmascope report a.db`\n");
}

#[test]
fn what_keeps_it_from_counting_is_told_by_the_caller() {
    let _alone = alone();
    let scratch = Scratch::new("detach-error");
    let cases: [(&[&str], i32, &str); 4] = [
        (&["-p", "4194999"], 2, "no process 4194999"),
        (&["-o", "none/a.db"], 1, "none/a.db"),
        (&["--csv", "-"], 2, "--detach leaves standard output behind"),
        (&["--package", "not.there"], 2, "packages.list"),
    ];
    for (args, code, words) in cases {
        let mut all = vec!["record", "--detach"];
        all.extend(args);
        let refused = run(&scratch.0, &all);
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(code), "{said}");
        assert!(said.contains(words) && said.lines().count() == 1, "{said}");
        assert_eq!(
            std::fs::read_dir(&scratch.0).unwrap().count(),
            0,
            "{args:?}"
        );
    }
}

#[test]
fn the_one_that_is_meant_is_stopped_and_no_stranger() {
    let _alone = alone();
    let scratch = Scratch::new("detach-several");
    let mut pids = Vec::new();
    for name in ["a.db", "b.db", "c.db"] {
        let begun = run(
            &scratch.0,
            &["record", "--detach", "-o", name, "--", "sleep", "60"],
        );
        assert!(begun.status.success(), "{begun:?}");
        pids.push(pid_of(&text(&begun.stderr)));
    }
    let which = run(&scratch.0, &["stop"]);
    let said = text(&which.stderr);
    assert_eq!(which.status.code(), Some(1));
    assert!(
        said.contains("say which") && said.contains("b.db: process") && said.lines().count() == 1,
        "{said}"
    );

    // One by its number, one by its file; one is killed.
    assert!(
        run(&scratch.0, &["stop", &pids[0].to_string()])
            .status
            .success()
    );
    assert!(
        run(
            Path::new("/"),
            &["stop", &scratch.0.join("b.db").display().to_string()]
        )
        .status
        .success()
    );
    for name in ["a.db", "b.db"] {
        let recording = Recording::open(&scratch.0.join(name)).unwrap();
        assert!(recording.complete(), "{name}");
    }
    // SAFETY: no pointers.
    unsafe { libc::kill(pids[2], libc::SIGKILL) };
    let gone = |pid: i32| !Path::new(&format!("/proc/{pid}")).exists();
    while !gone(pids[2]) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let status = run(&scratch.0, &["status", "c.db"]);
    assert!(
        text(&status.stdout).contains("`vmascope repair c.db`"),
        "{status:?}"
    );
    let refused = run(&scratch.0, &["stop", "c.db"]);
    assert_eq!(refused.status.code(), Some(1));

    let mut stranger = Command::new("sleep").arg("60").spawn().unwrap();
    let refused = run(&scratch.0, &["stop", &stranger.id().to_string()]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stranger.try_wait().unwrap().is_none());
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    let status = text(&run(&scratch.0, &["status"]).stdout);
    assert_eq!(status, "nothing runs detached\n");
}

/// No file has the name that was given; `status` prints it all the same.
#[test]
fn a_row_of_recordings_is_stopped_by_its_name() {
    let _alone = alone();
    let scratch = Scratch::new("detach-row");
    for (more, files) in [(["--max-age", "60s"], 1), (["--ring", "60s"], 0)] {
        let mut args = vec!["record", "--detach", "-o", "rec.db"];
        args.extend(more);
        args.extend(["--", "sleep", "60"]);
        let begun = run(&scratch.0, &args);
        assert!(begun.status.success(), "{begun:?}");
        let status = text(&run(&scratch.0, &["status", "./rec.db"]).stdout);
        assert!(status.contains("rec.db: process "), "{status}");
        let other = run(Path::new("/"), &["stop", "rec.db"]);
        assert_eq!(other.status.code(), Some(1), "{other:?}");
        let stopped = run(&scratch.0, &["stop", "rec.db"]);
        assert_eq!(
            (stopped.status.code(), stopped.stderr.len()),
            (Some(0), 0),
            "{stopped:?}"
        );
        let first = scratch.0.join("rec-000001.db");
        assert_eq!(usize::from(first.exists()), files);
        std::fs::remove_file(first).ok();
    }
}

/// Whoever stops it has to hear of it: its exit code reaches nobody.
#[test]
fn a_recorder_that_cannot_write_its_end_is_told() {
    let _alone = alone();
    let scratch = Scratch::new("detach-full");
    let disk = Disk::new(&scratch.0.join("disk"));
    for (name, more) in [("a.db", &[][..]), ("b.db", &["--max-age", "1h"])] {
        let output = format!("disk/{name}");
        let mut args = vec!["record", "--detach", "-i", "1h", "-o", &output];
        args.extend(more);
        args.extend(["--", "sleep", "60"]);
        let begun = run(&scratch.0, &args);
        assert!(begun.status.success(), "{begun:?}");
        // What it says has room in a page that is its own already, what it counted has none.
        let log = disk.0.join(format!("{name}.log"));
        std::fs::write(&log, "\n").unwrap();
        std::fs::write(disk.0.join("full"), vec![0; 8 << 20]).unwrap_err();
        let stopped = run(&scratch.0, &["stop", &output]);
        let said = text(&stopped.stderr);
        assert_eq!(stopped.status.code(), Some(1), "{stopped:?}");
        assert!(
            said.contains("was cut short") && said.lines().count() == 1,
            "{said}"
        );
        let why = text(&stopped.stdout);
        assert!(why.contains("disk is full"), "{why}");
        std::fs::remove_file(disk.0.join("full")).unwrap();
    }
}

/// Of four megabytes.
struct Disk(std::path::PathBuf);

impl Disk {
    fn new(at: &Path) -> Self {
        std::fs::create_dir(at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4m", "vmascope-test"]);
        assert!(mount.arg(at).status().unwrap().success());
        Self(at.to_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A recorder that a failed test has left keeps it busy.
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}
