//! `cow`, `thp`, `shmem`: N faults of one kind each, none of which waits for I/O. In: N. Out: the
//! walk over their pages.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::fd::{FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, bail};

use super::{
    memory::{Mapping, available, page_size},
    walk::{PRACTICE, Plan, Touch, Truth, Walk, practise},
};

const THP: &str = "/sys/kernel/mm/transparent_hugepage";

/// Bytes of so many pages, if that much can be touched.
fn bytes(pages: usize, step: usize) -> Result<usize> {
    pages
        .checked_mul(step)
        .filter(|bytes| *bytes as u64 <= available())
        .with_context(|| {
            format!("{pages} pages are more memory than is available: ask for fewer with --pages")
        })
}

/// The fork shares everything else as well: now and then a page of the runtime's own is copied in
/// the middle of the walk.
const TRIES: usize = 5;

/// Writes to pages that a forked process shares: each is copied.
pub fn cow(pages: usize) -> Result<Truth> {
    let page = page_size();
    let len = bytes(pages, (TRIES + 1) * page)? / (TRIES + 1);
    // Kept, so that no two walks have the same addresses.
    let mut tried = Vec::new();
    loop {
        let (memory, walk) = copy(pages, len, page)?;
        tried.push(memory);
        let counted = walk.minor + walk.major;
        if counted == pages as u64 || tried.len() == TRIES {
            return Truth::of("cow", page, walk);
        }
    }
}

fn copy(pages: usize, len: usize, page: usize) -> Result<(Mapping, Walk)> {
    let practice = Mapping::new(PRACTICE * page)?;
    let real = Mapping::new(len)?;
    practice.touch(0, PRACTICE * page, page);
    real.touch(0, len, page);
    let plans = [(&practice, PRACTICE), (&real, pages)]
        .map(|(memory, pages)| (memory, Plan::new(0, pages, page, Touch::Write)));
    let sharer = Sharer::fork()?;
    // Stack and heap are shared too: the practice has copied what is needed.
    let [_practice, walk] = plans.map(|(memory, plan)| plan.run(memory));
    drop(sharer);
    Ok((real, walk))
}

/// A forked process that does nothing but share its parent's pages, until dropped.
struct Sharer {
    pid: i32,
    /// Its end tells the process to go, also when we are killed.
    hold: Option<File>,
}

impl Sharer {
    fn fork() -> Result<Self> {
        let mut ends = [0; 2];
        // SAFETY: room for two descriptors.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error()).context("cannot make a pipe");
        }
        // SAFETY: fresh descriptors that nobody else owns.
        let [read, write] = ends.map(|fd| File::from(unsafe { OwnedFd::from_raw_fd(fd) }));
        // SAFETY: the child uses only what this thread owns, and leaves by _exit.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()).context("cannot fork"),
            0 => {
                drop(write);
                let _ = (&read).read(&mut [0]);
                // SAFETY: ends the process, without the parent's clean-up.
                unsafe { libc::_exit(0) }
            }
            pid => Ok(Self {
                pid,
                hold: Some(write),
            }),
        }
    }
}

impl Drop for Sharer {
    fn drop(&mut self) {
        self.hold = None;
        // SAFETY: our own child, which ends now; its status is of no interest.
        unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), 0) };
    }
}

/// First touches of memory that wants huge pages.
pub fn thp(huge_pages: usize) -> Result<Truth> {
    let setting = |file: &str| fs::read_to_string(format!("{THP}/{file}"));
    let enabled = setting("enabled").context("this kernel has no transparent huge pages")?;
    if enabled.contains("[never]") {
        bail!("transparent huge pages are off: echo madvise > {THP}/enabled");
    }
    let size = setting("hpage_pmd_size").context("this kernel does not tell the huge page size")?;
    let size: usize = size
        .trim()
        .parse()
        .with_context(|| format!("the huge page size is {size:?}"))?;
    practise()?;
    // One more, for the alignment.
    let len = bytes(huge_pages + 1, size)?;
    let memory = Mapping::new(len)?;
    memory
        .advise(libc::MADV_HUGEPAGE)
        .context("cannot ask for huge pages")?;
    let first = (memory.start() as usize).next_multiple_of(size) - memory.start() as usize;
    let before = allocated()?;
    let walk = Plan::new(first, huge_pages, size, Touch::Write).run(&memory);
    let got = allocated()?.saturating_sub(before);
    if got < huge_pages as u64 {
        bail!(
            "{huge_pages} huge pages were touched, {got} allocated: free memory is fragmented, try --pages 1, or again after `echo 1 > /proc/sys/vm/compact_memory`"
        );
    }
    Truth::of("thp", size, walk)
}

/// Huge pages that faults got, system-wide.
fn allocated() -> Result<u64> {
    let text = fs::read_to_string("/proc/vmstat").context("cannot read /proc/vmstat")?;
    let count = text
        .lines()
        .find_map(|line| line.strip_prefix("thp_fault_alloc "))
        .and_then(|count| count.trim().parse().ok());
    count.context("no thp_fault_alloc in /proc/vmstat")
}

/// First touches of shared memory.
pub fn shmem(pages: usize) -> Result<Truth> {
    let page = page_size();
    let len = bytes(pages, page)?;
    practise()?;
    // SAFETY: a NUL-terminated name.
    let fd = unsafe { libc::memfd_create(c"vmascope-demo".as_ptr(), libc::MFD_CLOEXEC) };
    if fd == -1 {
        return Err(io::Error::last_os_error()).context("cannot make shared memory");
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.set_len(len as u64)
        .context("cannot size shared memory")?;
    let memory = Mapping::file(&file, len, libc::PROT_READ | libc::PROT_WRITE)?;
    // Also where shared memory gets huge pages by default.
    memory.advise(libc::MADV_NOHUGEPAGE).ok();
    let walk = Plan::new(0, pages, page, Touch::Write).run(&memory);
    Truth::of("shmem", page, walk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_there_is_is_refused() {
        for run in [cow, thp, shmem] {
            let error = run(usize::MAX / 2).unwrap_err().to_string();
            assert!(
                error.contains("--pages") || error.contains("huge"),
                "{error}"
            );
        }
    }
}
