//! Configuration mechanism #1: CONFIG_ADDRESS at 0xcf8, CONFIG_DATA at 0xcfc (PCI Local Bus 3.0, section
//! 3.2.2.3.2).
//!
//! CONFIG_ADDRESS takes dwords only. Narrower accesses to its ports are ordinary I/O; one of those ports,
//! 0xcf9, is the chipset's reset control register, to which they are passed on. One atomic, no lock: two
//! vCPUs that use the pair at once confuse each other, as on hardware.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Bdf, PciBus};
use crate::bus::{Access, AccessError, BusDevice, Width};

/// First port.
pub const CONFIG_PORTS_BASE: u64 = 0xcf8;
/// Ports that [`ConfigPorts`] takes.
pub const CONFIG_PORTS_LEN: u64 = 8;

const ENABLE: u32 = 1 << 31;
/// Enable bit, bus, device, function, register: the rest reads zero.
const ADDRESS_MASK: u32 = 0x80ff_fffc;
const RESET_OFFSET: u64 = 1;
const DATA_OFFSET: u64 = 4;

/// The ports 0xcf8 to 0xcff.
#[derive(Debug)]
pub struct ConfigPorts {
    bus: Arc<PciBus>,
    reset_control: Arc<dyn BusDevice>,
    address: AtomicU32,
}

impl ConfigPorts {
    /// The ports of `bus`; `reset_control` answers byte accesses to 0xcf9.
    pub fn new(bus: Arc<PciBus>, reset_control: Arc<dyn BusDevice>) -> Self {
        Self { bus, reset_control, address: AtomicU32::new(0) }
    }

    /// CONFIG_ADDRESS to its value after reset.
    pub fn reset(&self) {
        self.address.store(0, Ordering::Relaxed);
    }

    /// The function and the register behind CONFIG_DATA port `offset`.
    fn target(&self, offset: u64, width: Width) -> Result<(Bdf, u16), AccessError> {
        let address = self.address.load(Ordering::Relaxed);
        if address & ENABLE == 0 {
            return Err(AccessError::NoResponse);
        }
        let lane = offset - DATA_OFFSET;
        if lane + width.bytes() > 4 {
            return Err(AccessError::Misaligned);
        }
        Ok((Bdf::from_config_address(address), (address & 0xfc) as u16 + lane as u16))
    }
}

impl BusDevice for ConfigPorts {
    fn read(&self, offset: u64, access: &Access<'_>) -> Result<u64, AccessError> {
        match (offset, access.width) {
            (0, Width::Dword) => Ok(u64::from(self.address.load(Ordering::Relaxed))),
            (RESET_OFFSET, Width::Byte) => self.reset_control.read(0, access),
            (..DATA_OFFSET, _) => Err(AccessError::NoRegister),
            (_, width) => {
                let (bdf, register) = self.target(offset, width)?;
                Ok(self.bus.config_read(bdf, register, width))
            }
        }
    }

    fn write(&self, offset: u64, value: u64, access: &Access<'_>) -> Result<(), AccessError> {
        match (offset, access.width) {
            (0, Width::Dword) => self.address.store(value as u32 & ADDRESS_MASK, Ordering::Relaxed),
            (RESET_OFFSET, Width::Byte) => self.reset_control.write(0, value, access)?,
            (..DATA_OFFSET, _) => return Err(AccessError::NoRegister),
            (_, width) => {
                let (bdf, register) = self.target(offset, width)?;
                self.bus.config_write(bdf, register, width, value);
            }
        }
        Ok(())
    }
}
