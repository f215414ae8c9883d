//! A crew: threads that make calls at set moments and time them. In: who calls what, how long after
//! the start, at which priority. Out: a row for each call.
//!
//! Everything is made ready before: the threads are there, have practised, and wait. Whatever they
//! still needed then would take the very locks that they are to meet. For the same reason none of
//! them leaves: they stay in the kernel until the process ends.

use std::{
    io, ptr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use super::{call::Call, now_ns, sleep_until, tid};

/// Enough for all calls; hundreds of threads have one each.
const STACK: usize = 256 << 10;
/// What it takes to wake a thread, with room to spare: also in emulation.
const WAKE: Duration = Duration::from_micros(200);

pub struct Member {
    pub name: String,
    pub priority: Priority,
    /// In the order of their moments.
    pub steps: Vec<Step>,
}

/// A call, what it is there for, and how long after the start.
pub struct Step {
    role: &'static str,
    after: Duration,
    call: Call,
    turn: Option<(Line, usize)>,
}

impl Step {
    pub fn new(role: &'static str, after: Duration, call: Call) -> Self {
        Self {
            role,
            after,
            call,
            turn: None,
        }
    }

    /// Not before the step ahead of it in the line has been made: a machine that is late with two
    /// threads may wake them in any order.
    pub fn in_turn(mut self, line: &Line, place: usize) -> Self {
        self.turn = Some((Arc::clone(line), place));
        self
    }
}

/// A futex for each of the steps, of several threads, that keep their order: 1 when it is its turn.
/// Who waits must not look again and again: it would take the time of the one it waits for.
pub type Line = Arc<[AtomicU32]>;

pub fn line(steps: usize) -> Line {
    (0..steps)
        .map(|place| AtomicU32::new(u32::from(place == 0)))
        .collect()
}

/// Returns when the futex is no longer 0.
fn wait(futex: &AtomicU32) {
    while futex.load(Ordering::Acquire) == 0 {
        // SAFETY: the futex is a live atomic; no time-out.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                futex.as_ptr(),
                libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                0,
                ptr::null::<libc::timespec>(),
            )
        };
    }
}

fn wake(futex: &AtomicU32) {
    futex.store(1, Ordering::Release);
    // SAFETY: the futex is a live atomic.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            futex.as_ptr(),
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            i32::MAX,
        )
    };
}

#[derive(Clone, Copy)]
pub enum Priority {
    Inherited,
    Nice(i32),
    Fifo(i32),
}

/// One call of one thread. Times are monotonic.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub name: String,
    pub role: &'static str,
    pub tid: u32,
    /// As the scheduler has them.
    pub policy: i32,
    pub nice: i32,
    pub rt_priority: i32,
    pub call: &'static str,
    pub start_ns: u64,
    pub end_ns: u64,
    pub address: u64,
    pub len: u64,
}

pub struct Crew {
    /// For ever: the threads are still there when the process ends.
    shared: &'static Shared,
    told: Vec<Told>,
}

/// What is known of a thread beforehand.
struct Told {
    name: String,
    /// Role, name, length.
    calls: Vec<(&'static str, &'static str, usize)>,
}

struct Shared {
    slots: Vec<Slot>,
    ready: AtomicUsize,
    /// A futex: 1 from the start on.
    go: AtomicU32,
    start_ns: AtomicU64,
    done: AtomicUsize,
    failed: Mutex<Option<anyhow::Error>>,
}

/// Where a thread leaves its truth: present memory, so that the store does not fault.
struct Slot {
    tid: AtomicU32,
    policy: AtomicI32,
    nice: AtomicI32,
    rt_priority: AtomicI32,
    times: Vec<Times>,
}

struct Times {
    start_ns: AtomicU64,
    end_ns: AtomicU64,
    address: AtomicU64,
}

