//! What a device gives to become a PCI function.
//!
//! Implemented by devices (`nic`); called by the configuration header and the BAR decoder of this folder.
//! The header owns configuration space: ids, Command, BAR sizing and moving, capabilities. The device sees
//! only its registers, its DMA handle (switched by Command.BME) and its interrupt.

use std::fmt::Debug;

use super::{Capability, Pme};
use crate::bus::{Access, AccessError, Width};

/// The constant part of a type 0 header (PCI Local Bus 3.0, section 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Vendor id, 0x00.
    pub vendor: u16,
    /// Device id, 0x02.
    pub device: u16,
    /// Revision, 0x08.
    pub revision: u8,
    /// Class code, 0x09: base class in bits 23:16, sub-class 15:8, programming interface 7:0.
    pub class: u32,
    /// Subsystem vendor id, 0x2c.
    pub subsystem_vendor: u16,
    /// Subsystem id, 0x2e.
    pub subsystem: u16,
    /// Interrupt pin, 0x3d: 0 none, 1 INTA#.
    pub interrupt_pin: u8,
    /// Min_Gnt, 0x3e, in units of 0.25 us.
    pub min_gnt: u8,
    /// Max_Lat, 0x3f, in units of 0.25 us.
    pub max_lat: u8,
}

/// One base address register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarSpec {
    /// Register number, 0 to 5. A 64-bit BAR takes the next one too. [`BarSpec::ROM`]: the expansion ROM's.
    pub index: u8,
    /// What it decodes.
    pub kind: BarKind,
    /// Size in bytes: a power of two, at least 16 for memory and 4 for I/O.
    pub size: u64,
}

impl BarSpec {
    /// [`BarSpec::index`] of the expansion ROM's base address register, which lies apart from the others.
    pub const ROM: u8 = 6;
}

/// What a BAR decodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarKind {
    /// I/O ports.
    Io,
    /// Memory below 4 GiB, not prefetchable.
    Mem32,
    /// An expansion ROM: memory below 4 GiB with an enable bit of its own (PCI Local Bus 3.0, section 6.2.5.2).
    Rom,
    /// Memory anywhere, not prefetchable.
    Mem64,
}

/// A register of the function's own in configuration space, behind the header (0x40 and up).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigRegister {
    /// First byte.
    pub offset: u8,
    /// Value after reset.
    pub reset: Vec<u8>,
    /// Bits that software may write; nothing else happens on a write.
    pub writable: Vec<u8>,
}

/// Power state (PCI Power Management 1.2, chapter 5). D1 and D2 are not offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerState {
    /// On.
    D0,
    /// Off as far as software can tell: only configuration space answers.
    D3hot,
}

/// A PCI function's device side. Only [`Function::identity`] must be given: the rest is that of a function that is nothing
/// but its configuration space, as bridges are.
pub trait Function: Debug + Send + Sync {
    /// The header's constants.
    fn identity(&self) -> Identity;

    /// The BARs, in ascending index; none by default. A function that has some has [`Function::bar_read`] and
    /// [`Function::bar_write`], too.
    fn bars(&self) -> Vec<BarSpec> {
        Vec::new()
    }

    /// Reads `access.width` bytes at `offset` in BAR `bar`. Called only while Command decodes the BAR.
    ///
    /// # Errors
    /// [`AccessError`]; the guest reads all-ones.
    fn bar_read(&self, _bar: u8, _offset: u64, _access: &Access<'_>) -> Result<u64, AccessError> {
        Err(AccessError::NoRegister)
    }

    /// Writes `access.width` bytes at `offset` in BAR `bar`. Called only while Command decodes the BAR.
    ///
    /// # Errors
    /// [`AccessError`]; the write is lost.
    fn bar_write(
        &self,
        _bar: u8,
        _offset: u64,
        _value: u64,
        _access: &Access<'_>,
    ) -> Result<(), AccessError> {
        Err(AccessError::NoRegister)
    }

    /// Command.BME changed to `on`; the DMA handle has been switched already. A device with work waiting
    /// looks at it again.
    fn bus_master_changed(&self, _on: bool) {}

    /// RST#: everything to its power-on state. The header resets configuration space itself, so that only a function with
    /// state of its own does anything.
    fn bus_reset(&self) {}

    /// The capability list, in its order.
    fn capabilities(&self) -> Vec<Capability> {
        Vec::new()
    }

    /// The device's power management events, if it has any: PMCSR shows them.
    fn pme(&self) -> Option<&Pme> {
        None
    }

    /// Whether Command bit 10 (INTx disable) and Status bit 3 (interrupt pending) exist: since PCI 2.3.
    fn has_intx_disable(&self) -> bool {
        true
    }

    /// Registers of its own in configuration space.
    fn config_registers(&self) -> Vec<ConfigRegister> {
        Vec::new()
    }

    /// Software wrote `value` to configuration space at `offset`; the registers have it already. For functions whose
    /// registers of their own switch something.
    fn config_written(&self, _offset: u16, _width: Width, _value: u64) {}

    /// The power state changed. In D3hot BARs do not decode and DMA and interrupts are off already; a
    /// device loses its state on the way back to D0.
    fn power_state_changed(&self, _state: PowerState) {}
}
