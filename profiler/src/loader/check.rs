//! Runs the kernel side's self-check and refuses to go on with offsets that lie.

use aya::{
    Ebpf,
    maps::Array,
    programs::{RawTracePoint, RawTracePointRunOptions, TestRun as _},
};
use profiler_common::config::check;

use super::LoadError;

pub fn run(ebpf: &mut Ebpf) -> Result<(), LoadError> {
    let program: &mut RawTracePoint = ebpf
        .program_mut("self_check")
        .and_then(|p| p.try_into().ok())
        .ok_or_else(|| LoadError::Kernel("program self_check is not in the object".into()))?;
    program
        .load()
        .map_err(|e| super::load_refused("self_check", &e))?;
    program
        .test_run(RawTracePointRunOptions::new())
        .map_err(|e| LoadError::Kernel(format!("the start-up self-check could not run: {e}")))?;
    let map = ebpf
        .map("CHECK")
        .ok_or_else(|| LoadError::Kernel("map CHECK is not in the object".into()))?;
    let what = match Array::<_, u32>::try_from(map)?.get(&check::VERDICT, 0)? {
        check::PASSED => return Ok(()),
        check::NOT_RUN => "nothing: it did not run",
        check::PID => "task_struct.pid",
        check::TGID => "task_struct.tgid",
        check::COMM => "task_struct.comm",
        _ => "task_struct.mm",
    };
    Err(LoadError::Kernel(format!(
        "the start-up self-check read a wrong {what}: this BTF does not describe this kernel (--btf?)"
    )))
}
