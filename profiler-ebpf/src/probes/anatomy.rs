//! `anatomy`: which way a fault went through the fault handler, so that a retry and a held wait have
//! a reason. In: the slow paths' functions; none runs for a common fault. Out: the waits of the
//! fault in flight.
//!
//! A hook only at the entry is enough where having been there and having returned
//! `VM_FAULT_RETRY` tell it all.

use aya_ebpf::{
    macros::{btf_tracepoint, fentry, fexit, kprobe},
    programs::{BtfTracePointContext, FEntryContext, FExitContext, ProbeContext},
};
use profiler_common::{
    config::fault_hook,
    thread::{Thread, phase},
    waits::seen,
    words::FolioState,
};

use super::fault::ELSEWHERE;
use crate::{
    globals::{MISSING, flag, has, off, opt},
    kernel::{Mem, Probed, Typed, now, task},
    op, thread, vma,
};

/// The current thread, if it is in an attempt.
#[inline(always)]
pub fn faulting() -> Option<&'static mut Thread> {
    thread::known().filter(|t| t.fault.phase == phase::ATTEMPT && !is_over(t))
}

/// Where ends of attempts are not seen, and no event told of this one: get_user_pages, an error.
#[inline(always)]
fn is_over(t: &Thread) -> bool {
    opt::FAULT_HOOK() == fault_hook::ENTRY && seems_over(t)
}

#[inline(never)]
fn seems_over(t: &Thread) -> bool {
    !thread::still_faults(t) || (has(t.fault.flags, flag::FAULT_FLAG_USER()) && op::in_syscall())
}

#[inline(always)]
fn passes(bit: u16) {
    if let Some(t) = faulting() {
        t.fault.waits(&ELSEWHERE).passes(bit);
    }
}

/// On a slow path that has the fault's VMA at hand: `vmf` is a `struct vm_fault`.
#[inline(always)]
fn passes_with<M: Mem>(bit: u16, vmf: *const u8) {
    if let Some(t) = faulting() {
        t.fault.waits(&ELSEWHERE).passes(bit);
        has_vma::<M>(t, vmf);
    }
}

/// The VMA is locked now. Once the lock is given up to wait, it is not.
#[inline(always)]
fn has_vma<M: Mem>(t: &mut Thread, vmf: *const u8) {
    if off::VMF_VMA() == MISSING {
        return;
    }
    // SAFETY: the vm_fault the hook was given, offset of a pointer.
    let vma = unsafe { M::read::<usize>(vmf, off::VMF_VMA()) } as *const u8;
    t.fault.vma = vma as u64;
    t.fault.kind = vma::kind::<Probed>(vma) as u8;
    vma::range::<Probed>(&mut t.fault, vma);
}

#[inline(always)]
fn enters(bit: u16) {
    if let Some(t) = faulting() {
        t.fault.waits(&ELSEWHERE).enters(bit, now(), switches());
    }
}

#[inline(always)]
fn leaves(bit: u16) {
    if let Some(t) = faulting()
        && t.fault.slow != 0
    {
        t.fault.waits.leaves(bit, now(), switches());
    }
}

/// How often the thread gave up its CPU to wait.
#[inline(always)]
fn switches() -> u64 {
    if off::TASK_NVCSW() == MISSING {
        return 0;
    }
    // SAFETY: typed task pointer, offset of an unsigned long.
    unsafe { Typed::read(task(), off::TASK_NVCSW()) }
}

/// `folio` as the fault found it: NULL or an error where there is none.
#[inline(always)]
fn looks_up(t: &mut Thread, folio: u64) {
    // include/linux/err.h: MAX_ERRNO
    let state = if folio == 0 || folio >= u64::MAX - 4094 {
        FolioState::NotUptodate
    } else {
        // SAFETY: `Probed` fails instead of faulting. The flags word is that of the head page.
        let flags: u64 = unsafe { Probed::read(folio as *const u8, off::FOLIO_FLAGS()) };
        if flags & (1 << flag::PG_UPTODATE()) == 0 {
            FolioState::NotUptodate
        } else if flags & (1 << flag::PG_WRITEBACK()) == 0 {
            FolioState::Uptodate
        } else {
            FolioState::UptodateWriteback
        }
    };
    t.fault.waits(&ELSEWHERE).looked_up(state);
}

/// The first look-up of an attempt in the page cache is the one its decision hangs on.
#[inline(always)]
fn page_cache(folio: u64) {
    if let Some(t) = faulting()
        && t.fault.slow != 0
        && t.fault.waits.seen & (seen::FILEMAP | seen::LOOKED_UP) == seen::FILEMAP
    {
        t.fault.waits.passes(seen::LOOKED_UP);
        looks_up(t, folio);
    }
}

