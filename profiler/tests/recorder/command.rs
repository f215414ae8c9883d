//! `record -- CMD`: what becomes of the command. Needs root.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use crate::{Scratch, alone, read};

/// Nobody would wait for it, pass signals on to it or know how it ended.
#[test]
fn a_command_is_not_left_behind_when_the_disk_is_full() {
    let _alone = alone();
    let dir = Scratch::new("full-command");
    let (disk, marker) = (dir.file("disk"), dir.file("marker"));
    fs::create_dir(&disk).unwrap();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=2m", "vmascope-test"]);
    assert!(mount.arg(&disk).status().unwrap().success());
    let program = env!("CARGO_BIN_EXE_vmascope");
    let script = "trap 'kill $!; echo told > \"$1\"; exit 7' TERM
        \"$0\" demo storm --threads 2 --duration 60s > /dev/null & wait";
    let mut child = Command::new(program)
        .args(["record", "--min-us", "0", "-i", "250ms", "-o"])
        .arg(disk.join("a.db"))
        .args(["--", "sh", "-c", script, program])
        .arg(&marker)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    sleep(Duration::from_millis(500));
    let ended = child.try_wait().unwrap();
    // SAFETY: no pointers; the child has not been waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    let status = child.wait().unwrap();
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    let kept = std::panic::catch_unwind(|| read(&disk.join("a.db")).2);
    let unmount = Command::new("umount").arg(&disk).status().unwrap();
    assert!(unmount.success());
    assert!(ended.is_none(), "{ended:?}: {line}");
    assert!(
        line.contains("disk is full") && line.contains("the command runs on"),
        "{line}"
    );
    assert_eq!(fs::read_to_string(marker).unwrap(), "told\n");
    assert_eq!(status.code(), Some(125), "{rest}");
    assert!(
        rest.contains("disk is full") && rest.trim().lines().count() == 1,
        "{rest}"
    );
    assert!(kept.unwrap() > 0);
}

/// As its caller would run it, under sudo.
#[test]
fn a_command_has_its_caller_s_home() {
    let _alone = alone();
    let dir = Scratch::new("sudo");
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let nobody = passwd.lines().find(|l| l.starts_with("nobody:")).unwrap();
    let nobody: Vec<&str> = nobody.split(':').collect();
    let done = Command::new(env!("CARGO_BIN_EXE_vmascope"))
        .args(["record", "-o"])
        .arg(dir.file("a.db"))
        .args(["--", "sh", "-c", "echo $(id -u):$HOME:$USER:$LOGNAME"])
        .envs([("SUDO_UID", nobody[2]), ("SUDO_GID", nobody[3])])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let wanted = format!("{}:{}:nobody:nobody\n", nobody[2], nobody[5]);
    assert_eq!((done.status.code(), said), (Some(0), wanted), "{done:?}");
}
