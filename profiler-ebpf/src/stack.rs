//! Kernel stacks of those who wait and of those who let go: only where they are asked for. In: a
//! hook's context. Out: STACKS.

use aya_ebpf::programs::tracing::StackIdContext;
use profiler_common::words::Loss;

use crate::{count, globals::opt, maps::STACKS};

// include/uapi/asm-generic/errno-base.h
const EEXIST: i32 = -17;

/// The place of the current kernel stack in STACKS + 1; 0: it is not kept.
#[inline(always)]
pub fn take(ctx: &impl StackIdContext) -> u32 {
    if opt::KEEP_STACKS() != 1 {
        return 0;
    }
    match ctx.get_stackid(&STACKS, 0) {
        Ok(place) => place as u32 + 1,
        Err(error) => {
            if error == EEXIST {
                count::loss(Loss::StackCollision);
            }
            0
        }
    }
}
