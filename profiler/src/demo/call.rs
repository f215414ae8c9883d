//! The calls of a crew, as data. In: a mapping and a place in it. Out: the address that was meant.

use std::{io, ptr, sync::Arc};

use anyhow::Result;

use super::memory::{Mapping, page_size};

pub enum Call {
    /// Reads or writes one byte at an offset: a fault, if that page is not there for it.
    Read(Arc<Mapping>, usize),
    Write(Arc<Mapping>, usize),
    Protect {
        memory: Arc<Mapping>,
        offset: usize,
        len: usize,
        protection: i32,
    },
    /// Anonymous memory.
    Map(usize),
    /// Private pages of an open file.
    MapFile(i32, usize),
    /// What this thread mapped last.
    Unmap,
    /// One page of a mapping, which is not whole any more.
    Cut(Arc<Mapping>, usize),
    /// Reads its own /proc/self/smaps.
    Smaps,
}

impl Call {
    pub fn protect(memory: &Arc<Mapping>, offset: usize, len: usize, protection: i32) -> Self {
        Self::Protect {
            memory: Arc::clone(memory),
            offset,
            len,
            protection,
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Read(..) => "read",
            Self::Write(..) => "write",
            Self::Protect { .. } => "mprotect",
            Self::Map(_) | Self::MapFile(..) => "mmap",
            Self::Unmap | Self::Cut(..) => "munmap",
            Self::Smaps => "smaps",
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Read(..) | Self::Write(..) => 1,
            Self::Protect { len, .. } | Self::Map(len) | Self::MapFile(_, len) => *len,
            Self::Unmap | Self::Cut(..) => page_size(),
            Self::Smaps => 0,
        }
    }

    /// The same on memory that nobody else uses.
    pub fn practice(&self) -> Result<Self> {
        let page = page_size();
        let memory = Arc::new(Mapping::new(3 * page)?);
        Ok(match self {
            Self::Read(..) => Self::Read(memory, page),
            Self::Write(..) => Self::Write(memory, page),
            Self::Protect { protection, .. } => Self::protect(&memory, page, page, *protection),
            Self::Map(_) | Self::MapFile(..) => Self::Map(page),
            Self::Unmap | Self::Cut(..) => Self::Unmap,
            Self::Smaps => Self::Smaps,
        })
    }

    pub fn make(&self, buffer: &mut [u8], last: &mut u64) -> io::Result<u64> {
        match self {
            Self::Read(memory, offset) => {
                memory.read(*offset);
                Ok(memory.start() + *offset as u64)
            }
            Self::Write(memory, offset) => {
                memory.write(*offset);
                Ok(memory.start() + *offset as u64)
            }
            Self::Protect {
                memory,
                offset,
                len,
                protection,
            } => {
                memory.protect(*offset, *len, *protection)?;
                Ok(memory.start() + *offset as u64)
            }
            Self::Map(len) => map(*len, libc::MAP_ANONYMOUS, -1, last),
            Self::MapFile(fd, len) => map(*len, 0, *fd, last),
            Self::Unmap => unmap(*last),
            Self::Cut(memory, offset) => unmap(memory.start() + *offset as u64),
            Self::Smaps => smaps(buffer),
        }
    }
}

fn map(len: usize, flags: i32, fd: i32, last: &mut u64) -> io::Result<u64> {
    let flags = flags | libc::MAP_PRIVATE;
    // SAFETY: a fresh mapping at an address the kernel chooses.
    let at = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ, flags, fd, 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    *last = at as u64;
    Ok(*last)
}

/// One page.
fn unmap(at: u64) -> io::Result<u64> {
    // SAFETY: what `map` made for this thread, and nobody else knows, or a page of a mapping that no
    // scenario touches; nothing was mapped at 0.
    if at != 0 && unsafe { libc::munmap(at as *mut libc::c_void, page_size()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(at)
}

/// Without a new byte of memory: it may be read while the address space is locked.
fn smaps(buffer: &mut [u8]) -> io::Result<u64> {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: a NUL-terminated path.
    let fd = unsafe { libc::open(c"/proc/self/smaps".as_ptr(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let done = loop {
        // SAFETY: room for as many bytes as the buffer has.
        match unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) } {
            -1 => break Err(io::Error::last_os_error()),
            0 => break Ok(0),
            _ => {}
        }
    };
    // SAFETY: opened above, and used nowhere else.
    unsafe { libc::close(fd) };
    done
}
