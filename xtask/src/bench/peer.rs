//! bpftrace for the guest: the program and the libraries it loads.
//!
//! In: Debian's packages. Out: files for the guest, no more than are needed.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::apt::{Apt, Installed};
use crate::arch::Arch;
use crate::lab::machine::GuestFile;
use crate::lab::vm::guest_file;
use crate::{deb, paths, system};

pub struct Peer {
    pub version: String,
    pub files: Vec<GuestFile>,
}

/// The bpftrace of Debian's stable release with all it depends on, unpacked into the cache.
pub fn bpftrace() -> Result<Peer> {
    let apt = Apt::new(&paths::cache()?)?;
    let suites = ["trixie", "trixie-security"];
    let packages = apt.closure(&["bpftrace"], &suites, Arch::HOST, &Installed::default())?;
    let main = packages
        .iter()
        .find(|package| package.name == "bpftrace")
        .context("Debian trixie has no bpftrace")?;
    let version = main.version.clone();
    let name = format!(
        "bpftrace-{}-{}",
        version.replace([':', '~', '+'], "-"),
        Arch::HOST.debian()
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
    let files = files(&dir)?;
    Ok(Peer { version, files })
}

/// The program, its loader, and what the loader says it will load.
fn files(root: &Path) -> Result<Vec<GuestFile>> {
    let libraries = Path::new("usr/lib").join(Arch::HOST.gnu());
    let (loader_name, loader_place) = match Arch::HOST {
        Arch::X86_64 => ("ld-linux-x86-64.so.2", "/lib64"),
        Arch::Aarch64 => ("ld-linux-aarch64.so.1", "/lib"),
    };
    let loader = root.join(&libraries).join(loader_name);
    let program = root.join("usr/bin/bpftrace");
    let mut list = Command::new(&loader);
    list.arg("--library-path")
        .arg(root.join(&libraries))
        .arg("--list")
        .arg(&program);
    let text = system::output(&mut list)?;
    let mut files = vec![
        guest_file(&program, "/bin/bpftrace")?,
        guest_file(&loader, &format!("{loader_place}/{loader_name}"))?,
    ];
    let paths = text.lines().filter_map(|line| line.split_once("=> "));
    for (name, path) in paths {
        let path = path.split(" (").next().unwrap_or_default();
        let name = name.trim();
        // The loader lists itself.
        if !name.contains('/') {
            files.push(guest_file(
                Path::new(path),
                &format!("/{}/{name}", libraries.display()),
            )?);
        }
    }
    Ok(files)
}
