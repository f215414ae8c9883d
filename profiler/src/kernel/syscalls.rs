//! System call numbers to operations: the table the kernel side looks `op` up in.
//! Numbers: arch/x86/entry/syscalls/syscall_{64,32}.tbl, include/uapi/asm-generic/unistd.h,
//! arch/arm/tools/syscall.tbl.

use profiler_common::{
    config::{
        SYSCALLS,
        syscall_op::{CLONE, CLONE3, IOCTL, PRCTL},
    },
    words::Op,
};

/// `(operation, x86_64, i386, arm64, arm)`; -1 where an architecture has no such call.
const TABLE: &[(u8, [i16; 4])] = &[
    (Op::Mmap as u8, [9, 90, -1, -1]), // mmap (i386, arm: mmap2 below)
    (Op::Mmap as u8, [-1, 192, 222, 192]), // mmap2; arm64 mmap
    (Op::Mmap as u8, [30, 397, 196, 305]), // shmat
    (Op::Mmap as u8, [216, 257, 234, 253]), // remap_file_pages
    (Op::Munmap as u8, [11, 91, 215, 91]), // munmap
    (Op::Munmap as u8, [67, 398, 197, 306]), // shmdt
    (Op::Mprotect as u8, [10, 125, 226, 125]),
    (Op::Mprotect as u8, [329, 380, 288, 394]), // pkey_mprotect
    (Op::Mprotect as u8, [462, 462, 462, 462]), // mseal
    (Op::Madvise as u8, [28, 219, 233, 220]),
    (Op::Madvise as u8, [440, 440, 440, 440]), // process_madvise
    (Op::Mremap as u8, [25, 163, 216, 163]),
    (Op::Brk as u8, [12, 45, 214, 45]),
    (PRCTL, [157, 172, 167, 172]),
    (CLONE, [56, 120, 220, 120]),
    (CLONE3, [435, 435, 435, 435]),
    (Op::Fork as u8, [57, 2, -1, 2]),
    (Op::Exec as u8, [59, 11, 221, 11]),
    (Op::Exec as u8, [322, 358, 281, 387]), // execveat
    (Op::Exit as u8, [60, 1, 93, 1]),
    (Op::Exit as u8, [231, 252, 94, 248]), // exit_group
    (Op::Proc as u8, [0, 3, 63, 3]),       // read: of /proc/PID/{maps,smaps,...}
    (Op::Proc as u8, [17, 180, 67, 180]),  // pread64
    (Op::Proc as u8, [19, 145, 65, 145]),  // readv
    (Op::Ptrace as u8, [101, 26, 117, 26]),
    (Op::Ptrace as u8, [310, 347, 270, 376]), // process_vm_readv
    (Op::Ptrace as u8, [311, 348, 271, 377]), // process_vm_writev
    (IOCTL, [16, 54, 29, 54]),                // of userfaultfd, binder, /proc
    (Op::Numa as u8, [237, 274, 235, 319]),   // mbind
    (Op::Numa as u8, [238, 276, 237, 321]),   // set_mempolicy
    (Op::Numa as u8, [256, 294, 238, 400]),   // migrate_pages
    (Op::Numa as u8, [279, 317, 239, 344]),   // move_pages
];

/// Native calls, then the 32-bit ones at `SYSCALLS`.
pub fn table(arch: &str) -> Vec<u8> {
    let (native, compat) = if arch == "aarch64" { (2, 3) } else { (0, 1) };
    let mut ops = vec![Op::Other as u8; 2 * SYSCALLS as usize];
    for (op, numbers) in TABLE {
        for (column, base) in [(native, 0), (compat, SYSCALLS as usize)] {
            if let Ok(nr) = usize::try_from(numbers[column]) {
                ops[base + nr] = *op;
            }
        }
    }
    ops
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn native_numbers_are_libc_s() {
        let ops = table(std::env::consts::ARCH);
        for (nr, op) in [
            (libc::SYS_mmap, Op::Mmap as u8),
            (libc::SYS_munmap, Op::Munmap as u8),
            (libc::SYS_mprotect, Op::Mprotect as u8),
            (libc::SYS_madvise, Op::Madvise as u8),
            (libc::SYS_process_madvise, Op::Madvise as u8),
            (libc::SYS_mremap, Op::Mremap as u8),
            (libc::SYS_brk, Op::Brk as u8),
            (libc::SYS_prctl, PRCTL),
            (libc::SYS_clone, CLONE),
            (libc::SYS_clone3, CLONE3),
            (libc::SYS_execve, Op::Exec as u8),
            (libc::SYS_execveat, Op::Exec as u8),
            (libc::SYS_exit_group, Op::Exit as u8),
            (libc::SYS_read, Op::Proc as u8),
            (libc::SYS_pread64, Op::Proc as u8),
            (libc::SYS_ptrace, Op::Ptrace as u8),
            (libc::SYS_process_vm_readv, Op::Ptrace as u8),
            (libc::SYS_ioctl, IOCTL),
            (libc::SYS_move_pages, Op::Numa as u8),
            (libc::SYS_getpid, Op::Other as u8),
        ] {
            assert_eq!(ops[nr as usize], op, "system call {nr}");
        }
    }
}
