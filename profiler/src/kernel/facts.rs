//! What this kernel is like, decided by its BTF and never by its version: vendors backport.

use profiler_common::config::{MISSING, early_vma_lock};

use super::btf::Btf;

/// How a VMA is locked (mm/mmap_lock.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmaLock {
    /// Before 6.4: there is only `mmap_lock`.
    None,
    /// 6.4 to 6.14: an rwsem beside the VMA.
    Rwsem,
    /// From 6.15: `vm_refcnt`.
    Refcount,
}

impl VmaLock {
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Rwsem => "rwsem",
            Self::Refcount => "refcount",
        }
    }
}

macro_rules! fields_table {
    ($(($global:ident, $path:literal)),+ $(,)?) => {
        const FIELDS: &[(&str, &str)] = &[$((stringify!($global), $path)),+];
    };
}
macro_rules! enums_table {
    ($(($global:ident, $name:literal, $enumerator:literal)),+ $(,)?) => {
        const ENUMS: &[(&str, &str, &str)] = &[$((stringify!($global), $name, $enumerator)),+];
    };
}
profiler_common::kernel_fields!(fields_table);
profiler_common::kernel_enums!(enums_table);

/// Fields the core cannot do without; the others take a signal with them.
const REQUIRED: &[&str] = &[
    "VMA_START",
    "VMA_END",
    "VMA_FLAGS",
    "VMA_FILE",
    "VMA_OPS",
    "VMA_ANON_VMA",
    "OPS_MAP_PAGES",
    "MM_MMAP_LOCK",
    "FILE_INODE",
    "INODE_SB",
    "INODE_MODE",
    "SB_MAGIC",
    "TASK_PID",
    "TASK_TGID",
    "TASK_COMM",
    "TASK_MM",
    "TASK_FLAGS",
    "TASK_MIN_FLT",
    "TASK_MAJ_FLT",
];

pub struct Facts {
    btf: Btf,
    pub vma_lock: VmaLock,
    /// The `mmap_lock` tracepoints pass `memcg_path`, and format it under a global lock for
    /// every event (mm/mmap_lock.c of 6.1 and 6.12).
    pub memcg_path: bool,
}

impl Facts {
    pub fn new(btf: Btf) -> Self {
        let vma_lock = if btf
            .enumerator("fault_flag", "FAULT_FLAG_VMA_LOCK")
            .is_none()
        {
            VmaLock::None
        } else if btf.offset("vm_area_struct.vm_refcnt").is_some() {
            VmaLock::Refcount
        } else {
            VmaLock::Rwsem
        };
        let memcg_path = btf.tracepoint_args("mmap_lock_start_locking") == Some(3);
        Self {
            btf,
            vma_lock,
            memcg_path,
        }
    }

    /// Just enough BTF to find these in.
    pub fn hooks<'a>(
        &self,
        functions: impl Iterator<Item = &'a str>,
        tracepoints: impl Iterator<Item = &'a str>,
    ) -> Vec<u8> {
        self.btf.only(functions, tracepoints)
    }

    /// Every global of the kernel side that describes the kernel, by name.
    pub fn globals(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let fields = FIELDS
            .iter()
            .map(|(global, path)| (*global, self.btf.offset(path).unwrap_or(MISSING)));
        let enums = ENUMS
            .iter()
            .map(|(global, e, name)| (*global, self.btf.enumerator(e, name).unwrap_or(0)));
        fields.chain(enums)
    }

    /// VM_FAULT_ERROR, a macro (include/linux/mm_types.h), from the enumerators it is made of.
    pub fn vm_fault_error(&self) -> u32 {
        [
            "OOM",
            "SIGBUS",
            "SIGSEGV",
            "HWPOISON",
            "HWPOISON_LARGE",
            "FALLBACK",
        ]
        .iter()
        .filter_map(|e| {
            self.btf
                .enumerator("vm_fault_reason", &format!("VM_FAULT_{e}"))
        })
        .fold(0, |mask, bit| mask | bit)
    }

    /// What VMA locks are not yet for; one of [`early_vma_lock`]. The check for an anon_vma went from
    /// `lock_vma_under_rcu` into `__vmf_anon_prepare` (mm/memory.c), where the fault gets one.
    pub fn early_vma_lock(&self) -> u32 {
        let has = |function: &str| self.btf.params(function).is_some();
        if self.vma_lock == VmaLock::None || has("__vmf_anon_prepare") {
            early_vma_lock::NO
        } else if has("vmf_anon_prepare") || has("vmf_can_call_fault") {
            early_vma_lock::WITH_ANON_VMA
        } else {
            early_vma_lock::ANONYMOUS_ONLY
        }
    }

    /// A field that a signal needs.
    pub fn has_field(&self, path: &str) -> bool {
        self.btf.offset(path).is_some()
    }

    /// Every bit of `vm_fault_t` that a common fault does not return.
    pub fn vm_fault_special(&self) -> u32 {
        ["VM_FAULT_RETRY", "VM_FAULT_COMPLETED"]
            .iter()
            .filter_map(|e| self.btf.enumerator("vm_fault_reason", e))
            .fold(self.vm_fault_error(), |mask, bit| mask | bit)
    }

    /// Required fields this kernel's BTF lacks.
    pub fn missing(&self) -> Vec<&'static str> {
        FIELDS
            .iter()
            .filter(|(global, path)| REQUIRED.contains(global) && self.btf.offset(path).is_none())
            .map(|(_, path)| *path)
            .collect()
    }

    pub fn params(&self, function: &str) -> Option<usize> {
        self.btf.params(function)
    }

    pub fn tracepoint_args(&self, name: &str) -> Option<usize> {
        self.btf.tracepoint_args(name)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_running_kernel_has_what_is_required() {
        let Ok(btf) = Btf::read(Path::new("/sys/kernel/btf/vmlinux")) else {
            eprintln!("skipped: this kernel has no BTF");
            return;
        };
        let facts = Facts::new(btf);
        assert_eq!(facts.missing(), Vec::<&str>::new());
        let regs = ["REGS_ORIG_AX", "REGS_SYSCALLNO"];
        let known = facts
            .globals()
            .filter(|(g, v)| regs.contains(g) && *v != MISSING)
            .count();
        assert_eq!(known, 1, "one architecture's registers, not both");
        assert_eq!(facts.vm_fault_error() & 0x873, 0x873);
    }
}
