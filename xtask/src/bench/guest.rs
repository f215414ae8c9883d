//! All cases in one guest that has one processor, whose clock advances 1 ns with each instruction.
//!
//! In: the profiler, the load program, the cases. Out: instructions per fault or call, before,
//! with and after each case.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use guest::plan::Step;
use serde::Deserialize;
use serde_json::Value;

use super::Folder;
use super::cases::{Attached, Case, Load};
use super::peer::{self, Peer};
use crate::apt::Apt;
use crate::arch::Arch;
use crate::lab::kernels::{Flavour, Kernel, MATRIX};
use crate::lab::machine::{GuestFile, Machine, Streams};
use crate::lab::qemu::{Accel, Qemu};
use crate::lab::tools::Tools;
use crate::lab::vm::guest_file;
use crate::paths;

/// Rounds of a measurement; the later half counts.
const ROUNDS: usize = 24;
/// The first seconds of a guest are not like the rest: a fault costs three times as much.
const WARM_UP: usize = 150;
/// Of the guest's clock, which runs slower than ours.
const LIMIT_S: u64 = 900;
/// A fault takes thousands of instructions, hence microseconds of this clock: with the default
/// threshold each would be a long one, and recorded.
const MIN_US: &str = "100000";
/// A baseline that moved by more makes what lies between worthless.
const DRIFT: f64 = 0.005;

/// What the load program prints.
#[derive(Deserialize)]
struct Printed {
    count: u64,
    rounds_ns: Vec<u64>,
    faults: Vec<u64>,
}

/// Instructions per fault or call.
pub struct Row {
    pub case: String,
    pub before: f64,
    pub with: f64,
    pub after: f64,
    /// Why the row should not be believed.
    pub doubts: Vec<String>,
}

impl Row {
    pub fn base(&self) -> f64 {
        f64::midpoint(self.before, self.after)
    }

    pub fn added(&self) -> f64 {
        self.with - self.base()
    }
}

/// From exec to the start of the command under measurement.
pub struct Starts {
    pub ours_ns: u64,
    pub peer_ns: Option<u64>,
}

/// Of `record`, beside a storm, the pages of maps included; bytes.
pub struct Memory {
    pub rss: u64,
    pub maps: u64,
    pub peak: u64,
}

pub struct Run {
    pub kernel: String,
    pub qemu: String,
    pub peer: Option<String>,
    pub rows: Vec<Row>,
    pub starts: Option<Starts>,
    pub memory: Option<Memory>,
    /// How often a call of the lock load took mmap_lock for write, as the profiler counted it.
    pub write_locks_per_call: Option<f64>,
}

impl Run {
    pub fn row(&self, case: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.case == case)
    }
}

/// Runs those of the cases that can be run: bpftrace's only if it is given.
///
/// `whole`: with what only the page shows.
pub fn run(
    arch: Arch,
    program: &Path,
    load: &Path,
    peer: Option<&Peer>,
    cases: &[Case],
    whole: bool,
) -> Result<Run> {
    let tools = Tools::ensure(&[arch])?;
    let newest = MATRIX.last().copied().unwrap_or_default();
    let kernel = Kernel::ensure(&Apt::new(&paths::cache()?)?, newest, arch, Flavour::Cloud)?;
    let qemu = Qemu::ensure()?;
    let runs: Vec<&Case> = cases
        .iter()
        .filter(|case| peer.is_some() || !matches!(case.attached, Attached::Peer(_)))
        .collect();
    println!(
        "{} cases in one guest: {}, QEMU {}; several minutes",
        runs.len(),
        kernel.label,
        qemu.version
    );
    let mut files = vec![
        guest_file(program, "/bin/vmascope")?,
        guest_file(load, "/bin/load")?,
    ];
    let extra = peer.map_or(&[][..], |peer| peer.files.as_slice());
    files.extend(extra.iter().map(|file| GuestFile {
        path: file.path.clone(),
        mode: file.mode,
        bytes: file.bytes.clone(),
    }));
    let machine = Machine {
        qemu: &qemu,
        kernel: &kernel,
        init: tools.init(arch)?,
        busybox: tools.busybox(arch)?,
        files,
        smp: 1,
        // The compiler that bpftrace is, and its libraries, are files in memory too.
        mem_mib: if peer.is_some() { peer::MEM_MIB } else { 768 },
        accel: Accel::Icount,
        disk_latency_ms: 0,
        slow_disk_ms: 0,
        disk_iops: None,
        network: None,
    };
    let out = Folder::new()?;
    let steps = steps(&runs, whole, peer.is_some());
    let mut streams = Streams {
        stdout: &mut std::io::stdout(),
        stderr: &mut std::io::stderr(),
    };
    let ended = machine.run(&steps, &out.0, &mut streams)?;
    for result in &ended.report.results {
        if result.code() != 0 {
            let said = fs::read_to_string(out.0.join(format!("{}.stderr", result.name)));
            bail!(
                "{} in the guest ended with {}: {}",
                result.name,
                result.code(),
                said.unwrap_or_default().trim()
            );
        }
    }
    let mut rows = Vec::new();
    let mut before: Option<(Load, String)> = None;
    for case in &runs {
        // The baseline after one case is the one before the next of the same load.
        let name = match before {
            Some((load, name)) if load == case.load => name,
            _ => format!("base-{}", case.load.word()),
        };
        rows.push(row(&out.0, case, &name)?);
        before = Some((case.load, format!("{}-after", case.name)));
    }
    Ok(Run {
        kernel: kernel.label.clone(),
        qemu: qemu.version.clone(),
        peer: peer.map(|peer| peer.version.clone()),
        rows,
        starts: if whole {
            Some(starts(&out.0, peer.is_some())?)
        } else {
            None
        },
        memory: if whole { Some(memory(&out.0)?) } else { None },
        write_locks_per_call: if whole {
            write_locks_per_call(&out.0, &runs)?
        } else {
            None
        },
    })
}

