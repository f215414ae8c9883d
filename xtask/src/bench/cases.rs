//! What is compared with what: each set of hooks with programs that do nothing, and with ours.
//!
//! In: nothing. Out: the cases in the order in which one guest runs them.

/// What happens again and again while a case is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// The first touch of a page of anonymous memory.
    Fault,
    /// A system call that takes mmap_lock for write once and does nothing else.
    Lock,
}

impl Load {
    /// The name that the load program knows.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Lock => "mprotect",
        }
    }

    /// Times in one round: a round is short against the profiler's interval, which falls into few
    /// of them.
    pub const fn count(self) -> u64 {
        match self {
            Self::Fault => 1024,
            Self::Lock => 4096,
        }
    }
}

/// One thing to attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// `vmascope record` with these options, for the whole system or for the load alone.
    Ours {
        options: [&'static [&'static str]; 2],
        system_wide: bool,
    },
    /// bpftrace with this program.
    Peer(&'static str),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    pub name: String,
    pub load: Load,
    pub hooks: &'static str,
    pub what: &'static str,
    pub attached: Attached,
    /// The case with empty programs on the same hooks.
    pub floor: Option<String>,
    /// In hundredths of the floor.
    pub budget: Option<u32>,
}

/// A set of hooks: its key, its name, and the options that choose it.
type Hooks = (&'static str, &'static str, &'static [&'static str]);

const PAIR: Hooks = (
    "pair",
    "handle_mm_fault",
    &["--no-vma-lock", "--mmap-lock", "contended"],
);
const VMA: Hooks = (
    "vma",
    "handle_mm_fault, lock_mm_and_find_vma",
    &["--mmap-lock", "contended"],
);
/// The default of kernels with cheap mmap_lock tracepoints.
const ALL: Hooks = (
    "all",
    "these two, three mmap_lock tracepoints",
    &["--mmap-lock", "all"],
);

/// The key of the kprobe rung, which has no peer: bpftrace's histogram is on fentry.
pub const KPROBES: &str = "kprobe";

/// Where functions' ends cannot be hooked, as on phones: a breakpoint or a branch where the function
/// begins, and the kernel's page-fault event where the fault has ended.
const KPROBE: Hooks = (
    KPROBES,
    "kprobes on these two, page-fault events",
    &["--hooks", "kprobe", "--mmap-lock", "contended"],
);

const EMPTY: (&str, &str, &[&str]) = ("empty", "empty programs", &["--empty-programs"]);
const EVERY: (&str, &str, &[&str]) = ("every", "ours, every fault timed", &["--sample", "1"]);
const SAMPLED: (&str, &str, &[&str]) = ("16", "ours, 1 fault in 16 timed", &["--sample", "16"]);

/// The same latency histogram as ours has, as its manual writes it.
const HISTOGRAM: &str = "fentry:vmlinux:handle_mm_fault { @s[tid] = nsecs; } \
     fexit:vmlinux:handle_mm_fault { @h = hist(nsecs - @s[tid]); delete(@s[tid]); }";

/// The case of bpftrace.
pub const PEER: &str = "bpftrace";

fn case(
    load: Load,
    hooks: Hooks,
    mode: (&'static str, &'static str, &'static [&'static str]),
) -> Case {
    let name = |mode: &str| format!("{}-{}-{mode}", load.word(), hooks.0);
    Case {
        name: name(mode.0),
        load,
        hooks: hooks.1,
        what: mode.1,
        attached: Attached::Ours {
            options: [hooks.2, mode.2],
            system_wide: true,
        },
        floor: (mode.0 != EMPTY.0).then(|| name(EMPTY.0)),
        budget: match mode.0 {
            // Its programs cannot read kernel memory with plain loads; sampled, they have a budget of their own.
            "every" if hooks.0 == KPROBE.0 => None,
            "16" if hooks.0 == KPROBE.0 => Some(225),
            "every" => Some(200),
            "16" => Some(150),
            _ => None,
        },
    }
}

/// The added cost of a fault on the two sets of hooks that have budgets.
pub fn quick() -> Vec<Case> {
    let mut cases = Vec::new();
    for hooks in [PAIR, VMA] {
        cases.extend([EMPTY, EVERY, SAMPLED].map(|mode| case(Load::Fault, hooks, mode)));
    }
    cases
}

/// What a phone's kernel may have: both kinds of hooks.
pub fn phone() -> Vec<Case> {
    let mut cases = Vec::new();
    for hooks in [VMA, KPROBE] {
        cases.extend([EMPTY, EVERY, SAMPLED].map(|mode| case(Load::Fault, hooks, mode)));
    }
    cases
}

pub fn all() -> Vec<Case> {
    let mut cases = quick();
    for hooks in [ALL, KPROBE] {
        cases.extend([EMPTY, EVERY, SAMPLED].map(|mode| case(Load::Fault, hooks, mode)));
    }
    let mut one = case(Load::Fault, VMA, EVERY);
    one.name = "fault-vma-one".to_owned();
    one.what = "ours, every fault timed, one process";
    if let Attached::Ours { system_wide, .. } = &mut one.attached {
        *system_wide = false;
    }
    one.budget = None;
    cases.push(one);
    cases.push(Case {
        name: PEER.to_owned(),
        load: Load::Fault,
        hooks: PAIR.1,
        what: "bpftrace, latency histogram",
        attached: Attached::Peer(HISTOGRAM),
        floor: Some("fault-pair-empty".to_owned()),
        budget: None,
    });
    let lock = |hooks, mode, of_the_lock, what| Case {
        hooks: of_the_lock,
        what,
        ..case(Load::Lock, hooks, mode)
    };
    let tracepoints = "three mmap_lock tracepoints (`all`)";
    cases.push(lock(ALL, EMPTY, tracepoints, "empty programs"));
    cases.push(lock(ALL, EVERY, tracepoints, "ours"));
    // An uncontended lock meets no hook then: nothing to hold a budget against.
    cases.push(Case {
        floor: None,
        budget: None,
        ..lock(VMA, EVERY, "the slow paths only (`contended`)", "ours")
    });
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_floor_is_a_case_that_runs_before() {
        for cases in [quick(), phone(), all()] {
            for (at, case) in cases.iter().enumerate() {
                let names: Vec<&str> = cases[..at].iter().map(|c| c.name.as_str()).collect();
                assert!(!names.contains(&case.name.as_str()), "{} twice", case.name);
                if let Some(floor) = &case.floor {
                    assert!(names.contains(&floor.as_str()), "{}: {floor}", case.name);
                }
            }
        }
    }
}
