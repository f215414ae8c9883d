//! Puts the programs into the kernel. In: what was asked (`Request`) and what the kernel is like
//! (`Facts`). Out: `Loaded`: maps, links, and for every signal the hook that serves it and why.
//!
//! Which hook works is judged by attaching it, never by version. The programs' read-only globals
//! depend on the choice, so a rung that fails means loading afresh with the next one.

mod anatomy;
mod attach;
mod check;
mod cpus;
mod globals;
mod group;
pub mod hooks;
pub mod signals;
mod table;

use aya::Ebpf;
use thiserror::Error;

pub use group::Group;
pub use hooks::HookChoice;

use cpus::Cpus;

use crate::kernel::{Facts, cgroup::Cgroup};

#[derive(Debug, Error)]
pub enum LoadError {
    #[error("{0}")]
    NotPermitted(String),
    #[error("{0}")]
    Kernel(String),
    #[error("the eBPF object could not be loaded: {0}")]
    Object(#[from] aya::EbpfError),
    #[error("{0}")]
    Map(#[from] aya::maps::MapError),
}

/// Whose threads count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    Everybody,
    /// By tgid; `follow`: also their children.
    Processes {
        tgids: Vec<u32>,
        follow: bool,
    },
    /// Whoever is in one of these, or below.
    Cgroups(Vec<Cgroup>),
    Uids(Vec<u32>),
}

/// What the user asked for, as far as the kernel side needs it.
#[derive(Clone, Debug)]
pub struct Request {
    pub hooks: HookChoice,
    /// `None`: whatever the tracepoint's cost on this kernel suggests.
    pub mmap_lock_all: Option<bool>,
    /// Do not look why a fault gets no VMA lock.
    pub no_vma_lock: bool,
    pub targets: Targets,
    pub min_us: u32,
    /// One common fault in this many is timed.
    pub sample: u32,
    /// That number can change while the programs run.
    pub paced: bool,
    /// Keep the kernel stacks of waiters and holders.
    pub stacks: bool,
    /// Programs that return at once: the floor that benches compare with.
    pub empty: bool,
}

pub struct Loaded {
    pub ebpf: Ebpf,
    pub chosen: hooks::Chosen,
    pub mmap_lock_all: bool,
    /// Where software events are attached; `None`: none are needed.
    cpus: Option<Cpus>,
    links: attach::CpuLinks,
}

impl Loaded {
    /// Attaches what a CPU lost when it went offline. What happened on it since it came back was not seen,
    /// and shows as faults missed; so does what happens from now on, where there is no privilege left.
    pub fn follow_cpus(&mut self) {
        let Some(before) = &self.cpus else { return };
        let now = Cpus::online();
        for cpu in now.came_since(before) {
            let (rungs, links) = (self.chosen.rungs(), &mut self.links);
            let _ = attach::on_cpus(&mut self.ebpf, rungs, &[cpu], links);
        }
        self.cpus = Some(now);
    }
}

const NOT_PERMITTED: &str =
    "not permitted to load eBPF programs: run as root, or with CAP_BPF and CAP_PERFMON";

/// The object built from `profiler-ebpf` for this architecture.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/vmascope-ebpf"));

/// Loads and attaches everything; nothing is recorded until `arm`.
pub fn load(facts: &Facts, request: &Request) -> Result<Loaded, LoadError> {
    let missing = facts.missing();
    if !missing.is_empty() {
        return Err(LoadError::Kernel(format!(
            "this kernel's BTF lacks {}: give a matching one with --btf",
            missing.join(", ")
        )));
    }
    let mmap_lock_all = request.mmap_lock_all.unwrap_or(!facts.memcg_path);
    let mut ladder = hooks::Ladder::new(facts, request, mmap_lock_all);
    ladder.check()?;
    let btf = table::btf(facts)?;
    loop {
        let globals = globals::values(facts, &ladder, request);
        let mut loader = empty_loader();
        loader.btf(Some(&btf));
        for (name, value) in &globals {
            loader.override_global(name, value, true);
        }
        if !request.stacks {
            loader.map_max_entries("STACKS", 1);
        }
        let mut ebpf = loader.load(OBJECT).map_err(permission)?;
        check::run(&mut ebpf)?;
        match attach::all(&mut ebpf, &btf, &ladder) {
            Ok(links) => {
                globals::fill_maps(&mut ebpf, request)?;
                let mmap_lock_all = ladder.rung(Group::MmapLockEvents).is_some();
                let chosen = ladder.chosen();
                let cpus = chosen.any_per_cpu().then(Cpus::online);
                return Ok(Loaded {
                    ebpf,
                    chosen,
                    mmap_lock_all,
                    cpus,
                    links,
                });
            }
            Err(failed) => failed.into_iter().for_each(|f| ladder.descend(f)),
        }
        ladder.check()?;
    }
}

/// aya begins with reading all of `/sys/kernel/btf/vmlinux`, whatever it is given afterwards: tens of
/// megabytes, for nothing. Where it cannot open the file it goes on without; for this moment no
/// file can be opened. The limit is the whole process's, so no other thread should run yet.
fn empty_loader<'a>() -> aya::EbpfLoader<'a> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a valid place for the answer.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0;
    let none = libc::rlimit {
        rlim_cur: 0,
        ..limit
    };
    let set = |limit: &libc::rlimit| {
        // SAFETY: a valid pointer to a limit.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, limit) }
    };
    // If it is not to be had, aya is merely slow. Back to what was is always allowed.
    if known {
        set(&none);
    }
    let loader = aya::EbpfLoader::new();
    if known {
        set(&limit);
    }
    loader
}

/// From here on things are counted, and one common fault in `sample` is timed, if the programs are paced.
pub fn arm(ebpf: &mut Ebpf, sample: u32) -> Result<(), LoadError> {
    let map = ebpf
        .map_mut("ARMED")
        .ok_or_else(|| LoadError::Kernel("map ARMED is not in the object".into()))?;
    let mut armed = aya::maps::Array::<_, u32>::try_from(map)?;
    Ok(armed.set(0, sample.max(1), 0)?)
}

/// EPERM has one remedy, whatever refused.
fn permission(e: aya::EbpfError) -> LoadError {
    let mut cause: Option<&dyn std::error::Error> = Some(&e);
    while let Some(c) = cause {
        if let Some(io) = c.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::PermissionDenied
        {
            return LoadError::NotPermitted(NOT_PERMITTED.into());
        }
        cause = c.source();
    }
    LoadError::Object(e)
}

/// A program the verifier, or a security module, would not have.
fn load_refused(name: &str, e: &aya::programs::ProgramError) -> LoadError {
    if let aya::programs::ProgramError::LoadError {
        io_error,
        verifier_log,
    } = e
    {
        if io_error.kind() == std::io::ErrorKind::PermissionDenied {
            return LoadError::NotPermitted(NOT_PERMITTED.into());
        }
        return LoadError::Kernel(format!(
            "the kernel refused program {name}: {io_error}: {verifier_log}"
        ));
    }
    LoadError::Kernel(format!("the kernel refused program {name}: {e}"))
}
