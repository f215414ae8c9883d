//! Lets aya copy the shared types out of maps.

use crate::{agg, thread};

macro_rules! pod {
    ($($ty:ty),+ $(,)?) => {
        $(
            // SAFETY: `repr(C)`, `Copy`, made of integers only: every bit pattern is a value.
            unsafe impl aya::Pod for $ty {}
        )+
    };
}

pod!(
    agg::Components,
    agg::Counters,
    agg::FaultAgg,
    agg::IoWait,
    agg::LockAgg,
    agg::LockHist,
    agg::VmaSizes,
    thread::Thread
);
