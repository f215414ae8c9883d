//! Who wants the lock: the operation a thread is in, from the system call it entered the kernel
//! with, overridden by what it is (exiting, a kernel thread) or what it is in (a fault).

use aya_ebpf::helpers::bpf_probe_read_user;
use profiler_common::{
    config::{SYSCALLS, fault_hook, syscall_op},
    thread::{Thread, phase},
    words::Op,
};

use crate::{
    emit,
    globals::{MISSING, flag, has, off, opt},
    kernel::{Mem, Typed, task, user_regs},
    maps::SYSCALL_OPS,
    thread,
};

// include/linux/sched.h
const PF_EXITING: u32 = 0x4;
const PF_IO_WORKER: u32 = 0x10;
const PF_KTHREAD: u32 = 0x0020_0000;
// include/uapi/linux/sched.h, include/uapi/linux/prctl.h
const CLONE_VM: u64 = 0x100;
const PR_SET_VMA: u64 = 0x5356_4d41;
// include/uapi/linux/userfaultfd.h, include/uapi/linux/android/binder.h, include/uapi/linux/fs.h
const UFFDIO: u16 = 0xaa;
const BINDER: u16 = b'b' as u16;
const PAGEMAP_SCAN: u16 = (b'f' as u16) << 8 | 16;
const PROCMAP_QUERY: u16 = (b'f' as u16) << 8 | 17;
// arch/x86/include/uapi/asm/unistd.h
const X32_SYSCALL_BIT: i32 = 0x4000_0000;
// include/uapi/asm-generic/mman-common.h
const MAP_FIXED: u64 = 0x10;

/// The current thread is past its last system call.
#[inline(always)]
pub fn exits(task: *const u8) -> bool {
    // SAFETY: typed pointer, offset of an unsigned int.
    unsafe { Typed::read::<u32>(task, off::TASK_FLAGS()) & PF_EXITING != 0 }
}

#[inline(always)]
pub fn is_kernel_thread(task: *const u8) -> bool {
    // SAFETY: as above.
    unsafe { Typed::read::<u32>(task, off::TASK_FLAGS()) & PF_KTHREAD != 0 }
}

/// The kernel was entered by a system call, not by an exception.
#[inline(always)]
pub fn in_syscall() -> bool {
    syscall(user_regs(task())) >= 0
}

/// The operation the current thread is in, for a lock of address space `mm`.
#[inline(always)]
pub fn current(t: &Thread) -> Op {
    let task = task();
    // SAFETY: typed pointer, offset of an unsigned int.
    let flags: u32 = unsafe { Typed::read(task, off::TASK_FLAGS()) };
    if flags & (PF_EXITING | PF_KTHREAD | PF_IO_WORKER) != 0 {
        return if flags & PF_EXITING != 0 {
            Op::Exit
        } else {
            of_kernel_thread()
        };
    }
    let regs = user_regs(task);
    let nr = syscall(regs);
    // Not in a system call: the kernel was entered by an exception. In one, a fault of user mode has
    // ended, seen or not.
    if nr < 0
        || (t.fault.phase != phase::IDLE
            && !has(t.fault.flags, flag::FAULT_FLAG_USER())
            && thread::still_faults(t))
    {
        return Op::Fault;
    }
    of_syscall(nr as u32, compat(task), regs)
}

/// The same, of a thread that takes `mmap_lock`, or waits for it. Outside a system call that is for a
/// fault, which has begun by then where its hook is seen, or for work that an exception left to its
/// end: NUMA scans, uprobes, core dumps.
#[inline(always)]
pub fn taking(t: &Thread) -> Op {
    match current(t) {
        Op::Fault if t.fault.phase == phase::IDLE && opt::FAULT_HOOK() != fault_hook::EVENTS => {
            Op::Other
        }
        op => op,
    }
}

/// Apart, like what else is rare: a program saves registers, and needs a stack, for what is in it.
#[inline(never)]
fn of_kernel_thread() -> Op {
    if emit::comm().starts_with(b"khugepaged") {
        Op::Khugepaged
    } else {
        Op::Kernel
    }
}

/// The number, negative outside a system call.
#[inline(always)]
fn syscall(regs: *const u8) -> i32 {
    // SAFETY: typed pointers; each architecture's kernel has its own field, and the verifier cuts
    // the other branch away.
    unsafe {
        if off::REGS_ORIG_AX() != MISSING {
            // A call by the x32 ABI has a bit of its own.
            let nr = Typed::read::<u64>(regs, off::REGS_ORIG_AX()) as i32;
            if nr < 0 { nr } else { nr & !X32_SYSCALL_BIT }
        } else {
            Typed::read::<u32>(regs, off::REGS_SYSCALLNO()) as i32
        }
    }
}

