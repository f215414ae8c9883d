//! The lab: Debian's kernels in virtual machines, with our programs as their only work.
//!
//! In: a kernel series, an architecture, a plan. Out: results, files and output of the guest.
//! `vm` runs one command, `test` the whole matrix.

mod acceptance;
pub mod demo;
mod disk;
mod evidence;
mod initramfs;
pub mod kernels;
pub mod machine;
mod matrix;
mod modules;
mod phone;
pub mod qemu;
mod table;
pub mod test;
pub mod tools;
pub mod vm;
