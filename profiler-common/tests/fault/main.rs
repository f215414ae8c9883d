//! The state machine of faults against a kernel that plays any order of events, and skips some.
//!
//! What must hold, whatever was skipped: no panic, no duration longer than the fault can have been,
//! and every fault the kernel counted is on exactly one path or missed, which the counts show.

mod kernel;

use std::cell::{Cell, RefCell};

use profiler_common::{
    fault::{self, Call, World as _},
    thread::{Thread, phase, timed},
    waits::seen,
    words::Path,
};
use proptest::prelude::*;

use kernel::{ERROR, Kernel, MAJOR, NOWAIT, RETRY, TRIED, USER, VMA_LOCK};

/// How an attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    Major,
    Error,
    Retry,
    MajorRetry,
}

/// What a thread does; hooks are named by their place in it.
#[derive(Clone, Debug)]
struct Fault {
    page: u64,
    anonymous: bool,
    vma_lock: bool,
    user: bool,
    regs: bool,
    ends: Vec<End>,
    slow: Vec<Slow>,
    /// A signal is handled instead of the attempt after a retry.
    signal: bool,
    /// Bits of the hooks that are skipped, in the order they come.
    skipped: u32,
    gap: u64,
}

#[derive(Clone, Copy, Debug)]
enum Slow {
    Io(u64, u64),
    Userfault(u64),
    Mkwrite(u64),
}

fn slow() -> impl Strategy<Value = Slow> {
    prop_oneof![
        (0..5_000u64, 0..9_000u64).prop_map(|(ns, delay)| Slow::Io(ns, delay)),
        (0..5_000u64).prop_map(Slow::Userfault),
        (0..5_000u64).prop_map(Slow::Mkwrite),
    ]
}

fn a_fault(skips: f64) -> impl Strategy<Value = Fault> {
    let end = prop_oneof![
        6 => Just(End::Done),
        1 => Just(End::Major),
        1 => Just(End::Error),
        3 => Just(End::Retry),
        2 => Just(End::MajorRetry),
    ];
    (
        (0..3u64, any::<bool>()),
        any::<bool>(),
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.9),
        prop::collection::vec(end, 1..4),
        prop::collection::vec(slow(), 0..3),
        prop::bool::weighted(0.2),
        prop::collection::vec(prop::bool::weighted(skips), 24)
            .prop_map(|bits| bits.iter().fold(0, |mask, bit| mask << 1 | u32::from(*bit))),
        0..1_000u64,
    )
        .prop_map(
            |((page, anonymous), vma_lock, user, regs, ends, slow, signal, skipped, gap)| Fault {
                page,
                anonymous,
                vma_lock: vma_lock && user,
                user,
                regs,
                ends,
                slow,
                signal,
                skipped,
                gap,
            },
        )
}

struct Run {
    kernel: Kernel,
    t: Thread,
    /// Faults that were not counted by the kernel: errors and interrupted ones.
    uncounted: u64,
    skipped: u64,
}

fn thread() -> Thread {
    // SAFETY: made of integers only.
    unsafe { std::mem::zeroed() }
}

impl Run {
    fn new(sees_exits: bool, sample: u32) -> Self {
        Self {
            kernel: Kernel {
                now: Cell::new(1),
                counted: Cell::new(0),
                majors: Cell::new(0),
                majors_told: Cell::new(0),
                sees_exits,
                sample,
                losses: RefCell::default(),
                ended: RefCell::default(),
                fell_back: Cell::new(0),
                anonymous: Cell::new(false),
                earliest: Cell::new(0),
            },
            t: thread(),
            uncounted: 0,
            skipped: 0,
        }
    }

    fn pass(&self, ns: u64) {
        self.kernel.now.set(self.kernel.now.get() + ns);
    }

