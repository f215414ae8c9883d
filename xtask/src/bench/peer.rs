//! bpftrace for the guest: the program and the libraries it loads.
//!
//! In: Debian's packages. Out: files for the guest, no more than are needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::apt::{Apt, Installed};
use crate::arch::Arch;
use crate::lab::machine::GuestFile;
use crate::lab::vm::guest_file;
use crate::{deb, paths, system};

/// What a guest needs: the compiler that bpftrace is, and its libraries, are files in memory too.
pub const MEM_MIB: u32 = 2560;

pub struct Peer {
    pub version: String,
    pub files: Vec<GuestFile>,
}

/// The bpftrace of Debian's stable release with all it depends on, unpacked into the cache.
pub fn bpftrace(arch: Arch) -> Result<Peer> {
    let apt = Apt::new(&paths::cache()?)?;
    let suites = ["trixie", "trixie-security"];
    let packages = apt.closure(&["bpftrace"], &suites, arch, &Installed::default())?;
    let main = packages
        .iter()
        .find(|package| package.name == "bpftrace")
        .context("Debian trixie has no bpftrace")?;
    let version = main.version.clone();
    let name = format!(
        "bpftrace-{}-{}",
        version.replace([':', '~', '+'], "-"),
        arch.debian()
    );
    let dir = paths::cache()?.join("tools").join(name);
    if !dir.exists() {
        let temp = paths::temp_beside(&dir);
        paths::make_dir(&temp)?;
        for package in &packages {
            deb::unpack_over(&apt.fetch(package)?, &temp)?;
        }
        fs::rename(&temp, &dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let files = files(&dir, arch)?;
    Ok(Peer { version, files })
}

/// The program, its loader, and the libraries that it will load.
fn files(root: &Path, arch: Arch) -> Result<Vec<GuestFile>> {
    let (loader_name, loader_place) = match arch {
        Arch::X86_64 => ("ld-linux-x86-64.so.2", "/lib64"),
        Arch::Aarch64 => ("ld-linux-aarch64.so.1", "/lib"),
    };
    let program = root.join("usr/bin/bpftrace");
    let mut files = vec![guest_file(&program, "/bin/bpftrace")?];
    let mut names = needed(&program)?;
    let mut at = 0;
    while let Some(name) = names.get(at).cloned() {
        at += 1;
        let library = find(root, arch, &name)?;
        for more in needed(&library)? {
            if !names.contains(&more) {
                names.push(more);
            }
        }
        let place = if name == loader_name {
            loader_place.to_owned()
        } else {
            format!("/usr/lib/{}", arch.gnu())
        };
        files.push(guest_file(&library, &format!("{place}/{name}"))?);
    }
    Ok(files)
}

/// Where a library lies, by the loader's rules as far as these packages need them.
fn find(root: &Path, arch: Arch, name: &str) -> Result<PathBuf> {
    let folders = ["usr/lib", "lib"];
    folders
        .iter()
        .map(|folder| root.join(folder).join(arch.gnu()).join(name))
        .find(|path| path.exists())
        .with_context(|| format!("bpftrace needs {name}, which its packages do not have"))
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
