//! The device as a PCI function: identity, BARs, capabilities, power states, resets (manual, chapter 4).
//!
//! `pci` calls it with no lock of ours held. Decodes nothing of a BAR: that is `bar_mmio` and `bar_io`.

use super::{E1000, bar_io, regs};
use crate::bus::{Access, AccessError, Width};
use crate::pci::{BarKind, BarSpec, Capability, Function, Identity, Pme, PowerState};
use std::sync::atomic::Ordering;

/// Number of the memory BAR.
pub const BAR_MMIO: u8 = 0;
/// Number of the I/O BAR behind a 32-bit BAR0 (BAR1 is the flash, which boards without a boot ROM lack).
pub const BAR_IO: u8 = 2;
/// Number of the I/O BAR behind a 64-bit BAR0 (BAR2 is the flash).
pub const BAR_IO_64: u8 = 4;
/// Where the power management capability lies, first of the list (manual, section 4.1).
const PM_AT: u8 = 0xdc;
/// PM 1.1, initialization needed, PME from D0, D3hot and D3cold.
const PM_CAPABILITIES: u16 = 0xc822;
/// Where the PCI-X capability lies.
const PCI_X_AT: u8 = 0xe4;
/// Where the MSI capability lies.
const MSI_AT: u8 = 0xf0;

/// The PCI-X capability of a part that sits in a conventional slot: relaxed ordering, 2048-byte reads designed for.
fn pci_x() -> Capability {
    Capability {
        id: 0x07,
        offset: PCI_X_AT,
        body: vec![0x02, 0x00, 0x00, 0x00, 0x40, 0x00],
        writable: vec![0x7f, 0x00],
        clear: Vec::new(),
    }
}

impl E1000 {
    #[inline(always)]
    fn read_bar(&self, bar: u8, offset: u64, width: Width) -> Result<u64, AccessError> {
        match bar {
            BAR_MMIO => self.mmio_read(offset, width),
            bar if bar == self.io_bar() => Ok(self.io_read(offset, width)),
            _ => Err(AccessError::NoRegister),
        }
    }

    #[inline(always)]
    fn write_bar(&self, bar: u8, offset: u64, value: u64, width: Width) -> Result<(), AccessError> {
        match bar {
            BAR_MMIO => self.mmio_write(offset, value, width),
            bar if bar == self.io_bar() => {
                self.io_write(offset, value, width);
                Ok(())
            }
            _ => Err(AccessError::NoRegister),
        }
    }
}

impl Function for E1000 {
    fn identity(&self) -> Identity {
        let (subsystem, subsystem_vendor) = self.regs().eeprom.image().subsystem();
        Identity {
            vendor: 0x8086,
            device: self.model.device_id(),
            revision: 0x02,
            class: 0x02_0000,
            subsystem_vendor,
            subsystem,
            interrupt_pin: 1,
            min_gnt: 0xff,
            max_lat: 0,
        }
    }

    fn bars(&self) -> Vec<BarSpec> {
        let memory = if self.model.wide_bar() { BarKind::Mem64 } else { BarKind::Mem32 };
        vec![
            BarSpec { index: BAR_MMIO, kind: memory, size: u64::from(regs::table::BAR0_LEN) },
            BarSpec { index: self.io_bar(), kind: BarKind::Io, size: bar_io::BAR_IO_LEN },
        ]
    }

    fn bar_read(&self, bar: u8, offset: u64, access: &Access<'_>) -> Result<u64, AccessError> {
        self.look_at_deadlines();
        if !self.is_hooked() {
            return self.read_bar(bar, offset, access.width);
        }
        let _caused = self.caused_by(access);
        if self.is_gone() { Ok(access.width.all_ones()) } else { self.read_bar(bar, offset, access.width) }
    }

    fn bar_write(&self, bar: u8, offset: u64, value: u64, access: &Access<'_>) -> Result<(), AccessError> {
        self.look_at_deadlines();
        if !self.is_hooked() {
            return self.write_bar(bar, offset, value, access.width);
        }
        let _caused = self.caused_by(access);
        if self.is_gone() { Ok(()) } else { self.write_bar(bar, offset, value, access.width) }
    }

    fn has_intx_disable(&self) -> bool {
        // PCI 2.2: the bit came later. Drivers in user space refuse a device without it.
        !self.strict
    }

    fn bus_master_changed(&self, on: bool) {
        if on {
            self.wake_receiver();
            self.kick_transmitter();
        }
    }

    fn capabilities(&self) -> Vec<Capability> {
        let mut list = vec![Capability::power_management(PM_AT, PM_CAPABILITIES), pci_x()];
        if self.has_msi {
            list.push(Capability::msi(MSI_AT));
        }
        list
    }

    fn power_state_changed(&self, state: PowerState) {
        // Leaving D3hot is a device reset; in D3hot the header has shut every door, and frames only wake.
        let effects = match state {
            PowerState::D0 => self.regs().wake_up(),
            PowerState::D3hot => self.regs().fall_asleep(),
        };
        self.perform(effects);
    }

    fn pme(&self) -> Option<&Pme> {
        Some(&self.pme)
    }

    fn bus_reset(&self) {
        self.ioaddr.store(0, Ordering::SeqCst);
        let effects = self.regs().power_on_reset();
        self.perform(effects);
    }
}