impl Crew {
    /// Starts the threads, and returns when all of them wait for the start.
    pub fn assemble(members: Vec<Member>) -> Result<Self> {
        let slots = members
            .iter()
            .map(|member| Slot::new(member.steps.len()))
            .collect();
        let shared: &'static Shared = Box::leak(Box::new(Shared {
            slots,
            ready: AtomicUsize::new(0),
            go: AtomicU32::new(0),
            start_ns: AtomicU64::new(0),
            done: AtomicUsize::new(0),
            failed: Mutex::new(None),
        }));
        let mut told = Vec::new();
        for (slot, member) in shared.slots.iter().zip(members) {
            let calls = member.steps.iter();
            told.push(Told {
                name: member.name.clone(),
                calls: calls
                    .map(|step| (step.role, step.call.name(), step.call.len()))
                    .collect(),
            });
            thread::Builder::new()
                .name(member.name.clone())
                .stack_size(STACK)
                .spawn(move || live(shared, slot, member))
                .context("cannot start a thread: ask for fewer of them")?;
        }
        let crew = Self { shared, told };
        crew.wait_for(&shared.ready, Duration::from_secs(60))?;
        Ok(crew)
    }

    /// Sets the moment from which the steps count, a little ahead, and wakes the threads.
    pub fn start(&self) -> u64 {
        let lead = WAKE.as_nanos() as u64 * (self.told.len() as u64 + 5);
        let start_ns = now_ns() + lead;
        self.shared.start_ns.store(start_ns, Ordering::Release);
        wake(&self.shared.go);
        start_ns
    }

    /// Waits until all calls have been made.
    pub fn finish(&self, patience: Duration) -> Result<Vec<Row>> {
        self.wait_for(&self.shared.done, patience)?;
        let mut rows = Vec::new();
        for (slot, told) in self.shared.slots.iter().zip(&self.told) {
            for (times, (role, call, len)) in slot.times.iter().zip(&told.calls) {
                rows.push(Row {
                    name: told.name.clone(),
                    role,
                    tid: slot.tid.load(Ordering::Acquire),
                    policy: slot.policy.load(Ordering::Acquire),
                    nice: slot.nice.load(Ordering::Acquire),
                    rt_priority: slot.rt_priority.load(Ordering::Acquire),
                    call,
                    start_ns: times.start_ns.load(Ordering::Acquire),
                    end_ns: times.end_ns.load(Ordering::Acquire),
                    address: times.address.load(Ordering::Acquire),
                    len: *len as u64,
                });
            }
        }
        Ok(rows)
    }

    fn wait_for(&self, count: &AtomicUsize, patience: Duration) -> Result<()> {
        let began = Instant::now();
        loop {
            let all = count.load(Ordering::Acquire) >= self.told.len();
            let failed = &self.shared.failed;
            let failed = failed.lock().unwrap_or_else(PoisonError::into_inner).take();
            match failed {
                Some(error) => return Err(error),
                None if all => return Ok(()),
                None => {}
            }
            if began.elapsed() > patience {
                bail!("a thread is stuck: is the machine overloaded?");
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Slot {
    fn new(calls: usize) -> Self {
        Self {
            tid: AtomicU32::new(0),
            policy: AtomicI32::new(0),
            nice: AtomicI32::new(0),
            rt_priority: AtomicI32::new(0),
            times: (0..calls)
                .map(|_| Times {
                    // Not zeros: they might be pages not there yet.
                    start_ns: AtomicU64::new(u64::MAX),
                    end_ns: AtomicU64::new(u64::MAX),
                    address: AtomicU64::new(u64::MAX),
                })
                .collect(),
        }
    }
}

/// A thread from its first instruction to its last.
fn live(shared: &'static Shared, slot: &'static Slot, member: Member) {
    if let Err(error) = work(shared, slot, &member) {
        let named = error.context(member.name.clone());
        *shared.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(named);
    }
    // The mappings that the calls meant are the maker's alone from now on.
    drop(member);
    shared.done.fetch_add(1, Ordering::AcqRel);
    loop {
        // SAFETY: no descriptors; a sleep that only the process's end ends.
        unsafe { libc::poll(ptr::null_mut(), 0, -1) };
    }
}

fn work(shared: &Shared, slot: &Slot, member: &Member) -> Result<()> {
    slot.tid.store(tid(), Ordering::Release);
    set_priority(slot, member.priority)?;
    let mut buffer = vec![1; BUFFER];
    let mut last = 0;
    for step in &member.steps {
        make(&step.call.practice()?, slot, 0, &mut buffer, &mut last)?;
    }
    shared.ready.fetch_add(1, Ordering::AcqRel);
    wait(&shared.go);
    let start_ns = shared.start_ns.load(Ordering::Acquire);
    for (i, step) in member.steps.iter().enumerate() {
        sleep_until(start_ns + step.after.as_nanos() as u64);
        let turn = |ahead| {
            let (line, place) = step.turn.as_ref()?;
            line.get(place + ahead)
        };
        if let Some(mine) = turn(0) {
            wait(mine);
        }
        make(&step.call, slot, i, &mut buffer, &mut last)?;
        if let Some(next) = turn(1) {
            wake(next);
        }
    }
    Ok(())
}

/// For what is read; smaller than what the allocator maps apart.
const BUFFER: usize = 64 << 10;

/// One copy of this code, for practice and for real: another would have pages of its own.
#[inline(never)]
fn make(call: &Call, slot: &Slot, i: usize, buffer: &mut [u8], last: &mut u64) -> Result<()> {
    let Some(times) = slot.times.get(i) else {
        bail!("a call without a place for its times");
    };
    let start_ns = now_ns();
    let done = call.make(buffer, last);
    let end_ns = now_ns();
    let address = done.with_context(|| format!("{} failed", call.name()))?;
    times.start_ns.store(start_ns, Ordering::Release);
    times.end_ns.store(end_ns, Ordering::Release);
    times.address.store(address, Ordering::Release);
    Ok(())
}

fn set_priority(slot: &Slot, priority: Priority) -> Result<()> {
    let done = match priority {
        Priority::Inherited => 0,
        // SAFETY: numbers; 0 is the calling thread.
        Priority::Nice(nice) => unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) },
        Priority::Fifo(sched_priority) => {
            let parameter = libc::sched_param { sched_priority };
            // SAFETY: a pointer to a live parameter; 0 is the calling thread.
            unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter) }
        }
    };
    if done != 0 {
        return Err(io::Error::last_os_error()).context("cannot set a thread's priority: be root");
    }
    let mut parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: a pointer to a live parameter, and numbers; 0 is the calling thread.
    let (policy, nice) = unsafe {
        libc::sched_getparam(0, &raw mut parameter);
        (
            libc::sched_getscheduler(0),
            libc::getpriority(libc::PRIO_PROCESS, 0),
        )
    };
    slot.policy.store(policy, Ordering::Release);
    slot.nice.store(nice, Ordering::Release);
    let rt_priority = parameter.sched_priority;
    slot.rt_priority.store(rt_priority, Ordering::Release);
    Ok(())
}

