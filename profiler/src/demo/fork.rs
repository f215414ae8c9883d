//! `fork`: a process forks while threads of it wait for storage, each in a VMA of its own. In: how
//! many, and how late the storage answers. Out: the fork and the faults with their times, what the
//! storage logged, and what the fork would have lost, had the faults kept their VMA locks.

use std::{io, ptr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::{
    call::Call,
    crew::{Crew, Row, one},
    memory::{Mapping, page_size},
    now_ns, sleep_until,
    slow::{self, Server},
    tid,
};

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Threads that wait
    #[arg(long, default_value_t = 8, value_name = "P",
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=256))]
    faulters: usize,
    /// How late the storage answers
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = crate::cli::duration)]
    delay: Duration,
}

#[derive(Debug, Serialize)]
pub struct Truth {
    scenario: &'static str,
    pid: u32,
    page_size: usize,
    delay_ns: u64,
    fork: Forked,
    faults: Vec<Fault>,
    hold_across_io: Cost,
}

/// The fork, by the one who called.
#[derive(Debug, Serialize)]
struct Forked {
    tid: u32,
    start_ns: u64,
    end_ns: u64,
}

#[derive(Debug, Serialize)]
struct Fault {
    #[serde(flatten)]
    row: Row,
    /// Its VMA.
    start: u64,
    end: u64,
    io_start_ns: u64,
    io_end_ns: u64,
}

/// A fork locks one VMA after the other: it would have waited until the last answer.
#[derive(Debug, Serialize)]
struct Cost {
    windows: u64,
    lost_ns: u64,
}

pub fn run(args: &Args) -> Result<Truth> {
    let page = page_size();
    // Each second page: mappings of neighbours could be merged.
    let len = 2 * args.faulters * page;
    let (server, file) = Server::start(len as u64, args.delay)?;
    let memories = (0..args.faulters)
        .map(|i| Mapping::private_file(&file, 2 * i * page, page).map(Arc::new))
        .collect::<Result<Vec<_>>>()?;
    drop(file);
    let members = memories.iter().enumerate().map(|(i, memory)| {
        let call = Call::Read(Arc::clone(memory), 0);
        one(format!("vma-faulter-{i:02}"), "fault", Duration::ZERO, call)
    });
    let crew = Crew::assemble(members.collect())?;
    let start_ns = crew.start();
    sleep_until(start_ns + args.delay.as_nanos() as u64 / 4);
    let forked = fork();
    let rows = crew.finish(args.delay + PATIENCE)?;
    let fork = forked?;
    drop(memories);
    let log = server.stop()?;
    slow::check(&log, args.faulters)?;
    let mut faults = Vec::new();
    for (i, row) in rows.into_iter().enumerate() {
        let at = (2 * i * page) as u64;
        let mut answers = log.iter().filter(|answer| answer.at == at);
        let answer = answers
            .next()
            .context("the storage was not asked for a page")?;
        ensure!(
            answer.asked_ns < fork.start_ns && fork.end_ns < answer.answered_ns,
            "the fork was not within the wait of {}: try a longer --delay",
            row.name
        );
        faults.push(Fault {
            start: row.address,
            end: row.address + page as u64,
            io_start_ns: answer.asked_ns,
            io_end_ns: answer.answered_ns,
            row,
        });
    }
    let last_ns = faults.iter().map(|fault| fault.io_end_ns).max();
    Ok(Truth {
        scenario: "fork",
        pid: std::process::id(),
        page_size: page,
        delay_ns: args.delay.as_nanos() as u64,
        hold_across_io: Cost {
            windows: faults.len() as u64,
            lost_ns: last_ns.unwrap_or_default().saturating_sub(fork.start_ns),
        },
        fork,
        faults,
    })
}

/// The child ends at once.
fn fork() -> Result<Forked> {
    let start_ns = now_ns();
    // SAFETY: the child calls nothing but _exit.
    let pid = unsafe { libc::fork() };
    let end_ns = now_ns();
    match pid {
        -1 => Err(io::Error::last_os_error()).context("cannot fork"),
        // SAFETY: ends the child, without the parent's clean-up.
        0 => unsafe { libc::_exit(0) },
        _ => {
            // SAFETY: our own child, which nobody else waits for.
            unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
            Ok(Forked {
                tid: tid(),
                start_ns,
                end_ns,
            })
        }
    }
}
