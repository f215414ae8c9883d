//! `reader`: another process reads the smaps of a busy one. In: how long. Out: who they are, and how
//! long each thread's calls took while the other read.
//!
//! A reader of smaps takes the locks of the address space it looks at: `mmap_lock`, on newer kernels
//! the lock of one VMA after the other. Both are in the way of those who map and protect there.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::UnixStream,
    process, ptr, thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;

use super::{
    memory::{Mapping, page_size},
    now_ns, tid,
};

const VMAS: usize = 256;
/// Of all VMAs together: what takes the reader its time.
const POPULATED: usize = 64 << 20;
const LONG_NS: u64 = 1_000_000;
const NAME: &str = "vma-reader";

#[derive(Debug, Serialize)]
pub struct Truth {
    scenario: &'static str,
    pid: u32,
    page_size: usize,
    elapsed_ns: u64,
    vmas: usize,
    start: u64,
    end: u64,
    reader: ReaderTruth,
    threads: Vec<ThreadTruth>,
}

#[derive(Debug, Serialize)]
struct ReaderTruth {
    name: &'static str,
    tid: u32,
    tgid: u32,
    /// Of the whole file.
    reads: u64,
}

#[derive(Debug, Serialize)]
struct ThreadTruth {
    name: String,
    role: &'static str,
    tid: u32,
    tgid: u32,
    start_ns: u64,
    end_ns: u64,
    #[serde(flatten)]
    calls: Calls,
}

#[derive(Debug, Default, Serialize)]
struct Calls {
    calls: u64,
    total_ns: u64,
    max_ns: u64,
    over_1ms: u64,
}

impl Calls {
    fn time(&mut self, call: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let begin = now_ns();
        let done = call();
        let ns = now_ns() - begin;
        self.calls += 1;
        self.total_ns += ns;
        self.max_ns = self.max_ns.max(ns);
        self.over_1ms += u64::from(ns > LONG_NS);
        done
    }
}

pub fn run(duration: Duration) -> Result<Truth> {
    let page = page_size();
    // Before there is anything to share with it, and before there are threads.
    let mut reader = Reader::start()?;
    let part = (POPULATED / VMAS / page).max(1);
    // A page that nobody may touch between any two: they never merge.
    let memory = Mapping::new(VMAS * (part + 1) * page)?;
    for i in 0..VMAS {
        let at = i * (part + 1) * page;
        memory.touch(at, part * page, page);
        memory.protect(at + part * page, page, libc::PROT_NONE)?;
    }
    let end_ns = now_ns() + duration.as_nanos() as u64;
    let start_ns = now_ns();
    reader.go()?;
    let protect = |calls: &mut Calls, i: usize| {
        let at = i % VMAS * (part + 1) * page;
        // Nobody writes there any more.
        let protection = [libc::PROT_READ, libc::PROT_READ | libc::PROT_WRITE][i / VMAS % 2];
        calls.time(|| memory.protect(at, part * page, protection))
    };
    let threads = thread::scope(|scope| {
        let protector = spawn(scope, "protector", end_ns, protect)?;
        let mapper = spawn(scope, "mapper", end_ns, |calls, _| map(calls, page))?;
        [protector, mapper]
            .into_iter()
            .map(joined)
            .collect::<Result<Vec<_>>>()
    })?;
    let elapsed_ns = now_ns() - start_ns;
    let reader = reader.stop()?;
    Ok(Truth {
        scenario: "reader",
        pid: process::id(),
        page_size: page,
        elapsed_ns,
        vmas: VMAS,
        start: memory.start(),
        end: memory.end(),
        reader,
        threads,
    })
}

type Handle<'scope> = thread::ScopedJoinHandle<'scope, io::Result<ThreadTruth>>;

/// A thread that makes its calls until the end.
fn spawn<'scope, 'env>(
    scope: &'scope thread::Scope<'scope, 'env>,
    role: &'static str,
    end_ns: u64,
    call: impl Fn(&mut Calls, usize) -> io::Result<()> + Send + 'scope,
) -> Result<Handle<'scope>> {
    let name = format!("vma-{role}");
    let live = {
        let name = name.clone();
        move || {
            let start_ns = now_ns();
            let mut calls = Calls::default();
            let mut i = 0;
            while now_ns() < end_ns {
                call(&mut calls, i)?;
                i += 1;
            }
            Ok(ThreadTruth {
                name,
                role,
                tid: tid(),
                tgid: process::id(),
                start_ns,
                end_ns: now_ns(),
                calls,
            })
        }
    };
    let thread = thread::Builder::new().name(name);
    thread
        .spawn_scoped(scope, live)
        .context("cannot start a thread")
}

fn joined(thread: Handle<'_>) -> Result<ThreadTruth> {
    match thread.join() {
        Ok(done) => done.context("a call of the busy process failed"),
        Err(_) => bail!("a thread of the busy process failed"),
    }
}

fn map(calls: &mut Calls, page: usize) -> io::Result<()> {
    let mut at = libc::MAP_FAILED;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    calls.time(|| {
        // SAFETY: a fresh mapping at an address the kernel chooses.
        at = unsafe { libc::mmap(ptr::null_mut(), page, libc::PROT_READ, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    })?;
    calls.time(|| {
        // SAFETY: mapped above, and nobody else knows of it.
        match unsafe { libc::munmap(at, page) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    })
}

/// The other process, until dropped. It ends when our end of the line is closed, also by a kill.
struct Reader {
    pid: i32,
    line: UnixStream,
}

impl Reader {
    fn start() -> Result<Self> {
        let (line, other) = UnixStream::pair().context("cannot make a pair of sockets")?;
        let parent = process::id();
        // SAFETY: this process has one thread, so the child may do anything; it leaves by _exit.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()).context("cannot fork"),
            0 => {
                drop(line);
                let code = i32::from(read(other, parent).is_err());
                // SAFETY: ends the process, without the parent's clean-up.
                unsafe { libc::_exit(code) }
            }
            pid => Ok(Self { pid, line }),
        }
    }

    fn go(&mut self) -> Result<()> {
        let said = self.line.write_all(b"g");
        said.context("the other process has ended")
    }

    fn stop(mut self) -> Result<ReaderTruth> {
        let mut reads = [0; 8];
        self.line
            .shutdown(Shutdown::Write)
            .and_then(|()| self.line.read_exact(&mut reads))
            .context("the other process cannot read smaps")?;
        let reads = u64::from_ne_bytes(reads);
        ensure!(
            reads > 0,
            "the other process read nothing: try a longer --duration"
        );
        Ok(ReaderTruth {
            name: NAME,
            tid: self.pid as u32,
            tgid: self.pid as u32,
            reads,
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.line.shutdown(Shutdown::Both).ok();
        // SAFETY: our own child, which ends now; its status is of no interest.
        unsafe { libc::waitpid(self.pid, ptr::null_mut(), 0) };
    }
}

/// The other process's life: from the word go to the end of the line it reads, then it says how often.
fn read(mut line: UnixStream, parent: u32) -> io::Result<()> {
    fs::write("/proc/self/comm", NAME)?;
    let path = format!("/proc/{parent}/smaps");
    let mut buffer = vec![0; 1 << 16];
    let mut reads = 0u64;
    line.read_exact(&mut [0])?;
    line.set_nonblocking(true)?;
    while matches!(line.read(&mut [0]), Err(e) if e.kind() == io::ErrorKind::WouldBlock) {
        let mut file = File::open(&path)?;
        while file.read(&mut buffer)? > 0 {}
        reads += 1;
    }
    line.set_nonblocking(false)?;
    line.write_all(&reads.to_ne_bytes())
}