/// A member with one call.
pub fn one(name: impl Into<String>, role: &'static str, after: Duration, call: Call) -> Member {
    Member {
        name: name.into(),
        priority: Priority::Inherited,
        steps: vec![Step::new(role, after, call)],
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::{Mapping, page_size};
    use super::*;

    #[test]
    fn calls_are_made_when_it_is_their_turn() {
        let page = page_size();
        let memory = Arc::new(Mapping::new(4 * page).unwrap());
        let later = Duration::from_millis(30);
        let mut members = vec![
            one(
                "crew-later",
                "protect",
                later,
                Call::protect(&memory, page, page, libc::PROT_READ),
            ),
            one(
                "crew-now",
                "write",
                Duration::ZERO,
                Call::Write(Arc::clone(&memory), 3 * page),
            ),
            one("crew-map", "map", Duration::ZERO, Call::Map(page)),
        ];
        let unmap = Step::new("map", later, Call::Unmap);
        members[2].steps.push(unmap);
        let crew = Crew::assemble(members).unwrap();
        let start = crew.start();
        let rows = crew.finish(Duration::from_secs(20)).unwrap();
        assert_eq!(
            rows.iter().map(|row| row.call).collect::<Vec<_>>(),
            ["mprotect", "write", "mmap", "munmap"]
        );
        assert!(rows[0].start_ns >= start + 30_000_000 && rows[1].start_ns >= start);
        assert!(rows[3].start_ns >= start + 30_000_000);
        assert_eq!(rows[0].address, memory.start() + page as u64);
        assert_eq!(rows[2].address, rows[3].address);
        assert!(rows[0].tid != rows[1].tid && rows[2].tid == rows[3].tid);
        assert!(rows.iter().all(|row| row.start_ns <= row.end_ns));
        // What the threads had of it, they gave back.
        assert_eq!(Arc::strong_count(&memory), 1);
        assert!(memory.in_core(page).is_ok());
    }

    #[test]
    fn a_line_keeps_its_order_though_the_moments_do_not() {
        let line = line(3);
        let late = |i: usize| Duration::from_millis(30 - 10 * i as u64);
        let members = (0..3).map(|i| {
            let step = Step::new("map", late(i), Call::Map(page_size()));
            Member {
                name: format!("crew-{i}"),
                priority: Priority::Inherited,
                steps: vec![step.in_turn(&line, i)],
            }
        });
        let crew = Crew::assemble(members.collect()).unwrap();
        crew.start();
        let rows = crew.finish(Duration::from_secs(20)).unwrap();
        assert!(rows.is_sorted_by(|a, b| a.end_ns <= b.start_ns), "{rows:?}");
    }

    #[test]
    fn a_failed_call_is_named() {
        let mut member = one("crew-bad", "unmap", Duration::ZERO, Call::Unmap);
        member.steps[0].call = Call::MapFile(-1, page_size());
        let crew = Crew::assemble(vec![member]).unwrap();
        crew.start();
        let error = crew.finish(Duration::from_secs(20)).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.starts_with("crew-bad: mmap failed"), "{text}");
    }
}
