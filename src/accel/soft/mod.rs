//! The software accelerator: runs the whole machine with `cpu/`, no KVM needed.
//!
//! `machine` uses it through the traits of `accel`. It owns what KVM has in the kernel: interrupt controllers,
//! PIT, local APIC timers.

pub mod chips;
