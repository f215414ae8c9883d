//! `conflict`: writers that reach the VMA of a fault while it waits for storage. In: how many, how
//! many others, and from how many threads. Out: every call with its times, what the storage logged,
//! and what the writers would have lost, had the fault kept its VMA lock.

use std::{collections::BTreeMap, fs::File, io, os::fd::AsRawFd as _, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use clap::builder::RangedU64ValueParser;
use serde::Serialize;

use super::{
    Answer,
    call::Call,
    crew::{Crew, Member, Priority, Row, Step, line, one},
    memory::{Mapping, page_size},
    sleep_until,
    slow::{self, Server},
};

const MAX: u64 = 400;
/// Of the VMA, at least.
const PAGES: usize = 64;
/// A thread that still runs this long after the answer is stuck.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Calls of mprotect that hit the VMA of the fault
    #[arg(long, default_value_t = 10, value_name = "M",
        value_parser = RangedU64ValueParser::<usize>::new().range(..=MAX))]
    writers: usize,
    /// Calls of mprotect that hit VMAs of their own
    #[arg(long, default_value_t = 10, value_name = "N",
        value_parser = RangedU64ValueParser::<usize>::new().range(..=MAX))]
    others: usize,
    /// Writers hit a part each, not the whole VMA
    #[arg(long)]
    split: bool,
    /// Who makes the calls: a thread for each of them, or one thread all of them
    #[arg(long, value_enum, default_value_t = From::Threads)]
    from: From,
    /// How late the storage answers
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = crate::cli::duration)]
    delay: Duration,
    /// Hold `mmap_lock` for write for about so long, half of it before the answer and half after
    #[arg(long, value_name = "TIME", value_parser = crate::cli::duration)]
    busy: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum From {
    Threads,
    One,
}

#[derive(Debug, Serialize)]
pub struct Truth {
    scenario: &'static str,
    pid: u32,
    page_size: usize,
    delay_ns: u64,
    split: bool,
    from: From,
    /// The VMA as it was when the fault gave its lock up.
    start: u64,
    end: u64,
    fault: Row,
    io: Answer,
    /// In the order of their moments; the role is `writer` or `other`.
    calls: Vec<Row>,
    busy: Option<Row>,
    hold_across_io: Cost,
}

/// What a policy would have cost those who came.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Cost {
    conflicts: u64,
    lost_ns: u64,
    amplified_ns: u64,
}

pub fn run(args: &Args) -> Result<Truth> {
    let page = page_size();
    let busy = args.busy.unwrap_or_default();
    if busy > args.delay * 3 / 10 {
        bail!("--busy may be 3/10 of --delay at most: the calls come first");
    }
    let pages = PAGES.max(2 * args.writers + 2);
    let len = (pages * page) as u64;
    let (server, file) = Server::with_latch(len, args.delay, args.delay + busy / 2)?;
    let latch = args.busy.map(|_| server.latch()).transpose()?;
    let memory = Arc::new(Mapping::private_file(&file, 0, pages * page)?);
    drop(file);
    let mut members = vec![one(
        "vma-fault",
        "fault",
        Duration::ZERO,
        Call::Read(Arc::clone(&memory), 0),
    )];
    if let Some((_, direct)) = &latch {
        let call = Call::MapFile(direct.as_raw_fd(), page);
        let mut member = one("vma-busy", "busy", args.delay - busy / 2, call);
        // Else the storage would stay mounted.
        member
            .steps
            .push(Step::new("busy", args.delay + busy, Call::Unmap));
        members.push(member);
    }
    let islands = islands(args.others)?;
    members.extend(callers(args, &memory, &islands));
    let crew = Crew::assemble(members)?;
    let start_ns = crew.start();
    if let Some((cached, _)) = &latch {
        sleep_until(start_ns);
        read_ahead(cached)?;
    }
    let mut rows = crew.finish(args.delay + PATIENCE)?;
    let (start, end) = (memory.start(), memory.end());
    drop((memory, islands, latch));
    let mut log = server.stop()?;
    slow::check(&log, 1)?;
    let io = log.pop().context("the storage was asked for nothing")?;
    rows.sort_by_key(|row| row.start_ns);
    let cost = cost(&rows, io.answered_ns);
    let (calls, rest): (Vec<_>, Vec<_>) = rows.into_iter().partition(|r| r.call == "mprotect");
    let mut rest = rest.into_iter();
    let mut with = |role: &str| rest.find(|row| row.role == role);
    let fault = with("fault").context("the fault left no trace")?;
    let truth = Truth {
        scenario: "conflict",
        pid: std::process::id(),
        page_size: page,
        delay_ns: args.delay.as_nanos() as u64,
        split: args.split,
        from: args.from,
        start,
        end,
        fault,
        io,
        calls,
        busy: with("busy"),
        hold_across_io: cost,
    };
    truth.check(busy)?;
    Ok(truth)
}

impl Truth {
    fn check(&self, busy: Duration) -> Result<()> {
        let window = self.io.asked_ns..self.io.answered_ns;
        for row in &self.calls {
            ensure!(
                window.contains(&row.start_ns) && window.contains(&row.end_ns),
                "the call of {} was not within the fault's wait: try a longer --delay",
                row.name
            );
        }
        ensure!(
            self.fault.start_ns <= window.start && self.fault.end_ns >= window.end,
            "the fault did not wait for the storage"
        );
        if let Some(row) = &self.busy {
            let waited = self.fault.end_ns.saturating_sub(window.end);
            ensure!(
                row.start_ns < window.end && u128::from(waited) >= busy.as_nanos() / 4,
                "mmap_lock was not held when the answer came: try a longer --busy"
            );
        }
        Ok(())
    }
}

