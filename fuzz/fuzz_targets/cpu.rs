//! `cpu` under libFuzzer; the body is `minivmm_fuzz::cpu`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| minivmm_fuzz::cpu::run(data));
