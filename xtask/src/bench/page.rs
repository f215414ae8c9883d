//! docs/overhead.md: the figures of one run, each against its budget.
//!
//! In: what was measured. Out: text.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::Result;

use super::cases::{Attached, Case, KPROBES, Load, PEER};
use super::guest::{PROBE_COUNT, Run, Starts};
use super::native::{ATTEMPTS, CROWD, Daemon, Events, Native, RATE, WATCH_S, WATCHES};
use crate::arch::Arch;
use crate::system;

const MIB: f64 = 1_048_576.0;

pub struct Figures {
    pub native: Native,
    pub run: Run,
    pub cases: Vec<Case>,
    pub phone: Phone,
    pub sizes: Vec<(Arch, Option<u64>)>,
    /// Why bpftrace was not measured.
    pub no_peer: Option<String>,
}

/// A guest of the architecture that phones have.
pub struct Phone {
    pub run: Run,
    pub cases: Vec<Case>,
}

pub fn text(figures: &Figures) -> Result<String> {
    let mut page = head(figures)?;
    page += &faults(&figures.run, &figures.cases);
    page += &beside_peer(figures);
    page += &locks(figures);
    page += &machine(figures);
    page += &size(figures);
    page += &phone(&figures.phone);
    page += REPEAT;
    Ok(page)
}

const REPEAT: &str = "
## How to repeat

```
sudo -E cargo xtask bench probes            # everything; writes this page
cargo xtask bench probes --quick            # only the first table, without the third set of hooks
```

Instructions repeat to a few in ten thousand on any machine, however busy it is. What is measured
on the machine itself wants a calm one.
";

fn head(figures: &Figures) -> Result<String> {
    let native = &figures.native;
    let date = system::output(Command::new("date").args(["-u", "+%F"]))?;
    let kernel = system::output(Command::new("uname").arg("-r"))?;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let peer = match (&figures.run.peer, &figures.no_peer) {
        (Some(version), _) => format!("bpftrace {version}"),
        (None, Some(why)) => format!("bpftrace was not measured: {why}"),
        (None, None) => "bpftrace was not measured".to_owned(),
    };
    Ok(format!(
        "# Overhead

Written by `cargo xtask bench probes`; every figure is from the one run that wrote the page.

- {version}, {date}
- guest: {guest}, {arch}, one processor, QEMU {qemu} `-icount shift=0,sleep=off`; {peer}
- this machine: {cpu}, {cpus} CPUs, Linux {kernel}, load average {load} before the run; tier
  here: {tier}

",
        version = native.version,
        date = date.trim(),
        guest = figures.run.kernel,
        arch = Arch::HOST,
        qemu = figures.run.qemu,
        cpu = cpu_model(),
        kernel = kernel.trim(),
        load = native.load_average,
        tier = native.tier,
    ))
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(':'));
    name.map_or_else(
        || "unknown processor".to_owned(),
        |(_, name)| name.trim().to_owned(),
    )
}

fn holds(ok: bool) -> &'static str {
    if ok { "yes" } else { "**no**" }
}

/// The table of the cases with one load.
fn table(run: &Run, cases: &[Case], load: Load) -> String {
    let mut text = String::from(
        "| hooks | attached | before | with | after | added | of empty | budget | holds |\n\
         |---|---|--:|--:|--:|--:|--:|--:|---|\n",
    );
    let mut doubts = String::new();
    for case in cases.iter().filter(|case| case.load == load) {
        let Some(row) = run.row(&case.name) else {
            continue;
        };
        let floor = case.floor.as_deref().and_then(|name| run.row(name));
        let ratio = floor.map(|floor| row.added() / floor.added());
        let budget = case.budget.map(|budget| f64::from(budget) / 100.0);
        let verdict = match (ratio, budget) {
            (Some(ratio), Some(budget)) => holds(ratio <= budget),
            _ => "",
        };
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} | {:.0} | {:.0} | {:+.0} | {} | {} | {verdict} |",
            case.hooks,
            case.what,
            row.before,
            row.with,
            row.after,
            row.added(),
            ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}x")),
            budget.map_or_else(String::new, |budget| format!("{budget}x")),
        );
        for doubt in &row.doubts {
            let _ = writeln!(doubts, "- doubt: {}, {}: {doubt}", case.hooks, case.what);
        }
    }
    if !doubts.is_empty() {
        let _ = write!(text, "\n{doubts}");
    }
    text
}

