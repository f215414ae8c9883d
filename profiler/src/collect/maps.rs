//! Polls the counters. In: the per-CPU arrays and the thread table. Out: a cumulative Snapshot.
//! Threads that have exited are taken out of the table and remembered in `dead`.

use std::collections::BTreeMap;

use aya::{
    Ebpf, Pod,
    maps::{HashMap, Map, MapData, MapError, PerCpuArray},
    programs::ProgramFd,
    sys::SyscallError,
};
use profiler_common::{
    agg::{self, Counters, FaultAgg, LockAgg, LockHist, VmaSizes, lock_index},
    hist::{LOG2_BUCKETS, log2_us_of},
    thread::{self, Common},
    words::{Kind, Loss, Mode, Op, Path},
};

use super::{dead::Dead, slots::Slots, text};
use crate::{
    kernel::{android, cgroup, host, pids, prog_info},
    model::{Anatomy, Components, Snapshot, Standing, Thread},
};

/// Processes whose standing is looked at again in each snapshot.
const LOOKS: usize = 64;

/// What is asked of a process at first sight; its standing again and again.
struct Leader {
    /// Of a main thread that was not seen itself; `None`: gone before it was looked up.
    comm: Option<String>,
    container: String,
    standing: Standing,
    ns_pid: Option<u32>,
}

pub struct Maps {
    faults: PerCpuArray<MapData, FaultAgg>,
    locks: PerCpuArray<MapData, LockAgg>,
    lock_hists: PerCpuArray<MapData, LockHist>,
    counters: PerCpuArray<MapData, Counters>,
    components: PerCpuArray<MapData, agg::Components>,
    io_waits: PerCpuArray<MapData, agg::IoWait>,
    vma_sizes: PerCpuArray<MapData, VmaSizes>,
    slots: Slots,
    /// Threads whose slot is another's.
    overflow: HashMap<MapData, u32, thread::Thread>,
    dead: Dead,
    /// Their common faults.
    dead_common: Common,
    leaders: BTreeMap<u32, Leader>,
    /// The last of them whose standing was looked at again.
    looked_at: u32,
    programs: Vec<ProgramFd>,
    /// What they had run before; `None` where the kernel does not time them.
    run_time_ns: Option<u64>,
    /// Of maps, in this process: all their pages are there from the start.
    mapped_bytes: u64,
    armed_ns: u64,
    vmstat: host::Vmstat,
    cpu_ns: u64,
    own_faults: u64,
}

impl Maps {
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, MapError> {
        Ok(Self {
            faults: per_cpu(ebpf, "FAULTS")?,
            locks: per_cpu(ebpf, "LOCKS")?,
            lock_hists: per_cpu(ebpf, "LOCK_HISTS")?,
            counters: per_cpu(ebpf, "COUNTERS")?,
            components: per_cpu(ebpf, "COMPONENTS")?,
            io_waits: per_cpu(ebpf, "IO_WAITS")?,
            vma_sizes: per_cpu(ebpf, "VMA_SIZES")?,
            slots: slots(ebpf)?,
            overflow: HashMap::try_from(taken(ebpf, "THREADS")?)?,
            dead: Dead::new(),
            dead_common: Common::default(),
            leaders: BTreeMap::new(),
            looked_at: 0,
            programs: program_fds(ebpf),
            run_time_ns: None,
            mapped_bytes: 0,
            armed_ns: 0,
            vmstat: host::Vmstat::default(),
            cpu_ns: 0,
            own_faults: 0,
        })
    }

    /// How many threads that have exited are told of one by one; 0: each once.
    pub fn remember_dead(&mut self, most: usize) {
        self.dead.remember(most);
    }

    /// What is system-wide or our own is counted from here.
    pub fn armed(&mut self, monotonic_ns: u64) {
        self.armed_ns = monotonic_ns;
        self.vmstat = host::vmstat();
        self.cpu_ns = host::own_cpu_ns();
        self.own_faults = host::own_faults();
        self.mapped_bytes = host::own_mapped_maps_bytes();
    }

