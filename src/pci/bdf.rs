//! Bus, device (slot) and function numbers, and how the two configuration mechanisms write them.

use std::fmt;

/// The address of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bdf {
    /// Bus, 0 to 255. This machine has bus 0 only.
    pub bus: u8,
    /// Device, 0 to 31.
    pub slot: u8,
    /// Function, 0 to 7.
    pub function: u8,
}

impl Bdf {
    /// Function 0 of `slot` on bus 0.
    pub fn on_bus0(slot: u8) -> Self {
        Self { bus: 0, slot, function: 0 }
    }

    /// From CONFIG_ADDRESS bits 23:8 (PCI Local Bus 3.0, section 3.2.2.3.2).
    pub fn from_config_address(address: u32) -> Self {
        Self::from_routing_id((address >> 8) as u16)
    }

    /// From an offset in the ECAM window (PCI Firmware 3.0, section 4.1): 4 KiB for each function.
    pub fn from_ecam_offset(offset: u64) -> Self {
        Self::from_routing_id((offset >> 12) as u16)
    }

    fn from_routing_id(id: u16) -> Self {
        Self { bus: (id >> 8) as u8, slot: (id >> 3) as u8 & 31, function: id as u8 & 7 }
    }
}

impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.bus, self.slot, self.function)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_mechanisms_name_the_same_function() {
        let bdf = Bdf { bus: 0x12, slot: 31, function: 5 };
        assert_eq!(Bdf::from_config_address(0x8012_fd3c), bdf);
        assert_eq!(Bdf::from_ecam_offset(0x012f_d03c), bdf);
        assert_eq!(bdf.to_string(), "12:1f.5");
    }
}
