//! The scratch disk: an empty ext4 in a sparse file.
//!
//! In: a path and a size. Out: the image. It is made anew for every machine.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::system;

/// Mebibytes; the files are sparse.
pub const SIZE_MIB: u64 = 1024;
pub const SLOW_SIZE_MIB: u64 = 128;

pub fn make(path: &Path, size_mib: u64) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    file.set_len(size_mib << 20)
        .with_context(|| format!("cannot size {}", path.display()))?;
    // It lies in /sbin, which is not on everybody's PATH.
    let tool = system::find("mke2fs").unwrap_or_else(|| "/sbin/mke2fs".into());
    // Nothing is left to be initialised behind the back of a test. The features are those that
    // every kernel of the matrix knows.
    let mut mke2fs = Command::new(tool);
    mke2fs
        .args(["-q", "-F", "-t", "ext4", "-m", "0", "-N", "8192"])
        .args(["-O", "^orphan_file,^metadata_csum_seed"])
        .args(["-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"])
        .arg(path);
    system::output(&mut mke2fs)
        .context("the scratch disk needs mke2fs: install the package e2fsprogs")
        .map(drop)
}
