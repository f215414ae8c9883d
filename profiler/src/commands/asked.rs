//! From arguments to a request the session understands; mistakes end here with a remedy.

use std::fs;

use anyhow::Result;

use crate::{
    cli::{Doctor, MmapLock, Probing},
    error::Usage,
    loader::Request,
    session::Asked,
};

pub fn probing(args: &Probing) -> Result<Asked> {
    for pid in &args.pid {
        check_process(*pid)?;
    }
    let (targets, target) = if args.pid.is_empty() {
        (None, "system".to_owned())
    } else {
        let list: Vec<String> = args.pid.iter().map(ToString::to_string).collect();
        (Some(args.pid.clone()), format!("pid {}", list.join(",")))
    };
    Ok(Asked {
        request: Request {
            hooks: args.hooks.into(),
            mmap_lock_all: args.mmap_lock.map(|m| m == MmapLock::All),
            no_vma_lock: args.no_vma_lock,
            targets,
            follow: false,
            min_us: args.min_us,
            sample: args.sample,
            stacks: args.stacks,
            empty: args.empty_programs,
        },
        btf: args.btf.clone(),
        target,
        interval_ms: args.interval.as_millis() as u64,
    })
}

/// A process that is there, and not one of a process's other threads.
fn check_process(pid: u32) -> Result<()> {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return Err(Usage(format!("no process {pid}: see `ps` for those that run")).into());
    };
    let tgid = status
        .lines()
        .find_map(|l| l.strip_prefix("Tgid:"))
        .map(str::trim);
    match tgid {
        Some(tgid) if tgid != pid.to_string() => Err(Usage(format!(
            "{pid} is a thread of process {tgid}: use -p {tgid}"
        ))
        .into()),
        _ => Ok(()),
    }
}

/// A child that was started for the purpose, and its descendants.
pub fn child(mut asked: Asked, pid: u32, command: &[String]) -> Asked {
    asked.request.targets = Some(vec![pid]);
    asked.request.follow = true;
    asked.target = format!("cmd: {}", command.join(" "));
    asked
}

pub fn doctor(args: &Doctor) -> Asked {
    Asked {
        request: Request {
            hooks: args.hooks.into(),
            mmap_lock_all: args.mmap_lock.map(|m| m == MmapLock::All),
            no_vma_lock: false,
            targets: None,
            follow: false,
            min_us: 0,
            sample: 1,
            stacks: false,
            empty: false,
        },
        btf: args.btf.clone(),
        target: "system".to_owned(),
        interval_ms: 1000,
    }
}
