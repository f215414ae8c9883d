//! The state machine of a thread's faults: attempts at `handle_mm_fault` become faults, each ending
//! on one path. It knows no kernel: what it needs of it is [`World`], so that tests can play one.
//!
//! Hooks can be skipped: the kernel does not run a program that was preempted on the same CPU. So
//! each fault is held against the kernel's own count of the thread's faults, which must have grown
//! by one since the last look. With that, a fault of which one hook was skipped is still told on its
//! path, without its time; what does not fit is dropped. Both are counted as losses.

use crate::{
    thread::{InFlight, Thread, common, phase, timed, word},
    waits::Waits,
    words::{FallbackReason, Kind, Loss, Path},
    zero::zero,
};

/// What the state machine asks of the kernel, and tells.
pub trait World {
    /// Bits of `enum fault_flag`; 0 where this kernel has none. Asked for one by one, because each
    /// is a load on the hottest path there is.
    fn tried(&self) -> u32;
    fn user(&self) -> u32;
    fn remote(&self) -> u32;
    fn vma_lock(&self) -> u32;
    fn nowait(&self) -> u32;
    /// Bits of `enum vm_fault_reason`.
    fn major(&self) -> u32;
    fn retry(&self) -> u32;
    fn error(&self) -> u32;
    /// All bits that make a return special: retry, completed, error.
    fn special(&self) -> u32;
    /// `VM_FAULT_RETRY_VMA` or `VM_FAULT_RETRY_HARD` exist: a retry can be under the VMA lock.
    fn retries_under_vma_lock(&self) -> bool;
    /// The VMA at hand is of anonymous memory.
    fn anonymous(&self) -> bool;
    /// The kernel's count of this thread's minor faults.
    fn minors(&self) -> u64;
    fn now(&self) -> u64;
    /// One common fault in this many, a power of two, is timed.
    fn sample(&self) -> u32;
    /// False: `handle_mm_fault` cannot be hooked at its exit, events tell of the end.
    fn sees_exits(&self) -> bool;
    /// By how many faults the kernel's count of this thread has grown since this was last asked, and
    /// how many of them were major.
    fn grown(&self, t: &mut Thread) -> (u64, u64);
    fn loss(&self, loss: Loss);
    /// What was seen of a fault does not fit, and goes.
    fn dropped(&self, t: &mut Thread);
    /// An attempt begins: what of the VMA must be known later is taken now.
    fn begins(&self, f: &mut InFlight);
    /// The fault got no VMA lock; `f.fallback` says why, as far as is known.
    fn falls_back(&self, f: &mut InFlight);
    /// An attempt returned `VM_FAULT_RETRY`.
    fn gives_up(&self, f: &mut InFlight, major: bool);
    /// The fault is over, its path in `t.fault.path`.
    fn ends(&self, t: &mut Thread, major: bool, ret: u32);
    /// The same; when is not known.
    fn ends_untimed(&self, t: &mut Thread, major: bool);
    /// A common fault is over, when is not known.
    fn common_ended(&self, t: &mut Thread);
    /// [`over`] and [`skipped_begin`], which are rare: the kernel side has one copy of each.
    fn over(&self, t: &mut Thread, grown: u64, majors: u64);
    fn skipped_begin(&self, t: &mut Thread, call: &Call, ret: u32) -> bool;
    /// Given up by the thread itself, after an attempt that waited; when is not known.
    fn interrupted(&self, t: &mut Thread);
}

#[inline(always)]
fn has(value: u32, bits: u32) -> bool {
    value & bits != 0
}

/// The arguments of a call of `handle_mm_fault`; `regs`: it was given registers, so it is no
/// get_user_pages.
#[derive(Clone, Copy)]
pub struct Call {
    pub address: u64,
    pub flags: u32,
    pub regs: bool,
}

