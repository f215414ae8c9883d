//! Drains the ring buffer on a plain thread. In: records. Out: batches of events in a bounded
//! queue; when its reader is slow the ring fills and the kernel side counts what finds no room.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use aya::maps::{MapData, RingBuf};
use profiler_common::{
    record::{ArrivalRecord, FaultRecord, HoldRecord, WaitRecord, WindowRecord, kind},
    thread::Holder,
    words::{FallbackReason, FolioState, HeldWait, Kind, Mode, Op, Path, RetryReason},
};
use tokio::sync::Notify;

use super::text;
use crate::model::{
    ArrivalEvent, Batch, Blame, Doing, FaultEvent, HoldEvent, HolderInfo, WaitEvent, WindowEvent,
};

/// Records never wake the reader (a wake-up costs more than a record): 4 MiB last 25 ms at
/// 800 000 records a second.
const PERIOD: Duration = Duration::from_millis(25);
const BATCH: usize = 4096;
/// How far the reader may fall behind: 100 000 events are half a second of 200 000 a second, and
/// some 30 MB, which only such a burst ever takes.
const BATCHES: usize = 24;
/// Full batches for which the reader is called at once.
const CALL_AT: usize = 2;

pub struct Ring {
    shared: Arc<Shared>,
    /// Until it is started.
    waiting: Option<RingBuf<MapData>>,
    thread: Option<JoinHandle<()>>,
    received: u64,
}

#[derive(Default)]
struct Shared {
    /// All but the last are full.
    queue: Mutex<VecDeque<Batch>>,
    stop: AtomicBool,
    call: Arc<Notify>,
}

impl Ring {
    pub fn new(ring: RingBuf<MapData>) -> Self {
        Self {
            shared: Arc::default(),
            waiting: Some(ring),
            thread: None,
            received: 0,
        }
    }

    /// From here on there is a second thread.
    pub fn start(&mut self) -> std::io::Result<()> {
        if let Some(ring) = self.waiting.take() {
            let shared = Arc::clone(&self.shared);
            let thread = std::thread::Builder::new()
                .name("vmascope-ring".into())
                .spawn(move || drain(ring, &shared))?;
            self.thread = Some(thread);
        }
        Ok(())
    }

    /// Told whenever events should be taken before they become too many.
    pub fn call(&self) -> Arc<Notify> {
        Arc::clone(&self.shared.call)
    }

    /// What has come in since the last call.
    pub fn take(&mut self) -> Vec<Batch> {
        let taken = std::mem::take(&mut *self.shared.queue());
        self.received += taken
            .iter()
            .map(|b| b.len() as u64 + b.unknown)
            .sum::<u64>();
        taken.into()
    }

    pub fn received(&self) -> u64 {
        self.received
    }

    /// Drains what is left and ends the thread.
    pub fn finish(&mut self) -> Vec<Batch> {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.take()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
    }
}

impl Shared {
    /// Every change leaves the queue whole, so a panic beside it does no harm.
    fn queue(&self) -> MutexGuard<'_, VecDeque<Batch>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The batch to go on with; `None` while there is no room.
    fn open(&self) -> Option<Batch> {
        let mut queue = self.queue();
        match queue.back() {
            Some(batch) if batch.len() < BATCH => queue.pop_back(),
            _ => (queue.len() < BATCHES).then(Batch::default),
        }
    }

    /// Whether it is full.
    fn close(&self, batch: Batch) -> bool {
        let full = batch.len() >= BATCH;
        if !batch.is_empty() || batch.unknown > 0 {
            let mut queue = self.queue();
            queue.push_back(batch);
            if full && queue.len() >= CALL_AT {
                self.call.notify_one();
            }
        }
        full
    }
}

