//! What the fields of an rwsem tell: who holds it, whether somebody waits for it. In: a lock, or an mm,
//! of this kernel or of one with PREEMPT_RT, whose rwsem is another. Out: what is seen at this moment.

use profiler_common::thread::Holder;

use crate::{
    globals::{MISSING, off},
    kernel::{Mem, Probed, Typed},
};

// kernel/locking/rwsem.c
const RWSEM_WRITER_LOCKED: u64 = 1;
const RWSEM_FLAG_WAITERS: u64 = 2;
const RWSEM_READER_SHIFT: u32 = 8;
const RWSEM_FLAG_READFAIL: u64 = 1 << 63;
pub const RWSEM_READER_OWNED: u64 = 1;
pub const RWSEM_OWNER_FLAGS: u64 = 7;
// include/linux/rwbase_rt.h: PREEMPT_RT's. READER_BIAS is gone when a writer comes.
const READER_BIAS: u32 = 1 << 31;
const WRITER_BIAS: u32 = 1 << 30;
// kernel/locking/rtmutex_common.h
const RT_MUTEX_HAS_WAITERS: u64 = 1;

/// Whether somebody queues, or spins, for the `mmap_lock`.
#[inline(always)]
pub fn is_waited_for(mm: *const u8) -> bool {
    let field = |offset: u32| off::MM_MMAP_LOCK().wrapping_add(offset);
    // SAFETY: typed pointer to the mm the hook was given; offsets of an atomic_long_t, an atomic_t, and
    // those of `RtLock`.
    unsafe {
        if off::RWBASE_OWNER() != MISSING {
            return RtLock::of::<Typed>(mm, off::MM_MMAP_LOCK()).is_waited_for();
        }
        (off::RWSEM_COUNT() != MISSING
            && Typed::read::<u64>(mm, field(off::RWSEM_COUNT())) & RWSEM_FLAG_WAITERS != 0)
            || (off::RWSEM_OSQ() != MISSING && Typed::read::<u32>(mm, field(off::RWSEM_OSQ())) != 0)
    }
}

/// Whether a writer holds `mmap_lock`.
///
/// # Safety
/// It is an mm.
#[inline(always)]
pub unsafe fn is_written<M: Mem>(mm: *const u8) -> Option<bool> {
    let lock = off::MM_MMAP_LOCK();
    // SAFETY: as promised: offsets of the lock's fields.
    unsafe {
        if off::RWBASE_OWNER() != MISSING {
            return Some(RtLock::of::<M>(mm, lock).is_written());
        }
        if off::RWSEM_COUNT() == MISSING {
            return None;
        }
        let count: u64 = M::read(mm, lock.wrapping_add(off::RWSEM_COUNT()));
        Some(count & RWSEM_WRITER_LOCKED != 0)
    }
}

/// Who holds `sem` now: exact for a writer. A reader-owned rwsem names one reader at most, and
/// without CONFIG_DETECT_HUNG_TASK_BLOCKER one that may have left: they are counted, without the
/// `asking` ones, which rwsem_read_trylock has counted in already.
#[inline(always)]
pub fn look_up_holder(sem: u64, asking: u64, h: &mut Holder) {
    if off::RWBASE_OWNER() != MISSING {
        // SAFETY: the lock the hook was given; `Probed` fails instead of faulting.
        return unsafe { RtLock::of::<Probed>(sem as *const u8, 0) }.look_up_holder(h);
    }
    if off::RWSEM_OWNER() == MISSING || off::RWSEM_COUNT() == MISSING {
        return;
    }
    let sem = sem as *const u8;
    // SAFETY: `Probed` fails instead of faulting.
    let (owner, count): (u64, u64) = unsafe {
        (
            Probed::read(sem, off::RWSEM_OWNER()),
            Probed::read(sem, off::RWSEM_COUNT()),
        )
    };
    if owner & RWSEM_READER_OWNED != 0 || count & RWSEM_WRITER_LOCKED == 0 {
        let readers = (count & !RWSEM_FLAG_READFAIL) >> RWSEM_READER_SHIFT;
        h.readers = readers.saturating_sub(asking) as u32;
        return;
    }
    let task = (owner & !RWSEM_OWNER_FLAGS) as *const u8;
    if !task.is_null() {
        name(task, h);
    }
}

#[inline(always)]
pub fn name(task: *const u8, h: &mut Holder) {
    // SAFETY: `Probed` fails instead of faulting, also on a task that has gone.
    unsafe {
        h.tid = Probed::read(task, off::TASK_PID());
        h.tgid = Probed::read(task, off::TASK_TGID());
        h.prio = Probed::read(task, off::TASK_PRIO());
        h.comm = Probed::read(task, off::TASK_COMM());
    }
}

/// An rwsem of PREEMPT_RT.
struct RtLock {
    readers: u32,
    owner: u64,
}

impl RtLock {
    /// # Safety
    /// An rwsem lies there, and this kernel has `RWBASE_OWNER`.
    #[inline(always)]
    unsafe fn of<M: Mem>(base: *const u8, at: u32) -> Self {
        // SAFETY: as promised: offsets of an atomic_t and of a pointer.
        unsafe {
            Self {
                readers: M::read(base, at.wrapping_add(off::RWBASE_READERS())),
                // Of a typed one the verifier lets nobody take a bit.
                owner: Probed::read(base, at.wrapping_add(off::RWBASE_OWNER())),
            }
        }
    }

    #[inline(always)]
    fn is_written(&self) -> bool {
        self.readers == WRITER_BIAS
    }

    /// A writer waits for readers to leave; or somebody does for the writer.
    #[inline(always)]
    fn is_waited_for(&self) -> bool {
        (self.readers & READER_BIAS == 0 && !self.is_written())
            || self.owner & RT_MUTEX_HAS_WAITERS != 0
    }

    #[inline(always)]
    fn look_up_holder(&self, h: &mut Holder) {
        let task = (self.owner & !RT_MUTEX_HAS_WAITERS) as *const u8;
        if !self.is_written() {
            h.readers = self.readers & (WRITER_BIAS - 1);
        } else if !task.is_null() {
            name(task, h);
        }
    }
}