    /// Plays the fault as the architecture's code does (arch/x86/mm/fault.c).
    fn play(&mut self, fault: &Fault) {
        let mut skips = fault.skipped;
        let mut hook = |run: &mut Self| {
            let skip = skips & 1 != 0;
            skips >>= 1;
            run.skipped += u64::from(skip);
            !skip
        };
        let address = 0x1000 * (1 + fault.page);
        self.kernel.anonymous.set(fault.anonymous);
        self.pass(fault.gap);
        if self.t.fault.phase == phase::IDLE {
            self.kernel.earliest.set(self.kernel.now.get());
        }
        let mut flags = if fault.user { USER } else { 0 };
        let mut vma_lock = fault.vma_lock && fault.regs;
        // `lock_vma_under_rcu` gave none.
        if fault.user && fault.regs && !vma_lock && hook(self) {
            if self.t.fault.phase == phase::RETRYING {
                fault::given_up(&self.kernel, &mut self.t);
            }
            // The last attempt may be over or not.
            if self.t.fault.phase != phase::ATTEMPT || self.t.fault.address != address {
                fault::is_elsewhere(&self.kernel, &mut self.t);
                fault::begins_locking(&self.kernel, &mut self.t, address, fault.user);
            }
        }
        for (attempt, end) in fault.ends.iter().enumerate() {
            let last = attempt + 1 == fault.ends.len();
            // An attempt that was tried may not retry; the last one does not.
            let end = match end {
                End::Retry | End::MajorRetry if last || flags & TRIED != 0 => End::Done,
                end if !last && *end != End::Retry && *end != End::MajorRetry => End::Retry,
                end => *end,
            };
            let f = flags | if vma_lock { VMA_LOCK } else { 0 };
            let call = Call {
                address,
                flags: f,
                regs: fault.regs,
            };
            if hook(self) {
                self.begins(&call);
            }
            self.slow_paths(fault, &mut hook);
            self.pass(10);
            let ret = match end {
                End::Done => 0,
                End::Major => MAJOR,
                End::Error => ERROR,
                End::Retry => RETRY,
                End::MajorRetry => RETRY | MAJOR,
            };
            let retry = ret & RETRY != 0;
            if !retry && end != End::Error {
                let k = &self.kernel;
                k.counted.set(k.counted.get() + 1);
                let major = end == End::Major || f & TRIED != 0;
                k.majors.set(k.majors.get() + u64::from(major));
            }
            if hook(self) {
                if self.kernel.sees_exits {
                    self.ends(&call, ret);
                } else if !retry && end != End::Error && fault.regs {
                    let major = end == End::Major || f & TRIED != 0;
                    fault::accounted(&self.kernel, &mut self.t, major);
                }
            }
            if !retry {
                self.uncounted += u64::from(end == End::Error);
                return;
            }
            if fault.signal {
                self.uncounted += 1;
                return;
            }
            if ret & MAJOR != 0 || !vma_lock {
                flags |= TRIED;
            }
            vma_lock = false;
        }
    }

    /// As the programs on `handle_mm_fault` do it.
    fn begins(&mut self, call: &Call) {
        let (k, t) = (&self.kernel, &mut self.t);
        if !k.sees_exits || !fault::common_begins(k, t, call.address, call.flags) {
            fault::attempt_begins(k, t, call);
        }
    }

    fn ends(&mut self, call: &Call, ret: u32) {
        let (k, t) = (&self.kernel, &mut self.t);
        if let Some(timed) = fault::common_ends(k, t) {
            assert_eq!(t.fault.timed != timed::NO, timed);
            k.ends(t, false, ret);
        } else {
            fault::attempt_ends(k, t, call, ret);
        }
    }

    fn slow_paths(&mut self, fault: &Fault, hook: &mut impl FnMut(&mut Self) -> bool) {
        for slow in &fault.slow {
            let (began, ended) = (hook(self), hook(self));
            let in_attempt = self.t.fault.phase == phase::ATTEMPT;
            let k = &self.kernel;
            let f = &mut self.t.fault;
            match slow {
                Slow::Io(ns, delay) => {
                    if began && in_attempt {
                        f.waits(k).io_begins(k.now(), 0);
                    }
                    k.now.set(k.now.get() + ns);
                    if ended && in_attempt && f.slow != 0 {
                        f.waits.io_ends(k.now(), *delay);
                    }
                }
                Slow::Userfault(ns) | Slow::Mkwrite(ns) => {
                    let bit = match slow {
                        Slow::Userfault(_) => seen::USERFAULT,
                        _ => seen::MKWRITE,
                    };
                    if began && in_attempt {
                        f.waits(k).enters(bit, k.now(), 0);
                    }
                    k.now.set(k.now.get() + ns);
                    if ended && in_attempt && f.slow != 0 {
                        f.waits.leaves(bit, k.now(), 1);
                    }
                }
            }
        }
    }

