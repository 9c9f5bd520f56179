//! `pcap` under libFuzzer; the body is `minivmm_fuzz::pcap`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| minivmm_fuzz::pcap::run(data));
