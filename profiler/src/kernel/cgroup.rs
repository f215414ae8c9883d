//! Control groups: what a process belongs to, by name, and what a filter may choose. In: `/proc` and
//! the cgroup v2 file system, which take no lock of an address space. Out: names, ids, depths.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use profiler_common::config::CGROUP_DEPTH;

/// One that a filter chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// As `bpf_get_current_ancestor_cgroup_id` gives it: the folder's inode number.
    pub id: u64,
    /// Folders below the root.
    pub level: u32,
}

/// Characters of a container's id that are shown, as `docker ps` does.
const SHORT: usize = 12;

/// What a process runs in, from its `/proc/PID/cgroup`: the short id of a container, or the name of
/// a service; `None`: neither, or it has gone.
pub fn of_process(pid: u32) -> Option<String> {
    name(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)
}

fn name(text: &str) -> Option<String> {
    // hierarchy:controllers:path; v2 is hierarchy 0, and the last line.
    let paths = || text.lines().rev().filter_map(|l| l.splitn(3, ':').nth(2));
    paths()
        .find_map(container)
        .or_else(|| paths().find_map(unit))
}

/// `docker-ID.scope`, `cri-containerd-ID.scope`, `crio-ID.scope`, `libpod-ID.scope`;
/// `/docker/ID`, `/kubepods/burstable/podUID/ID`; `SLICE:cri-containerd:ID`; `lxc.payload.NAME`.
fn container(path: &str) -> Option<String> {
    path.rsplit('/').find_map(|folder| {
        if let Some(name) = folder.strip_prefix("lxc.payload.") {
            return Some(name.to_owned());
        }
        let plain = folder.strip_suffix(".scope").unwrap_or(folder);
        let id = plain.rsplit([':', '-']).next().unwrap_or(plain);
        // conmon watches a container from outside.
        let is_id = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
        (is_id && !plain.contains("conmon")).then(|| id[..SHORT].to_owned())
    })
}

/// The innermost systemd unit that is not a slice.
fn unit(path: &str) -> Option<String> {
    let is_unit = |folder: &&str| folder.ends_with(".service") || folder.ends_with(".scope");
    path.rsplit('/').find(is_unit).map(str::to_owned)
}

/// Where cgroup v2 is mounted.
fn root() -> Result<PathBuf, String> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let at = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (at, kind) = (fields.nth(1)?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(at))
    });
    at.ok_or_else(|| "cgroup v2 is not mounted: choose processes with -p".to_owned())
}

/// `-c PATH`: absolute, or below the mount of cgroup v2.
pub fn by_path(path: &Path) -> Result<Cgroup, String> {
    let root = root()?;
    let folder = if path.starts_with(&root) {
        path.to_owned()
    } else {
        root.join(path.strip_prefix("/").unwrap_or(path))
    };
    if !folder.join("cgroup.procs").exists() {
        let (path, root) = (path.display(), root.display());
        return Err(format!(
            "{path} is no cgroup: give a folder below {root}, as `systemd-cgls` shows them"
        ));
    }
    chosen(&root, &folder)
}

fn chosen(root: &Path, folder: &Path) -> Result<Cgroup, String> {
    let told = |e: io::Error| format!("cannot read {}: {e}", folder.display());
    let folder = folder.canonicalize().map_err(told)?;
    let below = folder.strip_prefix(root).unwrap_or(&folder);
    let level = below.components().count() as u32;
    if level >= CGROUP_DEPTH {
        return Err(format!(
            "{} is more than {} folders deep: give one above it",
            folder.display(),
            CGROUP_DEPTH - 1
        ));
    }
    let id = fs::metadata(&folder).map_err(told)?.ino();
    Ok(Cgroup { id, level })
}

/// `--container WHAT`: an id or the beginning of one, a pod's uid, a service's name.
pub fn by_container(what: &str) -> Result<Vec<Cgroup>, String> {
    let root = root()?;
    let mut found = Vec::new();
    search(&root, what, &mut found);
    if found.is_empty() {
        return Err(format!(
            "no container, pod or service `{what}` below {}: give its id, as `docker ps` shows it, a pod's uid, or a unit",
            root.display()
        ));
    }
    found.iter().map(|folder| chosen(&root, folder)).collect()
}

