//! What becomes of a recording when its recorder is killed, when the disk is full, when it grows and
//! when it is to keep the last seconds only: the real recorder, on this machine's own kernel, with
//! this process as its target. Needs root.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod command;
mod reader;

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{JoinHandle, sleep},
    time::{Duration, Instant},
};

use vmascope::{
    kernel::host,
    model::Snapshot,
    recording::{Recording, Repaired, repair},
};

const MOMENTS: u64 = 50;
/// What may be missing of a recording that was cut short.
const LATE_NS: u64 = 1_000_000_000;

/// One recorder at a time: they would record each other's load.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("vmascope-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Two threads of this process that fault, and map what they fault on, until dropped.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..2).map(|_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    map_and_touch(32);
                    sleep(Duration::from_millis(10));
                }
            })
        });
        Self {
            threads: threads.collect(),
            stop,
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

fn map_and_touch(pages: usize) {
    const PAGE: usize = 4096;
    // SAFETY: an anonymous mapping of our own, written inside its bounds, unmapped at the end.
    unsafe {
        let (read_write, private) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        let at = libc::mmap(
            std::ptr::null_mut(),
            pages * PAGE,
            read_write,
            private,
            -1,
            0,
        );
        assert_ne!(at, libc::MAP_FAILED);
        for page in 0..pages {
            at.cast::<u8>().add(page * PAGE).write_volatile(1);
        }
        libc::munmap(at, pages * PAGE);
    }
}

/// `vmascope record` of this process, every fault of it.
fn record(output: &Path, more: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_vmascope"))
        .args(["record", "--min-us", "0", "-i", "250ms", "-p"])
        .arg(std::process::id().to_string())
        .arg("-o")
        .arg(output)
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn vmascope(args: &[&str], file: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmascope"));
    command.args(args).arg(file).output().unwrap()
}

fn companion(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Until the recording is there, and counts.
fn wait_for(path: &Path, child: &mut Child) {
    let begin = Instant::now();
    while !path.exists() {
        assert!(
            child.try_wait().unwrap().is_none(),
            "the recorder has ended"
        );
        assert!(begin.elapsed() < Duration::from_secs(20), "no recording");
        sleep(Duration::from_millis(5));
    }
}

/// The last moment it tells of, and everything it counted.
fn read(path: &Path) -> (u64, Snapshot, u64) {
    let recording = Recording::open(path).unwrap();
    let last = recording.faults().map(|f| f.unwrap().end_ns).max();
    let faults = recording.events_in_all().unwrap().1;
    (last.unwrap_or(0), recording.snapshot().unwrap(), faults)
}

fn is_sound(path: &Path) -> bool {
    let sql = rusqlite::Connection::open(path).unwrap();
    let says: String = sql
        .query_row("PRAGMA integrity_check", (), |row| row.get(0))
        .unwrap();
    says == "ok"
}

/// Different in every run, printed where a check fails.
fn seed() -> u64 {
    let seed = host::clock(libc::CLOCK_REALTIME);
    println!("seed {seed}");
    seed
}

fn random(state: &mut u64, below: u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

#[test]
fn killed_at_any_moment_it_can_be_read() {
    let _alone = alone();
    let dir = Scratch::new("killed");
    let _load = Load::start();
    let mut state = seed();
    let mut told = 0;
    for moment in 0..MOMENTS {
        let path = dir.file(&format!("{moment}.db"));
        let mut child = record(&path, &[]);
        wait_for(&path, &mut child);
        let lived = random(&mut state, 1_500);
        sleep(Duration::from_millis(lived));
        let killed_ns = host::clock(libc::CLOCK_MONOTONIC);
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));

        let copy = dir.file("copy.db");
        for suffix in ["", "-wal", "-shm"] {
            let to = companion(&copy, suffix);
            fs::remove_file(&to).ok();
            if companion(&path, suffix).exists() {
                fs::copy(companion(&path, suffix), to).unwrap();
            }
        }
        let (last_ns, counts, faults) = read(&path);
        assert_eq!(read(&copy), (last_ns, counts.clone(), faults));
        assert!(is_sound(&copy), "killed after {lived} ms");
        if lived > 1_000 {
            let missing = killed_ns.saturating_sub(last_ns);
            assert!(
                missing <= LATE_NS,
                "killed after {lived} ms: {missing} ns are missing"
            );
            assert!(
                counts.at_ns + LATE_NS >= killed_ns,
                "killed after {lived} ms"
            );
        }
        assert_eq!(repair(&path).unwrap(), Repaired::Folded);
        for suffix in ["-wal", "-shm"] {
            assert!(!companion(&path, suffix).exists(), "{suffix} is left");
        }
        assert_eq!(read(&path), (last_ns, counts, faults));
        assert_eq!(repair(&path).unwrap(), Repaired::Whole);
        told += faults;
        fs::remove_file(path).unwrap();
    }
    assert!(told > MOMENTS, "{told} faults in all");
}

#[test]
fn a_full_disk_is_told_and_keeps_what_was_written() {
    let _alone = alone();
    let dir = Scratch::new("full");
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4m", "vmascope-test"])
        .arg(&dir.0)
        .output()
        .unwrap();
    assert!(
        mount.status.success(),
        "{}",
        String::from_utf8_lossy(&mount.stderr)
    );
    let path = dir.file("a.db");
    let lines = dir.file("a.json");
    fs::write(&lines, "of yesterday").unwrap();
    let load = Load::start();
    let mut child = record(&path, &["-d", "60s"]);
    wait_for(&path, &mut child);
    let ended = child.wait_with_output().unwrap();
    drop(load);
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    let kept = std::panic::catch_unwind(|| read(&path));
    let text = vmascope(&["report"], &path);
    let export = vmascope(&["export", "--json", lines.to_str().unwrap()], &path);
    let before = fs::read_to_string(&lines);
    let hidden = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with('.');
    let part = fs::read_dir(&dir.0)
        .unwrap()
        .any(|entry| hidden(entry.unwrap()));
    let unmount = Command::new("umount").arg(&dir.0).status().unwrap();
    assert!(unmount.success());
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(
        said.contains("disk is full") && said.contains("a.db"),
        "{said}"
    );
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    let (_, counts, faults) = kept.unwrap();
    assert!(faults > 100 && counts.duration_ns > 0, "{faults} faults");
    assert!(
        text.status.success(),
        "{}",
        String::from_utf8_lossy(&text.stderr)
    );
    // An export is there as a whole, or not at all.
    assert_eq!(export.status.code(), Some(1), "{export:?}");
    assert_eq!((before.unwrap().as_str(), part), ("of yesterday", false));
}

/// The parts have what happened in them, and together what happened.
#[test]
fn a_row_of_recordings_adds_up() {
    let _alone = alone();
    let dir = Scratch::new("rotate");
    let load = Load::start();
    let child = record(
        &dir.file("a.db"),
        &["-d", "6s", "--max-age", "1s", "--keep", "3"],
    );
    let pid = child.id();
    let ended = child.wait_with_output().unwrap();
    drop(load);
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success(), "{said}");
    let mut names: Vec<_> = fs::read_dir(&dir.0)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names.len(), 3, "{pid}: {names:?}: {said}");
    assert!(said.contains("older ones were deleted"), "{said}");
    let mut end_ns = None;
    for name in names {
        let path = dir.file(&name);
        let recording = Recording::open(&path).unwrap();
        assert!(recording.complete(), "{name}");
        let (counts, begin) = (
            recording.snapshot().unwrap(),
            recording.session().armed_monotonic_ns,
        );
        // Where one ends the next begins.
        assert!(end_ns.is_none_or(|end| end == begin), "{name}");
        end_ns = Some(begin + counts.duration_ns);
        assert!(
            counts.duration_ns < 4_000_000_000,
            "{name}: {}",
            counts.duration_ns
        );
        let by_path: u64 = counts.faults.iter().map(|path| path.count).sum();
        let by_thread: u64 = counts.threads.iter().map(|t| t.faults()).sum();
        // They are not read at the same moment.
        assert!(
            by_path.abs_diff(by_thread) * 10 <= by_path,
            "{name}: {by_path}, {by_thread}"
        );
        assert!(by_path > 0, "{name}");
        for fault in recording.faults() {
            let fault = fault.unwrap();
            assert!(fault.end_ns + LATE_NS >= begin, "{name}: {fault:?}");
        }
        assert_eq!(vmascope(&["report"], &path).status.code(), Some(0));
    }
}

