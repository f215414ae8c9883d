//! How important the kernel holds a thread.

use profiler_common::words::{IoprioClass, PrioClass};

use crate::{
    globals::{MISSING, off},
    kernel::{Mem, Probed, Typed},
};

// include/uapi/linux/sched.h, include/linux/sched/prio.h, include/uapi/linux/ioprio.h
const SCHED_IDLE: u32 = 5;
const MAX_RT_PRIO: i32 = 100;
const DEFAULT_PRIO: i32 = 120;
const IOPRIO_CLASS_SHIFT: u32 = 13;

/// Kernel scale: -1 deadline, 0-99 real time, 100-139 fair; boosts included.
#[inline(always)]
pub fn prio(task: *const u8) -> i32 {
    if off::TASK_PRIO() == MISSING {
        return DEFAULT_PRIO;
    }
    // SAFETY: typed task pointer, offset of an int.
    unsafe { Typed::read(task, off::TASK_PRIO()) }
}

#[inline(always)]
pub fn policy(task: *const u8) -> u32 {
    if off::TASK_POLICY() == MISSING {
        return 0;
    }
    // SAFETY: as above.
    unsafe { Typed::read(task, off::TASK_POLICY()) }
}

/// As `ioprio_get` gives it; 0 where none was set.
#[inline(always)]
pub fn ioprio(task: *const u8) -> u32 {
    if off::TASK_IO_CONTEXT() == MISSING || off::IOC_IOPRIO() == MISSING {
        return 0;
    }
    // SAFETY: typed task pointer, offset of a pointer; `Probed` fails on NULL.
    unsafe {
        let context = Typed::read::<usize>(task, off::TASK_IO_CONTEXT()) as *const u8;
        u32::from(Probed::read::<u16>(context, off::IOC_IOPRIO()))
    }
}

#[inline(always)]
pub fn classes(task: *const u8) -> (PrioClass, IoprioClass) {
    let prio = prio(task);
    let class = if policy(task) == SCHED_IDLE {
        PrioClass::Idle
    } else if prio < MAX_RT_PRIO {
        PrioClass::Rt
    } else if prio < DEFAULT_PRIO {
        PrioClass::High
    } else if prio == DEFAULT_PRIO {
        PrioClass::Normal
    } else {
        PrioClass::Low
    };
    let io_class = match ioprio(task) >> IOPRIO_CLASS_SHIFT {
        1 => IoprioClass::Rt,
        2 => IoprioClass::Be,
        3 => IoprioClass::Idle,
        _ => IoprioClass::None,
    };
    (class, io_class)
}
