//! What the kernel side and the user side of vmascope must agree on: the words, the shapes of map
//! values and ring records, the histogram's slots, and the globals set before load.
//! No code here runs a syscall or touches a map.
#![no_std]

pub mod agg;
pub mod config;
pub mod fault;
pub mod hist;
pub mod record;
pub mod thread;
pub mod waits;
pub mod words;
pub mod zero;

#[cfg(feature = "user")]
mod pod;
