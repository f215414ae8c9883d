//! The hook ladder: how programs are attached, and where each group of the table stands.

use crate::kernel::{Facts, VmaLock};

use super::{LoadError, Request, group::Group, table::GROUPS};

/// `--hooks`: where the ladder is entered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum HookChoice {
    #[default]
    Auto,
    Fentry,
    Kprobe,
    Tracepoint,
}

/// How a program is attached, and to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    TpBtf(&'static str),
    FEntry(&'static str),
    FExit(&'static str),
    KProbe(&'static str),
    /// `PERF_COUNT_SW_PAGE_FAULTS_MIN`, period 1, on every CPU.
    MinorFaults,
    MajorFaults,
}

impl Attach {
    /// As opposed to everywhere at once.
    pub fn is_per_cpu(self) -> bool {
        matches!(self, Attach::MinorFaults | Attach::MajorFaults)
    }
}

/// Programs that are attached together or not at all.
#[derive(Debug)]
pub struct Rung {
    pub kind: HookChoice,
    /// As shown to the user.
    pub name: &'static str,
    pub programs: &'static [(&'static str, Attach)],
    /// Functions, and tracepoints, with the number of arguments the programs expect.
    pub functions: &'static [(&'static str, usize)],
    pub tracepoints: &'static [(&'static str, usize)],
}

impl Rung {
    /// As opposed to tracepoints and perf events alone, which locked-down kernels allow too.
    pub fn of_functions(&self) -> bool {
        use Attach::{FEntry, FExit, KProbe};
        let mut hooks = self.programs.iter().map(|(_, attach)| attach);
        hooks.any(|attach| matches!(attach, FEntry(_) | FExit(_) | KProbe(_)))
    }
}

/// Where a group stands.
struct Position {
    group: Group,
    /// Those worth trying here, best first.
    rungs: Vec<&'static Rung>,
    /// The one in use; beyond the last: nothing worked.
    at: usize,
    /// Better ones, and why each is not in use.
    passed: Vec<(&'static str, String)>,
}

pub struct Ladder {
    positions: Vec<Position>,
}

/// A group, the rung it ended on (if any), and why not a better one.
pub struct Choice {
    pub group: Group,
    pub rung: Option<&'static Rung>,
    pub reason: String,
}

pub struct Chosen(Vec<Choice>);

impl Chosen {
    pub fn of(&self, group: Group) -> Option<&Choice> {
        self.0.iter().find(|c| c.group == group)
    }

    pub fn rung(&self, group: Group) -> Option<&'static Rung> {
        self.of(group)?.rung
    }

    pub fn rungs(&self) -> impl Iterator<Item = &'static Rung> {
        self.0.iter().filter_map(|choice| choice.rung)
    }

    pub fn any_per_cpu(&self) -> bool {
        let mut hooks = self.rungs().flat_map(|rung| rung.programs);
        hooks.any(|(_, attach)| attach.is_per_cpu())
    }

    pub fn reason(&self, group: Group) -> &str {
        self.of(group).map_or("", |c| &c.reason)
    }
}

/// A rung that would not attach.
pub struct Failed {
    pub group: Group,
    pub why: String,
}

impl Ladder {
    pub fn new(facts: &Facts, request: &Request, mmap_lock_all: bool) -> Self {
        let positions = GROUPS
            .iter()
            .map(|(group, rungs)| {
                let (mut worth, mut passed) = (Vec::new(), Vec::new());
                for rung in *rungs {
                    match unsuitable(*group, rung, rungs, facts, request, mmap_lock_all) {
                        None => worth.push(rung),
                        Some(why) if worth.is_empty() => passed.push((rung.name, why)),
                        Some(_) => {}
                    }
                }
                Position {
                    group: *group,
                    rungs: worth,
                    at: 0,
                    passed,
                }
            })
            .collect();
        Self { positions }
    }

    /// What is to be attached now.
    pub fn rungs(&self) -> impl Iterator<Item = (Group, &'static Rung)> {
        let blind = self.blind();
        self.positions
            .iter()
            .filter(move |p| !(blind && p.group.inside_faults()))
            .filter_map(|p| Some((p.group, *p.rungs.get(p.at)?)))
    }

    /// Nothing shows when a fault is being handled.
    fn blind(&self) -> bool {
        let fault = self.positions.iter().find(|p| p.group == Group::Fault);
        fault
            .and_then(|p| p.rungs.get(p.at))
            .is_none_or(|rung| rung.kind == HookChoice::Tracepoint)
    }