/// A call of `handle_mm_fault` begins, and will be seen to end. False: it is not the first of a
/// common fault, and [`attempt_begins`] is to know of it.
#[inline(always)]
pub fn common_begins<W: World>(w: &W, t: &mut Thread, address: u64, flags: u32) -> bool {
    if !t.fault.in_none() || !has(flags, w.vma_lock()) || !w.anonymous() {
        return false;
    }
    let sample = w.sample();
    let sampled = sample == 1 || its_turn(t, sample);
    let f = &mut t.fault;
    f.address = address;
    f.flags = flags;
    if sampled {
        f.set_word(COMMON_TIMED);
        f.start_ns = w.now();
    } else {
        f.set_word(COMMON_UNTIMED);
    }
    true
}

#[inline(always)]
fn its_turn(t: &Thread, sample: u32) -> bool {
    t.round() & u64::from(sample - 1) == 0
}

const COMMON_TIMED: u64 = common_word(common::TIMED, timed::SAMPLED);
const COMMON_UNTIMED: u64 = common_word(common::UNTIMED, timed::NO);

/// phase, stranger, common, slow, timed, attempts, path, fallback
const fn common_word(common: u8, timed: u8) -> u64 {
    word([
        phase::ATTEMPT,
        0,
        common,
        0,
        timed,
        1,
        Path::VmaLock as u8,
        0,
    ])
}

/// `handle_mm_fault` returned. `Some`: a common fault has ended, and is left to count; true if it was
/// timed. `None`: for [`attempt_ends`]. What it returned is not asked: the kernel counts neither
/// errors nor retries, and major faults apart.
#[inline(always)]
pub fn common_ends<W: World>(w: &W, t: &mut Thread) -> Option<bool> {
    let common = t.fault.still_common();
    let timed = if common == u16::from(common::TIMED) {
        true
    } else if common == u16::from(common::UNTIMED) {
        false
    } else {
        return None;
    };
    let minor = w.minors();
    if minor != t.minor + 1 {
        return None;
    }
    t.minor = minor;
    t.fault.forget();
    Some(timed)
}

/// A call of `handle_mm_fault` begins.
#[inline(always)]
pub fn attempt_begins<W: World>(w: &W, t: &mut Thread, call: &Call) {
    if t.fault.phase == phase::ATTEMPT {
        if !w.sees_exits() {
            unseen_end(w, t, call);
        } else if skipped_end(w, t, call) && common_begins(w, t, call.address, call.flags) {
            return;
        }
    }
    if t.fault.phase == phase::RETRYING {
        if continues(w, &t.fault, call) {
            goes_on(w, &mut t.fault, call);
            w.begins(&mut t.fault);
            return;
        }
        given_up(w, t);
    }
    first_attempt(w, t, call);
}

/// The next attempt of the same fault.
#[inline(always)]
fn goes_on<W: World>(w: &W, f: &mut InFlight, call: &Call) {
    f.path = retried_path(w, f.path, call.flags);
    f.flags = call.flags;
    f.attempts = f.attempts.saturating_add(1);
    f.phase = phase::ATTEMPT;
}

/// The hook at an attempt's end was skipped. If the kernel has not counted the fault and this attempt
/// goes on with it, it was a retry. True: the fault is over.
#[inline(always)]
fn skipped_end<W: World>(w: &W, t: &mut Thread, call: &Call) -> bool {
    let (grown, majors) = w.grown(t);
    if grown == 0 && continues(w, &t.fault, call) {
        uncommon(t);
        t.fault.phase = phase::RETRYING;
        let major = was_major(w, &t.fault, call);
        w.gives_up(&mut t.fault, major);
        false
    } else {
        w.over(t, grown, majors);
        true
    }
}

/// Whether an attempt whose end was not seen was major, by the one after it: under the VMA lock only a
/// major attempt's successor is marked as tried, under `mmap_lock` each; there, one that waited for I/O.
#[inline(always)]
fn was_major<W: World>(w: &W, f: &InFlight, next: &Call) -> bool {
    has(next.flags, w.tried()) && (has(f.flags, w.vma_lock()) || (f.slow != 0 && f.waits.had_io()))
}

