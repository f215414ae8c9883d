//! What the programs of a virtual machine share, with each other or with the host.
//!
//! In and out: the types of `plan` and the frames of `wire`, which xtask uses too; `pages`, which
//! the loads fault on.

pub mod pages;
pub mod plan;
pub mod wire;
