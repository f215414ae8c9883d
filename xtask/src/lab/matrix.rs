//! The test matrix: every acceptance test on every kernel of the lab, one guest per cell.
//!
//! In: the cells wanted. Out: a row of the table for each; a guest that crashes fails its whole
//! row, with its console printed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use guest::plan::Step;

use super::acceptance::android::{self, ANDROID};
use super::acceptance::callers::CALLERS;
use super::acceptance::top::{self, TOP};
use super::acceptance::{self, Test};
use super::evidence::Evidence;
use super::kernels::{Flavour, Kernel};
use super::machine::{GuestFile, Machine, Network, Streams};
use super::phone::{self, Outside};
use super::qemu::{Accel, Qemu};
use super::table::Cell;
use super::tools::Tools;
use super::vm::guest_file;
use crate::apt::Apt;
use crate::arch::Arch;
use crate::bench::peer;
use crate::step::{AGAIN, Outcome};
use crate::{build, paths};

/// Processors and memory of a guest. Two make threads run at once, also on a host with two.
const SMP: u32 = 2;
const MEM_MIB: u32 = 1024;
/// Of the disk at /slow. Far more than an emulated processor takes for a fault.
pub const SLOW_DISK_MS: u32 = 50;

/// How each test of a cell ended, by its name.
type Outcomes = Vec<(String, Outcome)>;

/// What the guests of a row have in common.
#[derive(Clone, Copy, Debug)]
pub struct Guests {
    pub series: &'static str,
    pub flavour: Flavour,
    /// `--hooks` of every recorder in them, where it is not what they choose themselves.
    pub hooks: Option<&'static str>,
}

impl Guests {
    /// What the row is called: `6.12`, `7.3-rt`, `7.3-kprobe`.
    pub fn label(&self) -> String {
        self.label_as(self.series)
    }

    fn label_as(&self, series: &str) -> String {
        let flavour = match self.flavour {
            Flavour::Cloud => String::new(),
            other => format!("-{other}"),
        };
        let hooks = self.hooks.map(|hooks| format!("-{hooks}"));
        format!("{series}{flavour}{}", hooks.unwrap_or_default())
    }

    fn steps(&self, test: &Test) -> Vec<Step> {
        let mut steps = (test.steps)();
        if let Some(hooks) = self.hooks {
            steps.iter_mut().for_each(|step| force(step, hooks));
        }
        steps
    }
}

/// Commands of vmascope that load probes.
const LOADING: [&str; 5] = ["record", "report", "doctor", "serve", "top"];

/// Has a step's recorders use these hooks, unless it says itself which.
fn force(step: &mut Step, hooks: &str) {
    if step.argv.iter().any(|word| word == "--hooks") {
        return;
    }
    match &mut step.argv[..] {
        [vmascope, command, ..]
            if vmascope == "vmascope" && LOADING.contains(&command.as_str()) =>
        {
            let more = ["--hooks", hooks].map(str::to_owned);
            step.argv.splice(2..2, more);
        }
        [sh, _, script] if sh == "sh" => {
            for command in LOADING {
                let plain = format!("vmascope {command} ");
                *script = script.replace(&plain, &format!("{plain}--hooks {hooks} "));
            }
        }
        _ => {}
    }
}

/// A cell whose kernel is there.
#[derive(Clone, Copy)]
struct Booted<'a> {
    guests: Guests,
    kernel: &'a Kernel,
}

/// What all cells share.
pub struct Matrix {
    pub qemu: Qemu,
    pub tools: Tools,
    pub apt: Apt,
    /// The profiler of each architecture.
    pub programs: Vec<(Arch, PathBuf)>,
    /// Where the files of the guests' /out are kept: OUT/SERIES-ARCH.
    pub out: PathBuf,
    /// Also tests that take long.
    pub full: bool,
    /// Only tests of these names, if any.
    pub only_tests: Vec<String>,
}