/// The attempt is over, and the hook at its end was skipped. If the kernel has counted one fault
/// since, it was this; its time is not known.
#[inline(always)]
pub fn over<W: World>(w: &W, t: &mut Thread, grown: u64, majors: u64) {
    w.loss(Loss::UnmatchedEntry);
    if grown != 1 {
        uncommon(t);
        t.fault.phase = phase::IDLE;
        w.dropped(t);
    } else if t.fault.common != common::NO && t.fault.slow == 0 && majors == 0 {
        t.fault.forget();
        w.common_ended(t);
    } else {
        uncommon(t);
        t.fault.phase = phase::IDLE;
        w.ends_untimed(t, majors != 0);
    }
}

/// The thread asks for a lock for a fault of another address: the attempt it was last seen in is over.
#[inline(always)]
pub fn is_elsewhere<W: World>(w: &W, t: &mut Thread) {
    if t.fault.phase == phase::ATTEMPT {
        let (grown, majors) = w.grown(t);
        attempt_is_over(w, t, grown, majors);
    }
}

#[inline(always)]
fn attempt_is_over<W: World>(w: &W, t: &mut Thread, grown: u64, majors: u64) {
    if w.sees_exits() {
        w.over(t, grown, majors);
    } else {
        ends_unseen(w, t, grown, majors);
    }
}

/// What a common fault's begin left unsaid.
#[inline(always)]
fn uncommon(t: &mut Thread) {
    if t.fault.common != common::NO {
        t.fault.common = common::NO;
        t.fault.vm_ops = 0;
        t.fault.kind = Kind::Anon as u8;
    }
}

#[inline(always)]
fn first_attempt<W: World>(w: &W, t: &mut Thread, call: &Call) {
    let path = first_path(w, call);
    let sampled = its_turn(t, w.sample());
    let f = &mut t.fault;
    // Under the VMA lock nothing was locked before: that fault found no VMA, and this is the next.
    if f.phase != phase::LOCKING || f.address != call.address || has(call.flags, w.vma_lock()) {
        f.slow = 0;
        f.fallback = 0;
        f.address = call.address;
        f.timed = timed::NO;
        if sampled {
            f.timed = timed::SAMPLED;
            f.start_ns = w.now();
        }
    }
    f.flags = call.flags;
    f.attempts = 1;
    f.path = path as u8;
    f.phase = phase::ATTEMPT;
    f.common = common::NO;
    w.begins(f);
    if path as u8 != Path::Fallback as u8 {
        f.fallback = 0;
    } else {
        if f.fallback == 0 {
            f.fallback = FallbackReason::Unknown as u8 + 1;
        }
        w.falls_back(f);
    }
}

/// The path of a fault that ends in its first attempt.
#[inline(always)]
fn first_path<W: World>(w: &W, call: &Call) -> Path {
    // The most common first.
    if has(call.flags, w.vma_lock()) {
        Path::VmaLock
    } else if !call.regs {
        if has(call.flags, w.remote()) {
            Path::Remote
        } else {
            Path::Gup
        }
    } else if w.vma_lock() == 0 || !has(call.flags, w.user()) {
        Path::MmapLock
    } else {
        Path::Fallback
    }
}

/// Whether an attempt after `VM_FAULT_RETRY` goes on with the same fault; if not, a signal was
/// handled in between and the instruction faulted afresh. A retry under `mmap_lock` is marked TRIED,
/// but for the one that follows an attempt under the VMA lock, which is marked only if that was
/// major. Under the VMA lock only a kernel goes on that retries there.
#[inline(always)]
fn continues<W: World>(w: &W, f: &InFlight, call: &Call) -> bool {
    let by_hand = f.path == Path::Gup as u8 || f.path == Path::Remote as u8;
    if f.address != call.address || by_hand == call.regs || has(f.flags ^ call.flags, w.user()) {
        return false;
    }
    if has(call.flags, w.tried()) {
        return true;
    }
    if has(call.flags, w.vma_lock()) {
        w.retries_under_vma_lock()
    } else {
        has(f.flags, w.vma_lock())
    }
}

