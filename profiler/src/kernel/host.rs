//! The machine, as the head of every report names it.

use std::{
    ffi::CStr,
    fs,
    io::{BufRead as _, BufReader},
    time::Duration,
};

use crate::model::Host;

pub fn host() -> Host {
    // SAFETY: utsname is plain bytes, and uname fills it.
    let mut uts: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: a valid pointer to a utsname.
    unsafe { libc::uname(&raw mut uts) };
    let text = |field: &[libc::c_char]| {
        // SAFETY: uname terminates its strings.
        let text = unsafe { CStr::from_ptr(field.as_ptr()) };
        text.to_string_lossy().into_owned()
    };
    Host {
        name: text(&uts.nodename),
        kernel: text(&uts.release),
        arch: text(&uts.machine),
        page_size: page_size(),
        cpus: sysconf(libc::_SC_NPROCESSORS_ONLN) as u32,
    }
}

/// In bytes.
pub fn page_size() -> u64 {
    sysconf(libc::_SC_PAGESIZE)
}

fn sysconf(name: libc::c_int) -> u64 {
    // SAFETY: no pointers.
    u64::try_from(unsafe { libc::sysconf(name) }).unwrap_or(0)
}

/// A clock's time in ns.
pub fn clock(id: libc::clockid_t) -> u64 {
    let mut ts = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid pointer to a timespec.
    unsafe { libc::clock_gettime(id, &raw mut ts) };
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

/// Whether the kernel tells us where its symbols are: `kernel.kptr_restrict`, CAP_SYSLOG.
pub fn symbols_are_seen() -> bool {
    // The first ones are at 0 anyhow: they are places in memory of each CPU.
    const LOOK_AT: usize = 10_000;
    fs::File::open("/proc/kallsyms").is_ok_and(|file| {
        let mut lines = BufReader::new(file).lines().take(LOOK_AT);
        lines.any(|line| line.is_ok_and(|line| !line.starts_with("00000000")))
    })
}

/// The symbol of a static function that clang's link-time optimisation made global, as in Android's
/// kernels: `NAME.llvm.NUMBER`, its arguments as they were. Other suffixes (`.isra`, `.constprop`)
/// mean that they are not.
pub fn promoted(function: &str) -> Option<String> {
    let symbols = fs::File::open("/proc/kallsyms").ok()?;
    let mut lines = BufReader::new(symbols).lines().map_while(Result::ok);
    lines.find_map(|line| promotion(&line, function).map(str::to_owned))
}

fn promotion<'a>(line: &'a str, function: &str) -> Option<&'a str> {
    let symbol = line.split_ascii_whitespace().nth(2)?;
    let number = symbol.strip_prefix(function)?.strip_prefix(".llvm.")?;
    number.bytes().all(|b| b.is_ascii_digit()).then_some(symbol)
}

/// What `/proc/vmstat` counts of faults, system-wide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vmstat {
    pub pgfault: u64,
    pub pgmajfault: u64,
    /// `vma_lock_success` and `vma_lock_abort`, where CONFIG_PER_VMA_LOCK_STATS keeps them.
    pub vma_lock: Option<[u64; 2]>,
}

pub fn vmstat() -> Vmstat {
    parse_vmstat(&fs::read_to_string("/proc/vmstat").unwrap_or_default())
}

fn parse_vmstat(text: &str) -> Vmstat {
    let value = |name: &str| -> Option<u64> {
        text.lines()
            .filter_map(|line| line.split_once(' '))
            .find(|(key, _)| *key == name)
            .and_then(|(_, value)| value.parse().ok())
    };
    Vmstat {
        pgfault: value("pgfault").unwrap_or(0),
        pgmajfault: value("pgmajfault").unwrap_or(0),
        vma_lock: value("vma_lock_success")
            .zip(value("vma_lock_abort"))
            .map(Into::into),
    }
}

impl Vmstat {
    pub fn since(&self, then: &Vmstat) -> Vmstat {
        let added = |[a, b]: [u64; 2], [c, d]: [u64; 2]| [a.saturating_sub(c), b.saturating_sub(d)];
        Vmstat {
            pgfault: self.pgfault.saturating_sub(then.pgfault),
            pgmajfault: self.pgmajfault.saturating_sub(then.pgmajfault),
            vma_lock: self
                .vma_lock
                .zip(then.vma_lock)
                .map(|(now, then)| added(now, then)),
        }
    }
}

