//! Kernel modules: which files a guest needs, in the order in which they can be loaded.
//!
//! In: an unpacked module tree and module names. Out: names and uncompressed bytes. Packages carry
//! no modules.dep, so the dependencies are read from the modules themselves.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// A module ready to be put into an initramfs.
#[derive(Debug, PartialEq, Eq)]
pub struct Module {
    pub name: String,
    pub bytes: Vec<u8>,
}

/// A module tree.
pub struct Tree {
    files: HashMap<String, PathBuf>,
}

impl Tree {
    /// Reads the names below a folder such as lib/modules/RELEASE.
    pub fn open(dir: &Path) -> Result<Self> {
        let mut files = HashMap::new();
        let mut folders = vec![dir.to_path_buf()];
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder)
                .with_context(|| format!("cannot read modules in {}", folder.display()))?;
            for entry in entries {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                } else if let Some((stem, _)) =
                    entry.file_name().to_string_lossy().split_once(".ko")
                {
                    files.insert(stem.replace('-', "_"), entry.path());
                }
            }
        }
        Ok(Self { files })
    }

    /// The wanted modules and what they depend on, dependencies first. Names that the tree does
    /// not have are left out: the driver is built in, or what needs it will say so.
    pub fn resolve(&self, wanted: &[&str]) -> Result<Vec<Module>> {
        let mut order = Vec::new();
        for name in wanted {
            self.visit(name, &mut order, &mut Vec::new())?;
        }
        Ok(order)
    }

    fn visit(&self, name: &str, order: &mut Vec<Module>, path: &mut Vec<String>) -> Result<()> {
        let name = name.replace('-', "_");
        let Some(file) = self.files.get(&name) else {
            return Ok(());
        };
        if order.iter().any(|module| module.name == name) || path.contains(&name) {
            return Ok(());
        }
        let bytes = read(file)?;
        path.push(name.clone());
        for needed in needs(&bytes) {
            self.visit(&needed, order, path)?;
        }
        path.pop();
        order.push(Module { name, bytes });
        Ok(())
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let tool = match file.extension().and_then(|ext| ext.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(file).with_context(|| format!("cannot read {}", file.display())),
    };
    let out = Command::new(tool)
        .arg("-dcq")
        .arg(file)
        .output()
        .with_context(|| format!("cannot start {tool}: install it to unpack kernel modules"))?;
    if !out.status.success() {
        bail!("{tool} cannot unpack {}", file.display());
    }
    Ok(out.stdout)
}

/// What a module's .modinfo names under `depends=` and `softdep=pre:`.
fn needs(module: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in module.split(|byte| *byte == 0) {
        let Ok(entry) = std::str::from_utf8(entry) else {
            continue;
        };
        if let Some(list) = entry.strip_prefix("depends=") {
            found.extend(list.split(',').filter(|s| !s.is_empty()).map(str::to_owned));
        } else if let Some(list) = entry.strip_prefix("softdep=pre:") {
            let before = list.split("post:").next().unwrap_or_default();
            found.extend(before.split_whitespace().map(str::to_owned));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_come_first_and_once() {
        let dir = std::env::temp_dir().join(format!("xtask-modules-{}", std::process::id()));
        let deep = dir.join("kernel/drivers");
        fs::create_dir_all(&deep).unwrap();
        for (file, info) in [
            ("dm-delay.ko", "\x7fELF\0license=GPL\0depends=dm-mod\0"),
            ("dm-mod.ko", "\0depends=dax\0"),
            (
                "ext4.ko",
                "\0depends=jbd2,mbcache\0softdep=pre: crc32c post: x\0",
            ),
            ("jbd2.ko", "\0depends=\0"),
            ("mbcache.ko", "no info"),
            ("crc32c.ko", "\0depends=ext4\0"),
        ] {
            fs::write(deep.join(file), info).unwrap();
        }
        let tree = Tree::open(&dir).unwrap();
        let modules = tree
            .resolve(&["dm-delay", "ext4", "dm_mod", "nvme"])
            .unwrap();
        fs::remove_dir_all(&dir).unwrap();
        let names: Vec<&str> = modules.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(
            names,
            ["dm_mod", "dm_delay", "jbd2", "mbcache", "crc32c", "ext4"]
        );
    }
}
