//! Mappings: the ground the scenarios fault on.

use std::{fs::File, io, os::fd::AsRawFd as _, ptr};

use anyhow::{Context as _, Result};

pub struct Mapping {
    base: *mut u8,
    len: usize,
}

// SAFETY: plain memory; the scenarios give each thread a part of its own.
unsafe impl Sync for Mapping {}
// SAFETY: any thread may unmap it.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Private and anonymous, untouched, and with huge pages off: one fault per page.
    pub fn new(len: usize) -> Result<Self> {
        let mapping = Self::map(
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )?;
        // A kernel without huge pages says EINVAL, which is as good.
        mapping.advise(libc::MADV_NOHUGEPAGE).ok();
        Ok(mapping)
    }

    /// A file, shared with all who map it.
    pub fn file(file: &File, len: usize, protection: i32) -> Result<Self> {
        Self::map(len, protection, libc::MAP_SHARED, file.as_raw_fd(), 0)
    }

    /// A part of a file, of our own once it is written to: it may become writable, whoever opened it.
    pub fn private_file(file: &File, offset: usize, len: usize) -> Result<Self> {
        let (protection, flags) = (libc::PROT_READ, libc::MAP_PRIVATE);
        Self::map(len, protection, flags, file.as_raw_fd(), offset)
    }

    fn map(len: usize, protection: i32, flags: i32, fd: i32, offset: usize) -> Result<Self> {
        let offset = libc::off_t::try_from(offset).context("a file has no such offset")?;
        // SAFETY: a fresh mapping at an address the kernel chooses.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, fd, offset) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error())
                .with_context(|| format!("cannot map {len} bytes: ask for fewer pages"));
        }
        Ok(Self {
            base: base.cast(),
            len,
        })
    }

    pub fn advise(&self, advice: i32) -> io::Result<()> {
        // SAFETY: the whole mapping; the scenarios give no advice that changes what a page holds.
        ok(unsafe { libc::madvise(self.base.cast(), self.len, advice) })
    }

    /// Reads one byte.
    pub fn read(&self, offset: usize) {
        // SAFETY: inside the mapping, which is readable.
        unsafe { self.base.add(offset).read_volatile() };
    }

    /// Writes one byte.
    pub fn write(&self, offset: usize) {
        // SAFETY: inside the mapping; the scenarios write to mappings that they made writable.
        unsafe { self.base.add(offset).write_volatile(1) };
    }

    /// Which pages are in memory: for a file in the page cache, for swapped memory in the swap cache.
    pub fn in_core(&self, page: usize) -> io::Result<Vec<bool>> {
        let mut pages = vec![0u8; self.len.div_ceil(page)];
        // SAFETY: the vector has a byte for each page of the mapping.
        ok(unsafe { libc::mincore(self.base.cast(), self.len, pages.as_mut_ptr()) })?;
        Ok(pages.into_iter().map(|page| page & 1 != 0).collect())
    }

    pub fn start(&self) -> u64 {
        self.base as u64
    }

    pub fn end(&self) -> u64 {
        self.start() + self.len as u64
    }

    /// Writes one byte to each page of a part.
    pub fn touch(&self, offset: usize, len: usize, page: usize) {
        for at in (offset..offset + len).step_by(page) {
            // SAFETY: inside the mapping, and writable: the scenarios protect other parts only.
            unsafe { self.base.add(at).write_volatile(1) };
        }
    }

    /// Gives the pages of a part back, so that touching them faults again.
    pub fn drop_pages(&self, offset: usize, len: usize) -> io::Result<()> {
        // SAFETY: inside the mapping.
        ok(unsafe { libc::madvise(self.base.add(offset).cast(), len, libc::MADV_DONTNEED) })
    }

    pub fn protect(&self, offset: usize, len: usize, protection: i32) -> io::Result<()> {
        // SAFETY: inside the mapping, and nobody writes to that part.
        ok(unsafe { libc::mprotect(self.base.add(offset).cast(), len, protection) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`; no thread uses it any more.
        unsafe { libc::munmap(self.base.cast(), self.len) };
    }
}

fn ok(ret: i32) -> io::Result<()> {
    if ret == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Bytes that can be touched without driving the machine into reclaim; no limit if it does not say.
pub fn available() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = meminfo
        .lines()
        .find_map(|l| l.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    kib.map_or(u64::MAX, |kib| kib * 1024)
}

pub fn page_size() -> usize {
    // SAFETY: no pointers.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}
