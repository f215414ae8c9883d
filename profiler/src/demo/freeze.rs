//! `freeze` and `inversion`: a queue behind a fault, made at will. In: the delay. Out: each
//! thread's call with its times, and when the file system was frozen and thawed.
//!
//! A writes to a page of a file on a frozen file system: the fault hangs, with its VMA locked. B
//! mprotects, or unmaps, another page of that VMA and waits for A, with `mmap_lock` held for write. C mmaps and
//! D reads smaps: both wait for B. Whoever had to touch new memory now would wait as well, so the
//! one who thaws has all it needs beforehand, and a watchdog does it if it does not.

mod image;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;

use super::{
    call::Call,
    crew::{Crew, Member, Priority, Row, Step, one},
    memory::{Mapping, page_size},
    now_ns, sleep_until,
};
use image::{Image, Watchdog};

const PAGES: usize = 64;
/// A's and B's.
const FAULTED: usize = 3;
const CHANGED: usize = 10;
/// Whoever is killed leaves the file system frozen for no longer than this after the delay.
const WATCHDOG: Duration = Duration::from_secs(2);
/// A thread that still waits this long after the thaw is stuck.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two threads of the convoy.
const GAP: Duration = Duration::from_millis(2);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long the file system stays frozen
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = crate::cli::duration)]
    delay: Duration,
    /// Where to make the file system, an ext4 in a file without a name [default: the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// Threads more in the queue, each with one short mmap and munmap
    #[arg(long, default_value_t = 0, value_name = "N",
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(..=500))]
    waiters: usize,
    /// Let B unmap its page: munmap ends as a reader of mmap_lock (mmap_write_downgrade)
    #[arg(long)]
    munmap: bool,
}

#[derive(Debug, clap::Args)]
pub struct Inversion {
    #[command(flatten)]
    freeze: Args,
    /// Leave the priorities alone
    #[arg(long)]
    plain: bool,
}

#[derive(Debug, Serialize)]
pub struct Truth {
    scenario: &'static str,
    pid: u32,
    page_size: usize,
    delay_ns: u64,
    /// The VMA, before B split it, and A's address in it.
    start: u64,
    end: u64,
    address: u64,
    /// Monotonic: just after the one, just before the other.
    frozen_ns: u64,
    thawed_ns: u64,
    /// One row a call.
    threads: Vec<Row>,
}

pub fn run(args: &Args) -> Result<Truth> {
    queue("freeze", args, Priority::Inherited, Priority::Inherited)
}

pub fn invert(args: &Inversion) -> Result<Truth> {
    let (a, b) = if args.plain {
        (Priority::Inherited, Priority::Inherited)
    } else {
        (Priority::Nice(19), Priority::Fifo(10))
    };
    queue("inversion", &args.freeze, a, b)
}

fn queue(scenario: &'static str, args: &Args, a: Priority, b: Priority) -> Result<Truth> {
    let page = page_size();
    let folder = args.path.clone().unwrap_or_else(std::env::temp_dir);
    let image = Image::make(&folder)?;
    let file = image.file("pages", PAGES * page)?;
    // For practice: the code that thaws must be there when the address space is locked.
    match image.thaw() {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {}
        Err(e) => return Err(e).context("this kernel cannot freeze a file system"),
        Ok(()) => bail!("the fresh file system was frozen already"),
    }
    // Before there are threads.
    let watchdog = Watchdog::start(&image, args.delay + WATCHDOG)?;
    let memory = Arc::new(Mapping::file(
        &file,
        PAGES * page,
        libc::PROT_READ | libc::PROT_WRITE,
    )?);
    drop(file);
    let crew = Crew::assemble(members(args, &memory, a, b))?;
    // Present and clean: what A lacks is the permission to write, which the file system gives.
    for i in 0..PAGES {
        memory.read(i * page);
    }
    let delay_ns = args.delay.as_nanos() as u64;
    sleep_until(now_ns());
    image.freeze().context("cannot freeze the file system")?;
    let frozen_ns = now_ns();
    crew.start();
    sleep_until(frozen_ns + delay_ns);
    let thawed_ns = now_ns();
    let thawed = image.thaw();
    let rows = crew.finish(PATIENCE);
    drop(watchdog);
    thawed.context("somebody else thawed the file system: is the machine overloaded?")?;
    let threads = rows?;
    let unmaps = |row: &&Row| row.role == "convoy" && row.call == "munmap";
    for row in threads.iter().filter(|row| !unmaps(row)) {
        ensure!(
            (frozen_ns..thawed_ns).contains(&row.start_ns) && row.end_ns >= thawed_ns,
            "{} of {} did not wait for the thaw: try a longer --delay",
            row.call,
            row.name
        );
    }
    Ok(Truth {
        scenario,
        pid: std::process::id(),
        page_size: page,
        delay_ns,
        start: memory.start(),
        end: memory.end(),
        address: memory.start() + (FAULTED * page) as u64,
        frozen_ns,
        thawed_ns,
        threads,
    })
}

fn members(args: &Args, memory: &Arc<Mapping>, a: Priority, b: Priority) -> Vec<Member> {
    let (page, tenth) = (page_size(), args.delay / 10);
    let write = Call::Write(Arc::clone(memory), FAULTED * page);
    let change = if args.munmap {
        // Never given back: others may have mapped something where that page was.
        std::mem::forget(Arc::clone(memory));
        Call::Cut(Arc::clone(memory), CHANGED * page)
    } else {
        Call::protect(memory, CHANGED * page, page, libc::PROT_READ)
    };
    let mut members = vec![
        one("vma-freeze-a", "fault", Duration::ZERO, write),
        one("vma-freeze-b", "writer", tenth, change),
        one("vma-freeze-c", "mmap", tenth * 2, Call::Map(page)),
        one("vma-freeze-d", "smaps", tenth * 3, Call::Smaps),
    ];
    for (member, priority) in members.iter_mut().zip([a, b]) {
        member.priority = priority;
    }
    // All of them after D, and well before the thaw.
    let gap = GAP.min(tenth * 4 / args.waiters.max(1) as u32);
    for i in 0..args.waiters {
        let after = gap * i as u32;
        let map = Step::new("convoy", tenth * 4 + after, Call::Map(page));
        // Apart from each other, and when the queue has dissolved.
        let unmap = Step::new("convoy", args.delay * 3 / 2 + after, Call::Unmap);
        members.push(Member {
            name: format!("vma-convoy-{i:02}"),
            priority: Priority::Inherited,
            steps: vec![map, unmap],
        });
    }
    members
}
