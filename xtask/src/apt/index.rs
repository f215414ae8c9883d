//! Package indexes: the fields we need, kept in the cache and read into memory.
//!
//! In: apt's own `Packages` file. Out: `Package` records.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::arch::Arch;
use crate::paths;

/// A package in an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub suite: String,
    pub arch: Arch,
    /// The path below the mirror's address.
    pub filename: String,
    pub sha256: String,
    pub size: u64,
    /// `Pre-Depends` and `Depends` as the index has them, joined by a comma.
    pub depends: String,
    pub provides: String,
}

const FIELDS: [&[u8]; 8] = [
    b"Package: ",
    b"Version: ",
    b"Filename: ",
    b"SHA256: ",
    b"Size: ",
    b"Depends: ",
    b"Pre-Depends: ",
    b"Provides: ",
];

/// Copies the fields we need from a `Packages` file: a quarter of it, read often.
pub fn slim(packages: &Path, index: &Path) -> Result<()> {
    let open =
        File::open(packages).with_context(|| format!("cannot read {}", packages.display()))?;
    let mut reader = BufReader::new(open);
    let temp = paths::temp_beside(index);
    let made = File::create(&temp).with_context(|| format!("cannot make {}", temp.display()))?;
    let mut writer = BufWriter::new(made);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        if line == b"\n" || FIELDS.iter().any(|field| line.starts_with(field)) {
            writer.write_all(&line)?;
        }
        line.clear();
    }
    writer
        .into_inner()
        .map_err(|e| e.into_error())?
        .sync_all()?;
    fs::rename(&temp, index).with_context(|| format!("cannot write {}", index.display()))
}

/// Reads an index that `slim` wrote.
pub fn read(index: &Path, suite: &str, arch: Arch) -> Result<Vec<Package>> {
    let text =
        fs::read_to_string(index).with_context(|| format!("cannot read {}", index.display()))?;
    Ok(parse(&text, suite, arch))
}

fn parse(text: &str, suite: &str, arch: Arch) -> Vec<Package> {
    let empty = || Package {
        name: String::new(),
        version: String::new(),
        suite: suite.to_owned(),
        arch,
        filename: String::new(),
        sha256: String::new(),
        size: 0,
        depends: String::new(),
        provides: String::new(),
    };
    let mut packages = Vec::new();
    let mut package = empty();
    for line in text.lines().chain([""]) {
        if line.is_empty() {
            let done = std::mem::replace(&mut package, empty());
            if !done.name.is_empty() {
                packages.push(done);
            }
            continue;
        }
        let Some((key, value)) = line.split_once(": ") else {
            continue;
        };
        match key {
            "Package" => package.name = value.to_owned(),
            "Version" => package.version = value.to_owned(),
            "Filename" => package.filename = value.to_owned(),
            "SHA256" => package.sha256 = value.to_owned(),
            "Size" => package.size = value.parse().unwrap_or(0),
            "Provides" => package.provides = value.to_owned(),
            "Depends" | "Pre-Depends" if package.depends.is_empty() => {
                package.depends = value.to_owned();
            }
            "Depends" | "Pre-Depends" => {
                package.depends.push_str(", ");
                package.depends.push_str(value);
            }
            _ => {}
        }
    }
    packages
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn package(name: &str, version: &str, depends: &str) -> Package {
        let text = format!("Package: {name}\nVersion: {version}\nDepends: {depends}\n");
        parse(&text, "sid", Arch::X86_64).remove(0)
    }

    #[test]
    fn keeps_the_needed_fields_only() {
        let dir = std::env::temp_dir().join(format!("xtask-index-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let full = "Package: a\nVersion: 1.0-1\nMaintainer: x\nDescription: y\n Package: z\n\
                    Pre-Depends: libc6\nDepends: b, c\nSHA256: 00ff\nSize: 12\nFilename: pool/a\n\n\
                    Package: b\nVersion: 2\nProvides: v (= 2)\n";
        fs::write(dir.join("full"), full).unwrap();
        slim(&dir.join("full"), &dir.join("slim")).unwrap();
        let slimmed = fs::read_to_string(dir.join("slim")).unwrap();
        assert!(!slimmed.contains("Maintainer") && !slimmed.contains("Package: z"));
        let packages = read(&dir.join("slim"), "sid", Arch::Aarch64).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(packages, parse(full, "sid", Arch::Aarch64));
        assert_eq!(packages.len(), 2);
        assert_eq!(packages[0].depends, "libc6, b, c");
        assert_eq!(packages[0].size, 12);
        assert_eq!(packages[1].provides, "v (= 2)");
    }
}
