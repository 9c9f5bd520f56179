//! `command_line` under libFuzzer; the body is `minivmm_fuzz::command_line`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| minivmm_fuzz::command_line::run(data));
