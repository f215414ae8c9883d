//! Everything counted since arming, at one moment. Sinks that want rates subtract two of them.

use profiler_common::{
    hist::{DECADES, LOG2_BUCKETS},
    thread::Common,
    words::{FallbackReason, Kind, Loss, Mode, Op, Path},
};

use super::{Anatomy, Hist, Standing, exited};

/// Faults that ended on one path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FaultStats {
    pub count: u64,
    pub major: u64,
    pub by_kind: [u64; Kind::COUNT],
    pub latency: Hist,
}

impl FaultStats {
    /// Faults that threads counted for themselves, all of anonymous memory; what is missing of their
    /// times beside the slots.
    pub fn add_common(&mut self, common: &Common) {
        self.count += common.faults;
        self.by_kind[Kind::Anon as usize] += common.faults;
        self.latency.sum_ns = self.latency.sum_ns.wrapping_add(common.sum_ns);
        self.latency.max_ns = self.latency.max_ns.max(common.max_ns);
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpStats {
    /// 0 in `contended` mode, where uncontended acquisitions are not seen.
    pub acquired: u64,
    pub waits: u64,
    pub wait_sum_ns: u64,
    pub wait_max_ns: u64,
    pub holds: u64,
    pub hold_sum_ns: u64,
    pub hold_max_ns: u64,
}

/// `mmap_lock` for reading, or for writing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LockSide {
    pub by_op: [OpStats; Op::COUNT],
    pub wait: Hist,
    pub hold: Hist,
    pub decades: [u64; DECADES],
}

impl LockSide {
    pub fn total(&self) -> OpStats {
        self.by_op
            .iter()
            .fold(OpStats::default(), |sum, op| OpStats {
                acquired: sum.acquired + op.acquired,
                waits: sum.waits + op.waits,
                wait_sum_ns: sum.wait_sum_ns + op.wait_sum_ns,
                wait_max_ns: sum.wait_max_ns.max(op.wait_max_ns),
                holds: sum.holds + op.holds,
                hold_sum_ns: sum.hold_sum_ns + op.hold_sum_ns,
                hold_max_ns: sum.hold_max_ns.max(op.hold_max_ns),
            })
    }
}

/// One thread's counts; also used for a whole process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    pub tid: u32,
    pub tgid: u32,
    pub comm: String,
    /// What its process runs in: a container or a service; of main threads only, empty: neither.
    pub container: String,
    /// Of main threads only.
    pub standing: Standing,
    /// Its process's number inside of its pid namespace, where that is another; of main threads only.
    pub ns_pid: Option<u32>,
    pub exited: bool,
    pub by_path: [u64; Path::COUNT],
    /// The kernel's own counts, as in `getrusage`.
    pub minor: u64,
    pub major: u64,
    pub sum_ns: u64,
    pub max_ns: u64,
    pub log2_us: [u64; LOG2_BUCKETS],
    pub waits: [u64; Mode::COUNT],
    pub wait_sum_ns: [u64; Mode::COUNT],
    pub wait_max_ns: [u64; Mode::COUNT],
    /// VMAs and pages of its address space, when a slow fault of it last ended; 0: not seen.
    pub map_count: u64,
    pub total_vm: u64,
}

impl Thread {
    pub fn faults(&self) -> u64 {
        self.by_path.iter().sum()
    }

    /// Faults the kernel counted and no hook saw: it skips a program that was preempted on the
    /// same CPU, and some hooks do not see get_user_pages.
    pub fn missed(&self) -> u64 {
        let seen = self.faults() - self.on_path(Path::Error) - self.on_path(Path::Interrupted);
        (self.minor + self.major).saturating_sub(seen)
    }

    pub fn on_path(&self, path: Path) -> u64 {
        self.by_path[path as usize]
    }

    /// It has counted nothing.
    pub fn is_idle(&self) -> bool {
        self.minor + self.major + self.faults() == 0 && self.waits == [0; Mode::COUNT]
    }

