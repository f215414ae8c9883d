//! The kernel that the tests play, as one thread sees it: what the state machine asks of it, and the
//! faults that were told to end.

use std::cell::{Cell, RefCell};

use profiler_common::{
    fault::{self, Call, World},
    thread::{InFlight, Thread, phase, timed},
    waits::GaveUp,
    words::{FallbackReason, Loss, Path},
};

pub const TRIED: u32 = 0x20;
pub const USER: u32 = 0x40;
pub const REMOTE: u32 = 0x80;
pub const VMA_LOCK: u32 = 0x1000;
pub const NOWAIT: u32 = 0x8;
pub const MAJOR: u32 = 0x4;
pub const RETRY: u32 = 0x400;
pub const ERROR: u32 = 0x2;

/// A kernel, as one thread sees it.
pub struct Kernel {
    pub now: Cell<u64>,
    /// `min_flt + maj_flt`
    pub counted: Cell<u64>,
    /// `maj_flt`
    pub majors: Cell<u64>,
    pub majors_told: Cell<u64>,
    pub sees_exits: bool,
    pub sample: u32,
    pub losses: RefCell<[u64; Loss::COUNT]>,
    /// Faults that ended, with the time they took.
    pub ended: RefCell<Vec<(Path, Option<u64>)>>,
    pub fell_back: Cell<u64>,
    pub anonymous: Cell<bool>,
    /// When the fault in progress, and any of which a part was seen, began at the earliest.
    pub earliest: Cell<u64>,
}

impl World for Kernel {
    fn tried(&self) -> u32 {
        TRIED
    }

    fn user(&self) -> u32 {
        USER
    }

    fn remote(&self) -> u32 {
        REMOTE
    }

    fn vma_lock(&self) -> u32 {
        VMA_LOCK
    }

    fn nowait(&self) -> u32 {
        NOWAIT
    }

    fn major(&self) -> u32 {
        MAJOR
    }

    fn retry(&self) -> u32 {
        RETRY
    }

    fn error(&self) -> u32 {
        ERROR
    }

    fn special(&self) -> u32 {
        RETRY | ERROR
    }

    fn retries_under_vma_lock(&self) -> bool {
        false
    }

    fn anonymous(&self) -> bool {
        self.anonymous.get()
    }

    fn minors(&self) -> u64 {
        self.counted.get() - self.majors.get()
    }

    fn now(&self) -> u64 {
        self.now.set(self.now.get() + 1);
        self.now.get()
    }

    fn sample(&self) -> u32 {
        self.sample
    }

    fn sees_exits(&self) -> bool {
        self.sees_exits
    }

    fn grown(&self, t: &mut Thread) -> (u64, u64) {
        let before = t.minor.wrapping_add(t.major);
        let majors = t.major;
        (t.minor, t.major) = (self.minors(), self.majors.get());
        (
            self.counted.get().wrapping_sub(before),
            t.major.wrapping_sub(majors),
        )
    }

    fn loss(&self, loss: Loss) {
        self.losses.borrow_mut()[loss as usize] += 1;
    }

    fn dropped(&self, _: &mut Thread) {}

    fn begins(&self, _: &mut InFlight) {}

    fn falls_back(&self, f: &mut InFlight) {
        assert!(usize::from(f.fallback) <= FallbackReason::COUNT && f.fallback > 0);
        self.fell_back.set(self.fell_back.get() + 1);
    }

    fn gives_up(&self, f: &mut InFlight, major: bool) {
        let how = GaveUp {
            major,
            killed: false,
            vma_lock: f.flags & VMA_LOCK != 0,
            no_map_pages: false,
            has_ops: false,
            early: false,
        };
        f.waits(self).attempt_gave_up(&how);
    }

    fn ends(&self, t: &mut Thread, major: bool, _: u32) {
        assert_eq!(t.fault.phase, phase::IDLE);
        self.majors_told
            .set(self.majors_told.get() + u64::from(major));
        let took = t.fault.is_timed().then(|| {
            let now = self.now();
            assert!(
                t.fault.start_ns >= self.earliest.get(),
                "a start from before"
            );
            assert!(t.fault.start_ns <= now);
            now - t.fault.start_ns
        });
        if t.fault.slow != 0 {
            t.fault
                .waits
                .attempt_kept(t.fault.flags & TRIED != 0, major);
            let known = t.fault.waits.total_ns();
            assert!(
                took.is_none_or(|ns| known <= ns),
                "waited {known} of {took:?}"
            );
        }
        let path = Path::ALL[usize::from(t.fault.path)];
        self.ended.borrow_mut().push((path, took));
    }

    fn ends_untimed(&self, t: &mut Thread, major: bool) {
        t.fault.timed = timed::NO;
        self.ends(t, major, 0);
    }

    fn common_ended(&self, t: &mut Thread) {
        assert_eq!(t.fault.phase, phase::IDLE);
        self.ended.borrow_mut().push((Path::VmaLock, None));
    }

    fn over(&self, t: &mut Thread, grown: u64, majors: u64) {
        fault::over(self, t, grown, majors);
    }

    fn skipped_begin(&self, t: &mut Thread, call: &Call, ret: u32) -> bool {
        fault::skipped_begin(self, t, call, ret)
    }

    fn interrupted(&self, t: &mut Thread) {
        assert_eq!(t.fault.phase, phase::IDLE);
        self.ended.borrow_mut().push((Path::Interrupted, None));
    }
}
