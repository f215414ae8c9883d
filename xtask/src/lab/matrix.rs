//! The test matrix: every acceptance test on every kernel of the lab, one guest per cell.
//!
//! In: the cells wanted. Out: a row of the table for each; a guest that crashes fails its whole
//! row, with its console printed.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::acceptance::{self, Test};
use super::evidence::Evidence;
use super::kernels::{Flavour, Kernel};
use super::machine::{GuestFile, Machine, Streams};
use super::qemu::{Accel, Qemu};
use super::table::Cell;
use super::tools::Tools;
use super::vm::guest_file;
use crate::apt::Apt;
use crate::arch::Arch;
use crate::bench::peer;
use crate::paths;
use crate::step::Outcome;

/// Processors and memory of a guest. Two make threads run at once, also on a host with two.
const SMP: u32 = 2;
const MEM_MIB: u32 = 1024;
/// Of the disk at /slow. Far more than an emulated processor takes for a fault.
pub const SLOW_DISK_MS: u32 = 50;

/// What a row of the matrix is called: `6.12`, `7.3-rt`.
pub fn label(series: &str, flavour: Flavour) -> String {
    match flavour {
        Flavour::Cloud => series.to_owned(),
        other => format!("{series}-{other}"),
    }
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

    /// Runs one cell. Never an error: what goes wrong fails the cell's tests.
    pub fn cell(&self, series: &str, flavour: Flavour, arch: Arch) -> Cell {
        let mut cell = Cell {
            kernel: label(series, flavour),
            arch: arch.to_string(),
            outcomes: Vec::new(),
        };
        let kernel = match Kernel::ensure(&self.apt, series, arch, flavour) {
            Ok(kernel) => kernel,
            Err(error) => {
                cell.outcomes = self.all_failed(&format!("{error:#}"));
                return cell;
            }
        };
        if kernel.is_substitute() {
            println!(
                "no kernel {series} for {arch}: {} stands for it",
                kernel.series
            );
            cell.kernel = format!("{} for {series}", label(&kernel.series, flavour));
        }
        let out = self
            .out
            .join(format!("{}-{arch}", label(&kernel.series, flavour)));
        match self.boot(&kernel, &out) {
            Ok(outcomes) => cell.outcomes = outcomes,
            Err(error) => {
                let text = format!("{error:#}");
                println!("{} on {arch}: {text}", kernel.label);
                cell.outcomes = self.all_failed(text.lines().next().unwrap_or_default());
            }
        }
        cell
    }

    fn all_failed(&self, why: &str) -> Vec<(String, Outcome)> {
        self.tests()
            .map(|test| (test.name.to_owned(), Outcome::Failed(why.to_owned())))
            .collect()
    }

    fn boot(&self, kernel: &Kernel, out: &Path) -> Result<Vec<(String, Outcome)>> {
        let arch = kernel.arch;
        if out.exists() {
            std::fs::remove_dir_all(out)
                .with_context(|| format!("cannot remove {}", out.display()))?;
        }
        paths::make_dir(out)?;
        let mut files = self.files(arch)?;
        let mut mem_mib = MEM_MIB;
        if kernel.vma_lock() != "none" && self.tests().any(|test| test.bpftrace) {
            files.extend(peer::bpftrace(arch)?.files);
            mem_mib = peer::MEM_MIB;
        }
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
        };
        let steps: Vec<_> = self.tests().flat_map(|test| (test.steps)()).collect();
        let mut streams = Streams {
            stdout: &mut io::sink(),
            stderr: &mut io::sink(),
        };
        let ended = machine.run(&steps, out, &mut streams)?;
        let evidence = Evidence {
            kernel,
            report: &ended.report,
            out,
        };
        let outcomes: Vec<_> = self
            .tests()
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

    fn files(&self, arch: Arch) -> Result<Vec<GuestFile>> {
        let program = self.programs.iter().find(|(a, _)| *a == arch);
        program
            .map(|(_, path)| guest_file(path, "/bin/vmascope"))
            .into_iter()
            .collect()
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