    /// Takes off what it had counted at an earlier moment; largest values stay.
    pub fn take_off(&mut self, before: &Thread) {
        let pairs = [
            (&mut self.by_path[..], &before.by_path[..]),
            (&mut self.log2_us[..], &before.log2_us[..]),
            (&mut self.waits[..], &before.waits[..]),
            (&mut self.wait_sum_ns[..], &before.wait_sum_ns[..]),
        ];
        for (now, then) in pairs {
            for (now, then) in now.iter_mut().zip(then) {
                *now = now.saturating_sub(*then);
            }
        }
        self.minor = self.minor.saturating_sub(before.minor);
        self.major = self.major.saturating_sub(before.major);
        self.sum_ns = self.sum_ns.saturating_sub(before.sum_ns);
    }

    /// Adds another thread's counts; identity stays.
    pub fn absorb(&mut self, other: &Thread) {
        for (sum, n) in self.by_path.iter_mut().zip(other.by_path) {
            *sum += n;
        }
        self.minor += other.minor;
        self.major += other.major;
        self.sum_ns += other.sum_ns;
        self.max_ns = self.max_ns.max(other.max_ns);
        for (sum, n) in self.log2_us.iter_mut().zip(other.log2_us) {
            *sum += n;
        }
        for mode in 0..Mode::COUNT {
            self.waits[mode] += other.waits[mode];
            self.wait_sum_ns[mode] += other.wait_sum_ns[mode];
            self.wait_max_ns[mode] = self.wait_max_ns[mode].max(other.wait_max_ns[mode]);
        }
        self.map_count = self.map_count.max(other.map_count);
        self.total_vm = self.total_vm.max(other.total_vm);
    }
}

/// A process: the sum of its threads, dead ones included.
pub type Process = Thread;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Monotonic, and since arming.
    pub at_ns: u64,
    pub duration_ns: u64,
    /// Indexed by `Path`.
    pub faults: Vec<FaultStats>,
    pub fallbacks: [u64; FallbackReason::COUNT],
    pub anatomy: Anatomy,
    pub own_faults: u64,
    /// Indexed by `Mode`.
    pub locks: [LockSide; Mode::COUNT],
    pub losses: [u64; Loss::COUNT],
    pub events_emitted: u64,
    pub events_received: u64,
    pub threads: Vec<Thread>,
    /// `/proc/vmstat` since arming, system-wide: pgfault, pgmajfault.
    pub vmstat_pgfault: u64,
    pub vmstat_pgmajfault: u64,
    /// vma_lock_success and vma_lock_abort, where the kernel keeps them.
    pub vmstat_vma_lock: Option<[u64; 2]>,
    /// Own CPU time.
    pub own_cpu_ns: u64,
    pub own_rss_bytes: u64,
    /// What of it are pages of maps. Not in a recording.
    pub own_mapped_bytes: u64,
    /// Run time of the programs, where the kernel counts it. Not in a recording.
    pub own_bpf_ns: Option<u64>,
}

impl Snapshot {
    pub fn empty() -> Self {
        Self {
            faults: vec![FaultStats::default(); Path::COUNT],
            ..Self::default()
        }
    }

    pub fn path(&self, path: Path) -> &FaultStats {
        &self.faults[path as usize]
    }

    pub fn faults_total(&self) -> u64 {
        self.faults.iter().map(|f| f.count).sum()
    }

    pub fn majors_total(&self) -> u64 {
        self.faults.iter().map(|f| f.major).sum()
    }

    pub fn lost(&self) -> u64 {
        self.losses.iter().sum()
    }

    /// Threads added up by process, most faults first.
    pub fn processes(&self) -> Vec<Process> {
        let mut by_tgid = std::collections::BTreeMap::<u32, Process>::new();
        for t in &self.threads {
            let p = by_tgid.entry(t.tgid).or_insert_with(|| Process {
                tid: t.tgid,
                tgid: t.tgid,
                comm: t.comm.clone(),
                exited: true,
                ..Process::default()
            });
            if t.tid == t.tgid || p.comm == exited::NAME {
                p.comm.clone_from(&t.comm);
                p.container.clone_from(&t.container);
                p.standing = t.standing;
                p.ns_pid = t.ns_pid;
            }
            p.exited &= t.exited;
            p.absorb(t);
        }
        let mut all: Vec<_> = by_tgid.into_values().collect();
        all.sort_by_key(|p| std::cmp::Reverse(p.faults()));
        all
    }
}
