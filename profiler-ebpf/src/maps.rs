//! Every map. Sizes are load-time decisions of userspace; those here are the defaults.

use aya_ebpf::{
    btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf, StackTrace},
    macros::btf_map,
};
use profiler_common::{
    agg::{
        Components, Counters, FaultAgg, IO_WAITS as IO_WAIT_CLASSES, IoWait, LOCK_AGGS, LockAgg,
        LockHist, VmaSizes,
    },
    config::{
        CHOSEN_MAX, FRAMES_MAX, MMS_MAX, RING_BYTES, SLOTS_MAX, STACKS_MAX, SYSCALLS, TARGETS_MAX,
        THREADS_MAX, WINDOW_MMS_MAX, check,
    },
    record::FaultRecord,
    thread::Thread,
    words::{Kind, Mode, Path},
};

/// One entry, 0 until userspace has attached everything; then one common fault in this many is timed,
/// where the global `SAMPLE` does not fix it.
#[btf_map]
pub static ARMED: Array<u32, 1> = Array::new();

/// What the self-check found, and who vmascope is.
#[btf_map]
pub static CHECK: Array<u32, { check::ENTRIES }> = Array::new();

const MMAPABLE: usize = aya_ebpf::bindings::BPF_F_MMAPABLE as usize;

/// The thread table: `tid % SLOTS_MAX` -> the thread's fault and lock in flight, and its counts.
/// Free where `task` is 0. An array, because a look-up is then a few instructions; mapped into
/// userspace, which would otherwise need a system call per slot to read it.
#[btf_map]
pub static SLOTS: Array<Thread, { SLOTS_MAX as usize }, MMAPABLE> = Array::new();

/// Slot -> the task that has it: an insertion that must not find one is how a slot is claimed, since
/// Rust has no compare-and-swap for this target.
#[btf_map]
pub static CLAIMS: HashMap<u32, u64, { SLOTS_MAX as usize }> = HashMap::new();

/// tid -> the same as a slot, for a thread whose slot is another's.
#[btf_map]
pub static THREADS: HashMap<u32, Thread, { THREADS_MAX as usize }> = HashMap::new();

/// An all-zero `Thread`: too big for the stack.
#[btf_map]
pub static ZERO: Array<Thread, 1> = Array::new();

/// tgid -> 1: the processes a filter chose, and their children where FOLLOW is set.
#[btf_map]
pub static TARGETS: HashMap<u32, u32, { TARGETS_MAX as usize }> = HashMap::new();

/// cgroup id -> 1.
#[btf_map]
pub static CGROUPS: HashMap<u64, u32, { CHOSEN_MAX as usize }> = HashMap::new();

/// uid -> 1.
#[btf_map]
pub static UIDS: HashMap<u32, u32, { CHOSEN_MAX as usize }> = HashMap::new();

/// mm -> tgid, so that a wait on another process's lock can be told and named.
#[btf_map]
pub static MMS: LruHashMap<u64, u32, { MMS_MAX as usize }> = LruHashMap::new();

/// mm -> how many windows are open there. Entries stay at 0; the least used make room.
#[btf_map]
pub static WINDOWS: LruHashMap<u64, u64, { WINDOW_MMS_MAX as usize }> = LruHashMap::new();

/// System call number -> `Op`, native table first, then the 32-bit one.
#[btf_map]
pub static SYSCALL_OPS: Array<u8, { 2 * SYSCALLS as usize }> = Array::new();

#[btf_map]
pub static FAULTS: PerCpuArray<FaultAgg, { Path::COUNT }> = PerCpuArray::new();

#[btf_map]
pub static COMPONENTS: PerCpuArray<Components, { Kind::COUNT }> = PerCpuArray::new();

#[btf_map]
pub static IO_WAITS: PerCpuArray<IoWait, IO_WAIT_CLASSES> = PerCpuArray::new();

#[btf_map]
pub static VMA_SIZES: PerCpuArray<VmaSizes, 1> = PerCpuArray::new();

#[btf_map]
pub static LOCKS: PerCpuArray<LockAgg, { LOCK_AGGS }> = PerCpuArray::new();

#[btf_map]
pub static LOCK_HISTS: PerCpuArray<LockHist, { Mode::COUNT }> = PerCpuArray::new();

#[btf_map]
pub static COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();

/// Kernel stacks, where they are asked for; else userspace makes it as small as can be.
#[btf_map]
pub static STACKS: StackTrace<{ STACKS_MAX as usize }, 0, FRAMES_MAX> = StackTrace::new();

#[btf_map]
pub static EVENTS: RingBuf<FaultRecord, { RING_BYTES as usize }> = RingBuf::new();
