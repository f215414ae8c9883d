//! Process numbers: the kernel's own, which probes see, and those that a pid namespace has instead.
//!
//! In: `/proc`. Out: whether its numbers are the kernel's; a process's number in its own namespace.

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

/// A process's number in the innermost of its pid namespaces; `None`: the same, or it has gone.
pub fn in_namespace(pid: u32) -> Option<u32> {
    innermost(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?).filter(|n| *n != pid)
}

/// Of the line `NSpid: 4711 12`: one number for each namespace, from ours inwards.
fn innermost(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|l| l.strip_prefix("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_number_counts() {
        assert_eq!(innermost("Name:\ta\nNSpid:\t4711\t12\t1\n"), Some(1));
        assert_eq!(innermost("NSpid:\t4711\nNStgid:\t5\n"), Some(4711));
        assert_eq!(innermost("Name:\tNSpid: 3\n"), None);
    }
}
