//! `user_net` under libFuzzer; the body is `minivmm_fuzz::user_net`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| minivmm_fuzz::user_net::run(data));