#[inline(always)]
fn retried_path<W: World>(w: &W, before: u8, flags: u32) -> u8 {
    if before == Path::Gup as u8 || before == Path::Remote as u8 {
        before
    } else if has(flags, w.vma_lock()) {
        Path::RetryVma as u8
    } else {
        Path::Retry as u8
    }
}

/// The call of `handle_mm_fault` returned `ret`.
#[inline(always)]
pub fn attempt_ends<W: World>(w: &W, t: &mut Thread, call: &Call, ret: u32) {
    let begun = t.fault.phase == phase::ATTEMPT && t.fault.address == call.address;
    uncommon(t);
    if !begun && !w.skipped_begin(t, call, ret) {
        return;
    }
    let plain = !has(ret, w.special());
    if !plain && has(ret, w.retry()) {
        if has(call.flags, w.nowait()) {
            t.fault.phase = phase::IDLE; // a question, which nobody waits to be answered (KVM)
            return;
        }
        t.fault.phase = phase::RETRYING;
        w.gives_up(&mut t.fault, has(ret, w.major()));
        return;
    }
    let error = !plain && has(ret, w.error());
    let (grown, majors) = w.grown(t);
    if grown != u64::from(!error) {
        misfit(w, t);
        return;
    }
    finish(w, t, majors != 0, error, ret);
}

/// The hook at the attempt's begin was skipped. True: it is made good, but for the time. False: the
/// attempt has ended, as far as can be told.
#[inline(always)]
pub fn skipped_begin<W: World>(w: &W, t: &mut Thread, call: &Call, ret: u32) -> bool {
    if t.fault.phase == phase::RETRYING && continues(w, &t.fault, call) {
        goes_on(w, &mut t.fault, call);
        return true;
    }
    w.loss(Loss::UnmatchedExit);
    let retry = has(ret, w.retry());
    let vma_gone = has(ret, w.special()) && !has(ret, w.error());
    if t.fault.phase == phase::ATTEMPT || (vma_gone && !retry) {
        w.grown(t);
        t.fault.phase = phase::IDLE;
        w.dropped(t);
        return false;
    }
    if !retry && t.fault.phase == phase::RETRYING {
        was_interrupted(w, t);
    }
    if retry {
        // It is not counted: what is, came before.
        if t.fault.phase == phase::RETRYING {
            given_up(w, t);
        } else {
            w.grown(t);
        }
        // The next attempt is to be known for what it is.
        let path = first_path(w, call) as u8;
        let f = &mut t.fault;
        f.start_ns = w.now();
        begins(f, call.address, timed::NEVER);
        f.flags = call.flags;
        f.attempts = 1;
        f.path = path;
        f.phase = phase::RETRYING;
        return false;
    }
    first_attempt(w, t, call);
    if t.fault.timed == timed::SAMPLED {
        t.fault.timed = timed::NO;
    }
    true
}

/// What ended is not the fault that was seen to begin.
#[inline(always)]
fn misfit<W: World>(w: &W, t: &mut Thread) {
    w.loss(Loss::UnmatchedExit);
    t.fault.phase = phase::IDLE;
    w.dropped(t);
}

#[inline(always)]
fn finish<W: World>(w: &W, t: &mut Thread, major: bool, error: bool, ret: u32) {
    if error {
        t.fault.path = Path::Error as u8;
    }
    t.fault.phase = phase::IDLE;
    w.ends(t, major, ret);
}

/// `VM_FAULT_RETRY`, and the next thing seen of the thread is another fault, or its exit: a signal
/// came first, or the attempt that ended this one was missed.
#[inline(always)]
pub fn given_up<W: World>(w: &W, t: &mut Thread) {
    let (grown, _) = w.grown(t);
    retry_is_over(w, t, grown);
}

#[inline(always)]
fn retry_is_over<W: World>(w: &W, t: &mut Thread, grown: u64) {
    if grown == 0 {
        was_interrupted(w, t);
    } else {
        t.fault.phase = phase::IDLE;
        w.loss(Loss::UnmatchedEntry);
    }
}