/// What an operation is about, as far as the arguments of its system call tell; (0, 0): they do not.
#[inline(always)]
pub fn range(op: u8) -> (u64, u64) {
    let task = task();
    if op == Op::Fork as u8 {
        return (0, u64::MAX);
    }
    let [a, b, c, d] = args(user_regs(task), compat(task));
    let (start, len) = if op == Op::PrctlVma as u8 {
        (c, d)
    } else if op == Op::Munmap as u8
        || op == Op::Mprotect as u8
        || op == Op::Madvise as u8
        || op == Op::Mremap as u8
        || (op == Op::Mmap as u8 && d & MAP_FIXED != 0)
    {
        (a, b)
    } else {
        (0, 0)
    };
    // Calls of the same operation whose first argument is no address.
    if start & 0xfff != 0 {
        return (0, 0);
    }
    (start, start.wrapping_add(len))
}

/// The first four arguments. Those of i386 are in other registers; those of arm are where arm64's are.
#[inline(always)]
fn args(regs: *const u8, compat: bool) -> [u64; 4] {
    // SAFETY: as in `syscall`.
    unsafe {
        if off::REGS_ORIG_AX() != MISSING && compat {
            [
                Typed::read(regs, off::REGS_BX()),
                Typed::read(regs, off::REGS_CX()),
                Typed::read(regs, off::REGS_DX()),
                Typed::read(regs, off::REGS_SI()),
            ]
        } else if off::REGS_ORIG_AX() != MISSING {
            [
                Typed::read(regs, off::REGS_DI()),
                Typed::read(regs, off::REGS_SI()),
                Typed::read(regs, off::REGS_DX()),
                Typed::read(regs, off::REGS_R10()),
            ]
        } else {
            [
                Typed::read(regs, off::REGS_ORIG_X0()),
                Typed::read(regs, off::REGS_X().wrapping_add(8)),
                Typed::read(regs, off::REGS_X().wrapping_add(16)),
                Typed::read(regs, off::REGS_X().wrapping_add(24)),
            ]
        }
    }
}

/// A 32-bit system call.
#[inline(always)]
fn compat(task: *const u8) -> bool {
    // SAFETY: typed pointer.
    unsafe {
        if off::REGS_ORIG_AX() != MISSING {
            // x86 TS_COMPAT
            off::THREAD_STATUS() != MISSING
                && Typed::read::<u32>(task, off::THREAD_STATUS()) & 0x2 != 0
        } else {
            // arm64 TIF_32BIT
            Typed::read::<u64>(task, off::THREAD_FLAGS()) & (1 << 22) != 0
        }
    }
}

#[inline(always)]
fn of_syscall(nr: u32, compat: bool, regs: *const u8) -> Op {
    if nr >= SYSCALLS {
        return Op::Other;
    }
    let index = if compat { nr + SYSCALLS } else { nr };
    let Some(raw) = SYSCALL_OPS.get(index) else {
        return Op::Other;
    };
    match Op::from_raw(*raw) {
        Some(op) => op,
        None => {
            let [a, b, ..] = args(regs, compat);
            by_argument(*raw, a, b)
        }
    }
}

#[inline(never)]
fn by_argument(raw: u8, arg0: u64, arg1: u64) -> Op {
    match raw {
        syscall_op::CLONE => fork_or_other(arg0),
        syscall_op::CLONE3 => fork_or_other(clone3_flags(arg0)),
        syscall_op::PRCTL if arg0 as u32 as u64 == PR_SET_VMA => Op::PrctlVma,
        syscall_op::IOCTL => of_ioctl(arg1 as u32),
        _ => Op::Other,
    }
}

/// include/uapi/asm-generic/ioctl.h: a type in bits 8 to 15, a number below.
#[inline(always)]
fn of_ioctl(request: u32) -> Op {
    match request as u16 {
        nr if nr & 0xff00 == UFFDIO << 8 => Op::Uffd,
        nr if nr & 0xff00 == BINDER << 8 => Op::Binder,
        PROCMAP_QUERY | PAGEMAP_SCAN => Op::Proc,
        _ => Op::Other,
    }
}

/// `clone_args.flags`, its first member. Unreadable: taken for a thread, which is no fork.
#[inline(always)]
fn clone3_flags(args: u64) -> u64 {
    // SAFETY: the helper checks the user address.
    unsafe { bpf_probe_read_user(args as *const u64) }.unwrap_or(CLONE_VM)
}

#[inline(always)]
fn fork_or_other(flags: u64) -> Op {
    if flags & CLONE_VM == 0 {
        Op::Fork
    } else {
        Op::Other
    }
}
