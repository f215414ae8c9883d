//! What every guest holds besides its kernel: our init and busybox, for each architecture.
//!
//! In: the workspace and Debian's packages. Out: paths of static programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::apt::Apt;
use crate::arch::Arch;
use crate::system::{self, Need};
use crate::{build, deb, paths};

pub struct Tools {
    of: BTreeMap<Arch, (PathBuf, PathBuf)>,
}

impl Tools {
    /// Builds and fetches what guests of these architectures need, and checks the host's own tools.
    pub fn ensure(archs: &[Arch]) -> Result<Self> {
        system::install(&[
            Need {
                package: "e2fsprogs",
                why: "makes the scratch disks of virtual machines",
                present: system::find("mke2fs").is_some() || Path::new("/sbin/mke2fs").exists(),
            },
            Need {
                package: "xz-utils",
                why: "unpacks kernel modules",
                present: system::find("xz").is_some(),
            },
        ])?;
        let of = archs
            .iter()
            .map(|arch| Ok((*arch, (build::guest(*arch)?, busybox(*arch)?))))
            .collect::<Result<_>>()?;
        Ok(Self { of })
    }

    pub fn init(&self, arch: Arch) -> Result<&Path> {
        self.get(arch).map(|(init, _)| init.as_path())
    }

    pub fn busybox(&self, arch: Arch) -> Result<&Path> {
        self.get(arch).map(|(_, busybox)| busybox.as_path())
    }

    fn get(&self, arch: Arch) -> Result<&(PathBuf, PathBuf)> {
        self.of
            .get(&arch)
            .with_context(|| format!("no tools were made for {arch} guests"))
    }
}

/// Debian's static busybox; an older one in the cache is as good.
fn busybox(arch: Arch) -> Result<PathBuf> {
    let dir = paths::cache()?
        .join("tools")
        .join(format!("busybox-{}", arch.debian()));
    let program = || {
        ["usr/bin/busybox", "bin/busybox"]
            .map(|path| dir.join(path))
            .into_iter()
            .find(|path| path.is_file())
    };
    if let Some(found) = program() {
        return Ok(found);
    }
    let apt = Apt::new(&paths::cache()?)?;
    let package = apt
        .newest(&["trixie"], arch, |name| name == "busybox-static")?
        .with_context(|| format!("no busybox-static for {arch} in Debian trixie"))?;
    let deb = apt.fetch(&package)?;
    if let Some(parent) = dir.parent() {
        paths::make_dir(parent)?;
    }
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    deb::unpack(&deb, &dir)?;
    program().with_context(|| format!("{} holds no busybox", package.name))
}
