//! The lab: Debian's kernels in virtual machines, with our programs as their only work.
//!
//! In: a kernel series, an architecture, a plan. Out: results, files and output of the guest.

mod disk;
mod initramfs;
mod kernels;
mod machine;
mod modules;
mod qemu;
mod tools;
pub mod vm;
