//! A recording of ten quiet seconds with one wait in each, made by hand.

use std::path::{Path as FilePath, PathBuf};

use profiler_common::words::{Mode, Op, Path};
use vmascope::{
    model::{
        Batch, Blame, HolderInfo, Host, Quality, Segment, SegmentBy, Session, Signal, Snapshot,
        WaitEvent, session::SCHEMA,
    },
    recording::Writer,
};

const ARMED_NS: u64 = 5_000_000_000;
const S: u64 = 1_000_000_000;

/// A folder of this test's own, gone when dropped.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(test: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("vmascope-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

pub fn session() -> Session {
    let signal = |name: &str| Signal {
        name: name.into(),
        quality: Quality::Exact,
        hook: "by hand".into(),
        reason: String::new(),
    };
    Session {
        schema: SCHEMA,
        version: "0.1.0".into(),
        host: Host {
            name: "testbox".into(),
            kernel: "6.18".into(),
            arch: "x86_64".into(),
            page_size: 4096,
            cpus: 2,
        },
        tier: "full".into(),
        target: "system".into(),
        vma_lock: "refcount".into(),
        mmap_lock: "all".into(),
        min_us: 10,
        sample: 1,
        interval_ms: 1000,
        signals: ["fault_path", "fault_latency", "mmap_lock_wait"]
            .map(signal)
            .into(),
        armed_monotonic_ns: ARMED_NS,
        armed_boottime_ns: ARMED_NS,
        armed_realtime_ns: 1_790_000_000_000_000_000,
        map_bytes: 13 << 20,
        start_ms: 200.0,
    }
}

pub fn recording(scratch: &Scratch) -> PathBuf {
    let path = scratch.0.join("sample.db");
    let mut writer = Writer::create(&path, &session()).unwrap();
    let mut now = Snapshot::empty();
    for second in 1..=10 {
        let wait = wait(second);
        let side = &mut now.locks[Mode::Write as usize];
        side.wait.record(wait.duration_ns());
        let op = &mut side.by_op[Op::Mmap as usize];
        op.waits += 1;
        op.wait_sum_ns += wait.duration_ns();
        op.wait_max_ns = wait.duration_ns();
        now.faults[Path::VmaLock as usize].count += 100 * second;
        now.duration_ns = second * S;
        now.at_ns = ARMED_NS + now.duration_ns;
        writer
            .events(&Batch {
                waits: vec![wait],
                ..Batch::default()
            })
            .unwrap();
        writer.interval(&now).unwrap();
    }
    writer.finish(&now).unwrap();
    path
}

/// Half a second long, in the middle of that second.
fn wait(second: u64) -> WaitEvent {
    let start_ns = ARMED_NS + second * S - S * 3 / 4;
    let end_ns = start_ns + S / 2;
    let holder = HolderInfo {
        tid: 78,
        tgid: 77,
        comm: "holder".into(),
        prio: 120,
        op: Some(Op::Mmap),
        ..HolderInfo::default()
    };
    WaitEvent {
        id: second,
        start_ns,
        end_ns,
        cpu: 0,
        tid: 77,
        tgid: 77,
        comm: "sleeper".into(),
        prio: 120,
        policy: 0,
        mm: 0xffff_8881_0a0b_0c00,
        mm_tgid: Some(77),
        mode: Mode::Write,
        op: Op::Mmap,
        acquired: true,
        vma: None,
        range: None,
        holder: Some(holder.clone()),
        stack: 0,
        blame: Blame {
            segments: vec![Segment {
                start_ns,
                end_ns,
                blamed_ns: S / 2,
                stretches: 1,
                by: SegmentBy::Holder(holder),
            }],
            blamed_ns: S / 2,
            root_wait: second,
            depth: 2,
            ..Blame::default()
        },
    }
}

/// From the middle on, waits are for a lock there is not.
pub fn break_it(path: &FilePath) {
    let sql = rusqlite::Connection::open(path).unwrap();
    let broken = "UPDATE waits SET lock = 'no such lock' WHERE id > 5";
    assert_eq!(sql.execute(broken, ()).unwrap(), 5);
}