#[inline(always)]
fn swap_lock(folio: u64) {
    if let Some(t) = faulting() {
        t.fault.waits(&ELSEWHERE).passes(seen::SWAP_LOCK);
        looks_up(t, folio);
    }
}

#[fentry]
fn filemap_in(ctx: FEntryContext) {
    passes_with::<Typed>(seen::FILEMAP, ctx.arg(0));
}

#[kprobe]
fn filemap_kp(ctx: ProbeContext) {
    if let Some(vmf) = ctx.arg(0) {
        passes_with::<Probed>(seen::FILEMAP, vmf);
    }
}

/// `__filemap_get_folio(mapping, index, fgp_flags, gfp)`, the name up to 6.18.
#[fexit]
fn folio_state_out(ctx: FExitContext) {
    page_cache(ctx.arg(4));
}

/// `__filemap_get_folio_mpol(mapping, index, fgp_flags, gfp, policy)`
#[fexit]
fn folio_mpol_out(ctx: FExitContext) {
    page_cache(ctx.arg(5));
}

/// `__folio_lock_or_retry(folio, ..)`: a swap folio's lock is not free.
#[fentry]
fn swap_lock_in(ctx: FEntryContext) {
    swap_lock(ctx.arg::<*const u8>(0) as u64);
}

#[kprobe]
fn swap_lock_kp(ctx: ProbeContext) {
    if let Some(folio) = ctx.arg::<u64>(0) {
        swap_lock(folio);
    }
}

#[fentry]
fn userfault_in(_ctx: FEntryContext) {
    enters(seen::USERFAULT);
}

#[fexit]
fn userfault_out(_ctx: FExitContext) {
    leaves(seen::USERFAULT);
}

#[kprobe]
fn userfault_kp(_ctx: ProbeContext) {
    enters(seen::USERFAULT);
}

#[fentry]
fn shmem_in(ctx: FEntryContext) {
    passes_with::<Typed>(seen::SHMEM, ctx.arg(0));
}

#[kprobe]
fn shmem_kp(ctx: ProbeContext) {
    if let Some(vmf) = ctx.arg(0) {
        passes_with::<Probed>(seen::SHMEM, vmf);
    }
}

#[fentry]
fn swap_in(ctx: FEntryContext) {
    passes_with::<Typed>(seen::SWAP, ctx.arg(0));
}

#[kprobe]
fn swap_kp(ctx: ProbeContext) {
    if let Some(vmf) = ctx.arg(0) {
        passes_with::<Probed>(seen::SWAP, vmf);
    }
}

#[fentry]
fn migration_in(_ctx: FEntryContext) {
    passes(seen::MIGRATION);
}

#[kprobe]
fn migration_kp(_ctx: ProbeContext) {
    passes(seen::MIGRATION);
}

#[fentry]
fn hugetlb_in(_ctx: FEntryContext) {
    passes(seen::HUGETLB);
}

#[kprobe]
fn hugetlb_kp(_ctx: ProbeContext) {
    passes(seen::HUGETLB);
}

#[fentry]
fn mkwrite_in(ctx: FEntryContext) {
    enters(seen::MKWRITE);
    if let Some(t) = faulting() {
        has_vma::<Typed>(t, ctx.arg(0));
    }
}

#[fexit]
fn mkwrite_out(_ctx: FExitContext) {
    leaves(seen::MKWRITE);
}

/// Of a swap device that is fast enough to be waited for: the read is all inside.
#[fentry]
fn swap_read_in(_ctx: FEntryContext) {
    enters(seen::SWAP_READ);
}

#[fexit]
fn swap_read_out(_ctx: FExitContext) {
    leaves(seen::SWAP_READ);
}

#[kprobe]
fn swap_read_kp(_ctx: ProbeContext) {
    passes(seen::SWAP_READ);
}

#[btf_tracepoint]
fn reclaim_in_tp(_ctx: BtfTracePointContext) {
    enters(seen::RECLAIM);
}

#[btf_tracepoint]
fn reclaim_out_tp(_ctx: BtfTracePointContext) {
    leaves(seen::RECLAIM);
}

/// Of a memory cgroup at its limit.
#[btf_tracepoint]
fn memcg_in_tp(_ctx: BtfTracePointContext) {
    enters(seen::RECLAIM);
}

#[btf_tracepoint]
fn memcg_out_tp(_ctx: BtfTracePointContext) {
    leaves(seen::RECLAIM);
}
