//! The command line: clap structs only, no decisions. `commands::asked` makes sense of them.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::RangedU64ValueParser};

use crate::{
    commands::Trigger,
    diff::Condition,
    loader::HookChoice,
    recording::Shown,
    sinks::{folded::By, top::Theme},
};

#[derive(Debug, Parser)]
#[command(
    name = "vmascope",
    version,
    about = "Shows how page faults and the locks of an address space get in each other's way",
    max_term_width = 100
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Live terminal dashboard (the default on a terminal), or play a recording
    Top(Top),
    /// Run the probes and write a recording
    Record(Record),
    /// The report, from a recording or live for a while
    Report(Report),
    /// Everything in a recording, for other tools
    Export(Export),
    /// Compare recordings: what changed, and how sure that is
    Diff(Diff),
    /// Measure for good, and answer Prometheus over HTTP
    Serve(Serve),
    /// Recorders that run detached; whether a recording is finished
    Status(Which),
    /// End a recorder that runs detached, and wait until its recording is whole
    Stop(Which),
    /// Make a recording that was cut short by a crash one file again
    Repair(Repair),
    /// Run a built-in stimulus whose true answer is known
    Demo(Demo),
    /// What this kernel can tell: every signal, by which hook, and why
    Doctor(Doctor),
    /// Print a shell completion script
    Completions { shell: clap_complete::Shell },
    /// Print the manual page
    Man,
}

/// What to look at, and how.
#[derive(Args, Clone, Debug)]
pub struct Probing {
    /// Only these processes (may be repeated, or a list: 12,34)
    #[arg(
        short,
        long,
        value_delimiter = ',',
        value_name = "PID",
        group = "whose"
    )]
    pub pid: Vec<u32>,
    /// Only what runs in this cgroup, or below it (may be repeated)
    #[arg(short, long, value_name = "PATH", group = "whose")]
    pub cgroup: Vec<PathBuf>,
    /// Only what runs in this container, by its id, in this pod, by its uid, or in this service
    #[arg(long, value_name = "ID", group = "whose")]
    pub container: Vec<String>,
    /// Only processes of this user (may be repeated)
    #[arg(long, value_name = "UID", group = "whose")]
    pub uid: Vec<u32>,
    /// Only processes of this Android app
    #[arg(long, value_name = "NAME", group = "whose")]
    pub package: Option<String>,
    /// Poll the counters this often
    #[arg(short, long, default_value = "1s", value_name = "TIME", value_parser = interval)]
    pub interval: Duration,
    /// Keep single waits and faults from this length on, in microseconds
    #[arg(long, default_value_t = 10, value_name = "US")]
    pub min_us: u32,
    /// Time one common fault in N, a power of two (all are counted)
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = power_of_two)]
    pub sample: u32,
    /// Which hooks to use, from the best down
    #[arg(long, default_value = "auto")]
    pub hooks: Hooks,
    /// See every mmap_lock acquisition, or only those that wait [default: what this kernel does cheaply]
    #[arg(long)]
    pub mmap_lock: Option<MmapLock>,
    /// Keep the kernel stacks of waiters, and of those who let a lock go that is waited for
    #[arg(long)]
    pub stacks: bool,
    /// Do not look why a fault gets no VMA lock: fallbacks cost less, and have no reason
    #[arg(long)]
    pub no_vma_lock: bool,
    /// The kernel's type information, where the kernel has none of its own
    #[arg(long, value_name = "FILE")]
    pub btf: Option<PathBuf>,
    /// Attach programs that do nothing: the floor for overhead figures
    #[arg(long, hide = true)]
    pub empty_programs: bool,
}

/// What to show of all that was measured.
#[derive(Args, Debug)]
pub struct Rows {
    /// List only these threads, and single waits and faults of theirs (may be repeated, or a list)
    #[arg(long, value_delimiter = ',', value_name = "TID")]
    pub tid: Vec<u32>,
    /// List only threads of this name (may be repeated); counts and estimates stay those of all
    #[arg(long, value_name = "NAME")]
    pub comm: Vec<String>,
    /// List only single waits and faults that ended on these CPUs (may be repeated, or a list)
    #[arg(short = 'C', long, value_delimiter = ',', value_name = "CPU")]
    pub cpu: Vec<u32>,
}

impl From<&Rows> for Shown {
    fn from(rows: &Rows) -> Self {
        Self {
            tids: rows.tid.clone(),
            comms: rows.comm.clone(),
            cpus: rows.cpu.clone(),
        }
    }
}

