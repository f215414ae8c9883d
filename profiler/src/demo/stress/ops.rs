//! What the threads of `stress` do, one operation at a time, and the memory they do it to.
//!
//! In memory that all share, pages that are touched and pages that are protected take turns: both
//! lie in one VMA until a protection splits it, but no touch is ever refused.

use std::{io, ptr, thread, time::Duration};

use anyhow::Result;

use crate::demo::memory::{Mapping, page_size};

/// Of shared memory: so many times a part to touch, and a part to protect.
const PARTS: usize = 16;
const TOUCH: usize = 16;
const PROTECT: usize = 4;
/// Of a thread's own memory: pages to touch, then pages to protect.
const OWN: usize = 32;
/// Of a fresh mapping, at most.
const FRESH: usize = 16;
const PROTECTIONS: [i32; 3] = [
    libc::PROT_NONE,
    libc::PROT_READ,
    libc::PROT_READ | libc::PROT_WRITE,
];
// Of include/uapi/linux/prctl.h.
const PR_SET_VMA: i32 = 0x5356_4d41;
const PR_SET_VMA_ANON_NAME: u64 = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Touch,
    Mprotect,
    Mmap,
    Munmap,
    Madvise,
    Mremap,
    Prctl,
    Pause,
    Maps,
    Fork,
}

impl Op {
    pub const ALL: [Self; 10] = [
        Self::Touch,
        Self::Mprotect,
        Self::Mmap,
        Self::Munmap,
        Self::Madvise,
        Self::Mremap,
        Self::Prctl,
        Self::Pause,
        Self::Maps,
        Self::Fork,
    ];

    /// Of a thousand.
    fn weight(self) -> usize {
        match self {
            Self::Touch => 394,
            Self::Mprotect => 200,
            Self::Mmap | Self::Munmap => 80,
            Self::Madvise => 100,
            Self::Mremap | Self::Prctl => 60,
            Self::Pause => 20,
            Self::Maps => 4,
            Self::Fork => 2,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Touch => "touch",
            Self::Mprotect => "mprotect",
            Self::Mmap => "mmap",
            Self::Munmap => "munmap",
            Self::Madvise => "madvise",
            Self::Mremap => "mremap",
            Self::Prctl => "prctl",
            Self::Pause => "pause",
            Self::Maps => "maps",
            Self::Fork => "fork",
        }
    }

    pub fn pick(random: &mut Random) -> Self {
        let mut left = random.below(1000);
        for op in Self::ALL {
            if left < op.weight() {
                return op;
            }
            left -= op.weight();
        }
        Self::Touch
    }

    pub fn make(self, random: &mut Random, shared: &Shared, own: &mut Own) -> io::Result<()> {
        match self {
            Self::Touch => {
                let (memory, at, len) = pages(random, shared, own, true);
                memory.touch(at, len, page_size());
                Ok(())
            }
            Self::Madvise => {
                let (memory, at, len) = pages(random, shared, own, true);
                memory.drop_pages(at, len)
            }
            Self::Mprotect => {
                let (memory, at, len) = pages(random, shared, own, false);
                let protection = PROTECTIONS[random.below(PROTECTIONS.len())];
                memory.protect(at, len, protection)
            }
            Self::Prctl => {
                let touched = random.below(2) == 0;
                let (memory, at, len) = pages(random, shared, own, touched);
                name(memory.start() + at as u64, len, random.below(3))
            }
            Self::Mmap => own.map(1 + random.below(FRESH)),
            Self::Munmap => own.unmap(),
            Self::Mremap => own.remap(1 + random.below(FRESH)),
            Self::Pause => {
                thread::sleep(Duration::from_micros(100 * random.below(20) as u64));
                Ok(())
            }
            Self::Maps => maps(),
            Self::Fork => fork(),
        }
    }
}

/// A range of pages, half of the time in shared memory: of those to touch, or those to protect.
fn pages<'a>(
    random: &mut Random,
    shared: &'a Shared,
    own: &'a Own,
    touched: bool,
) -> (&'a Mapping, usize, usize) {
    let (memory, first, count) = if random.below(2) == 0 {
        let part = random.below(PARTS) * (TOUCH + PROTECT);
        if touched {
            (&shared.memory, part, TOUCH)
        } else {
            (&shared.memory, part + TOUCH, PROTECT)
        }
    } else if touched {
        (&own.memory, 0, OWN)
    } else {
        (&own.memory, OWN, OWN)
    };
    let from = random.below(count);
    let len = 1 + random.below(count - from);
    let page = page_size();
    (memory, (first + from) * page, len * page)
}