/// The name of a process; `None` when it is gone.
pub fn comm(pid: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end_matches('\n').to_owned())
}

/// This process's CPU time so far.
pub fn own_cpu_ns() -> u64 {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// This process's faults so far, as the kernel counts them.
pub fn own_faults() -> u64 {
    // SAFETY: rusage is made of integers, and getrusage fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    usage.ru_minflt as u64 + usage.ru_majflt as u64
}

pub fn own_rss_bytes() -> u64 {
    // Field 2 of /proc/self/statm: resident pages. `self` is the one process whose locks may be taken.
    fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|s| s.split(' ').nth(1)?.parse::<u64>().ok())
        .unwrap_or(0)
        * sysconf(libc::_SC_PAGESIZE)
}

/// What of it are pages of BPF maps, whose memory is stated apart.
pub fn own_mapped_maps_bytes() -> u64 {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let (mut kib, mut is_map) = (0, false);
    for line in smaps.lines() {
        match line.strip_prefix("Rss:") {
            Some(rss) if is_map => {
                let rss = rss.split_whitespace().next();
                kib += rss.and_then(|rss| rss.parse::<u64>().ok()).unwrap_or(0);
            }
            Some(_) => {}
            // The first line of a mapping begins with its addresses.
            None if line.split(' ').next().is_some_and(|w| w.contains('-')) => {
                is_map = line.contains("anon_inode:bpf-map");
            }
            None => {}
        }
    }
    kib * 1024
}

/// Milliseconds since this process was started.
pub fn since_exec_ms() -> f64 {
    since_start(std::process::id()).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

/// How long a process is there (field 22 of /proc/PID/stat, in clock ticks).
pub fn since_start(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in field 2 may hold spaces; fields are counted from behind it.
    let (_, rest) = stat.rsplit_once(") ")?;
    let start: u64 = rest.split(' ').nth(19)?.parse().ok()?;
    let ticks = sysconf(libc::_SC_CLK_TCK).max(1);
    let start_ns = start.saturating_mul(1_000_000_000 / ticks);
    let now_ns = clock(libc::CLOCK_BOOTTIME);
    Some(Duration::from_nanos(now_ns.saturating_sub(start_ns)))
}

/// The kernel's `online` list of CPUs, e.g. `0-3,6`.
pub fn online_cpus() -> Vec<u32> {
    let text = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    cpu_list(text.trim())
}

fn cpu_list(text: &str) -> Vec<u32> {
    text.split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse().ok()?..=last.parse().ok()?)
        })
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_keeps_its_arguments_is_taken_for_a_function() {
        let symbol = |name: &str| {
            let line = format!("ffffffc008123456 t {name}");
            promotion(&line, "rwsem_mark_wake").map(str::to_owned)
        };
        let promoted = "rwsem_mark_wake.llvm.1234567890";
        assert_eq!(symbol(promoted).as_deref(), Some(promoted));
        for other in [
            "rwsem_mark_wake",
            "rwsem_mark_wake.isra.0",
            "rwsem_mark_wake.llvm.1.cold",
            "rwsem_mark_waker.llvm.1",
        ] {
            assert_eq!(symbol(other), None);
        }
    }

    #[test]
    fn vmstat_has_vma_locks_where_the_kernel_counts_them() {
        let then = parse_vmstat("pgfault 10\npgmajfault 2\n");
        assert_eq!(
            (then.pgfault, then.pgmajfault, then.vma_lock),
            (10, 2, None)
        );
        let now = parse_vmstat("pgfault 15\nvma_lock_success 9\nvma_lock_abort 4\n");
        assert_eq!(now.vma_lock, Some([9, 4]));
        assert_eq!(
            (now.since(&then).pgfault, now.since(&then).vma_lock),
            (5, None)
        );
        assert_eq!(now.since(&now).vma_lock, Some([0, 0]));
    }

    #[test]
    fn cpu_lists() {
        assert_eq!(cpu_list("0"), [0]);
        assert_eq!(cpu_list("0-2,5"), [0, 1, 2, 5]);
        assert_eq!(cpu_list(""), Vec::<u32>::new());
    }
}