    fn on(&self, path: Path) -> u64 {
        let ended = self.kernel.ended.borrow();
        ended.iter().filter(|(p, _)| *p == path).count() as u64
    }

    /// The thread exits, as the hook on it sees it.
    fn exit(&mut self) {
        fault::thread_exits(&self.kernel, &mut self.t);
    }
}

/// A fault of one attempt, under the VMA lock, that the kernel counts.
fn once(fault: Fault) -> Fault {
    let end = match fault.ends[0] {
        End::Major | End::MajorRetry => End::Major,
        _ => End::Done,
    };
    Fault {
        vma_lock: true,
        user: true,
        regs: true,
        ends: vec![end],
        slow: Vec::new(),
        ..fault
    }
}

/// KVM asks for a page of its guest without waiting for it: that fault is not given up for a signal, and
/// what comes next is another.
#[test]
fn a_question_that_does_not_wait_is_no_fault() {
    for sees_exits in [true, false] {
        let mut run = Run::new(sees_exits, 1);
        let question = Call {
            address: 0x1000,
            flags: NOWAIT,
            regs: false,
        };
        fault::attempt_begins(&run.kernel, &mut run.t, &question);
        if sees_exits {
            fault::attempt_ends(&run.kernel, &mut run.t, &question, RETRY);
        }
        let next = Call {
            flags: 0,
            ..question
        };
        fault::attempt_begins(&run.kernel, &mut run.t, &next);
        run.kernel.counted.set(1);
        if sees_exits {
            fault::attempt_ends(&run.kernel, &mut run.t, &next, 0);
        }
        run.exit();
        assert_eq!(run.on(Path::Gup), 1, "exits seen: {sees_exits}");
        assert_eq!(run.kernel.ended.borrow().len(), 1);
        assert_eq!(run.kernel.losses.borrow().iter().sum::<u64>(), 0);
    }
}

