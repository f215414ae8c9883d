//! Debian's Prometheus, unpacked into the cache. Its programs need nothing beside them but libc.
//!
//! In: Debian's packages. Out: commands.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};

use crate::apt::{self, Apt};
use crate::arch::Arch;
use crate::{deb, paths, system};

/// What its folder's name begins with; a version follows.
const NAME: &[u8] = b"prometheus-";

pub struct Prometheus {
    /// The folder of the programs.
    programs: PathBuf,
}

impl Prometheus {
    /// The one that is in the cache, else the one of the machine's own release.
    pub fn ensure() -> Result<Self> {
        // Guests are judged at the same time.
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let place = paths::cache()?.join("tools");
        paths::make_dir(&place)?;
        for entry in fs::read_dir(&place)?.flatten() {
            let found = Self::of(&entry.path());
            if entry.file_name().as_encoded_bytes().starts_with(NAME) && found.starts() {
                return Ok(found);
            }
        }
        let apt = Apt::new(&paths::cache()?)?;
        let suite = apt::host_suite()?;
        // Newer releases of Debian have promtool in a package of its own.
        let packages = ["prometheus", "promtool"]
            .map(|wanted| apt.newest(&[&suite], Arch::HOST, |name| name == wanted));
        let mut all = Vec::new();
        for package in packages {
            all.extend(package?);
        }
        let server = all.first().filter(|p| p.name == "prometheus");
        let server = server.with_context(|| format!("no package prometheus in {suite}"))?;
        let version = server.version.replace([':', '~', '+'], "-");
        let dir = place.join(format!("prometheus-{version}"));
        if dir.exists() {
            // It was there, and did not start.
            fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        }
        let temp = paths::temp_beside(&dir);
        paths::make_dir(&temp)?;
        for package in &all {
            deb::unpack_over(&apt.fetch(package)?, &temp)?;
        }
        fs::rename(&temp, &dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let found = Self::of(&dir);
        if !found.starts() {
            bail!("the Prometheus in {} does not start", dir.display());
        }
        Ok(found)
    }

    fn of(dir: &Path) -> Self {
        Self {
            programs: dir.join("usr/bin"),
        }
    }

    fn starts(&self) -> bool {
        [self.promtool(), self.server()]
            .iter_mut()
            .all(|program| system::output(program.arg("--version")).is_ok())
    }

    pub fn promtool(&self) -> Command {
        Command::new(self.programs.join("promtool"))
    }

    pub fn server(&self) -> Command {
        Command::new(self.programs.join("prometheus"))
    }
}