/// Each second page is a VMA between two that it never merges with.
fn islands(n: usize) -> Result<Arc<Mapping>> {
    let page = page_size();
    let islands = Mapping::new((2 * n + 1) * page)?;
    for i in 0..=n {
        islands.protect(2 * i * page, page, libc::PROT_NONE)?;
    }
    Ok(Arc::new(islands))
}

/// M + N calls, spread evenly from the first tenth of the delay to the last but one.
fn callers(args: &Args, memory: &Arc<Mapping>, islands: &Arc<Mapping>) -> Vec<Member> {
    let page = page_size();
    let (m, n) = (args.writers, args.others);
    let whole = (memory.end() - memory.start()) as usize;
    let line = line(m);
    let mut members = Vec::new();
    let mut steps = Vec::new();
    let mut others = 0;
    for (k, writer) in turns(m, n).into_iter().enumerate() {
        let after = args.delay / 10 + args.delay * 7 / 10 * k as u32 / (m + n) as u32;
        let call = match writer {
            // A protection that it does not have: else nothing would be locked. The whole VMA has one or
            // the other by turns, so the writers keep their order.
            Some(i) if args.split => Call::protect(memory, (2 * i + 2) * page, page, READ_WRITE),
            Some(i) => {
                let protection = [READ_WRITE, libc::PROT_READ][i % 2];
                Call::protect(memory, 0, whole, protection)
            }
            None => {
                others += 1;
                Call::protect(islands, (2 * others - 1) * page, page, libc::PROT_READ)
            }
        };
        let (role, i) = match writer {
            Some(i) => ("writer", i),
            None => ("other", others - 1),
        };
        let mut step = Step::new(role, after, call);
        if role == "writer" {
            step = step.in_turn(&line, i);
        }
        match args.from {
            From::One => steps.push(step),
            From::Threads => members.push(Member {
                name: format!("vma-{role}-{i:02}"),
                priority: Priority::Inherited,
                steps: vec![step],
            }),
        }
    }
    if !steps.is_empty() {
        members.push(Member {
            name: "vma-callers".to_owned(),
            priority: Priority::Inherited,
            steps,
        });
    }
    members
}

const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// Whose turn it is: each of the M, by its number, and N others evenly between them.
fn turns(m: usize, n: usize) -> Vec<Option<usize>> {
    let mut turns = vec![None; m + n];
    for i in 0..m {
        if let Some(turn) = turns.get_mut(i * (m + n) / m) {
            *turn = Some(i);
        }
    }
    turns
}

/// Had the fault kept its VMA lock: the first writer would have waited until the answer, and whoever
/// came after it would have waited for it. Each thread waits once.
fn cost(rows: &[Row], io_end_ns: u64) -> Cost {
    let writers = rows.iter().filter(|row| row.role == "writer");
    let Some(first) = writers.clone().next() else {
        return Cost::default();
    };
    let mut arrivals = BTreeMap::new();
    for row in rows.iter().filter(|row| row.role != "fault") {
        let is_there = (first.start_ns..io_end_ns).contains(&row.start_ns);
        if is_there && row.tid != first.tid {
            arrivals.entry(row.tid).or_insert(row.start_ns);
        }
    }
    Cost {
        conflicts: writers.count() as u64,
        lost_ns: io_end_ns.saturating_sub(first.start_ns),
        amplified_ns: arrivals.values().map(|at| io_end_ns - at).sum(),
    }
}

/// Asks for the page without waiting for it.
fn read_ahead(file: &File) -> Result<()> {
    let (len, advice) = (page_size() as i64, libc::POSIX_FADV_WILLNEED);
    // SAFETY: no pointers.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, len, advice) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)).context("cannot read ahead"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(role: &'static str, tid: u32, start_ns: u64) -> Row {
        Row {
            name: String::new(),
            role,
            tid,
            policy: 0,
            nice: 0,
            rt_priority: 0,
            call: "",
            start_ns,
            end_ns: start_ns + 1,
            address: 0,
            len: 0,
        }
    }

    #[test]
    fn writers_come_first_and_evenly() {
        assert_eq!(turns(0, 2), [None, None]);
        assert_eq!(turns(2, 3), [Some(0), None, Some(1), None, None]);
        assert_eq!(turns(2, 0), [Some(0), Some(1)]);
        let turns = turns(3, 7);
        assert_eq!(turns.iter().flatten().count(), 3);
        assert_eq!(turns[0], Some(0));
    }

    #[test]
    fn each_thread_waits_once_and_the_first_writer_loses() {
        let rows = [
            row("fault", 1, 0),
            row("other", 2, 10),
            row("writer", 3, 20),
            row("writer", 3, 30),
            row("other", 2, 40),
            row("writer", 4, 50),
            row("other", 5, 100),
        ];
        let wanted = Cost {
            conflicts: 3,
            lost_ns: 80,
            amplified_ns: 60 + 50,
        };
        assert_eq!(cost(&rows, 100), wanted);
        assert_eq!(cost(&rows[..2], 100), Cost::default());
    }
}
