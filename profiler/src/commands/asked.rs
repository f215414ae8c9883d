//! From arguments to a request the session understands; mistakes end here with a remedy.

use std::{
    ffi::{OsStr, OsString},
    fs,
};

use anyhow::Result;
use profiler_common::config::CHOSEN_MAX;

use crate::{
    cli::{Doctor, MmapLock, Probing},
    error::Usage,
    kernel::{
        android,
        cgroup::{self, Cgroup},
        pids,
    },
    loader::{Request, Targets},
    session::Asked,
};

pub fn probing(args: &Probing) -> Result<Asked> {
    let (targets, target) = targets(args)?;
    Ok(Asked {
        request: Request {
            hooks: args.hooks.into(),
            mmap_lock_all: args.mmap_lock.map(|m| m == MmapLock::All),
            no_vma_lock: args.no_vma_lock,
            targets,
            min_us: args.min_us,
            sample: args.sample,
            paced: false,
            stacks: args.stacks,
            empty: args.empty_programs,
        },
        btf: args.btf.clone(),
        target,
        interval_ms: args.interval.as_millis() as u64,
    })
}

/// Whose threads count, and the same in words.
fn targets(args: &Probing) -> Result<(Targets, String)> {
    let list = |what: &str, names: Vec<String>| format!("{what} {}", names.join(","));
    if !args.pid.is_empty() {
        if let Some(why) = pids::refusal("-p") {
            return Err(Usage(why).into());
        }
        for pid in &args.pid {
            check_process(*pid)?;
        }
        let names = args.pid.iter().map(ToString::to_string).collect();
        let targets = Targets::Processes {
            tgids: args.pid.clone(),
            follow: false,
        };
        return Ok((targets, list("pid", names)));
    }
    if !args.cgroup.is_empty() {
        let cgroups = args.cgroup.iter().map(|path| cgroup::by_path(path));
        let cgroups = cgroups.collect::<Result<Vec<_>, _>>().map_err(Usage)?;
        let names = args.cgroup.iter().map(|path| path.display().to_string());
        return Ok((few(cgroups)?, list("cgroup", names.collect())));
    }
    if !args.container.is_empty() {
        let mut cgroups = Vec::new();
        for container in &args.container {
            cgroups.extend(cgroup::by_container(container).map_err(Usage)?);
        }
        return Ok((few(cgroups)?, list("container", args.container.clone())));
    }
    let (uids, target) = match &args.package {
        Some(package) => {
            let uid = android::uid(package).map_err(Usage)?;
            (vec![uid], format!("package {package}"))
        }
        None => {
            let names = args.uid.iter().map(ToString::to_string).collect();
            (args.uid.clone(), list("uid", names))
        }
    };
    match uids.len() {
        0 => Ok((Targets::Everybody, "system".to_owned())),
        n if n > CHOSEN_MAX as usize => Err(too_many("--uid").into()),
        _ => Ok((Targets::Uids(uids), target)),
    }
}

fn few(cgroups: Vec<Cgroup>) -> Result<Targets> {
    match cgroups.len() {
        n if n > CHOSEN_MAX as usize => Err(too_many("--cgroup or --container").into()),
        _ => Ok(Targets::Cgroups(cgroups)),
    }
}

fn too_many(option: &str) -> Usage {
    Usage(format!(
        "{option}: at most {CHOSEN_MAX}: choose a cgroup above them"
    ))
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
pub fn child(mut asked: Asked, pid: u32, command: &[OsString]) -> Asked {
    asked.request.targets = Targets::Processes {
        tgids: vec![pid],
        follow: true,
    };
    asked.target = command_target(command);
    asked
}

pub fn command_target(command: &[OsString]) -> String {
    format!("cmd: {}", command.join(OsStr::new(" ")).display())
}

pub fn doctor(args: &Doctor) -> Asked {
    Asked {
        request: Request {
            hooks: args.hooks.into(),
            mmap_lock_all: args.mmap_lock.map(|m| m == MmapLock::All),
            no_vma_lock: false,
            targets: Targets::Everybody,
            min_us: 0,
            sample: 1,
            paced: false,
            stacks: false,
            empty: false,
        },
        btf: args.btf.clone(),
        target: "system".to_owned(),
        interval_ms: 1000,
    }
}
