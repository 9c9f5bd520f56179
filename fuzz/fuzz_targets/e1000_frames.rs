//! `e1000_frames` under libFuzzer; the body is `minivmm_fuzz::e1000::frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| minivmm_fuzz::e1000::frames::run(data));