fn words(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|part| (*part).to_owned()).collect()
}

fn step(name: &str, argv: Vec<String>) -> Step {
    let mut step = Step::new(name, LIMIT_S, &[]);
    step.argv = argv;
    step
}

fn load_command(load: Load, rounds: usize) -> Vec<String> {
    let (count, rounds) = (load.count().to_string(), rounds.to_string());
    words(&["load", load.word(), &count, &rounds])
}

fn steps(cases: &[&Case], whole: bool, peer: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut last = None;
    for case in cases {
        if last != Some(case.load) {
            let name = format!("warm-{}", case.load.word());
            steps.push(step(&name, load_command(case.load, WARM_UP)));
            let before = format!("base-{}", case.load.word());
            steps.push(step(&before, load_command(case.load, ROUNDS)));
            last = Some(case.load);
        }
        steps.push(step(&case.name, attached(case)));
        if matches!(case.attached, Attached::Ours { .. }) {
            let report = words(&["vmascope", "report", "--format", "json", &database(case)]);
            steps.push(step(&format!("{}-report", case.name), report));
        }
        let after = format!("{}-after", case.name);
        steps.push(step(&after, load_command(case.load, ROUNDS)));
    }
    if whole {
        let storm = "time -v vmascope record --all -o /tmp/memory.db -- vmascope demo storm --threads 2 --duration 3s";
        steps.push(step("memory", words(&["sh", "-c", storm])));
        let report = ["vmascope", "report", "--format", "json", "/tmp/memory.db"];
        steps.push(step("memory-report", words(&report)));
        // The first of all programs makes the kernel read its own BTF; the second start counts.
        for name in ["warm-ours", "start-ours"] {
            let ours = "vmascope record --all -o /tmp/start.db -- load now";
            steps.push(started(name, ours));
        }
        if peer {
            let theirs = format!("bpftrace -c '/bin/load now' -e '{PROBES}'");
            for name in ["warm-peer", "start-peer"] {
                steps.push(started(name, &theirs));
            }
        }
    }
    steps
}

fn database(case: &Case) -> String {
    format!("/tmp/{}.db", case.name)
}

fn attached(case: &Case) -> Vec<String> {
    let load = load_command(case.load, ROUNDS);
    match case.attached {
        Attached::Ours {
            options,
            system_wide,
        } => {
            let mut argv = words(&["vmascope", "record", "-o", &database(case)]);
            argv.extend(words(&["--min-us", MIN_US]));
            argv.extend(words(if system_wide { &["--all"] } else { &[] }));
            argv.extend(options.iter().flat_map(|part| words(part)));
            argv.push("--".to_owned());
            argv.extend(load);
            argv
        }
        Attached::Peer(program) => {
            let command = format!("/bin/{}", load.join(" "));
            words(&["bpftrace", "-c", &command, "-e", program])
        }
    }
}

