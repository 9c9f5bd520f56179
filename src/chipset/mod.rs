//! The PC's small chips: UART, RTC, i8042, power management, debug exit, fw_cfg.
//!
//! Each chip is a [`crate::bus::BusDevice`]; wiring (ports, lines, host files) is `machine`'s.

pub mod ioapic;
pub mod lapic;
pub mod pic;
pub mod pit;
mod power;

pub use power::{PowerEvent, PowerSink};
