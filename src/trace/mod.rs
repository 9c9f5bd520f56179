//! `-trace`: what the device tells ([`crate::nic::e1000::observe`]) becomes one timeline, as text, JSON lines or pcapng.
//!
//! `machine` makes a [`Timeline`] for each `-trace` and gives each NIC a [`Tracer`] for it. Here are the events'
//! names, their decoding (register bits, descriptors), patterns, the rate limit and the files; nothing here changes a
//! device. [`Symbols`] gives guest addresses names, for the doctor too.

mod bits;
mod descriptors;
mod limit;
mod names;
mod packets;
mod pattern;
mod record;
mod symbols;
mod timeline;

pub use names::{NAMES, is_of_the_device, name_of};
pub use pattern::matches;
pub use symbols::{SymbolError, Symbols};
pub use timeline::{Format, Options, Timeline, TraceError, Tracer};

/// The names of the events, one on a line, as `-trace help` lists them.
pub fn help() -> String {
    NAMES.iter().map(|(name, about)| format!("{name:24} {about}\n")).collect()
}
