//! The ISA bridge in slot 31: Intel ICH9 LPC (8086:2918), configuration space only.
//!
//! It is here so that a guest finds a parent for the legacy devices. Its power-management and interrupt
//! routing registers read zero, "not enabled": those are fixed on this machine and ACPI tells about them.

use super::{Function, Identity};

/// The ISA bridge.
#[derive(Debug)]
pub struct IsaBridge;

impl Function for IsaBridge {
    fn identity(&self) -> Identity {
        Identity {
            vendor: 0x8086,
            device: 0x2918,
            revision: 2,
            class: 0x06_01_00,
            subsystem_vendor: 0,
            subsystem: 0,
            interrupt_pin: 0,
            min_gnt: 0,
            max_lat: 0,
        }
    }
}