#[test]
fn a_flight_recorder_writes_the_last_seconds_when_asked() {
    let _alone = alone();
    let dir = Scratch::new("flight");
    let load = Load::start();
    let more = ["-d", "5s", "--ring", "1s", "--trigger", "fault>1h"];
    let child = record(&dir.file("a.db"), &more);
    sleep(Duration::from_millis(3_500));
    // SAFETY: no pointers; the child has not been waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGUSR1) };
    let ended = child.wait_with_output().unwrap();
    drop(load);
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success(), "{said}");
    assert!(said.contains("SIGUSR1: the last "), "{said}");
    let recording = Recording::open(&dir.file("a-000001.db")).unwrap();
    let (counts, begin) = (
        recording.snapshot().unwrap(),
        recording.session().armed_monotonic_ns,
    );
    let ms = counts.duration_ns / 1_000_000;
    assert!((800..2_200).contains(&ms), "{ms} ms");
    let first = recording.faults().map(|f| f.unwrap().end_ns).min().unwrap();
    assert!(first >= begin.saturating_sub(LATE_NS), "{first} {begin}");
    assert!(!dir.file("a.db").exists() && !dir.file("a-000002.db").exists());
}

#[test]
fn a_flight_recorder_without_a_reason_writes_nothing() {
    let _alone = alone();
    let dir = Scratch::new("quiet");
    let more = ["-d", "500ms", "--ring", "1s", "--trigger", "wait>1h"];
    let ended = record(&dir.file("a.db"), &more).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success(), "{said}");
    assert!(said.starts_with("nothing was written: "), "{said}");
    assert_eq!(fs::read_dir(&dir.0).unwrap().count(), 0);
}

