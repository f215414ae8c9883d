//! Programs out of Debian's packages, unpacked into the cache: for this machine, and for guests.
//!
//! In: package names. Out: a folder that holds them with all they depend on; for a guest, the files
//! that one program of them needs, and no more.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::apt::{Apt, Installed};
use crate::arch::Arch;
use crate::lab::machine::GuestFile;
use crate::lab::vm::guest_file;
use crate::{deb, paths, system};

/// An unpacked package with what it needs.
pub struct Unpacked {
    pub version: String,
    pub root: PathBuf,
    arch: Arch,
}

/// The suites' newest package of this name with all it depends on, but for what `have` provides.
pub fn unpack(name: &str, suites: &[&str], arch: Arch, have: &Installed) -> Result<Unpacked> {
    let apt = Apt::new(&paths::cache()?)?;
    let packages = apt.closure(&[name], suites, arch, have)?;
    let main = packages.iter().find(|package| package.name == name);
    let main = main.with_context(|| format!("no package {name} in {}", suites.join(", ")))?;
    let version = main.version.clone();
    let folder = format!(
        "{name}-{}-{}",
        version.replace([':', '~', '+'], "-"),
        arch.debian()
    );
    let root = paths::cache()?.join("tools").join(folder);
    if !root.exists() {
        let temp = paths::temp_beside(&root);
        paths::make_dir(&temp)?;
        for package in &packages {
            deb::unpack_over(&apt.fetch(package)?, &temp)?;
        }
        fs::rename(&temp, &root).with_context(|| format!("cannot make {}", root.display()))?;
    }
    Ok(Unpacked {
        version,
        root,
        arch,
    })
}

impl Unpacked {
    /// A program of it for a guest, with its loader and the libraries that it will load.
    pub fn for_guest(&self, program: &str, target: &str) -> Result<Vec<GuestFile>> {
        let (loader_name, loader_place) = match self.arch {
            Arch::X86_64 => ("ld-linux-x86-64.so.2", "/lib64"),
            Arch::Aarch64 => ("ld-linux-aarch64.so.1", "/lib"),
        };
        let program = self.root.join(program);
        let mut files = vec![guest_file(&program, target)?];
        let mut names = needed(&program)?;
        let mut at = 0;
        while let Some(name) = names.get(at).cloned() {
            at += 1;
            let library = self.library(&name)?;
            for more in needed(&library)? {
                if !names.contains(&more) {
                    names.push(more);
                }
            }
            let place = if name == loader_name {
                loader_place.to_owned()
            } else {
                format!("/usr/lib/{}", self.arch.gnu())
            };
            files.push(guest_file(&library, &format!("{place}/{name}"))?);
        }
        Ok(files)
    }

    fn library(&self, name: &str) -> Result<PathBuf> {
        library_folders(&self.root, self.arch)
            .iter()
            .map(|folder| folder.join(name))
            .find(|path| path.exists())
            .with_context(|| format!("{} holds no {name}: remove the folder", self.root.display()))
    }
}

/// Where libraries lie. Android's have a folder of their own, which their users name.
pub fn library_folders(root: &Path, arch: Arch) -> Vec<PathBuf> {
    ["usr/lib", "lib"]
        .iter()
        .map(|folder| root.join(folder).join(arch.gnu()))
        .flat_map(|folder| [folder.join("android"), folder])
        .collect()
}

/// What a program or library asks the loader for. The loader itself could tell only of its own
/// architecture.
fn needed(file: &Path) -> Result<Vec<String>> {
    let mut readelf = Command::new("readelf");
    let text = system::output(readelf.arg("--dynamic").arg("--wide").arg(file))
        .context("readelf is needed: install the package binutils")?;
    let names = text.lines().filter(|line| line.contains("(NEEDED)"));
    Ok(names
        .filter_map(|line| line.split_once('[')?.1.strip_suffix(']'))
        .map(str::to_owned)
        .collect())
}