impl Matrix {
    pub fn tests(&self) -> impl Iterator<Item = &'static Test> {
        acceptance::ALL.iter().filter(|test| {
            if self.only_tests.is_empty() {
                return self.full || !test.full;
            }
            self.only_tests.iter().any(|name| name == test.name)
        })
    }

    /// Runs one cell, with the usual tests or only with that of phones. Never an error: what goes
    /// wrong fails the cell's tests.
    pub fn cell(&self, guests: Guests, arch: Arch, phone_only: bool) -> Cell {
        let Guests {
            series, flavour, ..
        } = guests;
        let phone = guests.hooks.is_none() && android::fits(series, flavour, arch);
        let named = !self.only_tests.is_empty();
        let screens =
            named || (guests.hooks.is_none() && top::fits(series, flavour, arch, self.full));
        let tests: Vec<_> = self
            .tests()
            .filter(|test| match test.name {
                name if name == ANDROID.name => phone,
                name if name == TOP.name => screens && !phone_only,
                _ => !phone_only,
            })
            .collect();
        let mut cell = Cell {
            kernel: guests.label(),
            arch: arch.to_string(),
            outcomes: Vec::new(),
        };
        if tests.is_empty() {
            return cell;
        }
        let kernel = match Kernel::ensure(&self.apt, series, arch, flavour) {
            Ok(kernel) => kernel,
            Err(error) => {
                cell.outcomes = all_failed(tests.into_iter(), &format!("{error:#}"));
                return cell;
            }
        };
        if kernel.is_substitute() {
            println!(
                "no kernel {series} for {arch}: {} stands for it",
                kernel.series
            );
            cell.kernel = format!("{} for {series}", guests.label_as(&kernel.series));
        }
        let name = format!("{}-{arch}", guests.label_as(&kernel.series));
        let out = self.out.join(name);
        let cell_of = Booted {
            guests,
            kernel: &kernel,
        };
        cell.outcomes = self.attempt(&cell_of, &tests, &out);
        self.again(&cell_of, &tests, &out, &mut cell.outcomes);
        cell
    }

    /// A few failures get a second guest to themselves: emulation on a shared machine may stop for
    /// longer than a scenario has time. So does a guest that died with all of its tests: QEMU's
    /// emulation loses races with a kernel that patches its own text. What passes only there is called
    /// flaky, with the reason.
    fn again(&self, cell: &Booted<'_>, tests: &[&Test], out: &Path, outcomes: &mut Outcomes) {
        let failed: Vec<&Test> = tests
            .iter()
            .zip(outcomes.iter())
            .filter(|(_, (_, outcome))| matches!(outcome, Outcome::Failed(_)))
            .map(|(test, _)| *test)
            .collect();
        let died = failed.len() == tests.len();
        if failed.is_empty() || (failed.len() > AGAIN && !died) {
            return;
        }
        let mut place = out.as_os_str().to_owned();
        place.push("-again");
        for (name, second) in self.attempt(cell, &failed, Path::new(&place)) {
            let first = outcomes.iter_mut().find(|(n, _)| *n == name);
            if let (Outcome::Passed, Some((_, first))) = (&second, first)
                && let Outcome::Failed(why) = first
            {
                *first = Outcome::Flaky(std::mem::take(why));
            }
        }
    }

    fn attempt(&self, cell: &Booted<'_>, tests: &[&Test], out: &Path) -> Outcomes {
        self.boot(cell, tests, out).unwrap_or_else(|error| {
            let text = format!("{error:#}");
            println!("{} on {}: {text}", cell.kernel.label, cell.kernel.arch);
            all_failed(
                tests.iter().copied(),
                text.lines().next().unwrap_or_default(),
            )
        })
    }

    fn boot(&self, cell: &Booted<'_>, tests: &[&Test], out: &Path) -> Result<Outcomes> {
        let Booted { guests, kernel } = *cell;
        let arch = kernel.arch;
        if out.exists() {
            std::fs::remove_dir_all(out)
                .with_context(|| format!("cannot remove {}", out.display()))?;
        }
        paths::make_dir(out)?;
        let mut files = self.files(arch)?;
        let mut mem_mib = MEM_MIB;
        if kernel.vma_lock() != "none" && tests.iter().any(|test| test.bpftrace) {
            files.extend(peer::bpftrace(arch)?.files);
            mem_mib = peer::MEM_MIB;
        }
        if tests.iter().any(|test| test.name == CALLERS.name) {
            files.push(guest_file(&build::callers(arch)?, "/bin/callers")?);
        }
        if tests.iter().any(|test| test.name == TOP.name) {
            files.extend(top::tmux(arch)?);
        }
        let outside = match tests.iter().any(|test| test.name == ANDROID.name) {
            true => Some(self.outside(arch, out)?),
            false => None,
        };
        if outside.is_some() {
            files.extend(phone::adbd(arch)?);
        }
        let (steps_begun, begun) = mpsc::channel();
        let machine = Machine {
            qemu: &self.qemu,
            kernel,
            init: self.tools.init(arch)?,
            busybox: self.tools.busybox(arch)?,
            files,
            smp: SMP,
            mem_mib,
            accel: Accel::Multi,
            disk_latency_ms: 0,
            // It needs a module.
            slow_disk_ms: kernel.modules.as_ref().map_or(0, |_| SLOW_DISK_MS),
            disk_iops: None,
            network: outside.as_ref().map(|outside| Network {
                port: outside.port,
                steps: steps_begun,
            }),
        };
        let steps: Vec<_> = tests.iter().flat_map(|test| guests.steps(test)).collect();
        let mut streams = Streams {
            stdout: &mut io::sink(),
            stderr: &mut io::sink(),
        };
        let (ended, done_outside) = std::thread::scope(|scope| {
            let attend = |outside| scope.spawn(move || Outside::attend(outside, &begun));
            let outside = outside.as_ref().map(attend);
            let ended = machine.run(&steps, out, &mut streams);
            // With it goes what the other side listens to.
            drop(machine);
            (ended, outside.map(std::thread::ScopedJoinHandle::join))
        });
        let mut ended = ended?;
        match done_outside {
            Some(Ok(results)) => ended.report.results.extend(results?),
            Some(Err(_)) => bail!("the host's part of a test panicked"),
            None => {}
        }
        let evidence = Evidence {
            kernel,
            hooks: guests.hooks,
            report: &ended.report,
            out,
        };
        let outcomes: Vec<_> = tests
            .iter()
            .map(|test| {
                let failed = |error: anyhow::Error| Outcome::Failed(format!("{error:#}"));
                let outcome = (test.check)(&evidence).unwrap_or_else(failed);
                (test.name.to_owned(), outcome)
            })
            .collect();
        let failed = outcomes
            .iter()
            .filter(|(_, o)| matches!(o, Outcome::Failed(_)))
            .count();
        println!(
            "{} on {arch}: booted in {}, {} in all, {failed} of {} tests failed",
            kernel.label,
            seconds(ended.boot),
            seconds(ended.total),
            outcomes.len()
        );
        Ok(outcomes)
    }

    /// The host reads what the guest recorded with a program of its own, built if it is not one of
    /// the matrix.
    fn outside(&self, arch: Arch, out: &Path) -> Result<Outside> {
        let own = self.programs.iter().find(|(a, _)| *a == Arch::HOST);
        let program = match own {
            Some((_, path)) => path.clone(),
            None => build::vmascope(Arch::HOST, true)?,
        };
        Outside::new(arch, program, out)
    }

    fn files(&self, arch: Arch) -> Result<Vec<GuestFile>> {
        let program = self.programs.iter().find(|(a, _)| *a == arch);
        program
            .map(|(_, path)| guest_file(path, "/bin/vmascope"))
            .into_iter()
            .collect()
    }
}

fn all_failed<'a>(tests: impl Iterator<Item = &'a Test>, why: &str) -> Outcomes {
    tests
        .map(|test| (test.name.to_owned(), Outcome::Failed(why.to_owned())))
        .collect()
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
