//! `file`: threads fault the pages of a cold file, each its part. In: a file on slow storage, or a
//! delay for built-in storage. Out: each thread's walk, and what the built-in storage logged.

use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use super::{
    Answer,
    memory::{Mapping, page_size},
    slow::{self, Server},
    walk::{Plan, Touch, Walk, practise},
};

/// Pages that are being written back cannot be dropped yet.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file on slow storage, made where there is none; without it, built-in storage (root)
    #[arg(long, value_name = "FILE")]
    path: Option<PathBuf>,
    /// Pages to fault
    #[arg(long, default_value_t = 50, value_name = "N",
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..1 << 20))]
    pages: usize,
    /// Without read-ahead and in an order that nobody foresees: each page is one major fault
    #[arg(long)]
    random: bool,
    /// Threads that share the pages
    #[arg(long, default_value_t = 1, value_name = "K",
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=256))]
    threads: usize,
    /// How late the built-in storage answers
    #[arg(long, default_value = "20ms", value_name = "TIME", value_parser = crate::cli::duration,
        conflicts_with = "path")]
    delay: Duration,
    /// Threads of one real-time priority (root), which do not preempt each other
    #[arg(long)]
    fifo: bool,
    /// Make ready, then wait for a line on standard input before the first fault
    #[arg(long)]
    hold: bool,
}

#[derive(Debug, Serialize)]
pub struct Truth {
    scenario: &'static str,
    pid: u32,
    page_size: usize,
    pages: usize,
    start: u64,
    end: u64,
    minor: u64,
    major: u64,
    threads: Vec<Walk>,
    /// Of the built-in storage: what it took to answer, over all requests, and each of them.
    io_ns: Option<u64>,
    requests: Option<Vec<Answer>>,
}

pub fn run(args: &Args) -> Result<Truth> {
    let len = args.pages * page_size();
    if args.threads > args.pages {
        bail!("--threads {} share --pages {}", args.threads, args.pages);
    }
    let (server, file) = match &args.path {
        None => {
            let (server, file) = Server::start(len as u64, args.delay)?;
            (Some(server), file)
        }
        Some(path) => (None, cold(path, len)?),
    };
    let memory = Mapping::file(&file, len, libc::PROT_READ)?;
    drop(file);
    if args.random {
        memory
            .advise(libc::MADV_RANDOM)
            .context("cannot switch read-ahead off")?;
    }
    if memory.in_core(page_size())?.contains(&true) {
        bail!("pages of the file stay in memory: name one on a disk with --path, not on a tmpfs");
    }
    let threads = walks(args, &memory)?;
    let (start, end) = (memory.start(), memory.end());
    drop(memory);
    let requests = server.map(Server::stop).transpose()?;
    if let Some(log) = &requests {
        slow::check(log, args.pages)?;
    }
    let (minor, major) = threads
        .iter()
        .fold((0, 0), |(a, b), walk| (a + walk.minor, b + walk.major));
    if major == 0 || (args.random && major != args.pages as u64) {
        bail!(
            "{} cold pages, but the kernel counted {major} major faults: try again on a calmer machine",
            args.pages
        );
    }
    Ok(Truth {
        scenario: "file",
        pid: std::process::id(),
        page_size: page_size(),
        pages: args.pages,
        start,
        end,
        minor,
        major,
        threads,
        io_ns: requests
            .as_ref()
            .map(|log| log.iter().map(Answer::ns).sum()),
        requests,
    })
}

/// Faults the parts of the mapping, each on a thread of its own.
fn walks(args: &Args, memory: &Mapping) -> Result<Vec<Walk>> {
    let page = page_size();
    let ready = Barrier::new(args.threads + 1);
    let ready = &ready;
    let part = |i: usize| args.pages * i / args.threads;
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for i in 0..args.threads {
            let (from, to) = (part(i), part(i + 1));
            let mut plan = Plan::new(from * page, to - from, page, Touch::Read);
            if args.random {
                plan = plan.shuffled();
            }
            threads.push(scope.spawn(move || {
                let practised =
                    if args.fifo { real_time() } else { Ok(()) }.and_then(|()| practise());
                ready.wait();
                practised.map(|()| plan.run(memory))
            }));
        }
        if args.hold {
            // The end of the input is as good as a line.
            let line = io::stdin().read_line(&mut String::new());
            line.context("cannot read standard input")?;
        }
        ready.wait();
        threads
            .into_iter()
            .map(|thread| match thread.join() {
                Ok(walk) => walk,
                Err(_) => bail!("a faulting thread failed"),
            })
            .collect()
    })
}

fn real_time() -> Result<()> {
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: a pointer to a live parameter; 0 is the calling thread.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) } == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error()).context("cannot have real-time priority (--fifo)")
}

/// Opens a file of at least that length, made if there is none, and drops it from the page cache.
fn cold(path: &Path, len: usize) -> Result<File> {
    let named = || format!("cannot use {}", path.display());
    if !path.exists() {
        let mut file = File::create_new(path).with_context(named)?;
        let block = vec![b'v'; 1 << 20];
        let mut left = len;
        while left > 0 {
            let part = left.min(block.len());
            file.write_all(&block[..part]).with_context(named)?;
            left -= part;
        }
        file.sync_all().with_context(named)?;
    }
    let file = File::open(path).with_context(named)?;
    let size = file.metadata().with_context(named)?.len();
    if size < len as u64 {
        bail!(
            "{} has {size} bytes, not {len}: ask for fewer --pages, or name a file that is not there yet",
            path.display()
        );
    }
    let memory = Mapping::file(&file, len, libc::PROT_READ)?;
    let began = Instant::now();
    loop {
        // SAFETY: no pointers.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        if began.elapsed() > PATIENCE || !memory.in_core(page_size())?.contains(&true) {
            return Ok(file);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_too_short_is_left_alone() {
        let path = std::env::temp_dir().join(format!("vmascope-cold-{}", std::process::id()));
        std::fs::write(&path, "short").unwrap();
        let error = cold(&path, 100).unwrap_err().to_string();
        let kept = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(error.contains("5 bytes"), "{error}");
        assert_eq!(kept, "short");
    }
}
