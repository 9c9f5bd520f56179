//! `e1000_ops` under libFuzzer; the body is `minivmm_fuzz::e1000::ops`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| minivmm_fuzz::e1000::ops::run(data));
