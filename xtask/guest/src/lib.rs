//! What the two sides of a virtual machine agree on: the plan, the results, the wire.
//!
//! In and out: the types of `plan` and the frames of `wire`; xtask uses this library too.

pub mod plan;
pub mod wire;