pub fn faults(run: &Run, cases: &[Case]) -> String {
    format!(
        "## One common fault, in guest instructions

The first touch of a page of anonymous memory, huge pages off: {} in a round, the median of the
later rounds. The guest's clock advances 1 ns with each instruction, so it counts them; entry and
exit of the exception are included. *Before* and *after* are without anything attached. *Empty* are
the same programs on the same hooks, returning at once. Recordings are system-wide unless stated;
the threshold for single events is out of reach, since a fault of this clock lasts microseconds.

{}",
        Load::Fault.count(),
        table(run, cases, Load::Fault)
    )
}

/// Ours as a part of bpftrace's.
fn beside_peer(figures: &Figures) -> String {
    let Some(peer) = figures.run.row(PEER) else {
        return String::new();
    };
    let mut text = String::from(
        "\nAgainst bpftrace, which keeps the latency histogram and nothing else:\n\n\
         | attached | hooks | added | of bpftrace | budget | holds |\n|---|---|--:|--:|--:|---|\n",
    );
    let ours = figures.cases.iter().filter(|case| {
        case.load == Load::Fault
            && case.budget.is_some()
            && !case.name.contains(KPROBES)
            && matches!(case.attached, Attached::Ours { .. })
    });
    for case in ours {
        let Some(row) = figures.run.row(&case.name) else {
            continue;
        };
        let ratio = row.added() / peer.added();
        let _ = writeln!(
            text,
            "| {} | {} | {:+.0} | {ratio:.2}x | 0.5x | {} |",
            case.what,
            case.hooks,
            row.added(),
            holds(ratio <= 0.5)
        );
    }
    text
}

/// With what one needs to know to choose options for a phone.
pub fn phone(phone: &Phone) -> String {
    let mut text = format!(
        "
## On arm64, as on a phone

Guest: {}, one processor,
`-icount shift=0,sleep=off` as above: instructions, not the time of a phone's processor. The kernels
of phones have no fentry; there a kprobe is what hooks a function, and the page-fault events tell of
the end. Programs on kprobes read kernel memory through a helper, so the budget is another: 2.25x of
empty programs with `--sample 16`, which is what to use on a phone. Counts are exact with any sampling.

{}
| what | measured | budget | holds |
|---|---|---|---|
",
        phone.run.kernel,
        table(&phone.run, &phone.cases, Load::Fault)
    );
    if let Some(starts) = &phone.run.starts {
        let ms = starts.ours_ns as f64 / 1e6;
        let _ = writeln!(
            text,
            "| exec to the start of the command, full tier | {ms:.0} million instructions | | |"
        );
    }
    if let Some(memory) = &phone.run.memory {
        let mib = |bytes: u64| bytes as f64 / MIB;
        let (rss, maps, peak) = (mib(memory.rss), mib(memory.maps), mib(memory.peak));
        for (what, size) in [("RSS", rss), ("peak RSS", peak)] {
            let _ = writeln!(
                text,
                "| {what}, the pages of maps included, `record` of the whole system beside a storm | {size:.1} MiB; maps {maps:.1} MiB | 24 MiB and the maps | {} |",
                holds(size <= 24.0 + maps)
            );
        }
    }
    text
}

fn locks(figures: &Figures) -> String {
    let check = match figures.run.write_locks_per_call {
        Some(n) => format!("{n:.3} acquisitions for write a call, as the profiler counted them."),
        None => "How often it takes the lock was not counted.".to_owned(),
    };
    format!(
        "\n## One uncontended mmap_lock acquire and release, in guest instructions

`mprotect` of one page with the protection it has, the system call included. {check}

{}",
        table(&figures.run, &figures.cases, Load::Lock)
    )
}