#[test]
fn a_trigger_writes() {
    let _alone = alone();
    let dir = Scratch::new("trigger");
    let _load = Load::start();
    let more = ["-d", "2s", "--ring", "1s", "--trigger", "fault>1us"];
    let ended = record(&dir.file("a.db"), &more).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success(), "{said}");
    let recording = Recording::open(&dir.file("a-000001.db")).unwrap();
    assert!(recording.events_in_all().unwrap().1 > 0, "{said}");
}

#[test]
fn only_a_recording_that_nobody_writes_is_repaired() {
    let _alone = alone();
    let dir = Scratch::new("in-use");
    let path = dir.file("a.db");
    let mut child = record(&path, &["-d", "60s"]);
    wait_for(&path, &mut child);
    sleep(Duration::from_millis(500));
    let refused = vmascope(&["repair"], &path);
    // And its reader does not disturb it.
    assert!(vmascope(&["report"], &path).status.success());
    // SAFETY: no pointers; the child has not been waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let ended = child.wait_with_output().unwrap();
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("is in use"), "{said}");
    let again = vmascope(&["repair"], &path);
    assert!(again.status.success());
    assert!(String::from_utf8_lossy(&again.stdout).contains("one file already"));

    for name in ["none.db", "text.db"] {
        if name == "text.db" {
            fs::write(dir.file(name), "hello").unwrap();
        }
        let refused = vmascope(&["repair"], &dir.file(name));
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert_eq!(said.trim().lines().count(), 1, "{said}");
        assert!(said.contains(name), "{said}");
    }
}