/// A fault found no VMA, its signal's handler made one, and the instruction faults again: it waited for
/// nothing, and did not begin with the first.
#[test]
fn a_fault_that_found_no_vma_is_another() {
    let mut run = Run::new(true, 1);
    fault::begins_locking(&run.kernel, &mut run.t, 0x1000, true);
    run.t.fault.waits(&run.kernel).mmap_lock_ns = 1_000_000;
    run.pass(2_000_000);
    run.kernel.earliest.set(run.kernel.now.get());
    let call = Call {
        address: 0x1000,
        flags: USER | VMA_LOCK,
        regs: true,
    };
    fault::attempt_begins(&run.kernel, &mut run.t, &call);
    run.kernel.counted.set(1);
    fault::attempt_ends(&run.kernel, &mut run.t, &call, 0);
    let ended = run.kernel.ended.borrow();
    assert!(
        matches!(ended.as_slice(), [(Path::VmaLock, Some(ns))] if *ns < 1_000),
        "{ended:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Nothing is skipped: each fault is on the path its attempts say, each once.
    #[test]
    fn what_is_seen_is_told(faults in prop::collection::vec(a_fault(0.0), 1..40), sample in 0..3u32) {
        let mut run = Run::new(true, 1 << sample);
        for fault in &faults {
            run.play(fault);
        }
        run.exit();
        let ended = run.kernel.ended.borrow().len() as u64;
        prop_assert_eq!(ended, faults.len() as u64);
        prop_assert_eq!(run.on(Path::Error) + run.on(Path::Interrupted), run.uncounted);
        prop_assert_eq!(run.kernel.majors_told.get(), run.kernel.majors.get());
        prop_assert_eq!(run.kernel.losses.borrow().iter().sum::<u64>(), 0);
    }

    /// Hooks are skipped at random: a fault is counted once or missed, never invented.
    #[test]
    fn what_is_skipped_is_missed(
        faults in prop::collection::vec(a_fault(0.15), 1..60),
        sees_exits in any::<bool>(),
        sample in 0..3u32,
    ) {
        let mut run = Run::new(sees_exits, 1 << sample);
        for fault in &faults {
            run.play(fault);
        }
        run.exit();
        let ended = run.kernel.ended.borrow().len() as u64;
        let unaccounted = run.on(Path::Error) + run.on(Path::Interrupted);
        let counted = ended - unaccounted;
        prop_assert!(counted <= run.kernel.counted.get(), "more than there were");
        prop_assert!(run.kernel.majors_told.get() <= run.kernel.majors.get());
        prop_assert!(ended <= faults.len() as u64, "a fault ended twice");
        let missed = faults.len() as u64 - ended;
        let lost = run.kernel.losses.borrow().iter().sum::<u64>();
        // Without exits, an error that is followed by a fault on the same page looks like its retry.
        let looks_retried = if sees_exits { 0 } else { run.uncounted };
        prop_assert!(missed <= looks_retried || run.skipped > 0);
        prop_assert!(lost <= 2 * run.skipped, "{lost} losses, {} skipped", run.skipped);
    }

    /// The programs of one kind of hook are all skipped for a while, as when one of them was preempted:
    /// every fault is told on its path all the same.
    #[test]
    fn what_one_hook_misses_is_told(
        before in prop::collection::vec(a_fault(0.0), 0..20),
        during in prop::collection::vec(a_fault(0.0), 1..20),
        after in prop::collection::vec(a_fault(0.0), 1..20),
        ends in any::<bool>(),
        sample in 0..3u32,
    ) {
        let plain = |fault: &Fault| Fault { signal: false, ..fault.clone() };
        let told = |skipped: u32| {
            let mut run = Run::new(true, 1 << sample);
            for (faults, skipped) in [(&before, 0), (&during, skipped), (&after, 0)] {
                for fault in faults {
                    run.play(&Fault { skipped, ..once(plain(fault)) });
                }
            }
            run.exit();
            Path::ALL
                .iter()
                .map(|path| run.on(*path))
                .collect::<Vec<_>>()
        };
        // Of a fault with no lock to ask for and no slow path: its begin, its end.
        prop_assert_eq!(told(if ends { 2 } else { 1 }), told(0));
    }

    /// One hook of one fault is skipped, between faults of which none is: no counted fault is missed, and
    /// none is on another path. An error, or an attempt that a signal followed, may be missed.
    #[test]
    fn one_skipped_hook_costs_no_count(
        before in prop::collection::vec(a_fault(0.0), 0..10),
        fault in a_fault(0.0),
        after in prop::collection::vec(a_fault(0.0), 1..10),
        skipped in 0..12u32,
        sample in 0..3u32,
    ) {
        // Faults on a page of its own: one on the same page may look like its continuation.
        let fault = Fault { page: 7, signal: false, ..fault };
        let told = |skipped: u32| {
            let mut run = Run::new(true, 1 << sample);
            for fault in &before {
                run.play(fault);
            }
            run.play(&Fault { skipped, ..fault.clone() });
            for fault in &after {
                run.play(fault);
            }
            run.exit();
            let counted = |path: &&Path| **path != Path::Error && **path != Path::Interrupted;
            let on = |path| run.on(path);
            Path::ALL.iter().filter(counted).map(|path| on(*path)).collect::<Vec<_>>()
        };
        prop_assert_eq!(told(1 << skipped), told(0));
    }

    /// A thread id is used again and the exit of its last owner was not seen: at most one fault of
    /// the new owner is lost over it.
    #[test]
    fn a_reused_tid_heals(
        before in prop::collection::vec(a_fault(0.3), 1..10),
        after in prop::collection::vec(a_fault(0.0), 1..10),
    ) {
        let mut run = Run::new(true, 1);
        for fault in &before {
            run.play(fault);
        }
        let ended = run.kernel.ended.borrow().len();
        run.kernel.counted.set(0);
        run.kernel.majors.set(0);
        for fault in &after {
            run.play(fault);
        }
        run.exit();
        let ended = run.kernel.ended.borrow().len() - ended;
        // One of the last owner's may come to its end only now.
        prop_assert!((after.len().saturating_sub(1)..=after.len() + 1).contains(&ended));
    }
}
