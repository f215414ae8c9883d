//! The thread table's array, mapped into this process: reading it takes no system call.
//! In: the maps SLOTS and CLAIMS. Out: copies of the entries in use; those of dead threads are given back.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    ptr::{self, NonNull},
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::{HashMap, MapData};
use profiler_common::{config::SLOTS_MAX, thread::Thread};

pub struct Slots {
    claims: HashMap<MapData, u32, u64>,
    base: NonNull<Thread>,
    len: usize,
    /// Keeps the kernel's side alive.
    _map: MapData,
}

// SAFETY: plain memory shared with the kernel, wherever it is read from.
unsafe impl Send for Slots {}

impl Slots {
    pub fn map(map: MapData, claims: HashMap<MapData, u32, u64>) -> io::Result<Self> {
        let len = SLOTS_MAX as usize * size_of::<Thread>();
        // SAFETY: a fresh mapping of a map made with BPF_F_MMAPABLE, whose values lie side by side
        // (kernel/bpf/arraymap.c) and are a multiple of 8 long.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        match NonNull::new(base.cast::<Thread>()) {
            Some(base) if base.as_ptr().cast() != libc::MAP_FAILED => Ok(Self {
                claims,
                base,
                len,
                _map: map,
            }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// A copy of every entry in use. One that changes meanwhile is as good as one read later.
    pub fn used(&self) -> impl Iterator<Item = (usize, Thread)> {
        (0..SLOTS_MAX as usize)
            .filter(|i| self.owner(*i).load(Ordering::Acquire) != 0)
            // SAFETY: inside the mapping; a `Thread` is made of integers only.
            .map(|i| (i, unsafe { self.base.add(i).as_ptr().read_volatile() }))
    }

    /// Gives a dead thread's entry back, all zero, its owner last, and then the claim to it.
    pub fn free(&mut self, i: usize) {
        let entry = self.base.as_ptr().cast::<u8>();
        let (at, owner) = (i * size_of::<Thread>(), size_of::<u64>());
        // SAFETY: inside the mapping; nobody writes to a dead thread's entry but its last owner.
        unsafe { ptr::write_bytes(entry.add(at + owner), 0, size_of::<Thread>() - owner) };
        self.owner(i).store(0, Ordering::Release);
        // Fails only where nothing was claimed.
        let _ = self.claims.remove(&(i as u32));
    }

    fn owner(&self, i: usize) -> &AtomicU64 {
        debug_assert!(i < SLOTS_MAX as usize);
        // SAFETY: inside the mapping; `task` is the first field, aligned.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.base.add(i).as_ptr()).task) }
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