    /// The kernel times the programs from now on.
    pub fn time_runs(&mut self) {
        self.run_time_ns = Some(self.runs().run_time_ns);
    }

    pub fn snapshot(&mut self, events_received: u64) -> Result<Snapshot, MapError> {
        let at_ns = host::clock(libc::CLOCK_MONOTONIC);
        let mut s = Snapshot {
            at_ns,
            duration_ns: at_ns - self.armed_ns,
            events_received,
            ..Snapshot::empty()
        };
        self.faults(&mut s)?;
        self.locks(&mut s)?;
        self.anatomy(&mut s.anatomy)?;
        for c in self.counters.get(&0, 0)?.iter() {
            add(&mut s.fallbacks, &c.fallbacks);
            add(&mut s.losses, &c.loss);
            add(&mut s.anatomy.retries, &c.retries);
            add(&mut s.anatomy.folio_states, &c.folio_states);
            add(&mut s.anatomy.held_waits, &c.held_waits);
            add(&mut s.anatomy.held_wait_ns, &c.held_wait_ns);
            s.events_emitted += c.emitted;
        }
        let runs = self.runs();
        s.losses[Loss::RecursionMisses as usize] = runs.recursion_misses;
        s.own_bpf_ns = self
            .run_time_ns
            .map(|then| runs.run_time_ns.saturating_sub(then));
        let common;
        (s.threads, common) = self.threads()?;
        s.faults[Path::VmaLock as usize].add_common(&common);
        let vmstat = host::vmstat().since(&self.vmstat);
        s.vmstat_pgfault = vmstat.pgfault;
        s.vmstat_pgmajfault = vmstat.pgmajfault;
        s.vmstat_vma_lock = vmstat.vma_lock;
        s.own_cpu_ns = host::own_cpu_ns() - self.cpu_ns;
        s.own_faults = host::own_faults().saturating_sub(self.own_faults);
        s.own_rss_bytes = host::own_rss_bytes();
        s.own_mapped_bytes = self.mapped_bytes;
        Ok(s)
    }

    fn faults(&self, s: &mut Snapshot) -> Result<(), MapError> {
        for path in Path::ALL {
            let sum = &mut s.faults[*path as usize];
            for cpu in self.faults.get(&(*path as u32), 0)?.iter() {
                sum.count += cpu.no_kind + cpu.by_kind.iter().sum::<u64>();
                sum.major += cpu.major;
                add(&mut sum.by_kind, &cpu.by_kind);
                sum.latency.add_raw(&cpu.latency);
            }
        }
        Ok(())
    }

    fn locks(&self, s: &mut Snapshot) -> Result<(), MapError> {
        for mode in Mode::ALL {
            let side = &mut s.locks[*mode as usize];
            for cpu in self.lock_hists.get(&(*mode as u32), 0)?.iter() {
                side.wait.add_raw(&cpu.wait);
                side.hold.add_raw(&cpu.hold);
                add(&mut side.decades, &cpu.decades);
            }
            for op in Op::ALL {
                let sum = &mut side.by_op[*op as usize];
                for cpu in self
                    .locks
                    .get(&lock_index(*mode as u8, *op as u8), 0)?
                    .iter()
                {
                    sum.acquired += cpu.acquired;
                    sum.waits += cpu.waits;
                    sum.wait_sum_ns += cpu.wait_sum_ns;
                    sum.wait_max_ns = sum.wait_max_ns.max(cpu.wait_max_ns);
                    sum.holds += cpu.holds;
                    sum.hold_sum_ns += cpu.hold_sum_ns;
                    sum.hold_max_ns = sum.hold_max_ns.max(cpu.hold_max_ns);
                }
            }
            let all = side.total();
            side.hold.sum_ns = all.hold_sum_ns;
            side.hold.max_ns = all.hold_max_ns;
            // Where slow paths tell of waits, an acquisition without one is not timed.
            let timed = side.decades.iter().sum::<u64>();
            side.decades[0] += all.acquired.saturating_sub(timed);
        }
        Ok(())
    }

