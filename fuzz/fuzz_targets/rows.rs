//! libFuzzer's program for the target `rows`. In: its input. Out: an abort where something panics.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vmascope_fuzz::targets::rows(input));