/// What is inside of a match belongs to it.
fn search(folder: &Path, what: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        // What has gone meanwhile is not there to be found.
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        if matches(&entry.file_name().to_string_lossy(), what) {
            found.push(path);
        } else {
            search(&path, what, found);
        }
    }
}

fn matches(folder: &str, what: &str) -> bool {
    let by_id = container(folder).is_some() && {
        let plain = folder.strip_suffix(".scope").unwrap_or(folder);
        let id = plain.rsplit([':', '-']).next().unwrap_or(plain);
        what.len() >= 4 && id.starts_with(what)
    };
    // kubepods-burstable-pod0a1b_2c.slice, or podUID: systemd has `_` for `-`.
    let pod = folder.strip_suffix(".slice").unwrap_or(folder);
    let by_pod = pod.rsplit_once("pod").is_some_and(|(_, uid)| {
        let uid = uid.replace('_', "-");
        uid.len() >= 32 && uid == what
    });
    by_id || by_pod || folder == what || folder.strip_suffix(".service") == Some(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f1d0d6a5c9b4e2f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f";

    #[test]
    fn containers_of_every_runtime_have_their_id() {
        let id = |before: &str, after: &str| name(&format!("0::{before}{ID}{after}\n"));
        for (before, after) in [
            ("/system.slice/docker-", ".scope"),
            ("/docker/", ""),
            ("/machine.slice/libpod-", ".scope/container"),
            (
                "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-",
                ".scope",
            ),
            (
                "/kubepods/burstable/pod8b2c7a9e-0000-4a6b-9d3f-2f1e0d9c8b7a/",
                "",
            ),
            (
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod8b2c.slice/cri-containerd-",
                ".scope",
            ),
            ("/kubepods.slice/kubepods-pod8b2c.slice/crio-", ".scope"),
            (
                "/system.slice/containerd.service/kubepods-burstable-pod8b2c.slice:cri-containerd:",
                "",
            ),
        ] {
            assert_eq!(id(before, after).as_deref(), Some(&ID[..12]), "{before}");
        }
        // v1, where each controller has a line.
        let old = format!(
            "12:memory:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::/system.slice/containerd.service\n"
        );
        assert_eq!(name(&old).as_deref(), Some(&ID[..12]));
        assert_eq!(
            name("0::/lxc.payload.web/system.slice/a.service").as_deref(),
            Some("web")
        );
    }

    #[test]
    fn others_have_the_name_of_their_unit_or_none() {
        for (path, wanted) in [
            ("/system.slice/nginx.service", Some("nginx.service")),
            (
                "/user.slice/user-1000.slice/session-3.scope",
                Some("session-3.scope"),
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.service/sub",
                Some("app-x.service"),
            ),
            ("/init.scope", Some("init.scope")),
            ("/", None),
            ("/top-app", None),
        ] {
            assert_eq!(name(&format!("0::{path}\n")).as_deref(), wanted, "{path}");
        }
        let watcher = format!("0::/machine.slice/libpod-conmon-{ID}.scope");
        assert_eq!(name(&watcher), Some(format!("libpod-conmon-{ID}.scope")));
        assert_eq!(name(""), None);
    }

    #[test]
    fn a_container_is_chosen_by_id_pod_or_unit() {
        let docker = format!("docker-{ID}.scope");
        assert!(matches(&docker, &ID[..12]) && matches(&docker, ID) && !matches(&docker, "3f"));
        assert!(!matches(&docker, &ID[1..13]));
        let uid = "8b2c7a9e-0000-4a6b-9d3f-2f1e0d9c8b7a";
        assert!(matches(&format!("pod{uid}"), uid));
        let slice = format!("kubepods-burstable-pod{}.slice", uid.replace('-', "_"));
        assert!(matches(&slice, uid));
        assert!(matches("nginx.service", "nginx") && matches("nginx.service", "nginx.service"));
        assert!(!matches("nginx.service", "ngin"));
    }
}