fn drain(mut ring: RingBuf<MapData>, shared: &Shared) {
    loop {
        // Read before draining, so that nothing submitted before `stop` is left behind.
        let last = shared.stop.load(Ordering::Acquire);
        // The rest, at most a full ring, is taken whether there is room or not.
        while let Some(mut batch) = shared.open().or_else(|| last.then(Batch::default)) {
            while batch.len() < BATCH
                && let Some(item) = ring.next()
            {
                decode(&item, &mut batch);
            }
            if !shared.close(batch) {
                break;
            }
        }
        if last {
            return;
        }
        std::thread::sleep(PERIOD);
    }
}

fn decode(bytes: &[u8], batch: &mut Batch) {
    let known = match bytes
        .get(..4)
        .map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
    {
        Some(kind::FAULT) => read(bytes)
            .and_then(|r| fault(&r))
            .map(|e| batch.faults.push(e)),
        Some(kind::WAIT) => read(bytes)
            .and_then(|r| wait(&r))
            .map(|e| batch.waits.push(e)),
        Some(kind::HOLD) => read(bytes)
            .and_then(|r| hold(&r))
            .map(|e| batch.holds.push(e)),
        Some(kind::WINDOW) => read(bytes)
            .and_then(|r| window(&r))
            .map(|e| batch.windows.push(e)),
        Some(kind::ARRIVAL) => read(bytes)
            .and_then(|r| arrival(&r))
            .map(|e| batch.arrivals.push(e)),
        _ => None,
    };
    if known.is_none() {
        batch.unknown += 1;
    }
}

/// A record is made of integers only.
trait Record: Copy {}
impl Record for FaultRecord {}
impl Record for WaitRecord {}
impl Record for HoldRecord {}
impl Record for WindowRecord {}
impl Record for ArrivalRecord {}

fn read<T: Record>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: long enough, and every bit pattern of a `Record` is a value.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

fn fault(r: &FaultRecord) -> Option<FaultEvent> {
    Some(FaultEvent {
        start_ns: r.start_ns,
        end_ns: r.end_ns,
        cpu: r.cpu,
        tid: r.who.tid,
        tgid: r.who.tgid,
        comm: text(&r.who.comm),
        prio: r.who.prio,
        policy: r.who.policy,
        address: r.address,
        vm_start: r.vm_start,
        vm_end: r.vm_end,
        vm_flags: r.vm_flags,
        path: Path::from_raw(r.path)?,
        kind: Kind::from_raw(r.vma_kind)?,
        fallback: r.fallback.checked_sub(1).and_then(FallbackReason::from_raw),
        attempts: r.attempts,
        major: r.major != 0,
        mmap_wait_ns: r.mmap_wait_ns,
        io_wait_ns: r.io_wait_ns,
        run_delay_ns: r.run_delay_ns,
        userfault_wait_ns: r.userfault_wait_ns,
        held_wait_ns: r.held_wait_ns,
        retry: r.retry.checked_sub(1).and_then(RetryReason::from_raw),
        held: r.held.checked_sub(1).and_then(HeldWait::from_raw),
        folio: r.folio.checked_sub(1).and_then(FolioState::from_raw),
        ioprio: r.who.ioprio,
        dev: r.dev,
        ino: r.ino,
        name: text(&r.name),
        fault_flags: r.fault_flags,
        ret: r.ret,
    })
}

fn wait(r: &WaitRecord) -> Option<WaitEvent> {
    let range = |start: u64, end: u64| (end > start).then_some((start, end));
    Some(WaitEvent {
        id: 0,
        start_ns: r.start_ns,
        end_ns: r.end_ns,
        cpu: r.cpu,
        tid: r.who.tid,
        tgid: r.who.tgid,
        comm: text(&r.who.comm),
        prio: r.who.prio,
        policy: r.who.policy,
        mm: r.mm,
        mm_tgid: (r.mm_tgid != 0).then_some(r.mm_tgid),
        mode: Mode::from_raw(r.mode)?,
        op: Op::from_raw(r.op)?,
        acquired: r.acquired != 0,
        vma: range(r.vm_start, r.vm_end),
        range: range(r.op_start, r.op_end),
        holder: holder(&r.holder),
        stack: r.stack,
        blame: Blame::default(),
    })
}

