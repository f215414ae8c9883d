//! One run of the probes: the only place that knows the whole way from a request to snapshots.
//! `start` loads, attaches and checks; `arm` begins counting; `stop` ends it.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use aya::maps::RingBuf;
use profiler_common::words::Loss;
use thiserror::Error;
use tokio::sync::Notify;

use crate::{
    collect::{Blamer, Conflicts, Maps, Ring, Stacks},
    kernel::{
        Facts,
        btf::{self, BtfError},
        host,
        prog_info::{self, map_memlock},
    },
    loader::{self, LoadError, Loaded, Request, signals},
    model::{Batch, Session, Snapshot, session::SCHEMA},
};

const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";

#[derive(Debug, Error)]
pub enum SessionError {
    #[error(
        "{path}: {source}: this kernel has no BTF of its own: give a matching one with --btf FILE"
    )]
    NoBtf { path: PathBuf, source: BtfError },
    #[error(
        "cannot use the BTF in {path}: {why}: give the file of this kernel with --btf, or leave --btf out"
    )]
    BadBtf { path: PathBuf, why: String },
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("cannot read the counters: {0}")]
    Counters(#[from] aya::maps::MapError),
    #[error(
        "cannot have the kernel time the programs: {0}: leave --bpf-stats and --max-overhead out"
    )]
    Timing(std::io::Error),
    #[error("cannot start the ring thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// What `Session` says beside what the loader finds out.
#[derive(Clone, Debug)]
pub struct Asked {
    pub request: Request,
    pub btf: Option<PathBuf>,
    /// In words: `system`, `pid 1,2`, `cmd: ls -l`.
    pub target: String,
    pub interval_ms: u64,
}

pub struct Live {
    /// `None` once the programs are off.
    loaded: Option<Loaded>,
    maps: Maps,
    ring: Ring,
    blamer: Blamer,
    conflicts: Conflicts,
    /// `None`: not asked for.
    stacks: Option<Stacks>,
    /// While it is held, the kernel times all programs.
    timing: Option<OwnedFd>,
    pub session: Session,
}

/// Loads and attaches; nothing is counted yet.
pub fn start(asked: &Asked) -> Result<Live, SessionError> {
    let path = asked.btf.as_deref().unwrap_or(Path::new(VMLINUX_BTF));
    let facts = Facts::new(btf::Btf::read(path).map_err(|source| match source {
        BtfError::Read { .. } if asked.btf.is_none() => SessionError::NoBtf {
            path: path.into(),
            source,
        },
        other => SessionError::BadBtf {
            path: path.into(),
            why: other.to_string(),
        },
    })?);
    let mut loaded = loader::load(&facts, &asked.request)?;
    let session = describe(asked, &facts, &loaded);
    drop(facts);
    give_back();
    let maps = Maps::take(&mut loaded.ebpf)?;
    let stacks = asked
        .request
        .stacks
        .then(|| Stacks::take(&mut loaded.ebpf))
        .transpose()?;
    let events = crate::collect::taken(&mut loaded.ebpf, "EVENTS")?;
    let ring = Ring::new(RingBuf::try_from(events)?);
    Ok(Live {
        loaded: Some(loaded),
        maps,
        ring,
        blamer: Blamer::new(host::page_size()),
        conflicts: Conflicts::default(),
        stacks,
        timing: None,
        session,
    })
}

/// BTF takes tens of megabytes in small pieces, and so do events where there are many for a while: the
/// allocator would keep them for the whole run.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointers; the allocator only unmaps what is free.
    unsafe {
        libc::malloc_trim(0);
    }
}

fn describe(asked: &Asked, facts: &Facts, loaded: &Loaded) -> Session {
    Session {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").into(),
        host: host::host(),
        tier: signals::tier(loaded).into(),
        target: asked.target.clone(),
        vma_lock: facts.vma_lock.name().into(),
        mmap_lock: if loaded.mmap_lock_all {
            "all"
        } else {
            "contended"
        }
        .into(),
        min_us: asked.request.min_us.into(),
        sample: asked.request.sample,
        interval_ms: asked.interval_ms,
        signals: signals::signals(facts, loaded),
        armed_monotonic_ns: 0,
        armed_boottime_ns: 0,
        armed_realtime_ns: 0,
        map_bytes: loaded
            .ebpf
            .maps()
            .filter_map(|(_, map)| map_bytes(map))
            .sum(),
        start_ms: 0.0,
    }
}

fn map_bytes(map: &aya::maps::Map) -> Option<u64> {
    use aya::maps::Map;
    let data = match map {
        Map::Array(m)
        | Map::HashMap(m)
        | Map::LruHashMap(m)
        | Map::PerCpuArray(m)
        | Map::RingBuf(m) => m,
        _ => return None,
    };
    map_memlock(data.fd().as_fd())
}

