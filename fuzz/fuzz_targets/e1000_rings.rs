//! `e1000_rings` under libFuzzer; the body is `minivmm_fuzz::e1000::rings`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| minivmm_fuzz::e1000::rings::run(data));
