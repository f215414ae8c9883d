//! Runs the steps of a plan: starts, captures, limits and reaps.
//!
//! In: steps. Out: one `StepResult` each, files under /out, and frames on the port as it goes.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use guest::plan::{OUT_DIR, Step, StepResult};
use guest::wire::{self, Kind};

use crate::sys::{self, Ended};

/// How often orphans are reaped while nothing else happens.
const TICK: Duration = Duration::from_millis(200);
/// How long a background step gets between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

struct Running {
    /// Its place in the results.
    index: usize,
    pid: i32,
    start: Instant,
}

/// Runs plans; owns the port and what is known about children.
pub struct Runner {
    port: File,
    ended: HashMap<i32, Ended>,
    background: Vec<Running>,
    pub results: Vec<StepResult>,
}

impl Runner {
    pub fn new(port: File) -> Self {
        Self {
            port,
            ended: HashMap::new(),
            background: Vec::new(),
            results: Vec::new(),
        }
    }

    pub fn send(&mut self, kind: Kind, bytes: &[u8]) -> io::Result<()> {
        wire::send(&mut self.port, kind, bytes)
    }

    /// Runs all steps, then ends those in the background.
    pub fn run(&mut self, steps: &[Step]) -> io::Result<()> {
        for step in steps {
            self.send(Kind::Step, step.name.as_bytes())?;
            self.step(step)?;
        }
        self.end_background();
        Ok(())
    }

    fn step(&mut self, step: &Step) -> io::Result<()> {
        let start = Instant::now();
        let index = self.results.len();
        self.results.push(StepResult {
            name: step.name.clone(),
            ..StepResult::default()
        });
        let mut child = match start_command(step) {
            Ok(child) => child,
            Err(error) => {
                let found = error.kind() != io::ErrorKind::NotFound;
                if let Some(result) = self.results.get_mut(index) {
                    result.exit_code = Some(if found { 126 } else { 127 });
                    result.start_error = Some(error.to_string());
                }
                return Ok(());
            }
        };
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        let running = Running { index, pid, start };
        if step.background {
            self.background.push(running);
            return Ok(());
        }
        let limit = Duration::from_secs(step.timeout_s);
        let timed_out = self.attend(&mut child, &running, limit)?;
        if timed_out {
            keep_traces(pid, &step.name);
        }
        // Also on a good end: what a command leaves running must not disturb the next one.
        sys::kill_group(pid, libc::SIGKILL);
        let ended = self.wait(pid, GRACE);
        self.drain(&mut child)?;
        self.close(&running, ended, timed_out);
        Ok(())
    }

    /// Passes output on until the command ends or its time is over; true in the second case.
    fn attend(
        &mut self,
        child: &mut Child,
        running: &Running,
        limit: Duration,
    ) -> io::Result<bool> {
        let pidfd = sys::pidfd(running.pid)?;
        loop {
            self.reap();
            if self.ended.contains_key(&running.pid) {
                return Ok(false);
            }
            let left = limit.saturating_sub(running.start.elapsed());
            if left.is_zero() {
                return Ok(true);
            }
            self.pump(child, Some(&pidfd), left.min(TICK))?;
        }
    }

    /// Sends on what can be read; closed pipes are dropped from the child. False if nothing came.
    fn pump(
        &mut self,
        child: &mut Child,
        pidfd: Option<&OwnedFd>,
        limit: Duration,
    ) -> io::Result<bool> {
        let out = child.stdout.as_ref().map_or(-1, |pipe| pipe.as_raw_fd());
        let err = child.stderr.as_ref().map_or(-1, |pipe| pipe.as_raw_fd());
        let end = pidfd.map_or(-1, |fd| fd.as_raw_fd());
        let ready = sys::wait_readable(&[out, err, end], limit)?;
        let is_ready = |n: usize| ready.get(n).copied().unwrap_or(false);
        if is_ready(0) && !pass(&mut child.stdout, Kind::Stdout, &mut self.port)? {
            child.stdout = None;
        }
        if is_ready(1) && !pass(&mut child.stderr, Kind::Stderr, &mut self.port)? {
            child.stderr = None;
        }
        Ok(is_ready(0) || is_ready(1))
    }