pub struct Shared {
    memory: Mapping,
}

impl Shared {
    pub fn new() -> Result<Self> {
        let memory = populated(PARTS * (TOUCH + PROTECT))?;
        Ok(Self { memory })
    }
}

fn populated(pages: usize) -> Result<Mapping> {
    let len = pages * page_size();
    let memory = Mapping::new(len)?;
    memory.touch(0, len, page_size());
    Ok(memory)
}

/// What one thread has for itself.
pub struct Own {
    memory: Mapping,
    /// Address and pages of the mapping that comes, grows, shrinks and goes.
    fresh: Option<(*mut u8, usize)>,
}

impl Own {
    pub fn new() -> Result<Self> {
        Ok(Self {
            memory: populated(2 * OWN)?,
            fresh: None,
        })
    }

    /// Instead of the one there was.
    fn map(&mut self, pages: usize) -> io::Result<()> {
        self.unmap()?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let len = pages * page_size();
        // SAFETY: a fresh mapping at an address the kernel chooses.
        let at = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
        self.took(at, pages)
    }

    fn unmap(&mut self) -> io::Result<()> {
        let Some((at, pages)) = self.fresh.take() else {
            return Ok(());
        };
        // SAFETY: mapped by `map`, and this thread alone knows of it.
        ok(unsafe { libc::munmap(at.cast(), pages * page_size()) })
    }

    fn remap(&mut self, pages: usize) -> io::Result<()> {
        let Some((at, old)) = self.fresh.take() else {
            return self.map(pages);
        };
        let [old, new] = [old, pages].map(|pages| pages * page_size());
        // SAFETY: mapped by `map`, and this thread alone knows of it.
        let at = unsafe { libc::mremap(at.cast(), old, new, libc::MREMAP_MAYMOVE) };
        self.took(at, pages)
    }

    fn took(&mut self, at: *mut libc::c_void, pages: usize) -> io::Result<()> {
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at: *mut u8 = at.cast();
        self.fresh = Some((at, pages));
        // SAFETY: the last byte of the mapping, which is writable.
        unsafe { at.add(pages * page_size() - 1).write_volatile(1) };
        Ok(())
    }
}

fn ok(ret: i32) -> io::Result<()> {
    match ret {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives memory a name, or takes it away. A kernel that knows no names does nothing.
fn name(at: u64, len: usize, which: usize) -> io::Result<()> {
    let name = [c"stress".as_ptr(), c"other".as_ptr(), ptr::null()][which];
    // SAFETY: a NUL-terminated string or none; names change nothing that a program sees.
    let done = unsafe { libc::prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, at, len, name) };
    match ok(done) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        done => done,
    }
}

fn maps() -> io::Result<()> {
    use io::Read as _;
    let mut file = std::fs::File::open("/proc/self/maps")?;
    let mut buffer = [0; 4096];
    while file.read(&mut buffer)? > 0 {}
    Ok(())
}

/// The child ends at once.
fn fork() -> io::Result<()> {
    // SAFETY: the child calls nothing but _exit.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: ends the child, without the parent's clean-up.
        0 => unsafe { libc::_exit(0) },
        pid => {
            // SAFETY: our own child, which nobody else waits for.
            match unsafe { libc::waitpid(pid, ptr::null_mut(), 0) } {
                -1 => Err(io::Error::last_os_error()),
                _ => Ok(()),
            }
        }
    }
}

/// Marsaglia's xorshift64*, seeded by splitmix64 so that near seeds are far apart.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut z = seed.wrapping_add((stream + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // Zero would stay zero.
        Self((z ^ (z >> 31)) | 1)
    }

    /// Less than `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        bits as usize % n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_of_a_thousand() {
        assert_eq!(Op::ALL.iter().map(|op| op.weight()).sum::<usize>(), 1000);
        for (i, op) in Op::ALL.iter().enumerate() {
            assert_eq!(*op as usize, i);
        }
    }

    #[test]
    fn a_seed_says_what_follows() {
        let draw = |seed, stream| {
            let mut random = Random::new(seed, stream);
            (0..50).map(|_| random.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, 0), draw(1, 0));
        assert_ne!(draw(1, 0), draw(1, 1));
        assert_ne!(draw(1, 0), draw(2, 0));
    }
}