/// A reader that takes ten lines, as `head` does, ends it; so does the duration.
#[test]
fn a_stream_is_csv_as_it_comes() {
    use std::io::{BufRead as _, BufReader};

    let _alone = alone();
    let dir = Scratch::new("stream");
    let _load = Load::start();
    let stream = |more: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_vmascope"))
            .args(["record", "--min-us", "0", "-p"])
            .arg(std::process::id().to_string())
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut child = stream(&["-d", "60s", "--csv", "-"]);
    let begin = Instant::now();
    let lines: Vec<String> = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .take(10)
        .map(Result::unwrap)
        .collect();
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}");
    assert!(begin.elapsed() < Duration::from_secs(30));
    let mut reader = csv::Reader::from_reader(lines.join("\n").into_bytes().leak() as &[u8]);
    let pid = std::process::id().to_string();
    for row in reader.records() {
        let row = row.unwrap();
        assert!(&row[2] == "fault" || &row[2] == "wait", "{row:?}");
        assert_eq!(&row[4], pid);
    }
    let file = dir.file("a.csv");
    let ended = stream(&["-d", "1s", "--csv", file.to_str().unwrap()])
        .wait_with_output()
        .unwrap();
    assert!(ended.status.success());
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("FAULTS"), "{said}");
    let mut reader = csv::Reader::from_path(file).unwrap();
    let faults = reader
        .records()
        .filter(|r| &r.as_ref().unwrap()[2] == "fault");
    assert!(faults.count() > 100);

    // A reader that leaves is noticed where there is nothing to write, too.
    let mut idle = Command::new("sleep").arg("60").spawn().unwrap();
    let begin = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_vmascope"))
        .args(["record", "-d", "60s", "--csv", "-", "-p"])
        .arg(idle.id().to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let status = child.wait().unwrap();
    idle.kill().unwrap();
    idle.wait().unwrap();
    assert!(status.success(), "{status}");
    assert!(begin.elapsed() < Duration::from_secs(30));

    let refused = stream(&["--csv", "-", "--", "true"]);
    assert_eq!(refused.wait_with_output().unwrap().status.code(), Some(2));
}

/// Of a stimulus that is the same in each run, `diff` must not find changes; of another it must.
#[test]
#[ignore = "two minutes: `cargo xtask test --full`"]
fn the_same_load_is_no_change_and_another_one_is() {
    const RUNS: usize = 21;
    let _alone = alone();
    let dir = Scratch::new("diff");
    let storm = |name: String, threads: &str| {
        let path = dir.file(&name);
        let program = env!("CARGO_BIN_EXE_vmascope");
        let ended = Command::new(program)
            .args(["record", "-i", "250ms", "-o"])
            .arg(&path)
            .args(["--", program, "demo", "storm", "--duration", "4s"])
            .args(["--threads", threads])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(ended.status.success(), "{said}");
        Recording::open(&path).unwrap()
    };
    let same: Vec<Recording> = (0..RUNS).map(|i| storm(format!("{i}.db"), "2")).collect();
    let changed = |a: &[Recording], b: &[Recording]| {
        let diff = vmascope::diff::diff(a, b).unwrap();
        println!("{}", diff.verdict);
        !diff.verdict.starts_with("No evidence of a change")
    };
    let pairs = same.windows(2);
    let wrong = pairs.filter(|pair| changed(&pair[..1], &pair[1..])).count();
    assert!(wrong <= 1, "{wrong} of {} pairs", RUNS - 1);

    let more = storm("more.db".into(), "6");
    let diff = vmascope::diff::diff(&same[..1], &[more]).unwrap();
    let row = diff
        .metrics
        .iter()
        .find(|row| row.metric == "mean(mmap_lock_wait.write)")
        .unwrap();
    assert_eq!(row.verdict, vmascope::diff::Verdict::More, "{row:?}");
}
