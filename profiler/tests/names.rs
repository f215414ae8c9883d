//! Threads are called what they are called now: an app's process is named when it has left its zygote,
//! long after its first fault. The real probes, on this machine's own kernel. Needs root.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use vmascope::recording::Recording;

const PROGRAM: &str = env!("CARGO_BIN_EXE_vmascope");

#[test]
fn a_name_that_is_given_later_counts() {
    let path = std::env::temp_dir().join(format!("vmascope-names-{}.db", std::process::id()));
    let _ = fs::remove_file(&path);
    // It faults after each line that it is given, by forking; it lives on until all is recorded, since
    // an exit would tell the name, too.
    let script = "read a; b=$(true); read a; printf vma-renamed > /proc/$$/comm; b=$(true); read a";
    let mut shell = Command::new("sh")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut tell = shell.stdin.take().unwrap();
    let mut recorder = Command::new(PROGRAM)
        .args(["record", "-d", "3s", "-i", "250ms"])
        .args(["-p", &shell.id().to_string(), "-o"])
        .arg(&path)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It is there once the probes are armed.
    while !path.exists() {
        assert!(recorder.try_wait().unwrap().is_none(), "{recorder:?}");
        sleep(Duration::from_millis(20));
    }
    for _ in 0..2 {
        tell.write_all(b"go on\n").unwrap();
        sleep(Duration::from_millis(500));
    }
    let ended = recorder.wait_with_output().unwrap();
    drop(tell);
    shell.wait().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let counts = Recording::open(&path).unwrap().snapshot().unwrap();
    fs::remove_file(&path).unwrap();
    let names: Vec<_> = counts.threads.iter().map(|t| t.comm.as_str()).collect();
    assert_eq!(names, ["vma-renamed"]);
}
