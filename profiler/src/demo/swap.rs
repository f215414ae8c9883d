//! `swap`: pages are pushed out to a swap area of ours and faulted back, one by one. In: where the
//! area is to be. Out: the walk over the pages that were swapped.
//!
//! Whatever happens, the area is switched off and removed: SIGINT, SIGTERM and SIGHUP are held
//! back meanwhile, looked for between two steps, and take effect after the clean-up. SIGKILL alone
//! leaves it behind, for `swapoff`.

mod area;

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use super::{
    memory::{Mapping, available, page_size},
    walk::{self, Plan, Touch, practise},
};
use area::Area;

/// Pages on slow storage take long to be written.
const PATIENCE: Duration = Duration::from_secs(60);
/// Of /proc/PID/pagemap.
const SWAPPED: u64 = 1 << 62;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A swap file to make there, or a block device whose content may be lost
    #[arg(long, value_name = "FILE", required_unless_present = "zram")]
    path: Option<PathBuf>,
    /// Swap to compressed memory, in a zram device of our own
    #[arg(long, conflicts_with = "path")]
    zram: bool,
    /// Pages to swap out and fault back
    #[arg(long, default_value_t = 256, value_name = "N",
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..1 << 20))]
    pages: usize,
}

#[derive(Debug, Serialize)]
pub struct Truth {
    #[serde(flatten)]
    walk: walk::Truth,
    pages: usize,
    swapped: usize,
    backing: &'static str,
}

pub fn run(args: &Args) -> Result<Truth> {
    let page = page_size();
    let len = args.pages * page;
    if len as u64 > available() {
        bail!(
            "{} pages are more memory than is available: ask for fewer with --pages",
            args.pages
        );
    }
    let _held = Held::new()?;
    let _page_by_page = Setting::change("/proc/sys/vm/page-cluster", "0")?;
    let area = match &args.path {
        Some(path) => Area::at(path, args.pages)?,
        None => Area::zram(args.pages)?,
    };
    let memory = Mapping::new(len)?;
    memory.touch(0, len, page);
    let plan = Plan::new(0, args.pages, page, Touch::Read).shuffled();
    practise()?;
    push_out(&memory, args.pages)?;
    let walk = plan.run(&memory);
    interrupted()?;
    if walk.major != args.pages as u64 {
        bail!(
            "{} pages were swapped out, but the kernel counted {} major faults: try again on a calmer machine",
            args.pages,
            walk.major
        );
    }
    Ok(Truth {
        walk: walk::Truth::of("swap", page, walk)?,
        pages: args.pages,
        swapped: args.pages,
        backing: area.backing,
    })
}

/// Until every page is out, and out of the swap cache.
fn push_out(memory: &Mapping, pages: usize) -> Result<()> {
    let page = page_size();
    let pagemap = File::open("/proc/self/pagemap").context("cannot read /proc/self/pagemap")?;
    let began = Instant::now();
    loop {
        interrupted()?;
        memory
            .advise(libc::MADV_PAGEOUT)
            .context("this kernel cannot push pages out (MADV_PAGEOUT)")?;
        let mut entries = vec![0; pages * 8];
        pagemap
            .read_exact_at(&mut entries, memory.start() / page as u64 * 8)
            .context("cannot read /proc/self/pagemap")?;
        let out = entries
            .chunks_exact(8)
            .filter_map(|entry| entry.try_into().ok())
            .filter(|entry| u64::from_ne_bytes(*entry) & SWAPPED != 0)
            .count();
        let cached = memory.in_core(page)?;
        let left = cached.iter().filter(|cached| **cached).count();
        if out == pages && left == 0 {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            bail!(
                "of {pages} pages {out} are swapped out, {left} still in memory: is there other swap, or a memory limit?"
            );
        }
        thread::sleep(Duration::from_millis(20));
        // What was written but is still in the swap cache comes back as a clean page, which the
        // next round drops at once.
        for (i, _) in cached.iter().enumerate().filter(|(_, cached)| **cached) {
            memory.read(i * page);
        }
    }
}

/// Signals that would end us are held back while this lives.
struct Held {
    before: libc::sigset_t,
}

impl Held {
    fn signals() -> libc::sigset_t {
        // SAFETY: sets are plain integers, which sigemptyset fills.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
                libc::sigaddset(&raw mut set, signal);
            }
            set
        }
    }

    fn new() -> Result<Self> {
        // SAFETY: as above.
        let mut before = unsafe { std::mem::zeroed() };
        let signals = Self::signals();
        // SAFETY: pointers to live sets.
        let error =
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signals, &raw mut before) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error)).context("cannot hold signals back");
        }
        Ok(Self { before })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: a pointer to a live set; whatever waits is delivered here.
        unsafe {
            libc::pthread_sigmask(
                libc::SIG_SETMASK,
                &raw const self.before,
                std::ptr::null_mut(),
            )
        };
    }
}

/// Whether a signal waits for us to end.
fn interrupted() -> Result<()> {
    // SAFETY: sets are plain integers.
    let mut pending = unsafe { std::mem::zeroed() };
    // SAFETY: a pointer to a live set.
    unsafe { libc::sigpending(&raw mut pending) };
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: a pointer to a live set.
        if unsafe { libc::sigismember(&raw const pending, signal) } == 1 {
            bail!("interrupted");
        }
    }
    Ok(())
}

/// A setting of the system, put back when dropped.
struct Setting {
    file: &'static str,
    before: String,
}

impl Setting {
    fn change(file: &'static str, to: &str) -> Result<Self> {
        let before = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
        fs::write(file, to).with_context(|| format!("cannot write {file}: swapping needs root"))?;
        Ok(Self { file, before })
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        fs::write(self.file, &self.before).ok();
    }
}