fn machine(figures: &Figures) -> String {
    let native = &figures.native;
    let mut text = String::from(
        "\n## Events, daemon and start

On this machine, but for the last row. The rate of events is that of the load: it makes the faults.

| what | measured | budget | holds |\n|---|---|---|---|\n",
    );
    let mut row = |what: &str, measured: &str, budget: &str, verdict: &str| {
        let _ = writeln!(text, "| {what} | {measured} | {budget} | {verdict} |");
    };
    let steady = &native.steady;
    row(
        &format!(
            "a record for every fault, {} faults/s asked for, best of at most {ATTEMPTS} runs",
            grouped(RATE)
        ),
        &events(steady),
        &format!("{}/s, no loss", grouped(RATE)),
        holds(steady.lost == 0 && steady.is_at_rate()),
    );
    let flat_out = &native.flat_out;
    row(
        "a record for every fault, as fast as one thread can",
        &events(flat_out),
        "faults = received + lost",
        holds(exact(flat_out)),
    );
    for daemon in &native.daemons {
        let beside = beside(daemon);
        let rss = daemon.rss_bytes as f64 / MIB;
        row(
            &format!("CPU, {beside}, least of {WATCHES} times {WATCH_S} s"),
            &format!("{:.2} % of one CPU", daemon.cpu_percent),
            "1 %",
            holds(daemon.cpu_percent <= 1.0),
        );
        row(
            &format!("memory, {beside}"),
            &format!(
                "RSS {rss:.1} MiB without maps; maps {:.1} MiB",
                daemon.map_bytes as f64 / MIB
            ),
            "24 MiB and the maps",
            holds(rss <= 24.0),
        );
    }
    let peaks = native.daemons.iter().map(|daemon| daemon.peak_rss_bytes);
    let peak = peaks.max().unwrap_or(0) as f64 / MIB;
    let maps = native.daemons.iter().map(|daemon| daemon.map_bytes);
    let maps = maps.min().unwrap_or(0) as f64 / MIB;
    row(
        "peak RSS, the pages of maps included; reached at the start",
        &format!("{peak:.1} MiB"),
        "24 MiB and the maps",
        holds(peak <= 24.0 + maps),
    );
    row(
        "exec to armed, median",
        &format!("{:.0} ms", native.start_ms),
        "500 ms",
        holds(native.start_ms <= 500.0),
    );
    row(
        "`vmascope doctor`, median",
        &format!("{:.0} ms", native.doctor_ms),
        "",
        "",
    );
    if let Some(starts) = &figures.run.starts {
        let (figures, budget) = start(starts);
        row(
            "exec to the start of the command, full tier, in the guest (1 ms is a million instructions)",
            &figures,
            budget.map_or("", |_| "0.5x"),
            budget.map_or("", holds),
        );
    }
    text
}

/// The figures, and whether the budget holds.
pub fn start(starts: &Starts) -> (String, Option<bool>) {
    let ours = starts.ours_ns as f64 / 1e6;
    match starts.peer_ns.map(|ns| ns as f64 / 1e6) {
        Some(peer) => (
            format!(
                "{ours:.0} ms; bpftrace with {PROBE_COUNT} probes {peer:.0} ms: {:.2}x",
                ours / peer
            ),
            Some(ours <= peer * 0.5),
        ),
        None => (format!("{ours:.0} ms"), None),
    }
}

fn beside(daemon: &Daemon) -> String {
    let what = format!("`{}` of the whole system, interval 1 s", daemon.command);
    if daemon.processes == 0 {
        what
    } else {
        format!(
            "{what}, beside {} processes that fault twice a second each",
            grouped(CROWD)
        )
    }
}

/// What was not received is known to be lost.
fn exact(events: &Events) -> bool {
    events.emitted == events.received && events.received + events.lost >= events.faults
}

fn events(events: &Events) -> String {
    format!(
        "{} faults/s for {} faults: {} received, {} lost",
        grouped(events.per_second as u64),
        grouped(events.faults),
        grouped(events.received),
        grouped(events.lost)
    )
}

fn size(figures: &Figures) -> String {
    let mut text = String::from(
        "\n## Program\n\nStatic, stripped, the eBPF object inside.\n\n\
         | architecture | size | budget | holds |\n|---|--:|--:|---|\n",
    );
    for (arch, bytes) in &figures.sizes {
        let mib = bytes.map(|bytes| bytes as f64 / MIB);
        let _ = writeln!(
            text,
            "| {arch} | {} | 8 MiB | {} |",
            mib.map_or_else(|| "not built".to_owned(), |mib| format!("{mib:.2} MiB")),
            mib.map_or("", |mib| holds(mib <= 8.0))
        );
    }
    text
}

/// 1234567 as 1,234,567.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::cases;
    use super::super::guest::Row;
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(200_000), "200,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }

    #[test]
    fn a_budget_that_does_not_hold_is_told() {
        let cases = cases::quick();
        let row = |case: &Case, with| Row {
            case: case.name.clone(),
            before: 1000.0,
            with,
            after: 1000.0,
            doubts: vec![],
        };
        let mut run = Run {
            kernel: String::new(),
            qemu: String::new(),
            peer: None,
            rows: vec![
                row(&cases[0], 1100.0),
                row(&cases[1], 1200.0),
                row(&cases[2], 1151.0),
            ],
            starts: None,
            memory: None,
            write_locks_per_call: None,
        };
        let text = table(&run, &cases, Load::Fault);
        assert!(text.contains("+200 | 2.00x | 2x | yes |"), "{text}");
        assert!(text.contains("+151 | 1.51x | 1.5x | **no** |"), "{text}");
        run.rows[2].doubts.push("7 losses".to_owned());
        assert!(table(&run, &cases, Load::Fault).contains("doubt: handle_mm_fault, ours"));
    }
}
