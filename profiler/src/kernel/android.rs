//! What Android says of its apps. In: its list of packages, which root may read; /proc. Out: user ids: an
//! app is one, and so are all its processes, those that start later, too; whether one is in the foreground.

use std::fs;

use crate::model::{Ground, Standing};

const PACKAGES: &str = "/data/system/packages.list";

pub fn uid(package: &str) -> Result<u32, String> {
    let list = fs::read_to_string(PACKAGES)
        .map_err(|e| format!("cannot read {PACKAGES}: {e}: --package is for Android, as root"))?;
    find(&list, package).ok_or_else(|| {
        format!("no package `{package}`: see `pm list packages` for those there are")
    })
}

/// Neither file takes a lock of the address space.
pub fn standing(pid: u32) -> Standing {
    let read = |what: &str| fs::read_to_string(format!("/proc/{pid}/{what}")).ok();
    Standing {
        oom_score_adj: read("oom_score_adj").and_then(|text| text.trim().parse().ok()),
        ground: read("cgroup").and_then(|text| ground(&text)),
    }
}

/// By the groups of system/core/libprocessgroup/profiles/task_profiles.json, whatever the hierarchy.
fn ground(cgroups: &str) -> Option<Ground> {
    let paths = cgroups.lines().filter_map(|l| l.splitn(3, ':').nth(2));
    paths
        .flat_map(|path| path.split('/'))
        .find_map(|group| match group {
            "top-app" | "foreground" | "foreground_window" => Some(Ground::Foreground),
            "background" | "system-background" | "restricted" => Some(Ground::Background),
            _ => None,
        })
}

/// `NAME UID DEBUGGABLE DATA_DIR ...` in each line.
fn find(list: &str, package: &str) -> Option<u32> {
    let mut lines = list.lines().map(|line| line.split(' '));
    lines.find_map(|mut fields| (fields.next()? == package).then(|| fields.next()?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ground_by_cgroup() {
        let of = |text| ground(text);
        let app = "5:cpuset:/top-app\n3:cpu:/top-app\n0::/apps/uid_10123/pid_4711\n";
        assert_eq!(of(app), Some(Ground::Foreground));
        assert_eq!(of("4:cpuset:/background\n"), Some(Ground::Background));
        assert_eq!(
            of("4:cpuset:/system-background\n"),
            Some(Ground::Background)
        );
        assert_eq!(of("4:cpuset:/\n0::/system/uid_1000/pid_900\n"), None);
        assert_eq!(of("0::/system.slice/nginx.service\n"), None);
        assert_eq!(standing(u32::MAX), Standing::default());
    }

    #[test]
    fn the_list_of_packages() {
        let list = "com.android.shell 2000 0 /data/user_de/0/com.android.shell platform 1 0 34\n\
                    org.example.app 10123 1 /data/user/0/org.example.app default 3003 0 7 1 @system\n";
        assert_eq!(find(list, "org.example.app"), Some(10_123));
        assert_eq!(find(list, "org.example"), None);
        assert_eq!(find("", "org.example.app"), None);
    }
}