    fn anatomy(&self, a: &mut Anatomy) -> Result<(), MapError> {
        for kind in Kind::ALL {
            let sum = &mut a.components[*kind as usize];
            for cpu in self.components.get(&(*kind as u32), 0)?.iter() {
                *sum = sum.plus(&Components {
                    faults: cpu.faults,
                    total_ns: cpu.total_ns,
                    mmap_lock_wait_ns: cpu.mmap_lock_wait_ns,
                    io_wait_ns: cpu.io_wait_ns,
                    run_delay_ns: cpu.run_delay_ns,
                    userfault_wait_ns: cpu.userfault_wait_ns,
                    held_wait_ns: cpu.held_wait_ns,
                });
            }
        }
        for (index, sum) in (0..).zip(&mut a.io) {
            for cpu in self.io_waits.get(&index, 0)?.iter() {
                sum.wait.add_raw(&cpu.wait);
                sum.run_delay_sum_ns += cpu.run_delay_sum_ns;
                sum.run_delay_max_ns = sum.run_delay_max_ns.max(cpu.run_delay_max_ns);
            }
        }
        for cpu in self.vma_sizes.get(&0, 0)?.iter() {
            add(&mut a.size_faults, &cpu.faults);
            add(&mut a.size_retries, &cpu.retries);
            add(&mut a.size_wait_ns, &cpu.wait_ns);
        }
        Ok(())
    }

    /// The living and the dead, in order of (tgid, tid), and the common faults of all.
    fn threads(&mut self) -> Result<(Vec<Thread>, Common), MapError> {
        let mut common = Common::default();
        let mut living = BTreeMap::<(u32, u32), Thread>::new();
        let mut from = 0;
        while let Some((i, t)) = self.slots.next(from) {
            from = i + 1;
            if self.slots.is_gone(i) {
                self.slots.free(i);
                self.bury(&t);
            } else if is_told(&t) {
                living.insert((t.tgid, t.tid), from_raw(&t));
                common.add(&t.counts.common);
            }
        }
        let overflow: Vec<_> = self.overflow.iter().filter_map(Result::ok).collect();
        for (tid, t) in overflow {
            if t.exited != 0 {
                // Fails only if the kernel side has just given it to another thread.
                let _ = self.overflow.remove(&tid);
                self.bury(&t);
            } else if is_told(&t) {
                living.insert((t.tgid, t.tid), from_raw(&t));
                common.add(&t.counts.common);
            }
        }
        common.add(&self.dead_common);
        self.dead.join(&mut living);
        self.leaders(&mut living);
        Ok((living.into_values().collect(), common))
    }

    /// A process is named after its main thread. One that has done nothing since arming is looked
    /// up once, in /proc/PID/comm, what it runs in, in /proc/PID/cgroup, and its number there, in
    /// /proc/PID/status: none of them takes a lock of the process's address space.
    fn leaders(&mut self, living: &mut BTreeMap<(u32, u32), Thread>) {
        let mut tgids: BTreeMap<u32, bool> = BTreeMap::new();
        for ((tgid, _), thread) in living.iter() {
            *tgids.entry(*tgid).or_default() |= !thread.exited;
        }
        self.leaders.retain(|tgid, _| tgids.contains_key(tgid));
        if pids::are_the_kernels() {
            self.look_again();
        }
        for (tgid, lives) in tgids {
            let seen = living.contains_key(&(tgid, tgid));
            let leader = self.leaders.entry(tgid).or_insert_with(|| {
                // In a pid namespace that number is another's.
                let known = lives && pids::are_the_kernels();
                Leader {
                    comm: (known && !seen).then(|| host::comm(tgid)).flatten(),
                    container: known
                        .then(|| cgroup::of_process(tgid))
                        .flatten()
                        .unwrap_or_default(),
                    standing: if known {
                        android::standing(tgid)
                    } else {
                        Standing::default()
                    },
                    ns_pid: known.then(|| pids::in_namespace(tgid)).flatten(),
                }
            });
            if !seen && let Some(comm) = &leader.comm {
                let thread = Thread {
                    tid: tgid,
                    tgid,
                    comm: comm.clone(),
                    ..Thread::default()
                };
                living.insert((tgid, tgid), thread);
            }
            if let Some(thread) = living.get_mut(&(tgid, tgid)) {
                thread.container.clone_from(&leader.container);
                thread.standing = leader.standing;
                thread.ns_pid = leader.ns_pid;
            }
        }
    }

