//! Process numbers: the kernel's own, which probes see, and those that a pid namespace has instead.
//!
//! In: `/proc`. Out: whether its numbers are the kernel's.

use std::{fs, os::unix::fs::MetadataExt as _};

/// `PROC_PID_INIT_INO`: the same on every kernel.
const INIT: u64 = 0xEFFF_FFFC;

/// Whether what `getpid` and our `/proc` call a process is what probes call it. Where namespaces cannot
/// be seen there are none.
pub fn are_the_kernels() -> bool {
    fs::metadata("/proc/self/ns/pid").map_or(true, |ns| ns.ino() == INIT)
}

/// Why a process cannot be chosen by its number here.
pub fn refusal(option: &str) -> Option<String> {
    (!are_the_kernels()).then(|| {
        format!(
            "{option}: this pid namespace has process numbers of its own: run vmascope outside of it (docker run --pid=host, hostPID: true)"
        )
    })
}
