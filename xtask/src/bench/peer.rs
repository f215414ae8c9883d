//! bpftrace for the guest: the program and the libraries it loads.
//!
//! In: Debian's packages. Out: files for the guest, no more than are needed.

use anyhow::Result;

use crate::apt::Installed;
use crate::arch::Arch;
use crate::lab::machine::GuestFile;
use crate::packages;

/// What a guest needs: the compiler that bpftrace is, and its libraries, are files in memory too.
pub const MEM_MIB: u32 = 2560;

pub struct Peer {
    pub version: String,
    pub files: Vec<GuestFile>,
}

/// The bpftrace of Debian's stable release with all it depends on.
pub fn bpftrace(arch: Arch) -> Result<Peer> {
    let suites = ["trixie", "trixie-security"];
    let package = packages::unpack("bpftrace", &suites, arch, &Installed::default())?;
    Ok(Peer {
        files: package.for_guest("usr/bin/bpftrace", "/bin/bpftrace")?,
        version: package.version,
    })
}
