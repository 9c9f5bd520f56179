//! The host bridge in slot 0: Intel 82G33 (8086:29c0), configuration space only.
//!
//! A guest that knows this chip finds the ECAM window in PCIEXBAR (Intel 3 Series datasheet, section 5.1.16).
//! The window does not move: the register is read-only here.

use super::{ConfigRegister, Function, Identity};

const PCIEXBAR: u8 = 0x60;
const PCIEXBAR_ENABLE: u64 = 1;
/// Bits 2:1: 64 buses, the smallest length that the register can say; buses above 0 are empty.
const PCIEXBAR_64_BUSES: u64 = 0b10 << 1;

/// The host bridge.
#[derive(Debug)]
pub struct HostBridge {
    ecam_base: u64,
}

impl HostBridge {
    /// A bridge that announces ECAM at `ecam_base`, a multiple of 64 MiB.
    pub fn new(ecam_base: u64) -> Self {
        Self { ecam_base }
    }
}

impl Function for HostBridge {
    fn identity(&self) -> Identity {
        Identity {
            vendor: 0x8086,
            device: 0x29c0,
            revision: 0,
            class: 0x06_00_00,
            subsystem_vendor: 0,
            subsystem: 0,
            interrupt_pin: 0,
            min_gnt: 0,
            max_lat: 0,
        }
    }

    fn config_registers(&self) -> Vec<ConfigRegister> {
        let value = self.ecam_base | PCIEXBAR_64_BUSES | PCIEXBAR_ENABLE;
        vec![ConfigRegister { offset: PCIEXBAR, reset: value.to_le_bytes().to_vec(), writable: Vec::new() }]
    }
}