/// As many probes as ours are by default on that kernel, on the same functions and tracepoints.
const PROBES: &str = "fentry:vmlinux:handle_mm_fault { @ = count(); } \
     fexit:vmlinux:handle_mm_fault { @ = count(); } \
     fentry:vmlinux:rwsem_down_read_slowpath { @ = count(); } \
     fexit:vmlinux:rwsem_down_read_slowpath { @ = count(); } \
     fentry:vmlinux:rwsem_down_write_slowpath { @ = count(); } \
     fexit:vmlinux:rwsem_down_write_slowpath { @ = count(); } \
     fentry:vmlinux:io_schedule { @ = count(); } \
     fexit:vmlinux:io_schedule { @ = count(); } \
     fentry:vmlinux:io_schedule_timeout { @ = count(); } \
     fexit:vmlinux:io_schedule_timeout { @ = count(); } \
     fentry:vmlinux:filemap_read_folio { @ = count(); } \
     fexit:vmlinux:filemap_read_folio { @ = count(); } \
     fentry:vmlinux:handle_userfault { @ = count(); } \
     fexit:vmlinux:handle_userfault { @ = count(); } \
     fentry:vmlinux:do_page_mkwrite { @ = count(); } \
     fexit:vmlinux:do_page_mkwrite { @ = count(); } \
     fentry:vmlinux:swap_read_folio { @ = count(); } \
     fexit:vmlinux:swap_read_folio { @ = count(); } \
     fentry:vmlinux:lock_mm_and_find_vma { @ = count(); } \
     fentry:vmlinux:filemap_fault { @ = count(); } \
     fentry:vmlinux:__folio_lock_or_retry { @ = count(); } \
     fentry:vmlinux:shmem_fault { @ = count(); } \
     fentry:vmlinux:do_swap_page { @ = count(); } \
     fentry:vmlinux:migration_entry_wait { @ = count(); } \
     fentry:vmlinux:hugetlb_fault { @ = count(); } \
     fexit:vmlinux:lock_mm_and_find_vma { @ = count(); } \
     fentry:vmlinux:__vma_start_write { @ = count(); } \
     fexit:vmlinux:__vma_start_write { @ = count(); } \
     fentry:vmlinux:rcuwait_wake_up { @ = count(); } \
     fexit:vmlinux:__filemap_get_folio_mpol { @ = count(); } \
     tracepoint:sched:sched_process_fork { @ = count(); } \
     tracepoint:sched:sched_process_exec { @ = count(); } \
     tracepoint:sched:sched_process_exit { @ = count(); } \
     tracepoint:sched:sched_process_free { @ = count(); } \
     tracepoint:task:task_rename { @ = count(); } \
     tracepoint:mmap_lock:mmap_lock_start_locking { @ = count(); } \
     tracepoint:mmap_lock:mmap_lock_acquire_returned { @ = count(); } \
     tracepoint:mmap_lock:mmap_lock_released { @ = count(); } \
     tracepoint:vmscan:mm_vmscan_direct_reclaim_begin { @ = count(); } \
     tracepoint:vmscan:mm_vmscan_direct_reclaim_end { @ = count(); } \
     tracepoint:vmscan:mm_vmscan_memcg_reclaim_begin { @ = count(); } \
     tracepoint:vmscan:mm_vmscan_memcg_reclaim_end { @ = count(); }";

/// How many those are.
pub const PROBE_COUNT: usize = 42;

/// Tells the time, then becomes the command, whose own command tells the time again.
fn started(name: &str, command: &str) -> Step {
    let script = format!("load now; exec {command}");
    step(name, words(&["sh", "-c", &script]))
}

fn read(out: &Path, name: &str) -> Result<String> {
    let path = out.join(format!("{name}.stdout"));
    fs::read_to_string(&path).with_context(|| format!("the guest left no output of {name}"))
}

/// The lines of JSON; bpftrace prints others around them.
fn lines<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = Result<Value>> + 'a {
    text.lines()
        .filter(|line| line.starts_with('{'))
        .map(move |line| {
            serde_json::from_str(line).with_context(|| format!("the output of {name}"))
        })
}

fn printed(out: &Path, name: &str) -> Result<Printed> {
    let text = read(out, name)?;
    let first = lines(&text, name).next();
    let value = first.with_context(|| format!("{name} in the guest printed nothing"))??;
    serde_json::from_value(value).with_context(|| format!("the output of {name}"))
}

/// The median of the later half of the rounds, by the number of things in a round.
fn per_thing(printed: &Printed) -> f64 {
    let half = printed.rounds_ns.len() / 2;
    let mut later = printed.rounds_ns.get(half..).unwrap_or_default().to_vec();
    later.sort_unstable();
    let at = |n: usize| later.get(n).copied().unwrap_or(0) as f64;
    let middle = f64::midpoint(at(later.len().saturating_sub(1) / 2), at(later.len() / 2));
    middle / printed.count as f64
}

