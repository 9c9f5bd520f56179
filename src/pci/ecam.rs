//! Configuration space as memory: 4 KiB for each function (PCI Firmware 3.0, section 4.1).
//!
//! Conventional functions have 256 bytes; the rest of their page reads all-ones, as behind a bridge.

use std::sync::Arc;

use super::{Bdf, PciBus};
use crate::bus::{Access, AccessError, BusDevice, Width};

/// The ECAM window of a bus.
#[derive(Debug)]
pub struct Ecam {
    bus: Arc<PciBus>,
}

impl Ecam {
    /// The window of `bus`.
    pub fn new(bus: Arc<PciBus>) -> Self {
        Self { bus }
    }
}

fn target(offset: u64, access: &Access<'_>) -> Result<(Bdf, u16), AccessError> {
    let register = (offset & 0xfff) as u16;
    if access.width == Width::Qword {
        return Err(AccessError::Width);
    }
    if u64::from(register & 3) + access.width.bytes() > 4 {
        return Err(AccessError::Misaligned);
    }
    Ok((Bdf::from_ecam_offset(offset), register))
}

impl BusDevice for Ecam {
    fn read(&self, offset: u64, access: &Access<'_>) -> Result<u64, AccessError> {
        let (bdf, register) = target(offset, access)?;
        Ok(self.bus.config_read(bdf, register, access.width))
    }

    fn write(&self, offset: u64, value: u64, access: &Access<'_>) -> Result<(), AccessError> {
        let (bdf, register) = target(offset, access)?;
        self.bus.config_write(bdf, register, access.width, value);
        Ok(())
    }
}
