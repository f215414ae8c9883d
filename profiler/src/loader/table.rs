//! The table of hooks: for each group of programs the rungs from best to worst. A new hook is a rung
//! here and a program of that name in profiler-ebpf. Exits come before entries, so that nothing
//! begins whose end is not seen.

use aya::{Btf, Endianness};

use super::{
    Group, LoadError,
    hooks::{
        Attach::{FEntry, FExit, KProbe, MajorFaults, MinorFaults, TpBtf},
        HookChoice, Rung,
    },
};
use crate::kernel::Facts;

/// In order of attaching, but for tracepoints, which come after functions.
pub static GROUPS: &[(Group, &[Rung])] = &[
    (
        Group::Life,
        &[Rung {
            kind: HookChoice::Tracepoint,
            name: "tp_btf sched_process_{fork,exec,exit,free}, task_rename",
            programs: &[
                ("life_fork_tp", TpBtf("sched_process_fork")),
                ("life_exec_tp", TpBtf("sched_process_exec")),
                ("life_exit_tp", TpBtf("sched_process_exit")),
                ("life_free_tp", TpBtf("sched_process_free")),
                ("life_rename_tp", TpBtf("task_rename")),
            ],
            functions: &[],
            tracepoints: &[],
        }],
    ),
    (
        Group::MmapLockEvents,
        &[
            Rung {
                kind: HookChoice::Tracepoint,
                name: "tp_btf mmap_lock_{start_locking,acquire_returned,released}",
                programs: &[
                    ("mmap_release_tp", TpBtf("mmap_lock_released")),
                    ("mmap_acquire_tp", TpBtf("mmap_lock_acquire_returned")),
                    ("mmap_start_tp", TpBtf("mmap_lock_start_locking")),
                ],
                functions: &[],
                tracepoints: &[
                    ("mmap_lock_released", 2),
                    ("mmap_lock_acquire_returned", 3),
                    ("mmap_lock_start_locking", 2),
                ],
            },
            Rung {
                kind: HookChoice::Tracepoint,
                name: "tp_btf mmap_lock_{start_locking,acquire_returned,released} (with memcg_path)",
                programs: &[
                    ("mmap_release_cg", TpBtf("mmap_lock_released")),
                    ("mmap_acquire_cg", TpBtf("mmap_lock_acquire_returned")),
                    ("mmap_start_cg", TpBtf("mmap_lock_start_locking")),
                ],
                functions: &[],
                tracepoints: &[
                    ("mmap_lock_released", 3),
                    ("mmap_lock_acquire_returned", 4),
                    ("mmap_lock_start_locking", 3),
                ],
            },
        ],
    ),
    (
        Group::MmapLockWait,
        &[
            Rung {
                kind: HookChoice::Fentry,
                name: "fentry/fexit rwsem_down_{read,write}_slowpath",
                programs: &[
                    ("rwsem_read_out", FExit("rwsem_down_read_slowpath")),
                    ("rwsem_write_out", FExit("rwsem_down_write_slowpath")),
                    ("rwsem_read_in", FEntry("rwsem_down_read_slowpath")),
                    ("rwsem_write_in", FEntry("rwsem_down_write_slowpath")),
                ],
                functions: &[
                    ("rwsem_down_read_slowpath", 3),
                    ("rwsem_down_write_slowpath", 2),
                ],
                tracepoints: &[],
            },
            Rung {
                kind: HookChoice::Tracepoint,
                name: "tp_btf contention_{begin,end}",
                programs: &[
                    ("lock_end_tp", TpBtf("contention_end")),
                    ("lock_begin_tp", TpBtf("contention_begin")),
                ],
                functions: &[],
                tracepoints: &[],
            },
        ],
    ),
    (
        Group::LockRelease,
        &[
            Rung {
                kind: HookChoice::Fentry,
                name: "fentry rwsem_mark_wake",
                programs: &[("rwsem_wake_in", FEntry("rwsem_mark_wake"))],
                functions: &[],
                tracepoints: &[],
            },
            Rung {
                kind: HookChoice::Kprobe,
                name: "kprobe rwsem_mark_wake",
                programs: &[("rwsem_wake_kp", KProbe("rwsem_mark_wake"))],
                functions: &[],
                tracepoints: &[],
            },
        ],
    ),
    (
        Group::VmaWrite,
        &[
            Rung {
                kind: HookChoice::Fentry,
                name: "fentry/fexit __vma_start_write, fentry rcuwait_wake_up",
                programs: &[
                    ("vma_write_out", FExit("__vma_start_write")),
                    ("vma_wake_in", FEntry("rcuwait_wake_up")),
                    ("vma_write_in", FEntry("__vma_start_write")),
                ],
                functions: &[],
                tracepoints: &[],
            },
            Rung {
                kind: HookChoice::Kprobe,
                name: "kprobe __vma_start_write, rcuwait_wake_up + tp_btf sched_switch",
                programs: &[
                    ("vma_switch_tp", TpBtf("sched_switch")),
                    ("vma_wake_kp", KProbe("rcuwait_wake_up")),
                    ("vma_write_kp", KProbe("__vma_start_write")),
                ],
                functions: &[],
                tracepoints: &[("sched_switch", 4)],
            },
        ],
    ),
    (
        Group::VmaLock,
        &[
            Rung {
                kind: HookChoice::Fentry,
                name: "fentry lock_mm_and_find_vma",
                programs: &[("vma_lock_entry", FEntry("lock_mm_and_find_vma"))],
                functions: &[("lock_mm_and_find_vma", 3)],
                tracepoints: &[],
            },
            Rung {
                kind: HookChoice::Kprobe,
                name: "kprobe lock_mm_and_find_vma",
                programs: &[("vma_lock_kp", KProbe("lock_mm_and_find_vma"))],
                functions: &[("lock_mm_and_find_vma", 3)],
                tracepoints: &[],
            },
        ],
    ),
    (
        Group::IoWait,
        &[
            Rung {
                kind: HookChoice::Fentry,
                name: "fentry/fexit io_schedule{,_timeout}",
                programs: &[
                    ("io_timed_exit", FExit("io_schedule_timeout")),
                    ("io_wait_exit", FExit("io_schedule")),
                    ("io_timed_entry", FEntry("io_schedule_timeout")),
                    ("io_wait_entry", FEntry("io_schedule")),
                ],
                functions: &[],
                tracepoints: &[],
            },
            Rung {
                kind: HookChoice::Kprobe,
                name: "kprobe io_schedule{,_timeout} + tp_btf sched_switch",
                programs: &[
                    ("io_wait_switch", TpBtf("sched_switch")),
                    ("io_timed_kp", KProbe("io_schedule_timeout")),
                    ("io_wait_kp", KProbe("io_schedule")),
                ],
                functions: &[],
                tracepoints: &[("sched_switch", 4)],
            },
        ],
    ),
    (
        Group::FolioRead,
        &[
            Rung {
                kind: HookChoice::Fentry,
                name: "fentry/fexit filemap_read_folio",
                programs: &[
                    ("io_read_exit", FExit("filemap_read_folio")),
                    ("io_read_entry", FEntry("filemap_read_folio")),
                ],
                functions: &[("filemap_read_folio", 3)],
                tracepoints: &[],
            },
            Rung {
                kind: HookChoice::Kprobe,
                name: "kprobe filemap_read_folio",
                // The switch back to the thread ends it, as it does all I/O waits there.
                programs: &[("io_read_kp", KProbe("filemap_read_folio"))],
                functions: &[("filemap_read_folio", 3)],
                tracepoints: &[],
            },
        ],
    ),
    (
        Group::FolioState,
        &[
            Rung {
                kind: HookChoice::Fentry,
                name: "fexit __filemap_get_folio",
                programs: &[("folio_state_out", FExit("__filemap_get_folio"))],
                functions: &[("__filemap_get_folio", 4)],
                tracepoints: &[],
            },
            Rung {
                kind: HookChoice::Fentry,
                name: "fexit __filemap_get_folio_mpol",
                programs: &[("folio_mpol_out", FExit("__filemap_get_folio_mpol"))],
                functions: &[("__filemap_get_folio_mpol", 5)],
                tracepoints: &[],
            },
        ],
    ),
    (
        Group::Filemap,
        &[
            Rung {
                kind: HookChoice::Fentry,
                name: "fentry filemap_fault",
                programs: &[("filemap_in", FEntry("filemap_fault"))],
                functions: &[],
                tracepoints: &[],
            },
            Rung {
                kind: HookChoice::Kprobe,
                name: "kprobe filemap_fault",
                programs: &[("filemap_kp", KProbe("filemap_fault"))],
                functions: &[],
                tracepoints: &[],
            },
        ],
    ),
    (
        Group::SwapLock,
        &[
            Rung {
                kind: HookChoice::Fentry,
                name: "fentry __folio_lock_or_retry",
                programs: &[("swap_lock_in", FEntry("__folio_lock_or_retry"))],
                functions: &[],
                tracepoints: &[],
            },
            Rung {
                kind: HookChoice::Kprobe,
                name: "kprobe __folio_lock_or_retry",
                programs: &[("swap_lock_kp", KProbe("__folio_lock_or_retry"))],
                functions: &[],
                tracepoints: &[],
            },
        ],
    ),
    (
        Group::Userfault,
        &[
            Rung {
                kind: HookChoice::Fentry,
                name: "fentry/fexit handle_userfault",
                programs: &[
                    ("userfault_out", FExit("handle_userfault")),
                    ("userfault_in", FEntry("handle_userfault")),
                ],
                functions: &[],
                tracepoints: &[],
            },
            Rung {
                kind: HookChoice::Kprobe,
                name: "kprobe handle_userfault",
                programs: &[("userfault_kp", KProbe("handle_userfault"))],
                functions: &[],
                tracepoints: &[],
            },
        ],
    ),
    (
        Group::Shmem,
        &[
            Rung {
                kind: HookChoice::Fentry,
                name: "fentry shmem_fault",
                programs: &[("shmem_in", FEntry("shmem_fault"))],
                functions: &[],
                tracepoints: &[],
            },
            Rung {
                kind: HookChoice::Kprobe,
                name: "kprobe shmem_fault",
                programs: &[("shmem_kp", KProbe("shmem_fault"))],
                functions: &[],
                tracepoints: &[],
            },
        ],
    ),
    (
        Group::Swap,
        &[
            Rung {
                kind: HookChoice::Fentry,
                name: "fentry do_swap_page",
                programs: &[("swap_in", FEntry("do_swap_page"))],
                functions: &[],
                tracepoints: &[],
            },
            Rung {
                kind: HookChoice::Kprobe,
                name: "kprobe do_swap_page",
                programs: &[("swap_kp", KProbe("do_swap_page"))],
                functions: &[],
                tracepoints: &[],
            },
        ],
    ),
    (
        Group::Migration,
        &[
            Rung {
                kind: HookChoice::Fentry,
                name: "fentry migration_entry_wait",
                programs: &[("migration_in", FEntry("migration_entry_wait"))],
                functions: &[],
                tracepoints: &[],
            },
            Rung {
                kind: HookChoice::Kprobe,
                name: "kprobe migration_entry_wait",
                programs: &[("migration_kp", KProbe("migration_entry_wait"))],
                functions: &[],
                tracepoints: &[],
            },
        ],
    ),
    (
        Group::Hugetlb,
        &[
            Rung {
                kind: HookChoice::Fentry,
                name: "fentry hugetlb_fault",
                programs: &[("hugetlb_in", FEntry("hugetlb_fault"))],
                functions: &[],
                tracepoints: &[],
            },
            Rung {
                kind: HookChoice::Kprobe,
                name: "kprobe hugetlb_fault",
                programs: &[("hugetlb_kp", KProbe("hugetlb_fault"))],
                functions: &[],
                tracepoints: &[],
            },
        ],
    ),
    (
        Group::Mkwrite,
        &[Rung {
            kind: HookChoice::Fentry,
            name: "fentry/fexit do_page_mkwrite",
            programs: &[
                ("mkwrite_out", FExit("do_page_mkwrite")),
                ("mkwrite_in", FEntry("do_page_mkwrite")),
            ],
            functions: &[],
            tracepoints: &[],
        }],
    ),
    (
        Group::SwapRead,
        &[
            Rung {
                kind: HookChoice::Fentry,
                name: "fentry/fexit swap_read_folio",
                programs: &[
                    ("swap_read_out", FExit("swap_read_folio")),
                    ("swap_read_in", FEntry("swap_read_folio")),
                ],
                functions: &[],
                tracepoints: &[],
            },
            Rung {
                kind: HookChoice::Fentry,
                name: "fentry/fexit swap_readpage",
                programs: &[
                    ("swap_read_out", FExit("swap_readpage")),
                    ("swap_read_in", FEntry("swap_readpage")),
                ],
                functions: &[],
                tracepoints: &[],
            },
            Rung {
                kind: HookChoice::Kprobe,
                name: "kprobe swap_read_folio",
                programs: &[("swap_read_kp", KProbe("swap_read_folio"))],
                functions: &[],
                tracepoints: &[],
            },
            Rung {
                kind: HookChoice::Kprobe,
                name: "kprobe swap_readpage",
                programs: &[("swap_read_kp", KProbe("swap_readpage"))],
                functions: &[],
                tracepoints: &[],
            },
        ],
    ),
    (
        Group::Reclaim,
        &[
            Rung {
                kind: HookChoice::Tracepoint,
                name: "tp_btf mm_vmscan_{direct,memcg}_reclaim_{begin,end}",
                programs: &[
                    ("memcg_out_tp", TpBtf("mm_vmscan_memcg_reclaim_end")),
                    ("memcg_in_tp", TpBtf("mm_vmscan_memcg_reclaim_begin")),
                    ("reclaim_out_tp", TpBtf("mm_vmscan_direct_reclaim_end")),
                    ("reclaim_in_tp", TpBtf("mm_vmscan_direct_reclaim_begin")),
                ],
                functions: &[],
                tracepoints: &[],
            },
            Rung {
                kind: HookChoice::Tracepoint,
                name: "tp_btf mm_vmscan_direct_reclaim_{begin,end}",
                programs: &[
                    ("reclaim_out_tp", TpBtf("mm_vmscan_direct_reclaim_end")),
                    ("reclaim_in_tp", TpBtf("mm_vmscan_direct_reclaim_begin")),
                ],
                functions: &[],
                tracepoints: &[],
            },
        ],
    ),
    (
        Group::Fault,
        &[
            Rung {
                kind: HookChoice::Fentry,
                name: "fentry/fexit handle_mm_fault",
                programs: &[
                    ("fault_exit", FExit("handle_mm_fault")),
                    ("fault_lock", FEntry("lock_mm_and_find_vma")),
                    ("fault_entry", FEntry("handle_mm_fault")),
                ],
                functions: &[("handle_mm_fault", 4), ("lock_mm_and_find_vma", 3)],
                tracepoints: &[],
            },
            Rung {
                kind: HookChoice::Kprobe,
                name: "kprobe handle_mm_fault + perf_event page-faults",
                programs: &[
                    ("fault_minor_ev", MinorFaults),
                    ("fault_major_ev", MajorFaults),
                    ("fault_lock_kp", KProbe("lock_mm_and_find_vma")),
                    ("fault_entry_kp", KProbe("handle_mm_fault")),
                ],
                functions: &[("handle_mm_fault", 4), ("lock_mm_and_find_vma", 3)],
                tracepoints: &[],
            },
            Rung {
                kind: HookChoice::Tracepoint,
                name: "tp_btf page_fault_{user,kernel} + perf_event page-faults",
                programs: &[
                    ("fault_minor_ev", MinorFaults),
                    ("fault_major_ev", MajorFaults),
                    ("fault_kernel_tp", TpBtf("page_fault_kernel")),
                    ("fault_user_tp", TpBtf("page_fault_user")),
                ],
                functions: &[],
                tracepoints: &[],
            },
            Rung {
                kind: HookChoice::Tracepoint,
                name: "perf_event page-faults",
                programs: &[
                    ("fault_minor_ev", MinorFaults),
                    ("fault_major_ev", MajorFaults),
                ],
                functions: &[],
                tracepoints: &[],
            },
        ],
    ),
];

/// What aya finds the kernel's ids of all these in.
pub fn btf(facts: &Facts) -> Result<Btf, LoadError> {
    let hooks = || {
        let rungs = GROUPS.iter().flat_map(|(_, rungs)| *rungs);
        rungs.flat_map(|r| r.programs).map(|(_, attach)| attach)
    };
    let functions = hooks().filter_map(|attach| match attach {
        FEntry(name) | FExit(name) => Some(*name),
        _ => None,
    });
    let tracepoints = hooks().filter_map(|attach| match attach {
        TpBtf(name) => Some(*name),
        _ => None,
    });
    Btf::parse(&facts.hooks(functions, tracepoints), Endianness::default())
        .map_err(|e| LoadError::Kernel(format!("the kernel's BTF cannot be told to aya: {e}")))
}
