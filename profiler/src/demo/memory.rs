//! A private anonymous mapping in small pages: the ground the scenarios fault on.

use std::{io, ptr};

use anyhow::{Context as _, Result};

pub struct Mapping {
    base: *mut u8,
    len: usize,
}

// SAFETY: plain memory; the scenarios give each thread a part of its own.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Untouched, and with huge pages off: one fault per page.
    pub fn new(len: usize) -> Result<Self> {
        // SAFETY: a fresh mapping at an address the kernel chooses.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error())
                .with_context(|| format!("cannot map {len} bytes: ask for fewer pages"));
        }
        let mapping = Self {
            base: base.cast(),
            len,
        };
        // A kernel without huge pages says EINVAL, which is as good.
        // SAFETY: the mapping just made.
        unsafe { libc::madvise(base, len, libc::MADV_NOHUGEPAGE) };
        Ok(mapping)
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