    /// Some of them each time, so that a thousand cost no more than these.
    fn look_again(&mut self) {
        let next = self.leaders.range_mut(self.looked_at + 1..).take(LOOKS);
        let mut last = None;
        for (tgid, leader) in next {
            let now = android::standing(*tgid);
            // One that has gone stays as it was last.
            if now.oom_score_adj.is_some() {
                leader.standing = now;
            }
            last = Some(*tgid);
        }
        self.looked_at = last.unwrap_or(0);
    }

    fn bury(&mut self, t: &thread::Thread) {
        self.dead_common.add(&t.counts.common);
        if is_told(t) {
            self.dead.bury(from_raw(t));
        }
    }

    /// Of all programs.
    fn runs(&self) -> prog_info::Runs {
        let all = self.programs.iter().filter_map(prog_info::runs);
        all.fold(prog_info::Runs::default(), |sum, p| prog_info::Runs {
            run_time_ns: sum.run_time_ns + p.run_time_ns,
            recursion_misses: sum.recursion_misses + p.recursion_misses,
        })
    }
}

fn program_fds(ebpf: &Ebpf) -> Vec<ProgramFd> {
    ebpf.programs()
        .filter_map(|(_, p)| p.fd().ok()?.try_clone().ok())
        .collect()
}

fn per_cpu<V: Pod>(ebpf: &mut Ebpf, name: &str) -> Result<PerCpuArray<MapData, V>, MapError> {
    PerCpuArray::try_from(taken(ebpf, name)?)
}

fn slots(ebpf: &mut Ebpf) -> Result<Slots, MapError> {
    let Map::Array(data) = taken(ebpf, "SLOTS")? else {
        return Err(MapError::InvalidName {
            name: "SLOTS".into(),
        });
    };
    let claims = HashMap::try_from(taken(ebpf, "CLAIMS")?)?;
    Slots::map(data, claims).map_err(|io_error| {
        MapError::SyscallError(SyscallError {
            call: "mmap",
            io_error,
        })
    })
}

/// A map of the object, by name.
pub fn taken(ebpf: &mut Ebpf, name: &str) -> Result<Map, MapError> {
    ebpf.take_map(name)
        .ok_or_else(|| MapError::InvalidName { name: name.into() })
}

fn add<const N: usize>(sum: &mut [u64; N], part: &[u64; N]) {
    for (sum, part) in sum.iter_mut().zip(part) {
        *sum += part;
    }
}

/// A target's, or a stranger's that waited at a target's address space.
fn is_told(t: &thread::Thread) -> bool {
    t.target != 0 || t.counts.waits != [0; Mode::COUNT]
}

fn from_raw(t: &thread::Thread) -> Thread {
    let c = &t.counts;
    // Of a stranger that worked on a target's address space, only that counts.
    let own = |now: u64, first: u64| match t.target {
        0 => 0,
        _ => now.wrapping_sub(first),
    };
    let mut by_path = c.by_path;
    by_path[Path::VmaLock as usize] += c.common.faults;
    let mut log2_us = [0; LOG2_BUCKETS];
    for (octave, n) in c.octaves.iter().enumerate() {
        log2_us[log2_us_of(octave)] += u64::from(*n);
    }
    Thread {
        tid: t.tid,
        tgid: t.tgid,
        comm: text(&t.comm),
        container: String::new(),
        standing: Standing::default(),
        ns_pid: None,
        exited: t.exited != 0,
        by_path,
        minor: own(t.minor, t.first_minor),
        major: own(t.major, t.first_major),
        sum_ns: c.sum_ns + c.common.sum_ns,
        max_ns: c.max_ns.max(c.common.max_ns),
        log2_us,
        waits: c.waits,
        wait_sum_ns: c.wait_sum_ns,
        wait_max_ns: c.wait_max_ns,
        map_count: t.map_count.into(),
        total_vm: t.total_vm,
    }
}
