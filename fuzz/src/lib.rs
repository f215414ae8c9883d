//! Random input for whatever vmascope reads from outside. In: bytes of libFuzzer. Out: nothing, or a
//! panic. The same targets are run by the profiler's tests on the corpus that is kept.

#[path = "../../profiler/tests/sinks/support.rs"]
pub mod support;
pub mod targets;
