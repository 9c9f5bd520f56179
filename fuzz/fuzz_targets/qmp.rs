//! `qmp` under libFuzzer; the body is `minivmm_fuzz::qmp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| minivmm_fuzz::qmp::run(data));
