//! `socket_framing` under libFuzzer; the body is `minivmm_fuzz::socket_framing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| minivmm_fuzz::socket_framing::run(data));