#[derive(Args, Debug)]
pub struct Top {
    #[command(flatten)]
    pub probing: Probing,
    /// Colours for which background
    #[arg(long, default_value = "auto")]
    pub theme: Theme,
    /// Have the kernel time the programs, to show what they cost: two clock reads in each run
    #[arg(long, conflicts_with = "file")]
    pub bpf_stats: bool,
    /// Time fewer common faults, and at last take the programs off, when they run for more than this share of
    /// all CPUs (implies --bpf-stats)
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with = "file")]
    pub max_overhead: Option<f64>,
    /// A recording to play
    #[arg(conflicts_with = "whose")]
    pub file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Record {
    #[command(flatten)]
    pub probing: Probing,
    /// Where to write the recording
    #[arg(short, long, default_value = "vmascope.db", value_name = "FILE")]
    pub output: PathBuf,
    /// Write single waits and faults as CSV, as they come, and no recording; `-` is standard output
    #[arg(long, value_name = "FILE", conflicts_with_all = ["output", "ring", "max_size", "max_age"])]
    pub csv: Option<PathBuf>,
    /// Stop after this long
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Begin a new recording, FILE-000001 and so on, when one has this size (64M, 1G)
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_size: Option<u64>,
    /// Begin a new recording when one is this old
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub max_age: Option<Duration>,
    /// Of such recordings, keep the latest N [default: 10]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(2..))]
    pub keep: Option<usize>,
    /// Keep the last TIME in memory, and write them on SIGUSR1 or when a trigger fires
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with_all = ["max_size", "max_age"])]
    pub ring: Option<Duration>,
    /// When to write: `wait>50ms`; wait, read, write, vma_write or fault (may be repeated)
    #[arg(long, value_name = "WHAT>TIME", requires = "ring")]
    pub trigger: Vec<Trigger>,
    /// Record on after the terminal, or the adb connection, is gone, until `vmascope stop`; what would be
    /// said, also by the command, goes to FILE.log
    #[arg(long)]
    pub detach: bool,
    /// Launch this Android app, with --mmap-lock all, and record until it is idle [at most 30s, or -d]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["whose", "command", "csv", "ring", "max_size", "max_age"])]
    pub app_start: Option<String>,
    /// The whole system, even with a command
    #[arg(short, long)]
    pub all: bool,
    /// Run the command as this user [default: whoever called sudo]
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// The command to run; it and its descendants are measured
    #[arg(last = true, conflicts_with = "whose", value_name = "CMD")]
    pub command: Vec<OsString>,
}

#[derive(Args, Debug)]
pub struct Which {
    /// Its recording, or its process
    #[arg(value_name = "FILE|PID")]
    pub which: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Report {
    #[command(flatten)]
    pub probing: Probing,
    #[command(flatten)]
    pub rows: Rows,
    /// Measure for this long, without a recording
    #[arg(short, long, value_name = "TIME", value_parser = duration, conflicts_with = "file", required_unless_present = "file")]
    pub duration: Option<Duration>,
    #[arg(long, default_value = "text")]
    pub format: ReportFormat,
    /// A recording
    #[arg(conflicts_with = "whose")]
    pub file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Export {
    /// A recording
    #[arg(required_unless_present = "json_schema")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub to: To,
    #[command(flatten)]
    pub rows: Rows,
    /// Folded stacks and flame graphs: of those who wait, or of those who hold
    #[arg(long, value_enum, default_value = "waiter")]
    pub by: By,
}

/// One or more of these.
#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
pub struct To {
    /// One CSV file per table, and meta.json, in this folder
    #[arg(long, value_name = "DIR")]
    pub csv: Option<PathBuf>,
    /// One JSON object per line, for every row; here and below `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Folded stacks by wait time, for flame graph tools
    #[arg(long, value_name = "FILE")]
    pub folded: Option<PathBuf>,
    /// A flame graph by wait time (SVG)
    #[arg(long, value_name = "FILE")]
    pub flamegraph: Option<PathBuf>,
    /// Histograms over time, for HdrHistogram's tools
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tid", "comm", "cpu"])]
    pub hlog: Option<PathBuf>,
    /// A trace for Perfetto, to be looked at beside a system trace
    #[arg(long, value_name = "FILE")]
    pub perfetto: Option<PathBuf>,
    /// The report as a page for a browser, all in one file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Print the JSON Schema of the lines that --json writes
    #[arg(long, conflicts_with = "file")]
    pub json_schema: bool,
}

#[derive(Args, Debug)]
pub struct Diff {
    /// Two recordings
    #[arg(num_args = 0..=2, value_name = "A B", conflicts_with_all = ["a", "b"])]
    pub files: Vec<PathBuf>,
    /// Recordings of the one side
    #[arg(long, num_args = 1.., value_name = "FILE")]
    pub a: Vec<PathBuf>,
    /// Recordings of the other side
    #[arg(long, num_args = 1.., value_name = "FILE")]
    pub b: Vec<PathBuf>,
    /// Exit with 1 if this holds for certain, such as 'p99(mmap_lock_wait.read) > +10%' (may be repeated)
    #[arg(long, value_name = "CONDITION")]
    pub fail_if: Vec<Condition>,
    #[arg(long, default_value = "text")]
    pub format: DiffFormat,
    /// What is compared, and what --fail-if can ask for
    #[arg(long)]
    pub list_metrics: bool,
}

#[derive(Args, Debug)]
pub struct Serve {
    #[command(flatten)]
    pub probing: Probing,
    /// Where to listen: an IP address and a port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9464", value_parser = address)]
    pub listen: SocketAddr,
    /// Processes that have series of their own; all others are `other`
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = RangedU64ValueParser::<usize>::new().range(0..=100))]
    pub top: usize,
    /// Have the kernel time the programs: two clock reads for each run
    #[arg(long)]
    pub bpf_stats: bool,
}

