//! What a VMA is. It must be locked: after RETRY or COMPLETED it may be gone.

use aya_ebpf::helpers::bpf_probe_read_kernel_str_bytes;
use profiler_common::{record::NAME, thread::InFlight, words::Kind};

use crate::{
    globals::{MISSING, off},
    kernel::{Mem, Probed},
};

// include/linux/mm.h; equal in all kernels from 6.1 to 7.3, and not in BTF before 6.19.
const VM_PFNMAP: u64 = 0x400;
const VM_IO: u64 = 0x4000;
const VM_HUGETLB: u64 = 0x40_0000;
const VM_MIXEDMAP: u64 = 0x1000_0000;
// include/uapi/linux/magic.h, include/uapi/linux/stat.h
const TMPFS_MAGIC: u64 = 0x0102_1994;
const S_IFMT: u16 = 0o170_000;
const S_IFCHR: u16 = 0o020_000;

#[inline(always)]
pub fn range<M: Mem>(f: &mut InFlight, vma: *const u8) {
    // SAFETY: offsets belong to vm_area_struct of this kernel.
    unsafe {
        f.vm_start = M::read(vma, off::VMA_START());
        f.vm_end = M::read(vma, off::VMA_END());
        f.vm_flags = M::read(vma, off::VMA_FLAGS());
    }
}

#[inline(always)]
pub fn kind<M: Mem>(vma: *const u8) -> Kind {
    // SAFETY: offsets belong to vm_area_struct, file, inode and super_block of this kernel.
    unsafe {
        let flags: u64 = M::read(vma, off::VMA_FLAGS());
        if flags & (VM_HUGETLB | VM_PFNMAP | VM_IO | VM_MIXEDMAP) != 0 {
            return if flags & VM_HUGETLB != 0 {
                Kind::Hugetlb
            } else {
                Kind::Device
            };
        }
        let file = pointer::<M>(vma, off::VMA_FILE());
        if file.is_null() {
            return Kind::Anon;
        }
        let inode = pointer::<M>(file, off::FILE_INODE());
        let sb = pointer::<M>(inode, off::INODE_SB());
        if M::read::<u64>(sb, off::SB_MAGIC()) == TMPFS_MAGIC {
            Kind::Shmem
        } else if M::read::<u16>(inode, off::INODE_MODE()) & S_IFMT == S_IFCHR {
            Kind::Device
        } else {
            Kind::File
        }
    }
}

/// Device, inode and name of what is mapped. For a record only.
#[inline(always)]
pub fn identity(vma: *const u8, name: &mut [u8; NAME]) -> (u32, u64) {
    // SAFETY: `Probed` and the string helper fail instead of faulting.
    unsafe {
        let file = pointer::<Probed>(vma, off::VMA_FILE());
        if file.is_null() {
            if off::VMA_ANON_NAME() != MISSING && off::ANON_NAME() != MISSING {
                let anon = pointer::<Probed>(vma, off::VMA_ANON_NAME());
                if !anon.is_null() {
                    let text = anon.add(off::ANON_NAME() as usize);
                    let _ = bpf_probe_read_kernel_str_bytes(text, name);
                }
            }
            return (0, 0);
        }
        let inode = pointer::<Probed>(file, off::FILE_INODE());
        let sb = pointer::<Probed>(inode, off::INODE_SB());
        if off::FILE_DENTRY() != MISSING && off::DENTRY_NAME() != MISSING {
            let dentry = pointer::<Probed>(file, off::FILE_DENTRY());
            let text = pointer::<Probed>(dentry, off::DENTRY_NAME());
            let _ = bpf_probe_read_kernel_str_bytes(text, name);
        }
        (
            Probed::read(sb, off::SB_DEV()),
            Probed::read(inode, off::INODE_INO()),
        )
    }
}

#[inline(always)]
unsafe fn pointer<M: Mem>(base: *const u8, offset: u32) -> *const u8 {
    // SAFETY: passed on from the caller.
    unsafe { M::read::<usize>(base, offset) as *const u8 }
}
