//! Loads and attaches the programs of the ladder's present rungs, one by one: the kernel's own
//! refusal is what is told to the user.

use aya::{
    Btf, Ebpf,
    programs::{
        BtfTracePoint, FEntry, FExit, KProbe, PerfEvent, ProgramError,
        kprobe::KProbeError,
        perf_event::{PerfEventConfig, PerfEventLink, PerfEventScope, SamplePolicy, SoftwareEvent},
    },
};

use super::hooks::{Attach, Failed, Ladder, Rung};
use crate::kernel::host;

/// Of software events, by CPU: they stay attached as long as this lives.
pub type CpuLinks = Vec<(u32, PerfEventLink)>;

/// Attaches every rung; gives back the groups whose rung would not. Functions come first: where
/// none can be hooked, the tracepoints' programs need not be verified to find that out.
pub fn all(ebpf: &mut Ebpf, btf: &Btf, ladder: &Ladder) -> Result<CpuLinks, Vec<Failed>> {
    let mut links = CpuLinks::new();
    for of_functions in [true, false] {
        let failed = some(ebpf, btf, ladder, of_functions, &mut links);
        if !failed.is_empty() {
            return Err(failed);
        }
    }
    Ok(links)
}

fn some(
    ebpf: &mut Ebpf,
    btf: &Btf,
    ladder: &Ladder,
    of_functions: bool,
    links: &mut CpuLinks,
) -> Vec<Failed> {
    let mut failed = Vec::new();
    let rungs = ladder.rungs();
    for (group, rung) in rungs.filter(|(_, rung)| rung.of_functions() == of_functions) {
        for (program, attach) in rung.programs {
            if let Err(e) = one(ebpf, btf, program, *attach, links) {
                failed.push(Failed {
                    group,
                    why: brief(&e),
                });
                break;
            }
        }
    }
    failed
}

fn one(
    ebpf: &mut Ebpf,
    btf: &Btf,
    name: &str,
    attach: Attach,
    links: &mut CpuLinks,
) -> Result<(), ProgramError> {
    let program = ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)?;
    match attach {
        Attach::TpBtf(tracepoint) => {
            let p: &mut BtfTracePoint = program.try_into()?;
            p.load(tracepoint, btf)?;
            p.attach().map(drop)
        }
        Attach::FEntry(function) => {
            let p: &mut FEntry = program.try_into()?;
            p.load(function, btf)?;
            p.attach().map(drop)
        }
        Attach::FExit(function) => {
            let p: &mut FExit = program.try_into()?;
            p.load(function, btf)?;
            p.attach().map(drop)
        }
        Attach::KProbe(function) => {
            let p: &mut KProbe = program.try_into()?;
            p.load()?;
            let Err(refused) = p.attach(function, 0) else {
                return Ok(());
            };
            // Looked for only where there is no such symbol: there are a hundred thousand.
            let absent = matches!(&refused, ProgramError::SyscallError(e)
                if e.io_error.raw_os_error() == Some(libc::ENOENT));
            match absent.then(|| host::promoted(function)).flatten() {
                Some(symbol) => p.attach(symbol, 0).map(drop),
                None => Err(refused),
            }
        }
        Attach::MinorFaults | Attach::MajorFaults => {
            let p: &mut PerfEvent = program.try_into()?;
            p.load()?;
            software_event(p, attach, &host::online_cpus(), links)
        }
    }
}

/// The software events of these rungs, on more CPUs, or on those that came back.
pub fn on_cpus(
    ebpf: &mut Ebpf,
    rungs: impl Iterator<Item = &'static Rung>,
    cpus: &[u32],
    links: &mut CpuLinks,
) -> Result<(), ProgramError> {
    // What a CPU had is off, and stays so.
    links.retain(|(cpu, _)| !cpus.contains(cpu));
    for (name, attach) in rungs.flat_map(|rung| rung.programs) {
        if attach.is_per_cpu() {
            let program = ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)?;
            software_event(program.try_into()?, *attach, cpus, links)?;
        }
    }
    Ok(())
}

fn software_event(
    p: &mut PerfEvent,
    attach: Attach,
    cpus: &[u32],
    links: &mut CpuLinks,
) -> Result<(), ProgramError> {
    let event = match attach {
        Attach::MajorFaults => SoftwareEvent::PageFaultsMaj,
        _ => SoftwareEvent::PageFaultsMin,
    };
    for &cpu in cpus {
        let id = p.attach(
            PerfEventConfig::Software(event),
            PerfEventScope::AllProcessesOneCpu { cpu },
            SamplePolicy::Period(1),
            false,
        )?;
        links.push((cpu, p.take_link(id)?));
    }
    Ok(())
}

/// The innermost cause on one line; the verifier's log only for those who ask for it.
fn brief(e: &ProgramError) -> String {
    if std::env::var_os("VMASCOPE_VERIFIER_LOG").is_some() {
        return format!("{e:?}");
    }
    match e {
        ProgramError::LoadError { io_error, .. } => {
            format!("refused at load ({})", errno(io_error))
        }
        ProgramError::SyscallError(e) => format!("{} failed ({})", e.call, errno(&e.io_error)),
        ProgramError::KProbeError(KProbeError::FileError { .. }) => {
            "this kernel has no kprobes".into()
        }
        other => other
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
    }
}

fn errno(e: &std::io::Error) -> String {
    match e.raw_os_error() {
        Some(libc::EPERM) => "EPERM".into(),
        Some(libc::EBUSY) => "EBUSY".into(),
        // Not in libc: include/linux/errno.h
        Some(524) => "ENOTSUPP".into(),
        Some(_) => e
            .to_string()
            .split(" (os error")
            .next()
            .unwrap_or_default()
            .to_owned(),
        None => e.to_string(),
    }
}
