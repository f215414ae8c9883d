//! Memory to fault on.

use std::io;
use std::ptr;

/// At most a page, everywhere.
const PAGE: usize = 4096;

/// A private anonymous mapping in small pages.
pub struct Pages {
    base: *mut u8,
    count: usize,
}

impl Pages {
    pub fn new(count: usize) -> io::Result<Self> {
        let len = count * PAGE;
        // SAFETY: a fresh mapping at an address the kernel chooses.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the mapping just made. A kernel without huge pages refuses, which is as good.
        unsafe { libc::madvise(base, len, libc::MADV_NOHUGEPAGE) };
        Ok(Self {
            base: base.cast(),
            count,
        })
    }

    pub fn touch(&self) {
        for page in 0..self.count {
            // SAFETY: inside the mapping, which stays writable.
            unsafe { self.base.add(page * PAGE).write_volatile(1) };
        }
    }

    /// The next touches fault again.
    pub fn drop_all(&self) -> io::Result<()> {
        // SAFETY: the mapping.
        check(unsafe { libc::madvise(self.base.cast(), self.len(), libc::MADV_DONTNEED) })
    }

    /// With the protection it has: takes mmap_lock for write once and changes nothing.
    pub fn protect(&self) -> io::Result<()> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the mapping.
        check(unsafe { libc::mprotect(self.base.cast(), self.len(), protection) })
    }

    fn len(&self) -> usize {
        self.count * PAGE
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping, which nobody knows any longer. It cannot fail, unless the address space
        // has no room for one mapping more; then it stays.
        unsafe { libc::munmap(self.base.cast(), self.len()) };
    }
}

fn check(ret: i32) -> io::Result<()> {
    if ret == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
