//! What the kernel says of programs and maps and aya does not pass on.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use aya::sys::{Stats, enable_stats};

// include/uapi/linux/bpf.h
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
/// Up to and including `recursion_misses`; the kernel fills what it has and both know.
const INFO_LEN: usize = 216;
const RUN_TIME_NS: usize = 192;
const RECURSION_MISSES: usize = 208;

#[repr(C)]
struct Attr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// What the kernel counts of a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// Stands still while run time statistics are off.
    pub run_time_ns: u64,
    /// How often the program was skipped because it was already running on that CPU.
    pub recursion_misses: u64,
}

pub fn runs(program: &impl AsFd) -> Option<Runs> {
    let mut info = [0u8; INFO_LEN];
    let attr = Attr {
        bpf_fd: u32::try_from(program.as_fd().as_raw_fd()).ok()?,
        info_len: INFO_LEN as u32,
        info: info.as_mut_ptr() as u64,
    };
    // SAFETY: `attr` is laid out as bpf(2) expects and `info` has room for `info_len` bytes.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_OBJ_GET_INFO_BY_FD,
            &raw const attr,
            size_of::<Attr>(),
        )
    };
    let word = |at: usize| {
        let bytes = info.get(at..at + 8)?;
        Some(bytes.iter().rev().fold(0, |n, b| (n << 8) | u64::from(*b)))
    };
    let runs = Runs {
        run_time_ns: word(RUN_TIME_NS)?,
        recursion_misses: word(RECURSION_MISSES)?,
    };
    (ret == 0).then_some(runs)
}

/// Whether the kernel times programs anyhow: `kernel.bpf_stats_enabled`.
pub fn run_time_is_on() -> bool {
    fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled").is_ok_and(|on| on.trim() == "1")
}

/// The kernel times all programs for as long as this is held: two clock reads in each run.
pub fn time_runs() -> io::Result<OwnedFd> {
    enable_stats(Stats::RunTime).map_err(|e| e.io_error)
}

/// Bytes of kernel memory behind a map's fd, from its `memlock:` line.
pub fn map_memlock(map: BorrowedFd<'_>) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_raw_fd())).ok()?;
    text.lines()
        .find_map(|l| l.strip_prefix("memlock:"))?
        .trim()
        .parse()
        .ok()
}
