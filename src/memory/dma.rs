//! What a bus-mastering device may touch: guest RAM behind a switch that its PCI function holds.
//!
//! `pci` creates one handle for each function and turns it on and off with Command.BME (PCI Local Bus 3.0,
//! section 6.2.2), reset and halt; the device holds a clone and can neither see nor bypass the switch. MSI
//! messages leave by the same door, because they are memory writes of the function.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{GuestRam, GuestSlice};
use crate::irq::MsiSink;

/// Why a device's access to memory failed. The device sees what a master abort shows it: nothing arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DmaError {
    /// Command.BME is clear, or the function is in reset or halted.
    #[error("bus mastering is off (PCI Command bit 2)")]
    BusMasterOff,
    /// The range is not RAM: a hole, a BAR or beyond the end (master abort).
    #[error("DMA to {addr:#x} (+{len} bytes), which is not RAM")]
    NotRam {
        /// Bus address of the first byte.
        addr: u64,
        /// Length in bytes.
        len: usize,
    },
}

/// A function's access to guest memory. Clones share the switch.
#[derive(Debug, Clone)]
pub struct DmaHandle {
    ram: GuestRam,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    enabled: AtomicBool,
    aborts: AtomicU64,
    msi: Option<Arc<dyn MsiSink>>,
}

impl DmaHandle {
    /// A handle that is off until [`Self::set_enabled`]; `msi` is where memory writes to the interrupt
    /// window go (none: they vanish, as on a machine without a local APIC).
    pub fn new(ram: GuestRam, msi: Option<Arc<dyn MsiSink>>) -> Self {
        let shared = Shared { enabled: AtomicBool::new(false), aborts: AtomicU64::new(0), msi };
        Self { ram, shared: Arc::new(shared) }
    }

    /// Opens or closes the door. Called by the PCI function header only.
    pub fn set_enabled(&self, on: bool) {
        self.shared.enabled.store(on, Ordering::SeqCst);
    }

    /// Whether Command.BME lets the device through now.
    pub fn enabled(&self) -> bool {
        self.shared.enabled.load(Ordering::SeqCst)
    }

    /// How many accesses met no RAM so far (each one a received master abort, PCI Status bit 13).
    pub fn aborts(&self) -> u64 {
        self.shared.aborts.load(Ordering::Relaxed)
    }

    /// Reads `buf.len()` bytes at bus address `addr`.
    ///
    /// # Errors
    /// [`DmaError`]; `buf` is then unspecified.
    pub fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), DmaError> {
        self.check()?;
        let len = buf.len();
        self.ram.read(addr, buf).map_err(|_| self.abort(addr, len))
    }

    /// Writes `data` at bus address `addr`.
    ///
    /// # Errors
    /// [`DmaError`]; nothing is written then.
    pub fn write(&self, addr: u64, data: &[u8]) -> Result<(), DmaError> {
        self.check()?;
        self.ram.write(addr, data).map_err(|_| self.abort(addr, data.len()))
    }

    /// Lends guest memory for gathering a frame without a copy. Volatile: the guest may change it meanwhile.
    ///
    /// # Errors
    /// [`DmaError`] when off, or when the range is not inside one region of RAM.
    pub fn slice(&self, addr: u64, len: usize) -> Result<GuestSlice<'_>, DmaError> {
        self.check()?;
        self.ram.slice(addr, len).map_err(|_| self.abort(addr, len))
    }

    /// Sends a message-signalled interrupt, a memory write of `data` to `addr` (PCI 3.0, section 6.8).
    ///
    /// # Errors
    /// [`DmaError::BusMasterOff`]: a function that is no bus master sends no message.
    pub fn send_msi(&self, addr: u64, data: u32) -> Result<(), DmaError> {
        self.check()?;
        if let Some(msi) = &self.shared.msi {
            msi.send(addr, data);
        }
        Ok(())
    }

    fn check(&self) -> Result<(), DmaError> {
        if self.enabled() { Ok(()) } else { Err(DmaError::BusMasterOff) }
    }

    fn abort(&self, addr: u64, len: usize) -> DmaError {
        self.shared.aborts.fetch_add(1, Ordering::Relaxed);
        DmaError::NotRam { addr, len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_passes_while_bus_mastering_is_off() {
        let dma = DmaHandle::new(GuestRam::new(&[(0, 0x1000)]).unwrap(), None);
        assert_eq!(dma.write(0, &[1]), Err(DmaError::BusMasterOff));
        assert_eq!(dma.send_msi(0xfee0_0000, 0), Err(DmaError::BusMasterOff));
        dma.set_enabled(true);
        dma.write(0, &[1]).unwrap();
        let mut b = [0];
        dma.clone().read(0, &mut b).unwrap();
        assert_eq!(b, [1]);
        assert_eq!(dma.read(0x1000, &mut b), Err(DmaError::NotRam { addr: 0x1000, len: 1 }));
        assert_eq!(dma.aborts(), 1);
    }
}
