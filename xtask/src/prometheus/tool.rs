//! Debian's Prometheus, unpacked into the cache. Its programs need nothing beside them but libc.
//!
//! In: Debian's packages. Out: commands.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::apt::{self, Apt};
use crate::arch::Arch;
use crate::{deb, paths, system};

pub struct Prometheus {
    /// The folder of the programs.
    programs: PathBuf,
}

impl Prometheus {
    /// The one of the machine's own release; fetched once.
    pub fn ensure() -> Result<Self> {
        let place = paths::cache()?.join("tools");
        let apt = Apt::new(&paths::cache()?)?;
        let suite = apt::host_suite()?;
        let package = apt
            .newest(&[&suite], Arch::HOST, |name| name == "prometheus")?
            .with_context(|| format!("no package prometheus in {suite}"))?;
        let version = package.version.replace([':', '~', '+'], "-");
        let dir = place.join(format!("prometheus-{version}"));
        let found = Self {
            programs: dir.join("usr/bin"),
        };
        if !found.starts() {
            if dir.exists() {
                std::fs::remove_dir_all(&dir)
                    .with_context(|| format!("cannot remove {}", dir.display()))?;
            }
            paths::make_dir(&place)?;
            deb::unpack(&apt.fetch(&package)?, &dir)?;
            system::output(found.promtool().arg("--version"))?;
        }
        Ok(found)
    }

    fn starts(&self) -> bool {
        system::output(self.promtool().arg("--version")).is_ok()
    }

    pub fn promtool(&self) -> Command {
        Command::new(self.programs.join("promtool"))
    }

    pub fn server(&self) -> Command {
        Command::new(self.programs.join("prometheus"))
    }
}