#[derive(Args, Debug)]
pub struct Repair {
    /// A recording; its -wal and -shm are beside it
    pub file: PathBuf,
}

#[derive(Args, Debug)]
pub struct Doctor {
    #[arg(long, default_value = "auto")]
    pub hooks: Hooks,
    #[arg(long)]
    pub mmap_lock: Option<MmapLock>,
    #[arg(long, value_name = "FILE")]
    pub btf: Option<PathBuf>,
    #[arg(long, default_value = "text")]
    pub format: Format,
}

#[derive(Args, Debug)]
#[command(
    subcommand_value_name = "SCENARIO",
    subcommand_help_heading = "Scenarios"
)]
pub struct Demo {
    #[command(subcommand)]
    pub scenario: crate::demo::Scenario,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    Text,
    Json,
    /// For a mailing list: plain text, 80 columns
    Lkml,
    /// A page for a browser, all in one file
    Html,
    /// How often mmap_lock was taken and waited for, in decades: of an app's start
    AppStart,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DiffFormat {
    Text,
    Csv,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MmapLock {
    Contended,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Hooks {
    Auto,
    Fentry,
    Kprobe,
    Tracepoint,
}

impl From<Hooks> for HookChoice {
    fn from(hooks: Hooks) -> Self {
        match hooks {
            Hooks::Auto => Self::Auto,
            Hooks::Fentry => Self::Fentry,
            Hooks::Kprobe => Self::Kprobe,
            Hooks::Tracepoint => Self::Tracepoint,
        }
    }
}

/// Names would have to be looked up, which a static program cannot do everywhere.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "give an IP address and a port, such as 127.0.0.1:9464 or [::]:9464".into())
}

/// `500us`, `20ms`, `10s`, `5m`, `1h`; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit `{unit}`: use us, ms, s, m or h")),
    };
    let seconds = number
        .parse::<f64>()
        .map_err(|_| format!("`{number}` is not a number: try 10s or 500ms"))?;
    match Duration::try_from_secs_f64(seconds * scale) {
        Ok(d) if d > DURATION_MAX => Err("must be at most 8760h".into()),
        Ok(d) if !d.is_zero() => Ok(d),
        _ => Err("must be more than 0, and at most 8760h".into()),
    }
}

/// `500K`, `64M`, `1G`; powers of 1024.
fn size(text: &str) -> Result<u64, String> {
    let split = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let shift = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        _ => return Err(format!("unknown unit `{unit}`: use K, M or G")),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("`{number}` is not a whole number: try 64M"))?;
    match number.checked_mul(1 << shift) {
        Some(bytes) if bytes >= SIZE_MIN => Ok(bytes),
        Some(_) => Err("must be at least 1M: an empty recording has a tenth of that".into()),
        None => Err("is too large: try 1G".into()),
    }
}

const SIZE_MIN: u64 = 1 << 20;
/// Clocks can be this much ahead without an overflow.
const DURATION_MAX: Duration = Duration::from_secs(8760 * 3600);
const INTERVAL_MIN: Duration = Duration::from_millis(10);

fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        d if d < INTERVAL_MIN => {
            Err("must be at least 10ms: reading the counters costs time too".into())
        }
        d => Ok(d),
    }
}

/// `2%`, `0.5%`; a bare number is per cent too.
fn share(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    match number.parse::<f64>() {
        Ok(n) if n > 0.0 && n <= 100.0 => Ok(n),
        _ => Err("must be more than 0%, and at most 100%: try 2%".into()),
    }
}

fn power_of_two(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(n) if n.is_power_of_two() => Ok(n),
        _ => Err("must be a power of two: 1, 2, 4, 8, 16 ...".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in [
            "", "s", "10x", "-1s", "0", "nan", "1e400s", "1e15h", "8761h", "10 s",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert!(interval("9ms").is_err());
        assert_eq!(interval("10ms"), Ok(Duration::from_millis(10)));
    }

    #[test]
    fn sizes() {
        assert_eq!(size("64M"), Ok(64 << 20));
        assert_eq!(size("2GiB"), Ok(2 << 30));
        assert_eq!(size("1048576"), Ok(1 << 20));
        for bad in ["", "M", "1.5M", "-1M", "10x", "1K", "99999999999G"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shares_are_of_a_hundred() {
        assert_eq!(share("2%"), Ok(2.0));
        assert_eq!(share("0.5"), Ok(0.5));
        for bad in ["", "%", "0%", "-1%", "101%", "nan", "2%%", "x"] {
            assert!(share(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn samples_are_powers_of_two() {
        assert_eq!(power_of_two("16"), Ok(16));
        for bad in ["0", "3", "-1", "x"] {
            assert!(power_of_two(bad).is_err(), "{bad}");
        }
    }
}
