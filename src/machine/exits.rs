//! The upward side of an accelerator: accesses that are not RAM go to the buses.

use crate::accel::GuestBus;
use crate::bus::{Access, Bus, Mmio, Pio};

/// The machine's two buses, as vCPUs see them.
#[derive(Debug, Clone, Default)]
pub struct Buses {
    /// Port I/O.
    pub pio: Bus<Pio>,
    /// Physical memory that is not RAM.
    pub mmio: Bus<Mmio>,
}

impl GuestBus for Buses {
    fn pio_read(&self, port: u16, access: &Access<'_>) -> u64 {
        self.pio.read(port.into(), access)
    }

    fn pio_write(&self, port: u16, value: u64, access: &Access<'_>) {
        self.pio.write(port.into(), value, access);
    }

    fn mmio_read(&self, addr: u64, access: &Access<'_>) -> u64 {
        self.mmio.read(addr, access)
    }

    fn mmio_write(&self, addr: u64, value: u64, access: &Access<'_>) {
        self.mmio.write(addr, value, access);
    }
}