#[inline(always)]
fn was_interrupted<W: World>(w: &W, t: &mut Thread) {
    t.fault.phase = phase::IDLE;
    t.fault.path = Path::Interrupted as u8;
    w.interrupted(t);
}

/// The thread exits: nothing will come next to show how its last fault ended.
#[inline(always)]
pub fn thread_exits<W: World>(w: &W, t: &mut Thread) {
    let (grown, majors) = w.grown(t);
    leaves(w, t, grown, majors);
}

/// The same, where the kernel's count goes on for another entry: by how much it had grown until then.
#[inline(always)]
pub fn leaves<W: World>(w: &W, t: &mut Thread, grown: u64, majors: u64) {
    match t.fault.phase {
        phase::RETRYING => retry_is_over(w, t, grown),
        phase::ATTEMPT => attempt_is_over(w, t, grown, majors),
        _ => {}
    }
}

/// Without exit hooks an attempt's end shows only in what comes next. If the kernel counted the
/// fault, it is over and had no event: get_user_pages, or the event was skipped. If not, it was a
/// retry, which this attempt goes on with, or an error.
#[inline(always)]
fn unseen_end<W: World>(w: &W, t: &mut Thread, call: &Call) {
    let (grown, majors) = w.grown(t);
    if grown == 0 && continues(w, &t.fault, call) {
        t.fault.phase = phase::RETRYING;
        let major = was_major(w, &t.fault, call);
        w.gives_up(&mut t.fault, major);
        return;
    }
    ends_unseen(w, t, grown, majors);
}

/// The fault ended some time ago; the kernel's count tells how.
#[inline(always)]
fn ends_unseen<W: World>(w: &W, t: &mut Thread, grown: u64, majors: u64) {
    if grown > 1 {
        misfit(w, t);
        return;
    }
    if grown == 0 && has(t.fault.flags, w.nowait()) {
        t.fault.phase = phase::IDLE; // as in `attempt_ends`; or an error
        return;
    }
    if grown == 0 {
        t.fault.path = Path::Error as u8;
    }
    t.fault.phase = phase::IDLE;
    w.ends_untimed(t, majors != 0);
}

/// The software page-fault event of a fault that ended, where exits are not seen.
#[inline(always)]
pub fn accounted<W: World>(w: &W, t: &mut Thread, major: bool) {
    if w.grown(t).0 == 1 && t.fault.phase == phase::ATTEMPT {
        finish(w, t, major, false, 0);
    } else {
        misfit(w, t);
    }
}

/// The fault begins with a lock to take. `user`: it is one of user mode.
#[inline(always)]
pub fn begins_locking<W: World>(w: &W, t: &mut Thread, address: u64, user: bool) {
    t.fault.flags = if user { w.user() } else { 0 };
    t.fault.start_ns = w.now();
    begins(&mut t.fault, address, timed::ALWAYS);
}

/// The fault begins, and most that begin so need no lock.
#[inline(always)]
pub fn begins_early<W: World>(w: &W, t: &mut Thread, address: u64, user: bool) {
    t.fault.flags = if user { w.user() } else { 0 };
    if its_turn(t, w.sample()) {
        t.fault.start_ns = w.now();
        begins(&mut t.fault, address, timed::SAMPLED);
    } else {
        begins(&mut t.fault, address, timed::NO);
    }
}

#[inline(always)]
fn begins(f: &mut InFlight, address: u64, timed: u8) {
    f.address = address;
    f.common = common::NO;
    f.slow = 0;
    f.fallback = 0;
    f.timed = timed;
    f.phase = phase::LOCKING;
}

impl InFlight {
    /// Off the common path: from here on the fault is timed, and has waits.
    #[inline(always)]
    pub fn waits<W: World>(&mut self, w: &W) -> &mut Waits {
        if self.slow == 0 {
            self.slow = 1;
            self.vma = 0;
            zero(&mut self.waits);
            if self.timed == timed::NO {
                self.start_ns = w.now();
            }
            // Each counts for itself: only common faults are sampled.
            if self.timed != timed::NEVER {
                self.timed = timed::ALWAYS;
            }
        }
        &mut self.waits
    }
}
