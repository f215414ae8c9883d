//! Whose threads count: those in a cgroup, or of a user, and no others. The real probes, on this
//! machine's own kernel. Needs root and cgroup v2.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use vmascope::{model::Ground, recording::Recording, report};

const PROGRAM: &str = env!("CARGO_BIN_EXE_vmascope");
/// Nobody's.
const UID: u32 = 54_321;

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A cgroup of our own, two folders deep.
struct Cgroup {
    outer: PathBuf,
    inner: PathBuf,
}

impl Cgroup {
    fn new() -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mount = mounts
            .lines()
            .find(|l| l.split(' ').nth(2) == Some("cgroup2"));
        let root = mount.unwrap().split(' ').nth(1).unwrap();
        let outer = Path::new(root).join(format!("vmascope-test-{}", std::process::id()));
        let inner = outer.join("inner.service");
        fs::create_dir_all(&inner).unwrap();
        Self { outer, inner }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for folder in [&self.inner, &self.outer] {
            fs::remove_dir(folder).ok();
        }
    }
}

/// `demo storm`, whose threads say what they did.
fn storm() -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["demo", "storm", "--threads", "2", "--duration", "1s"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn inside(cgroup: &Path) -> Command {
    let procs = cgroup.join("cgroup.procs");
    let mut command = storm();
    // SAFETY: between fork and exec in a child of a thread that holds no lock; it opens and writes.
    unsafe {
        command.pre_exec(move || fs::write(&procs, "0"));
    }
    command
}

fn threads(storm: &Output) -> BTreeMap<u32, u64> {
    let text = String::from_utf8_lossy(&storm.stdout);
    let truth = text
        .lines()
        .find_map(|line| serde_json::from_str(line).ok());
    let truth: Value = truth.unwrap_or_else(|| panic!("{storm:?}"));
    let all = truth["threads"].as_array().unwrap().iter();
    all.map(|t| {
        let faults = t["minor"].as_u64().unwrap() + t["major"].as_u64().unwrap();
        (t["tid"].as_u64().unwrap() as u32, faults)
    })
    .collect()
}

/// Records while one that was chosen and one that was not do the same.
fn record(filter: &[&str], mut chosen: Command) -> Recording {
    let path = std::env::temp_dir().join(format!("vmascope-filter-{}.db", std::process::id()));
    let _ = fs::remove_file(&path);
    let mut recorder = Command::new(PROGRAM)
        .args(["record", "-d", "4s", "-i", "250ms"])
        .args(filter)
        .arg("-o")
        .arg(&path)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It is there once the probes are armed.
    while !path.exists() {
        assert!(recorder.try_wait().unwrap().is_none(), "{recorder:?}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let (one, other) = (chosen.spawn().unwrap(), storm().spawn().unwrap());
    let one = threads(&one.wait_with_output().unwrap());
    let other = threads(&other.wait_with_output().unwrap());
    let ended = recorder.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    let recording = Recording::open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let counts = recording.snapshot().unwrap();
    let threads = counts.threads.iter();
    // One that was not chosen may be there without faults: it met a target's address space.
    let seen: BTreeMap<u32, u64> = threads
        .filter(|t| t.minor + t.major + t.faults() > 0)
        .map(|t| (t.tid, t.minor + t.major))
        .collect();
    for (tid, faults) in one {
        assert_eq!(seen.get(&tid), Some(&faults), "thread {tid} was chosen");
    }
    let strangers: Vec<u32> = other
        .into_keys()
        .filter(|tid| seen.contains_key(tid))
        .collect();
    assert!(strangers.is_empty(), "{strangers:?} were not chosen");
    recording
}

#[test]
fn a_cgroup_and_what_is_below_it() {
    let _alone = alone();
    let cgroup = Cgroup::new();
    for path in [&cgroup.inner, &cgroup.outer] {
        let recording = record(&["-c", path.to_str().unwrap()], inside(&cgroup.inner));
        assert!(recording.session().target.starts_with("cgroup "));
        let counts = recording.snapshot().unwrap();
        let of = counts
            .processes()
            .into_iter()
            .find(|p| p.comm == "vmascope");
        assert_eq!(of.unwrap().container, "inner.service");
    }
    record(&["--container", "inner"], inside(&cgroup.inner));
}

#[test]
fn an_app_in_the_background_is_told() {
    let _alone = alone();
    let cgroup = Cgroup::new();
    let background = cgroup.outer.join("background");
    fs::create_dir_all(&background).unwrap();
    let mut app = inside(&background);
    // SAFETY: as in `inside`.
    unsafe {
        app.pre_exec(|| fs::write("/proc/self/oom_score_adj", "905"));
    }
    let recording = record(&["-c", cgroup.outer.to_str().unwrap()], app);
    fs::remove_dir(&background).unwrap();
    let counts = recording.snapshot().unwrap();
    let processes = counts.processes();
    let app = processes.iter().find(|p| p.comm == "vmascope").unwrap();
    assert_eq!(app.standing.ground, Some(Ground::Background));
    assert_eq!(app.standing.oom_score_adj, Some(905));
    let report = report::text(&report::of(&recording).unwrap());
    let row = report.lines().find(|l| l.starts_with("vmascope ("));
    assert!(row.is_some_and(|row| row.contains(") bg 905 ")), "{report}");
}

#[test]
fn a_user() {
    let _alone = alone();
    // Where any user may execute it.
    let program = std::env::temp_dir().join(format!("vmascope-{}", std::process::id()));
    fs::copy(PROGRAM, &program).unwrap();
    let mut other = Command::new(&program);
    other.args(["demo", "storm", "--threads", "2", "--duration", "1s"]);
    other.stdout(Stdio::piped()).stderr(Stdio::piped());
    other.uid(UID).gid(UID);
    record(&["--uid", &UID.to_string()], other);
    fs::remove_file(&program).unwrap();
}

#[test]
fn a_process_is_told_with_its_number_in_its_pid_namespace() {
    let _one = alone();
    let path = std::env::temp_dir().join(format!("vmascope-ns-{}.db", std::process::id()));
    let ended = Command::new(PROGRAM)
        .args(["record", "-i", "100ms", "-o"])
        .arg(&path)
        .args(["--", "unshare", "--pid", "--fork", PROGRAM])
        .args(["demo", "storm", "--threads", "1", "--duration", "1s"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    let truth: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(truth["pid"], 1);
    let counts = Recording::open(&path).unwrap().snapshot().unwrap();
    fs::remove_file(&path).unwrap();
    let named = |comm: &str| {
        let mut all = counts.processes().into_iter();
        all.find(|p| p.comm == comm).unwrap()
    };
    let (inside, outside) = (named("vmascope"), named("unshare"));
    assert_eq!((inside.ns_pid, outside.ns_pid), (Some(1), None));
    assert_ne!(inside.tgid, 1);
}

/// Its numbers would choose processes outside.
#[test]
fn numbers_of_a_pid_namespace_are_refused() {
    let path = std::env::temp_dir().join(format!("vmascope-refused-{}.db", std::process::id()));
    let record = format!("exec {PROGRAM} record -d 1s -o {}", path.display());
    for script in [
        format!("sleep 9 & {record} -p $!"),
        format!("{record} -- true"),
    ] {
        let mut namespace = Command::new("unshare");
        namespace.args(["--pid", "--fork", "--mount-proc", "sh", "-c", &script]);
        let ended = namespace.output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(2), "{script}: {said}");
        assert!(
            said.contains("pid namespace") && said.trim().lines().count() == 1,
            "{said}"
        );
    }
    assert!(!path.exists());
}

#[test]
fn what_is_not_there_is_told() {
    for (args, word) in [
        (&["-c", "/no/such/group"][..], "is no cgroup"),
        (&["--container", "0123456789ab"], "no container"),
        (&["--package", "org.example"], "packages.list"),
        (&["--uid", "1", "-p", "1"], "cannot be used with"),
        (&["--uid", "1", "--", "true"], "cannot be used with"),
    ] {
        let mut command = Command::new(PROGRAM);
        let ended = command
            .arg("record")
            .args(["-d", "1s"])
            .args(args)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(2), "{args:?}: {said}");
        assert!(
            said.contains(word) && said.trim().lines().count() == 1,
            "{said}"
        );
    }
}
