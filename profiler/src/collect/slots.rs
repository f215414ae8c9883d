//! The thread table's array, mapped into this process: reading it takes no system call.
//! In: the maps SLOTS and CLAIMS. Out: copies of the entries in use; those of dead threads are given back.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    ptr::{self, NonNull},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use aya::maps::{HashMap, MapData};
use profiler_common::{config::SLOTS_MAX, thread::Thread};

/// Values of `Thread::exited` beside the kernel side's 1.
const RUNNING: u32 = 0;
const GONE: u32 = 2;

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

    /// A copy of the next entry in use, from `from` on. One that changes meanwhile is as good as one read
    /// later.
    pub fn next(&self, from: usize) -> Option<(usize, Thread)> {
        (from..SLOTS_MAX as usize)
            .find(|i| self.owner(*i).load(Ordering::Acquire) != 0)
            // SAFETY: inside the mapping; a `Thread` is made of integers only.
            .map(|i| (i, unsafe { self.base.add(i).as_ptr().read_volatile() }))
    }

    /// Whether its thread had exited when this was last asked. From 6.16 on the exit is told before the
    /// thread lets go of its address space, so at first sight it may still be at work.
    pub fn is_gone(&mut self, i: usize) -> bool {
        // SAFETY: inside the mapping, aligned; the kernel side writes it once, at the exit.
        let exited = unsafe { AtomicU32::from_ptr(&raw mut (*self.base.add(i).as_ptr()).exited) };
        match exited.load(Ordering::Acquire) {
            RUNNING => false,
            GONE => true,
            _ => {
                exited.store(GONE, Ordering::Release);
                false
            }
        }
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
