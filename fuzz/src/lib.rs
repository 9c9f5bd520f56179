//! What each fuzz target does with its input, as plain functions of bytes.
//!
//! Called by `fuzz_targets/*.rs` under libFuzzer, and by `tests/fuzz_corpus` on every file of `fuzz/corpus`, with the
//! stable compiler and without a fuzzer. A body panics when it finds something; it opens nothing and ends by itself.

pub mod command_line;
pub mod cpu;
pub mod input;
pub mod socket_framing;

/// Every target by name. Each has `fuzz_targets/NAME.rs`, a `[[bin]]` in `Cargo.toml`, and `corpus/NAME/`.
pub const TARGETS: &[(&str, Body)] =
    &[("command_line", command_line::run), ("cpu", cpu::run), ("socket_framing", socket_framing::run)];

/// One execution.
pub type Body = fn(&[u8]);