fn row(out: &Path, case: &Case, before: &str) -> Result<Row> {
    let printed_with = printed(out, &case.name)?;
    let before = printed(out, before)?;
    let after = printed(out, &format!("{}-after", case.name))?;
    let mut row = Row {
        case: case.name.clone(),
        before: per_thing(&before),
        with: per_thing(&printed_with),
        after: per_thing(&after),
        doubts: Vec::new(),
    };
    if (row.before - row.after).abs() > row.base() * DRIFT {
        row.doubts.push(format!(
            "the baseline moved from {:.0} to {:.0}",
            row.before, row.after
        ));
    }
    if case.load == Load::Fault {
        for printed in [&before, &printed_with, &after] {
            // The first rounds also touch the load's own pages.
            let mut later = printed.faults.iter().skip(printed.faults.len() / 2);
            if later.any(|n| *n != printed.count) {
                row.doubts.push("a round had other faults too".to_owned());
                break;
            }
        }
    }
    if let Attached::Ours { options, .. } = case.attached {
        let empty = options
            .iter()
            .any(|part| part.contains(&"--empty-programs"));
        row.doubts.extend(doubts(out, case, empty)?);
    }
    Ok(row)
}

fn doubts(out: &Path, case: &Case, empty: bool) -> Result<Vec<String>> {
    let report = report(out, case)?;
    let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_u64);
    let mut doubts = Vec::new();
    let faults = number("/faults/total").unwrap_or(0);
    let made = Load::Fault.count() * ROUNDS as u64;
    if empty && faults > 0 {
        doubts.push(format!("the empty programs counted {faults} faults"));
    }
    if !empty && case.load == Load::Fault && faults < made {
        doubts.push(format!("{faults} of {made} faults were counted"));
    }
    let losses = report.pointer("/loss").and_then(Value::as_object);
    let lost: u64 = losses
        .into_iter()
        .flat_map(|all| all.values())
        .filter_map(Value::as_u64)
        .sum();
    if lost > 0 {
        doubts.push(format!("{lost} losses"));
    }
    Ok(doubts)
}

fn report(out: &Path, case: &Case) -> Result<Value> {
    let name = format!("{}-report", case.name);
    serde_json::from_str(&read(out, &name)?).with_context(|| format!("the output of {name}"))
}

fn starts(out: &Path, peer: bool) -> Result<Starts> {
    let between = |name: &str| -> Result<u64> {
        let text = read(out, name)?;
        let times = lines(&text, name)
            .map(|line| Ok(line?.get("now_ns").and_then(Value::as_u64)))
            .collect::<Result<Vec<_>>>()?;
        match times.as_slice() {
            [Some(begin), Some(end)] => Ok(end.saturating_sub(*begin)),
            _ => bail!("{name} in the guest did not tell the time twice"),
        }
    };
    Ok(Starts {
        ours_ns: between("start-ours")?,
        peer_ns: if peer {
            Some(between("start-peer")?)
        } else {
            None
        },
    })
}

/// What it says of itself, and what the kernel says when it has ended.
fn memory(out: &Path) -> Result<Memory> {
    let report: Value = serde_json::from_str(&read(out, "memory-report")?)?;
    let of = |what: &str| {
        let bytes = report.pointer(&format!("/cost/{what}"));
        bytes
            .and_then(Value::as_u64)
            .with_context(|| format!("no {what} in the report"))
    };
    let said = fs::read_to_string(out.join("memory.stderr"))?;
    let peak = said.lines().find_map(|line| {
        let (_, kib) = line.split_once("Maximum resident set size (kbytes): ")?;
        kib.trim().parse::<u64>().ok()
    });
    Ok(Memory {
        rss: of("rss_bytes")?,
        maps: of("map_bytes")?,
        peak: peak.context("time told no peak of memory")? * 1024,
    })
}

fn write_locks_per_call(out: &Path, cases: &[&Case]) -> Result<Option<f64>> {
    for case in cases.iter().filter(|case| case.load == Load::Lock) {
        let report = report(out, case)?;
        let acquired = report.pointer("/mmap_lock/write/by_op/mprotect/acquired");
        if let Some(acquired) = acquired.and_then(Value::as_u64).filter(|n| *n > 0) {
            let calls = Load::Lock.count() * ROUNDS as u64;
            return Ok(Some(acquired as f64 / calls as f64));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_of_the_later_half() {
        let printed = |rounds: &[u64]| Printed {
            count: 10,
            rounds_ns: rounds.to_vec(),
            faults: vec![],
        };
        assert_eq!(per_thing(&printed(&[900, 900, 900, 70, 80, 1000])), 8.0);
        assert_eq!(per_thing(&printed(&[900, 900, 80, 70])), 7.5);
        assert_eq!(per_thing(&printed(&[])), 0.0);
    }

    #[test]
    fn as_many_probes_as_stated() {
        assert_eq!(PROBES.matches("count()").count(), PROBE_COUNT);
    }
}