fn hold(r: &HoldRecord) -> Option<HoldEvent> {
    let mode = Mode::from_raw(r.mode)?;
    Some(HoldEvent {
        since_ns: r.since_ns,
        end_ns: r.end_ns,
        mm: r.mm,
        mode,
        holder: HolderInfo {
            tid: r.who.tid,
            tgid: r.who.tgid,
            comm: text(&r.who.comm),
            prio: r.who.prio,
            readers: u32::from(mode != Mode::Write),
            op: Op::from_raw(r.op),
            doing: r
                .held
                .checked_sub(1)
                .and_then(HeldWait::from_raw)
                .map(Doing::Held),
            address: r.address,
            stack: r.stack,
        },
    })
}

fn window(r: &WindowRecord) -> Option<WindowEvent> {
    Some(WindowEvent {
        id: 0,
        attempt_ns: r.attempt_ns,
        io_ns: r.io_ns,
        close_ns: r.close_ns,
        mm: r.mm,
        tid: r.who.tid,
        tgid: r.who.tgid,
        comm: text(&r.who.comm),
        prio: r.who.prio,
        address: r.address,
        vm_start: r.vm_start,
        vm_end: r.vm_end,
        kind: Kind::from_raw(r.vma_kind)?,
        retry: r.retry.checked_sub(1).and_then(RetryReason::from_raw),
        folio: r.folio.checked_sub(1).and_then(FolioState::from_raw),
    })
}

fn arrival(r: &ArrivalRecord) -> Option<ArrivalEvent> {
    Some(ArrivalEvent {
        at_ns: r.at_ns,
        section_ns: r.section_ns,
        mm: r.mm,
        tid: r.who.tid,
        tgid: r.who.tgid,
        comm: text(&r.who.comm),
        prio: r.who.prio,
        mode: Mode::from_raw(r.mode)?,
        op: Op::from_raw(r.op)?,
        start: r.start,
        end: r.end,
        retry: r.retry != 0,
    })
}

fn holder(h: &Holder) -> Option<HolderInfo> {
    (h.tid != 0 || h.readers != 0).then(|| HolderInfo {
        tid: h.tid,
        tgid: h.tgid,
        comm: text(&h.comm),
        prio: h.prio,
        readers: h.readers,
        ..HolderInfo::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_foreign_records_are_counted_not_read() {
        let mut batch = Batch::default();
        decode(&[], &mut batch);
        decode(&[1, 0, 0, 0], &mut batch);
        decode(&[9; 256], &mut batch);
        assert_eq!((batch.len(), batch.unknown), (0, 3));
    }

    #[test]
    fn the_queue_keeps_order_calls_in_time_and_is_bounded() {
        let shared = Shared::default();
        let called = || {
            let call = shared.call.notified();
            tokio::pin!(call);
            call.enable()
        };
        let record = |tid| {
            // SAFETY: a record is made of integers only.
            let mut r: FaultRecord = unsafe { std::mem::zeroed() };
            r.who.tid = tid;
            fault(&r).unwrap()
        };
        let mut tid = 0;
        let mut put = |n: usize| {
            let mut batch = shared.open()?;
            for _ in 0..n.min(BATCH - batch.len()) {
                batch.faults.push(record(tid));
                tid += 1;
            }
            Some(shared.close(batch))
        };
        // Two halves of a batch, then a whole one.
        assert_eq!(put(BATCH / 2), Some(false));
        assert_eq!(put(BATCH), Some(true));
        assert!(!called());
        assert_eq!(put(BATCH), Some(true));
        assert!(called());
        assert_eq!(put(1), Some(false));
        let taken: Vec<Batch> = std::mem::take(&mut *shared.queue()).into();
        let tids: Vec<u32> = taken
            .iter()
            .flat_map(|b| b.faults.iter().map(|f| f.tid))
            .collect();
        assert_eq!(tids, (0..2 * BATCH as u32 + 1).collect::<Vec<_>>());
        for _ in 0..BATCHES {
            assert_eq!(put(BATCH), Some(true));
        }
        assert_eq!(put(1), None);
    }
}
