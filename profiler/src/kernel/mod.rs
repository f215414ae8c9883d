//! Facts about the running kernel, read before anything is loaded.

pub mod android;
pub mod btf;
pub mod capabilities;
pub mod cgroup;
pub mod facts;
pub mod host;
pub mod launch;
pub mod pids;
pub mod prog_info;
pub mod syscalls;

pub use facts::{Facts, VmaLock};
