//! Reading kernel objects. Offsets come from the running kernel's BTF; no struct is declared here.

use core::hint::black_box;

use aya_ebpf::helpers::{
    bpf_get_current_task_btf, bpf_ktime_get_ns, bpf_probe_read_kernel, bpf_task_pt_regs,
};

/// How a hook may follow the pointers it was given.
pub trait Mem {
    /// The hook is a function's entry or exit, or a tracepoint, and not a kprobe.
    const TYPED: bool;

    /// # Safety
    /// `base` must be a kernel pointer the hook was given or one read from such an object.
    unsafe fn read<T: Copy + Default>(base: *const u8, offset: u32) -> T;
}

/// Pointers the verifier knows by type (tp_btf, fentry, fexit, helpers that return one): a plain
/// load, which the kernel turns into 0 should it fault. The offset is a constant to the verifier,
/// so it checks the access against the type as it would a C program's.
pub struct Typed;

/// Any other pointer (kprobe, raw_tp, or one kept in a map).
pub struct Probed;

impl Mem for Typed {
    const TYPED: bool = true;

    #[inline(always)]
    unsafe fn read<T: Copy + Default>(base: *const u8, offset: u32) -> T {
        // SAFETY: the verifier admits the load or refuses the program.
        unsafe { base.add(offset as usize).cast::<T>().read_volatile() }
    }
}

impl Mem for Probed {
    const TYPED: bool = false;

    #[inline(always)]
    unsafe fn read<T: Copy + Default>(base: *const u8, offset: u32) -> T {
        // SAFETY: the helper checks the address and fails instead of faulting.
        unsafe { bpf_probe_read_kernel(base.add((offset & 0xffff) as usize).cast::<T>()) }
            .unwrap_or_default()
    }
}

/// A number the verifier is to forget all it knows of but its range: where many branches each end
/// in a constant, it would walk what follows once for each.
#[inline(always)]
pub fn any(number: u8) -> u8 {
    black_box(number)
}

#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// The current `task_struct`, as a typed pointer.
#[inline(always)]
pub fn task() -> *const u8 {
    // SAFETY: no arguments; current is never NULL.
    unsafe { bpf_get_current_task_btf() as *const u8 }
}

/// The registers `task` entered the kernel with, as a typed pointer.
#[inline(always)]
pub fn user_regs(task: *const u8) -> *const u8 {
    // SAFETY: `task` is a typed task pointer; the verifier insists.
    unsafe { bpf_task_pt_regs(task as *mut _) as *const u8 }
}