    /// Reads what is left in the pipes. A process that left the group may hold them open for
    /// ever, so silence ends it too.
    fn drain(&mut self, child: &mut Child) -> io::Result<()> {
        while child.stdout.is_some() || child.stderr.is_some() {
            if !self.pump(child, None, TICK)? {
                break;
            }
        }
        Ok(())
    }

    fn reap(&mut self) {
        while let Some(ended) = sys::reap() {
            self.ended.insert(ended.pid, ended);
        }
    }

    fn wait(&mut self, pid: i32, limit: Duration) -> Option<Ended> {
        let start = Instant::now();
        loop {
            self.reap();
            if let Some(ended) = self.ended.remove(&pid) {
                // Orphans that died meanwhile: their pids may come again.
                let ours: Vec<i32> = self.background.iter().map(|running| running.pid).collect();
                self.ended.retain(|pid, _| ours.contains(pid));
                return Some(ended);
            }
            if start.elapsed() > limit {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn close(&mut self, running: &Running, ended: Option<Ended>, timed_out: bool) {
        let Some(result) = self.results.get_mut(running.index) else {
            return;
        };
        let duration = running.start.elapsed().as_millis();
        result.duration_ms = u64::try_from(duration).unwrap_or(u64::MAX);
        result.timed_out = timed_out;
        let Some(Ended { status, .. }) = ended else {
            // Not even SIGKILL ended it: it hangs in the kernel.
            result.timed_out = true;
            return;
        };
        if libc::WIFEXITED(status) {
            result.exit_code = Some(libc::WEXITSTATUS(status));
        } else if libc::WIFSIGNALED(status) {
            result.signal = Some(libc::WTERMSIG(status));
        }
    }

    fn end_background(&mut self) {
        for running in &self.background {
            sys::kill_group(running.pid, libc::SIGTERM);
        }
        // One by one: `wait` keeps what it learns of those that are still on the list.
        while let Some(running) = self.background.pop() {
            let mut ended = self.wait(running.pid, GRACE);
            sys::kill_group(running.pid, libc::SIGKILL);
            if ended.is_none() {
                ended = self.wait(running.pid, GRACE);
            }
            self.close(&running, ended, false);
        }
    }
}

fn start_command(step: &Step) -> io::Result<Child> {
    let (program, args) = step
        .argv
        .split_first()
        .ok_or_else(|| io::Error::other("an empty command"))?;
    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .envs([
            ("PATH", "/bin:/sbin:/root"),
            ("HOME", "/root"),
            ("TERM", "dumb"),
            ("LC_ALL", "C"),
        ])
        .current_dir(if step.uid == 0 { "/root" } else { "/tmp" })
        .stdin(Stdio::null())
        .process_group(0);
    if step.uid != 0 {
        command.uid(step.uid).gid(step.uid);
    }
    if step.stream {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    } else {
        let file = |what: &str| File::create(format!("{OUT_DIR}/{}.{what}", step.name));
        command.stdout(file("stdout")?).stderr(file("stderr")?);
    }
    command.spawn()
}

/// Sends one piece of a pipe on; false at its end.
fn pass(pipe: &mut Option<impl Read>, kind: Kind, port: &mut File) -> io::Result<bool> {
    let Some(pipe) = pipe else {
        return Ok(false);
    };
    let mut bytes = [0; 65536];
    let count = pipe.read(&mut bytes)?;
    if count > 0 {
        wire::send(port, kind, bytes.get(..count).unwrap_or_default())?;
    }
    Ok(count > 0)
}

/// Notes where each thread of a process group hangs: the host shows it with the timeout.
fn keep_traces(group: i32, name: &str) {
    let mut text = String::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let stat = fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        // The fields after the command, which may hold anything: state, parent, group.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let its_group = fields
            .split_whitespace()
            .nth(2)
            .and_then(|g| g.parse().ok());
        if its_group != Some(group) {
            continue;
        }
        let threads = fs::read_dir(process.path().join("task"));
        for thread in threads.into_iter().flatten().flatten() {
            let read =
                |file: &str| fs::read_to_string(thread.path().join(file)).unwrap_or_default();
            text.push_str(&format!(
                "{} {}{}{}\n",
                thread.file_name().to_string_lossy(),
                read("comm"),
                read("stack"),
                read("syscall"),
            ));
        }
    }
    // Only an aid: if /out is full, the timeout itself is still reported.
    fs::write(format!("{OUT_DIR}/{name}.hang"), text).ok();
}
