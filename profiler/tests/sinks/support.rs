//! Hand-made sessions and snapshots for the tests of sinks and recordings: a normal one, an empty
//! one, and one with numbers as large as they get.

use profiler_common::{
    agg::io_index,
    hist::{decade_of, log2_us_of, place_of},
    words::{
        FallbackReason, FolioState, HeldWait, IoprioClass, Kind, Loss, Mode, Op, Path, PrioClass,
        RetryReason,
    },
};
use vmascope::model::{
    Anatomy, ArrivalEvent, Batch, Blame, ConflictEvent, Doing, FaultEvent, HolderInfo, Host,
    Quality, Session, Signal, Snapshot, StackEvent, Thread, WaitEvent, WindowEvent,
    session::SCHEMA,
};

pub const ARMED_NS: u64 = 5_000_000_000;
pub const MS: u64 = 1_000_000;

pub fn session() -> Session {
    let signal = |name: &str, quality, hook: &str, reason: &str| Signal {
        name: name.into(),
        quality,
        hook: hook.into(),
        reason: reason.into(),
    };
    use Quality::{Approximate, Exact};
    Session {
        schema: SCHEMA,
        version: "0.1.0".into(),
        host: Host {
            name: "testbox".into(),
            kernel: "6.18.44+deb14-amd64".into(),
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
        signals: vec![
            signal("fault_count", Exact, "fentry/fexit handle_mm_fault", ""),
            signal("fault_path", Exact, "fentry/fexit handle_mm_fault", ""),
            signal("fault_latency", Exact, "fentry/fexit handle_mm_fault", ""),
            signal("fault_kind", Exact, "fentry/fexit handle_mm_fault", ""),
            signal(
                "fallback_reason",
                Approximate,
                "fentry lock_mm_and_find_vma",
                "sampled just after the failure: the writer may have come or gone",
            ),
            signal("retry_reason", Exact, "fentry filemap_fault", ""),
            signal(
                "folio_state",
                Approximate,
                "fexit __filemap_get_folio",
                "sampled at the look-up",
            ),
            signal("io_wait", Exact, "fentry/fexit io_schedule", ""),
            signal("run_delay", Exact, "task_struct.sched_info.run_delay", ""),
            signal("userfault_wait", Exact, "fentry/fexit handle_userfault", ""),
            signal(
                "held_wait",
                Approximate,
                "fentry/fexit io_schedule",
                "waits for mutexes of a file system or of hugetlb are in the rest",
            ),
            signal(
                "vma_size",
                Approximate,
                "fentry/fexit handle_mm_fault",
                "one common fault in 16 is looked at; retries and waits are all there",
            ),
            signal("mmap_lock_acquired", Exact, "tp_btf mmap_lock_*", ""),
            signal("mmap_lock_wait", Exact, "fentry/fexit rwsem slow paths", ""),
            signal("mmap_lock_hold", Exact, "tp_btf mmap_lock_*", ""),
            signal(
                "mmap_lock_op",
                Approximate,
                "helper task_pt_regs",
                "from the system call the thread is in",
            ),
            signal("mmap_lock_holder", Exact, "tp_btf mmap_lock_*", ""),
            signal(
                "vma_write_wait",
                Exact,
                "fentry/fexit __vma_start_write",
                "",
            ),
            signal(
                "windows",
                Approximate,
                "fentry/fexit io_schedule",
                "the lock is given up between the fault's start and its first wait",
            ),
            signal("what_if", Approximate, "tp_btf mmap_lock_*", "an estimate"),
        ],
        armed_monotonic_ns: ARMED_NS,
        armed_boottime_ns: ARMED_NS + 77,
        armed_realtime_ns: 1_790_000_000_123_456_789,
        map_bytes: 13 << 20,
        start_ms: 211.25,
    }
}

/// What a kernel without hooks in functions, locked down, can tell.
pub fn locked_down(mut s: Session) -> Session {
    s.tier = "tracepoint".into();
    s.mmap_lock = "contended".into();
    for signal in &mut s.signals {
        let gone = match signal.name.as_str() {
            "fault_count" => {
                signal.quality = Quality::Approximate;
                signal.reason = "faults through get_user_pages and errors are not seen".to_string();
                continue;
            }
            "fault_kind" | "vma_size" => "the VMA is not seen",
            "retry_reason" | "folio_state" | "io_wait" | "run_delay" | "userfault_wait"
            | "held_wait" | "vma_write_wait" | "windows" | "what_if" => {
                "the fault handler cannot be hooked"
            }
            "fault_path" => "needs --mmap-lock all",
            "fallback_reason" => "lockdown: no kprobes",
            "mmap_lock_acquired" | "mmap_lock_hold" => "needs --mmap-lock all",
            _ => continue,
        };
        signal.quality = Quality::Unavailable;
        signal.hook.clear();
        signal.reason = gone.to_owned();
    }
    s
}

pub fn contended(mut s: Session) -> Session {
    s.mmap_lock = "contended".into();
    for signal in &mut s.signals {
        if matches!(
            signal.name.as_str(),
            "mmap_lock_acquired" | "mmap_lock_hold"
        ) {
            signal.quality = Quality::Unavailable;
            signal.hook.clear();
            signal.reason = "not asked for: --mmap-lock all".into();
        }
    }
    s
}

/// An empty snapshot `seconds` after arming.
pub fn idle(seconds: u64) -> Snapshot {
    let duration_ns = seconds * 1_000_000_000;
    Snapshot {
        at_ns: ARMED_NS + duration_ns,
        duration_ns,
        own_cpu_ns: 2 * MS * seconds,
        own_rss_bytes: 9 << 20,
        ..Snapshot::empty()
    }
}

/// `storm` and `cat` at work for `seconds`; grows with time as counters do.
pub fn busy(seconds: u64) -> Snapshot {
    let mut s = idle(seconds);
    let mut noise = 88_172_645_463_325_252_u64;
    for second in 0..seconds {
        for i in 0..2000 {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            let ns = 400 + noise % (1_500 + 100 * second);
            match i % 100 {
                0 => fault(&mut s, Path::Retry, Kind::File, true, ns * 2_000),
                1..=4 => fault(&mut s, Path::Fallback, Kind::Anon, false, ns * 40),
                5 => fault(&mut s, Path::MmapLock, Kind::Shmem, false, ns * 3),
                _ => fault(&mut s, Path::VmaLock, Kind::Anon, false, ns),
            }
            if i % 20 == 0 {
                lock(&mut s, Mode::Read, Op::Fault, ns * 30, ns * 2);
                s.fallbacks[FallbackReason::WriteActive as usize] += 1;
            }
            if i % 50 == 0 {
                lock(&mut s, Mode::Write, Op::Mprotect, ns * 90, ns * 9);
            }
            if i % 500 == 0 {
                lock(&mut s, Mode::Read, Op::Proc, 0, ns * 7);
                lock(&mut s, Mode::Write, Op::Mmap, 0, ns);
            }
        }
        anatomy(&mut s.anatomy);
    }
    s.events_emitted = 130 * seconds;
    s.events_received = 130 * seconds;
    s.own_faults = 3 * seconds;
    s.vmstat_pgfault = s.faults_total() + s.own_faults;
    s.vmstat_pgmajfault = s.majors_total();
    s.vmstat_vma_lock = Some([s.path(Path::VmaLock).count, s.fallbacks.iter().sum()]);
    s.threads = threads(seconds);
    s
}

/// What the slow faults of one second went through.
fn anatomy(a: &mut Anatomy) {
    a.retries[RetryReason::Io as usize] += 18;
    a.retries[RetryReason::FolioLocked as usize] += 2;
    a.folio_states[FolioState::NotUptodate as usize] += 19;
    a.folio_states[FolioState::Uptodate as usize] += 1;
    a.held_waits[HeldWait::PageMkwrite as usize] += 3;
    a.held_wait_ns[HeldWait::PageMkwrite as usize] += 7 * MS;
    let file = &mut a.components[Kind::File as usize];
    file.faults += 23;
    file.total_ns += 100 * MS;
    file.mmap_lock_wait_ns += 5 * MS;
    file.io_wait_ns += 80 * MS;
    file.run_delay_ns += 2 * MS;
    file.held_wait_ns += 7 * MS;
    let io = &mut a.io[io_index(PrioClass::Normal, IoprioClass::None) as usize];
    for _ in 0..20 {
        io.wait.record(4 * MS);
    }
    io.run_delay_sum_ns += 2 * MS;
    io.run_delay_max_ns = MS;
    for (size, faults) in [(0, 40), (5, 600), (18, 1_360)] {
        a.size_faults[size] += faults;
    }
    a.size_retries[18] += 20;
    a.size_wait_ns[18] += 94 * MS;
}

fn threads(seconds: u64) -> Vec<Thread> {
    let mut all = Vec::new();
    for (tgid, tid, comm) in [
        (812, 812, "cat"),
        (1234, 1234, "storm"),
        (1234, 1240, "storm-fault-1"),
        (1234, 1241, "storm-fault-2"),
    ] {
        let mut t = Thread {
            tid,
            tgid,
            comm: comm.into(),
            exited: tid == 812,
            container: if tid == 1234 { "3f1d0d6a5c9b" } else { "" }.into(),
            ns_pid: (tid == 1234).then_some(12),
            ..Thread::default()
        };
        let writer = tid == 1234;
        t.by_path[Path::VmaLock as usize] = 600 * seconds / u64::from(1 + u32::from(writer) * 5);
        t.by_path[Path::Fallback as usize] = 30 * seconds;
        t.by_path[Path::Retry as usize] = seconds * u64::from(tid == 812) * 20;
        t.major = t.by_path[Path::Retry as usize];
        t.minor = t.faults() - t.major;
        t.sum_ns = t.minor * 900 + t.major * 3 * MS;
        t.max_ns = 5 * MS;
        t.log2_us[log2_us_of(place_of(900).1)] = t.minor;
        t.log2_us[log2_us_of(place_of(3 * MS).1)] = t.major;
        let mode = if writer { Mode::Write } else { Mode::Read } as usize;
        t.waits[mode] = 40 * seconds;
        t.wait_sum_ns[mode] = 40 * seconds * 81_000;
        t.wait_max_ns[mode] = 171_000 + u64::from(tid);
        t.map_count = 120;
        t.total_vm = 1_310_720;
        all.push(t);
    }
    all
}

/// As large as anything gets: nothing may overflow, panic or break the columns.
pub fn extreme() -> Snapshot {
    let mut s = busy(3);
    s.duration_ns = 40 * 24 * 3_600 * 1_000_000_000;
    s.at_ns = ARMED_NS + s.duration_ns;
    for f in &mut s.faults {
        f.count = 987_654_321_012;
        f.major = 123_456_789_012;
        f.by_kind = [164_609_053_502; Kind::COUNT];
        f.latency.record(3_000 * 1_000 * MS);
        f.latency.record(u64::from(u32::MAX) * MS);
    }
    for side in &mut s.locks {
        side.wait.record(99_999 * MS);
        side.hold.record(999_999_999 * MS);
        for op in &mut side.by_op {
            op.acquired = 88_888_888_888;
            op.waits = 7_777_777_777;
            op.wait_sum_ns = 4_000_000_000 * MS;
            op.wait_max_ns = 99_999 * MS;
            op.holds = 88_888_888_888;
            op.hold_sum_ns = 5_000_000_000 * MS;
            op.hold_max_ns = 999_999 * MS;
        }
        side.decades = [99_999_999_999; profiler_common::hist::DECADES];
    }
    s.losses = [1_234_567; Loss::COUNT];
    s.threads.truncate(1);
    for n in 0..500u32 {
        s.threads.push(Thread {
            tid: 4_190_000 + n,
            tgid: 4_190_000 + n,
            comm: "kworker/u512:15".into(),
            by_path: [9_876_543_210; Path::COUNT],
            minor: 9_876_543_210 * 9,
            waits: [u64::from(n); Mode::COUNT],
            wait_sum_ns: [u64::from(n) * 3_600_000 * MS; Mode::COUNT],
            wait_max_ns: [3_600_000 * MS; Mode::COUNT],
            ..Thread::default()
        });
    }
    s.own_cpu_ns = s.duration_ns / 3;
    s.own_rss_bytes = 23 << 20;
    s
}

fn fault(s: &mut Snapshot, path: Path, kind: Kind, major: bool, ns: u64) {
    let f = &mut s.faults[path as usize];
    f.count += 1;
    f.major += u64::from(major);
    f.by_kind[kind as usize] += 1;
    f.latency.record(ns);
}

fn lock(s: &mut Snapshot, mode: Mode, op: Op, wait_ns: u64, hold_ns: u64) {
    let side = &mut s.locks[mode as usize];
    let sum = &mut side.by_op[op as usize];
    sum.acquired += 1;
    sum.holds += 1;
    sum.hold_sum_ns += hold_ns;
    sum.hold_max_ns = sum.hold_max_ns.max(hold_ns);
    side.hold.record(hold_ns);
    side.decades[decade_of(wait_ns)] += 1;
    if wait_ns > 0 {
        sum.waits += 1;
        sum.wait_sum_ns += wait_ns;
        sum.wait_max_ns = sum.wait_max_ns.max(wait_ns);
        side.wait.record(wait_ns);
    }
}

pub fn waits() -> Vec<WaitEvent> {
    let wait = |at_ms: u64, us: u64, tid, mode, op, holder| WaitEvent {
        id: at_ms,
        start_ns: ARMED_NS + at_ms * MS,
        end_ns: ARMED_NS + at_ms * MS + us * 1_000,
        cpu: 1,
        tid,
        tgid: 1234,
        comm: "storm".into(),
        prio: 120,
        policy: 0,
        mm: 0xffff_8881_0a0b_0c00,
        mm_tgid: Some(1234),
        mode,
        op,
        acquired: true,
        vma: None,
        range: None,
        holder,
        stack: u32::from(at_ms == 100),
        blame: Blame {
            root_wait: at_ms,
            depth: 1,
            ..Blame::default()
        },
    };
    let holder = |tid, readers| {
        Some(HolderInfo {
            tid,
            tgid: 1234,
            comm: "storm-fault-1".into(),
            prio: 139,
            readers,
            ..HolderInfo::default()
        })
    };
    let reader = holder(1240, 1);
    let mut all = vec![
        wait(100, 41_200, 1234, Mode::Write, Op::Mprotect, reader),
        wait(150, 12, 1240, Mode::Read, Op::Fault, holder(1234, 0)),
        wait(900, 3_400, 1241, Mode::Read, Op::Fault, None),
    ];
    all[2].mm_tgid = None;
    all[2].acquired = false;
    // The first is a writer of a VMA, and the last waits behind it.
    let worst = &mut all[0];
    worst.mode = Mode::VmaWrite;
    worst.vma = Some((0x7f12_3456_0000, 0x7f12_3460_0000));
    worst.range = Some((0x7f12_3456_0000, 0x7f12_3456_1000));
    if let Some(h) = &mut worst.holder {
        h.op = Some(Op::Fault);
        h.doing = Some(Doing::Held(HeldWait::PageMkwrite));
        h.address = 0x7f12_3456_7000;
    }
    worst.blame.blamed_ns = 41_000_000;
    worst.blame.handoff_ns = 200_000;
    worst.blame.last_holder_tid = Some(1240);
    worst.blame.same_page = Some(false);
    worst.blame.depth = 2;
    worst.blame.inversion = true;
    let last = &mut all[2];
    last.holder = Some(HolderInfo {
        tid: 1234,
        tgid: 1234,
        comm: "storm".into(),
        prio: 120,
        op: Some(Op::Mprotect),
        doing: Some(Doing::Lock),
        ..HolderInfo::default()
    });
    last.blame.blamed_ns = 3_399_000;
    last.blame.blocker_wait = Some(100);
    last.blame.root_wait = 100;
    last.blame.depth = 3;
    all
}

/// A fault that waits for storage, and a writer and a reader that come meanwhile.
pub fn windows() -> (Vec<WindowEvent>, Vec<ArrivalEvent>, Vec<ConflictEvent>) {
    let window = WindowEvent {
        id: 1,
        attempt_ns: ARMED_NS + 100 * MS,
        io_ns: ARMED_NS + 101 * MS,
        close_ns: ARMED_NS + 141 * MS,
        mm: 0xffff_8881_0a0b_0c00,
        tid: 812,
        tgid: 812,
        comm: "cat, \"quoted\"".into(),
        prio: 120,
        address: 0x7f12_3456_7000,
        vm_start: 0x7f12_3456_0000,
        vm_end: 0x7f12_3460_0000,
        kind: Kind::File,
        retry: Some(RetryReason::Io),
        folio: Some(FolioState::NotUptodate),
    };
    let arrival = |at_ms: u64, tid, mode, op, start, end| ArrivalEvent {
        at_ns: ARMED_NS + at_ms * MS,
        section_ns: ARMED_NS + 111 * MS,
        mm: window.mm,
        tid,
        tgid: 812,
        comm: "writer".into(),
        prio: 120,
        mode,
        op,
        start,
        end,
        retry: false,
    };
    let (start, end) = (window.vm_start, window.vm_end);
    let arrivals = vec![
        arrival(111, 813, Mode::Write, Op::Mprotect, start, end),
        arrival(111, 813, Mode::VmaWrite, Op::Mprotect, start, end),
        arrival(121, 814, Mode::Read, Op::Proc, 0, 0),
    ];
    let conflict = |exact| ConflictEvent {
        window: 1,
        at_ns: ARMED_NS + 111 * MS,
        tid: 813,
        tgid: 812,
        comm: "writer".into(),
        prio: 120,
        op: Op::Mprotect,
        exact,
    };
    let conflicts = vec![conflict(true), conflict(false)];
    (vec![window], arrivals, conflicts)
}

pub fn batch() -> Batch {
    let (windows, arrivals, conflicts) = windows();
    Batch {
        faults: faults(),
        waits: waits(),
        windows,
        arrivals,
        conflicts,
        stacks: vec![StackEvent {
            id: 1,
            frames: "do_syscall_64;do_mprotect_pkey;__vma_start_write".into(),
        }],
        ..Batch::default()
    }
}

pub fn faults() -> Vec<FaultEvent> {
    vec![
        FaultEvent {
            start_ns: ARMED_NS + 100 * MS,
            end_ns: ARMED_NS + 148 * MS,
            cpu: 0,
            tid: 812,
            tgid: 812,
            comm: "cat, \"quoted\"".into(),
            prio: 120,
            policy: 0,
            address: 0x7f12_3456_7000,
            vm_start: 0x7f12_3456_0000,
            vm_end: 0x7f12_3460_0000,
            vm_flags: 0x71,
            path: Path::Retry,
            kind: Kind::File,
            fallback: None,
            attempts: 2,
            major: true,
            mmap_wait_ns: 1_250_000,
            io_wait_ns: 40 * MS,
            run_delay_ns: MS,
            userfault_wait_ns: 0,
            held_wait_ns: 0,
            retry: Some(RetryReason::Io),
            held: None,
            folio: Some(FolioState::NotUptodate),
            ioprio: 2 << 13 | 4,
            dev: 8 << 20 | 1,
            ino: 131_073,
            name: "data, \"cold\".bin".into(),
            fault_flags: 0x1254,
            ret: 0x204,
        },
        FaultEvent {
            start_ns: ARMED_NS + 150 * MS,
            end_ns: ARMED_NS + 150 * MS + 40_000,
            cpu: 1,
            tid: 1240,
            tgid: 1234,
            comm: "storm-fault-1".into(),
            prio: -1,
            policy: 6,
            address: u64::MAX - 0xfff,
            vm_start: 0,
            vm_end: u64::MAX,
            vm_flags: u64::MAX,
            path: Path::Fallback,
            kind: Kind::Anon,
            fallback: Some(FallbackReason::WriteActive),
            attempts: 1,
            major: false,
            mmap_wait_ns: 12_000,
            io_wait_ns: 0,
            run_delay_ns: 0,
            userfault_wait_ns: 0,
            held_wait_ns: 21_000,
            retry: None,
            held: Some(HeldWait::Reclaim),
            folio: None,
            ioprio: 0,
            dev: 0,
            ino: u64::MAX,
            name: String::new(),
            fault_flags: u32::MAX,
            ret: 0,
        },
    ]
}

/// A folder of this test's own, gone when dropped.
pub struct Scratch(pub std::path::PathBuf);

impl Scratch {
    pub fn new(test: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("vmascope-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub fn file(&self, name: &str) -> std::path::PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: the temporary folder is cleared by others too.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Compares with `tests/sinks/expected/NAME`; run with UPDATE_EXPECTED=1 to accept what is there now.
pub fn expect(name: &str, got: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/sinks/expected")
        .join(name);
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, got).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        want == got,
        "{} differs (UPDATE_EXPECTED=1 accepts):\n--- expected\n{want}\n--- got\n{got}",
        path.display()
    );
}