    pub fn rung(&self, group: Group) -> Option<&'static Rung> {
        self.rungs()
            .find(|(g, _)| *g == group)
            .map(|(_, rung)| rung)
    }

    /// One rung down for a group that failed.
    pub fn descend(&mut self, failed: Failed) {
        if let Some(p) = self.positions.iter_mut().find(|p| p.group == failed.group) {
            if let Some(rung) = p.rungs.get(p.at) {
                p.passed.push((rung.name, failed.why));
            }
            p.at += 1;
        }
    }

    /// A group nothing can be told without has run out of rungs.
    pub fn check(&self) -> Result<(), LoadError> {
        match self
            .positions
            .iter()
            .find(|p| p.group.required() && p.at >= p.rungs.len())
        {
            None => Ok(()),
            Some(p) => Err(LoadError::Kernel(format!(
                "no hook for page faults works on this kernel: {}",
                why(&p.passed)
            ))),
        }
    }

    pub fn chosen(self) -> Chosen {
        let blind = self.blind();
        let choice = |p: Position| {
            if blind && p.group.inside_faults() {
                return Choice {
                    group: p.group,
                    rung: None,
                    reason: "the fault handler cannot be hooked".into(),
                };
            }
            Choice {
                group: p.group,
                rung: p.rungs.get(p.at).copied(),
                reason: why(&p.passed),
            }
        };
        Chosen(self.positions.into_iter().map(choice).collect())
    }
}

/// In words; a reason that all share is given once.
fn why(passed: &[(&str, String)]) -> String {
    match passed {
        [] => String::new(),
        [(_, first), rest @ ..] if !rest.is_empty() && rest.iter().all(|(_, w)| w == first) => {
            first.clone()
        }
        _ => passed
            .iter()
            .map(|(rung, w)| format!("{rung}: {w}"))
            .collect::<Vec<_>>()
            .join("; "),
    }
}

/// Why a rung need not be tried.
fn unsuitable(
    group: Group,
    rung: &Rung,
    rungs: &[Rung],
    facts: &Facts,
    request: &Request,
    mmap_lock_all: bool,
) -> Option<String> {
    if matches!(group, Group::VmaLock | Group::VmaWrite) && facts.vma_lock == VmaLock::None {
        return Some("this kernel has no per-VMA locks".into());
    }
    if group == Group::MmapLockEvents && !mmap_lock_all {
        return Some("left out by --mmap-lock contended, the default where the tracepoints format a cgroup path under a global lock".into());
    }
    if group == Group::LockRelease && mmap_lock_all && facts.vma_lock != VmaLock::Rwsem {
        return Some("the mmap_lock tracepoints tell every release".into());
    }
    if group == Group::VmaLock && request.no_vma_lock {
        return Some("left out by --no-vma-lock".into());
    }
    let choice = request.hooks;
    let forced_better = choice == HookChoice::Fentry
        && rung.kind > HookChoice::Fentry
        && rungs.iter().any(|r| r.kind == HookChoice::Fentry);
    if rung.kind < choice || forced_better {
        return Some("left out by --hooks".into());
    }
    for (function, params) in rung.functions {
        match facts.params(function) {
            None => return Some(format!("this kernel has no {function}")),
            Some(n) if n != *params => {
                return Some(format!(
                    "{function} takes {n} parameters here, not {params}"
                ));
            }
            Some(_) => {}
        }
    }
    for (tracepoint, args) in rung.tracepoints {
        match facts.tracepoint_args(tracepoint) {
            Some(n) if n != *args => {
                return Some(format!(
                    "{tracepoint} passes {n} arguments here, not {args}"
                ));
            }
            _ => {}
        }
    }
    rung.programs.iter().find_map(|(_, attach)| match attach {
        Attach::TpBtf(name) if facts.tracepoint_args(name).is_none() => {
            Some(format!("this kernel has no tracepoint {name}"))
        }
        Attach::FEntry(name) | Attach::FExit(name) | Attach::KProbe(name)
            if facts.params(name).is_none() =>
        {
            Some(format!("this kernel has no {name}"))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_is_named_as_the_kernel_can_show_it() {
        // BPF_OBJ_NAME_LEN, terminator included.
        for (_, rungs) in GROUPS {
            for (name, _) in rungs.iter().flat_map(|r| r.programs) {
                assert!(name.len() < 16, "{name} would be cut");
            }
        }
    }
}
