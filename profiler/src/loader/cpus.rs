//! Processors that went and came back, by hotplug or in a suspend: a software event belongs to one CPU and
//! ends with it. In: sysfs. Out: CPUs that need their events again.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt as _};

use crate::kernel::host;

/// Online CPUs, and since which time they went online each is. Its folder `topology` is made when a CPU
/// goes online (drivers/base/topology.c), and an inode number of sysfs is not used again.
#[derive(Debug, PartialEq)]
pub struct Cpus(BTreeMap<u32, u64>);

impl Cpus {
    pub fn online() -> Self {
        let made = |cpu: &u32| {
            let folder = format!("/sys/devices/system/cpu/cpu{cpu}/topology");
            fs::metadata(folder).map_or(0, |folder| folder.ino())
        };
        let online = host::online_cpus();
        Self(online.iter().map(|cpu| (*cpu, made(cpu))).collect())
    }

    /// Those that went online since `before`.
    pub fn came_since<'a>(&'a self, before: &'a Cpus) -> impl Iterator<Item = u32> + 'a {
        let came = self
            .0
            .iter()
            .filter(|(cpu, at)| before.0.get(cpu) != Some(at));
        came.map(|(cpu, _)| *cpu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_that_went_and_came_back_came() {
        let before = Cpus(BTreeMap::from([(0, 10), (1, 11), (2, 12)]));
        let now = Cpus(BTreeMap::from([(0, 10), (1, 40), (3, 41)]));
        assert_eq!(now.came_since(&before).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(Cpus::online(), Cpus::online());
        assert!(Cpus::online().0.values().all(|at| *at != 0));
    }
}
