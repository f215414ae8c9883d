//! The held child from outside: known before it runs, ended by signals, run as somebody else.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt as _, path::PathBuf};

use vmascope::{
    child::{self, ChildError, Held},
    user::{Account, Login, User},
};

fn hold(command: &[&str], login: Option<&Login>) -> Result<Held, ChildError> {
    child::spawn_held(command, login)
}

/// Lets it go, as `record` does: within a current-thread runtime.
fn finish(held: Held, signal: Option<i32>) -> Result<u8, ChildError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut child = held.release();
        if let Some(signal) = signal {
            child.signal(signal);
        }
        child.ended().await.map(child::exit_code)
    })
}

fn temp(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("vmascope-{name}-{}", std::process::id()))
}

#[test]
fn the_pid_is_that_of_the_command() {
    let out = temp("pid");
    let script = format!("echo $$ > {}", out.display());
    let held = hold(&["sh", "-c", &script], None).unwrap();
    let pid = held.pid;
    // Held: a process of its own that has not become the command yet.
    let own = fs::read_link("/proc/self/exe").unwrap();
    assert_eq!(fs::read_link(format!("/proc/{pid}/exe")).unwrap(), own);
    assert_eq!(finish(held, None).unwrap(), 0);
    assert_eq!(fs::read_to_string(&out).unwrap().trim(), pid.to_string());
    fs::remove_file(out).unwrap();
}

#[test]
fn signals_end_it_with_the_shell_s_code() {
    for (signal, code) in [
        (libc::SIGINT, 130),
        (libc::SIGTERM, 143),
        (libc::SIGKILL, 137),
    ] {
        let held = hold(&["sleep", "60"], None).unwrap();
        assert_eq!(finish(held, Some(signal)).unwrap(), code);
    }
}

#[test]
fn codes_pass_through() {
    for code in [0, 1, 3, 125, 255] {
        let held = hold(&["sh", "-c", &format!("exit {code}")], None).unwrap();
        assert_eq!(finish(held, None).unwrap(), code as u8);
    }
    let held = hold(&["/nonexistent/command"], None).unwrap();
    let error = finish(held, None).unwrap_err();
    assert!(matches!(error, ChildError::NotFound { .. }), "{error}");
    assert_eq!(error.to_string(), "/nonexistent/command: not found");
    let held = hold(&["/"], None).unwrap();
    let error = finish(held, None).unwrap_err();
    assert!(matches!(error, ChildError::CannotExecute { .. }), "{error}");
}

#[test]
fn it_runs_as_the_user_or_says_why_not() {
    let mut login = Login {
        user: User {
            uid: 65534,
            gid: 65533,
        },
        groups: vec![65533, 4242],
        account: Some(Account {
            name: "somebody".into(),
            home: "/srv/somebody".into(),
            shell: "/bin/some sh".into(),
        }),
    };
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } != 0 {
        let error = hold(&["true"], Some(&login)).unwrap_err().to_string();
        assert!(error.contains("Operation not permitted"), "{error}");
        return;
    }
    let prints = |login: &Login, script: &str| {
        let out = temp("user");
        // It has to be there: the folder may not be writable to others.
        fs::write(&out, "").unwrap();
        std::os::unix::fs::chown(&out, Some(65534), None).unwrap();
        let script = format!("{script} > {}", out.display());
        let held = hold(&["sh", "-c", &script], Some(login)).unwrap();
        assert_eq!(finish(held, None).unwrap(), 0);
        let said = fs::read_to_string(&out).unwrap();
        fs::remove_file(out).unwrap();
        said
    };
    let ids = prints(&login, "grep -E '^(Uid|Gid|Groups):' /proc/self/status");
    let ids: Vec<&str> = ids.split_whitespace().collect();
    assert_eq!(
        ids.join(" "),
        "Uid: 65534 65534 65534 65534 Gid: 65533 65533 65533 65533 Groups: 4242 65533"
    );
    let names = "echo $HOME:$USER:$LOGNAME:$SHELL";
    assert_eq!(
        prints(&login, names),
        "/srv/somebody:somebody:somebody:/bin/some sh\n"
    );
    // Nothing is known of them: what is there stays.
    login.account = None;
    let home = std::env::var("HOME").unwrap_or_default();
    assert_eq!(prints(&login, "echo $HOME"), format!("{home}\n"));
}

#[test]
fn a_name_is_bytes() {
    let name = OsStr::from_bytes(b"caf\xe9");
    let script = OsStr::new("test \"$0\" = \"$(printf 'caf\\351')\"");
    let held =
        child::spawn_held(&[OsStr::new("sh"), OsStr::new("-c"), script, name], None).unwrap();
    assert_eq!(finish(held, None).unwrap(), 0);
}
