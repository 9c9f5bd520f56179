//! What each fuzz target does with its input, as plain functions of bytes.
//!
//! Called by `fuzz_targets/*.rs` under libFuzzer, and by `tests/fuzz_corpus` on every file of `fuzz/corpus`, with the
//! stable compiler and without a fuzzer. A body panics when it finds something; it opens nothing and ends by itself.

pub mod command_line;
pub mod cpu;
pub mod e1000;
pub mod input;
pub mod pcap;
pub mod qmp;
pub mod socket_framing;
pub mod user_net;

/// Every target by name. Each has `fuzz_targets/NAME.rs`, a `[[bin]]` in `Cargo.toml`, and `corpus/NAME/`.
pub const TARGETS: &[(&str, Body)] = &[
    ("command_line", command_line::run),
    ("cpu", cpu::run),
    ("e1000_frames", e1000::frames::run),
    ("e1000_ops", e1000::ops::run),
    ("e1000_rings", e1000::rings::run),
    ("pcap", pcap::run),
    ("qmp", qmp::run),
    ("socket_framing", socket_framing::run),
    ("user_net", user_net::run),
];

/// One execution.
pub type Body = fn(&[u8]);