impl Live {
    /// Everything is attached; what is left is to arm.
    pub fn ready(&mut self) {
        self.session.start_ms = host::since_exec_ms();
    }

    pub fn arm(&mut self) -> Result<(), SessionError> {
        self.ready();
        let s = &mut self.session;
        s.armed_monotonic_ns = host::clock(libc::CLOCK_MONOTONIC);
        s.armed_boottime_ns = host::clock(libc::CLOCK_BOOTTIME);
        s.armed_realtime_ns = host::clock(libc::CLOCK_REALTIME);
        self.maps.armed(s.armed_monotonic_ns);
        self.ring.start()?;
        if let Some(loaded) = &mut self.loaded {
            loader::arm(&mut loaded.ebpf, self.session.sample)?;
        }
        Ok(())
    }

    /// From now on snapshots tell the programs' run time: where the kernel counts it anyhow, or where
    /// it was asked to, which costs each run two clock reads.
    pub fn time_runs(&mut self, ask: bool) -> Result<(), SessionError> {
        if ask {
            self.timing = Some(prog_info::time_runs().map_err(SessionError::Timing)?);
        }
        if ask || prog_info::run_time_is_on() {
            self.maps.time_runs();
        }
        Ok(())
    }

    /// From now on one common fault in `sample`, a power of two, is timed; the programs must be paced.
    pub fn sample(&mut self, sample: u32) -> Result<(), SessionError> {
        self.session.sample = sample;
        if let Some(loaded) = &mut self.loaded {
            loader::arm(&mut loaded.ebpf, sample)?;
        }
        Ok(())
    }

    /// Takes every program off its hook; what was counted can still be read.
    pub fn disarm(&mut self) {
        self.loaded = None;
        self.timing = None;
    }

    /// Everything counted since arming.
    pub fn snapshot(&mut self) -> Result<Snapshot, SessionError> {
        if let Some(loaded) = &mut self.loaded {
            loaded.follow_cpus();
        }
        // Where nothing happens any more, nothing else says how late it is.
        self.conflicts.passed(host::clock(libc::CLOCK_MONOTONIC));
        let mut all = self.maps.snapshot(self.ring.received())?;
        all.losses[Loss::BlameForgotten as usize] +=
            self.blamer.forgotten() + self.conflicts.forgotten();
        all.losses[Loss::StaleWindow as usize] += self.conflicts.stale();
        Ok(all)
    }

    /// How many threads that have exited are told of one by one, the others being added up; 0: each is in
    /// one more snapshot, then forgotten.
    pub fn remember_dead(&mut self, most: usize) {
        self.maps.remember_dead(most);
    }

    /// Told when events pile up: they are to be taken now.
    pub fn call(&self) -> Arc<Notify> {
        self.ring.call()
    }

    /// Events since the last call.
    pub fn events(&mut self) -> Vec<Batch> {
        let mut batches = self.ring.take();
        batches.iter_mut().for_each(|b| self.relate(b));
        batches
    }

    /// What the events of a batch have to do with each other, and with earlier ones.
    fn relate(&mut self, batch: &mut Batch) {
        // As they happened: what is remembered of holds is less than a batch can have.
        batch.holds.sort_by_key(|hold| hold.end_ns);
        let mut holds = batch.holds.drain(..).peekable();
        for wait in &mut batch.waits {
            while let Some(hold) = holds.next_if(|hold| hold.end_ns <= wait.end_ns) {
                self.blamer.held(hold);
            }
            self.blamer.waited(wait);
        }
        holds.for_each(|hold| self.blamer.held(hold));
        if let Some(stacks) = &mut self.stacks {
            for wait in &batch.waits {
                let holder = wait.holder.as_ref().map_or(0, |h| h.stack);
                batch.stacks.extend(
                    [wait.stack, holder]
                        .into_iter()
                        .filter_map(|id| stacks.first(id)),
                );
            }
        }
        for arrival in &batch.arrivals {
            self.conflicts.arrived(arrival);
        }
        for window in &mut batch.windows {
            batch.conflicts.extend(self.conflicts.closed(window));
        }
    }

    /// Takes every program off its hook, then gives the last events and the final counts.
    pub fn stop(mut self) -> Result<(Session, Snapshot, Vec<Batch>), SessionError> {
        drop(self.loaded.take());
        let mut rest = self.ring.finish();
        rest.iter_mut().for_each(|b| self.relate(b));
        let snapshot = self.snapshot()?;
        Ok((self.session, snapshot, rest))
    }
}
