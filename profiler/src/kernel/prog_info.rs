//! What the kernel says of programs and maps and aya does not pass on.

use std::{
    fs,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

// include/uapi/linux/bpf.h
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
/// Up to and including `recursion_misses`; the kernel fills what it has and both know.
const INFO_LEN: usize = 216;
const RECURSION_MISSES: usize = 208;

#[repr(C)]
struct Attr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// How often the program was skipped because it was already running on that CPU.
pub fn recursion_misses(program: &impl AsFd) -> Option<u64> {
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
    let bytes = info.get(RECURSION_MISSES..RECURSION_MISSES + 8)?;
    (ret == 0).then(|| bytes.iter().rev().fold(0, |n, b| (n << 8) | u64::from(*b)))
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
