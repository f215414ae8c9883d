//! Kernel stacks by name. In: the numbers of stacks that waits carry, and the kernel's symbols. Out:
//! each stack once, when it is first spoken of.

use std::collections::{BTreeMap, HashSet};

use aya::{
    Ebpf,
    maps::{MapData, MapError, StackTraceMap},
    util::kernel_symbols,
};

use super::taken;
use crate::model::StackEvent;

pub struct Stacks {
    map: StackTraceMap<MapData>,
    symbols: BTreeMap<u64, String>,
    told: HashSet<u32>,
}

/// What stands between a hooked function and our program.
const HOOK: [&str; 6] = [
    "bpf_prog_",
    "bpf_trampoline_",
    "bpf_trace_run",
    "__bpf_trace_",
    "__traceiter_",
    "__mmap_lock_do_trace_",
];

fn is_ours(name: &str) -> bool {
    HOOK.iter().any(|prefix| name.starts_with(prefix))
}

impl Stacks {
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, MapError> {
        Ok(Self {
            map: StackTraceMap::try_from(taken(ebpf, "STACKS")?)?,
            symbols: kernel_symbols()?,
            told: HashSet::new(),
        })
    }

    /// The stack of that id, if it is the first time that it is asked for.
    pub fn first(&mut self, id: u32) -> Option<StackEvent> {
        let place = id.checked_sub(1)?;
        if !self.told.insert(id) {
            return None;
        }
        let trace = self.map.get(&place, 0).ok()?;
        let names = trace.frames().iter().map(|f| self.name(f.ip));
        let mut frames: Vec<String> = names.skip_while(|name| is_ours(name)).collect();
        frames.reverse();
        Some(StackEvent {
            id,
            frames: frames.join(";"),
        })
    }

    fn name(&self, ip: u64) -> String {
        match self.symbols.range(..=ip).next_back() {
            // Hidden symbols are all at 0 (kernel.kptr_restrict).
            // A module's name follows a tab.
            Some((at, name)) if *at != 0 => name.split('\t').next().unwrap_or(name).to_owned(),
            _ => format!("{ip:#x}"),
        }
    }
}
