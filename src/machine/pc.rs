//! The PC's address and interrupt map, as constants and tables, in one place.
//!
//! Read by `machine` (wiring), `boot` (E820, ACPI and MP tables) and tests, which check that what the tables
//! announce is what is wired. Behaviour lives elsewhere.

use crate::pci::{PciMap, Window};

/// RAM below this address; more RAM continues at [`HIGH_RAM_BASE`].
pub const LOW_RAM_END: u64 = 0xc000_0000;
/// Where RAM continues above the 32-bit hole.
pub const HIGH_RAM_BASE: u64 = 0x1_0000_0000;
/// End of conventional memory: above it the EBDA with the MP table, then video and ROM space.
pub const EBDA_BASE: u64 = 0x9_fc00;
/// Where ACPI tables and the RSDP start (ROM space, E820-reserved; searched by kernels in 16-byte steps).
pub const ACPI_BASE: u64 = 0xe_0000;
/// The MP table, in ROM space behind the ACPI tables.
pub const MP_TABLE_BASE: u64 = 0xf_0000;
/// The BIOS stub (firmware/): the last 256 bytes below 1 MiB, so that its last 16 are the reset vector.
pub const BIOS_STUB_BASE: u64 = 0xf_ff00;
/// End of the legacy 1 MiB.
pub const LOW_MIB_END: u64 = 0x10_0000;

/// 32-bit PCI memory window (BARs): first address.
pub const PCI_MEM_BASE: u64 = 0xc000_0000;
/// Length of the 32-bit PCI memory window.
pub const PCI_MEM_LEN: u64 = 0x2000_0000;
/// PCI I/O window (BARs): first port.
pub const PCI_IO_BASE: u64 = 0xc000;
/// Length of the PCI I/O window.
pub const PCI_IO_LEN: u64 = 0x4000;
/// Ports below this belong to ISA and the chipset: no BAR decodes there.
pub const PCI_IO_LEGACY_END: u64 = 0x1000;
/// No physical address beyond: 46 bits.
pub const PHYSICAL_END: u64 = 1 << 46;
/// ECAM window: bus 0 only, 4 KiB for each function.
pub const ECAM_BASE: u64 = 0xe000_0000;
/// Length of the ECAM window: one bus.
pub const ECAM_LEN: u64 = 0x10_0000;

/// IOAPIC registers; its id is the number of CPUs.
pub const IOAPIC_BASE: u64 = 0xfec0_0000;
/// Local APIC registers.
pub const LAPIC_BASE: u64 = 0xfee0_0000;
/// Three pages that VMX hosts without unrestricted guest need (KVM_SET_TSS_ADDR); the firmware's place begins behind them.
pub const KVM_TSS_BASE: u64 = 0xfeff_d000;
/// One page that such hosts need (KVM_SET_IDENTITY_MAP_ADDR).
pub const KVM_IDENTITY_MAP_BASE: u64 = 0xfeff_c000;

/// First serial port: base and ISA interrupt.
pub const COM1: (u64, u32) = (0x3f8, 4);
/// Second serial port.
pub const COM2: (u64, u32) = (0x2f8, 3);
/// The serial ports in order.
pub const COM: [(u64, u32); 2] = [COM1, COM2];
/// CMOS RTC index and data ports, and its interrupt.
pub const RTC: (u64, u32) = (0x70, 8);
/// i8042 data port; the command port is 4 above.
pub const I8042_BASE: u64 = 0x60;
/// ACPI PM1a event block (4 bytes), control block at +4 (2 bytes), PM timer at +8 (4 bytes).
pub const PM_BASE: u64 = 0x600;
/// ACPI's system control interrupt.
pub const SCI_GSI: u32 = 9;
/// Reset control register (bit 2 resets), also announced as ACPI's reset register.
pub const RESET_PORT: u64 = 0xcf9;
/// fw_cfg selector (16-bit) and data port; the DMA register is not there.
pub const FW_CFG_BASE: u64 = 0x510;
/// pvpanic.
pub const PVPANIC_PORT: u64 = 0x505;

/// The i8042's keyboard interrupt.
pub const KEYBOARD_GSI: u32 = 1;

/// PCI slot of the host bridge.
pub const HOST_BRIDGE_SLOT: u8 = 0;
/// PCI slot of the ISA bridge.
pub const ISA_BRIDGE_SLOT: u8 = 31;
/// PCI slots that the machine itself takes, whatever runs on it.
pub const RESERVED_SLOTS: [u8; 2] = [HOST_BRIDGE_SLOT, ISA_BRIDGE_SLOT];
/// PCI slot of the ISA bridge on a machine that starts with firmware: as on QEMU's PC, since firmware may know it by its
/// place (U-Boot's device tree does). [`ISA_BRIDGE_SLOT`] stays empty there.
pub const FIRMWARE_ISA_BRIDGE_SLOT: u8 = 1;

/// The ISA interrupts behind PIRQ A to D. All below 16, so that PIC, IOAPIC, ACPI and MP table kernels see the
/// same number.
pub const PIRQ_GSI: [u32; 4] = [10, 11, 12, 5];

/// A machine that starts with firmware keeps this much at the end of RAM below 4 GiB for its ACPI tables.
pub const FIRMWARE_TABLES_LEN: u64 = 64 << 10;
/// On such a machine, the IOAPIC input of PIRQA; the others follow.
pub const FIRMWARE_PIRQ_GSI: u32 = 16;
/// Port 92h.
pub const PORT92: u64 = 0x92;

/// On a machine that starts with firmware, the PIRQ (0 is A) of `pin` (1 = INTA#) of the device in `slot`: as on QEMU's
/// PC, whose wiring SeaBIOS knows.
pub fn firmware_pirq(slot: u8, pin: u8) -> u32 {
    (u32::from(slot) + u32::from(pin) + 2) % 4
}

/// The IOAPIC input that it reaches beside the ISA interrupt that firmware chooses.
pub fn firmware_intx_gsi(slot: u8, pin: u8) -> u32 {
    FIRMWARE_PIRQ_GSI + firmware_pirq(slot, pin)
}

/// Global system interrupt of `pin` (1 = INTA#) of the device in `slot` on bus 0.
pub fn intx_gsi(slot: u8, pin: u8) -> u32 {
    PIRQ_GSI[(usize::from(slot) + usize::from(pin.saturating_sub(1))) % PIRQ_GSI.len()]
}

/// The PCI bus's part of this map, for a machine whose RAM ends at `ram_end`. BARs may be moved anywhere
/// between RAM and the interrupt controllers (devices that are there win), and above RAM.
pub fn pci_map(ram_end: u64) -> PciMap {
    let above_ram = ram_end.max(HIGH_RAM_BASE);
    PciMap {
        io: Window { base: PCI_IO_BASE, len: PCI_IO_LEN },
        mem: Window { base: PCI_MEM_BASE, len: PCI_MEM_LEN },
        io_decode: Window { base: PCI_IO_LEGACY_END, len: 0x1_0000 - PCI_IO_LEGACY_END },
        mem_decode: Window { base: PCI_MEM_BASE, len: IOAPIC_BASE - PCI_MEM_BASE },
        mem64_decode: Window { base: above_ram, len: PHYSICAL_END - above_ram },
        intx_gsi,
    }
}

/// The same for a machine that starts with firmware, which places the BARs itself: as close below the interrupt
/// controllers as they go, and there ACPI has to announce memory for them.
pub fn firmware_pci_map(ram_end: u64) -> PciMap {
    let base = ECAM_BASE + ECAM_LEN;
    let mem = Window { base, len: IOAPIC_BASE - base };
    PciMap { mem, intx_gsi: firmware_intx_gsi, ..pci_map(ram_end) }
}

/// RAM regions (base, length) for `bytes` of memory: below the hole, and the rest above 4 GiB.
pub fn ram_layout(bytes: u64) -> Vec<(u64, u64)> {
    let low = bytes.min(LOW_RAM_END);
    let mut layout = vec![(0, low)];
    if bytes > low {
        layout.push((HIGH_RAM_BASE, bytes - low));
    }
    layout
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_do_not_overlap() {
        let mut ranges = [
            (0, LOW_RAM_END),
            (PCI_MEM_BASE, PCI_MEM_LEN),
            (ECAM_BASE, ECAM_LEN),
            (IOAPIC_BASE, 0x1000),
            (LAPIC_BASE, 0x1000),
            (KVM_IDENTITY_MAP_BASE, 0x1000),
            (KVM_TSS_BASE, 0x3000),
            (HIGH_RAM_BASE, 1),
        ];
        ranges.sort_unstable();
        assert!(ranges.windows(2).all(|w| w[0].0 + w[0].1 <= w[1].0), "{ranges:x?}");
    }

    #[test]
    fn memory_beyond_the_hole_continues_at_4_gib() {
        assert_eq!(ram_layout(256 << 20), [(0, 256 << 20)]);
        assert_eq!(ram_layout(5 << 30), [(0, 3 << 30), (4 << 30, 2 << 30)]);
    }

    #[test]
    fn firmware_finds_slot_1_on_pirq_a() {
        assert_eq!((firmware_pirq(1, 1), firmware_pirq(2, 1), firmware_pirq(1, 4)), (0, 1, 3));
        assert_eq!(firmware_intx_gsi(5, 1), 16);
    }

    #[test]
    fn neighbouring_slots_use_different_interrupts() {
        assert_ne!(intx_gsi(1, 1), intx_gsi(2, 1));
        assert_eq!(intx_gsi(1, 2), intx_gsi(2, 1));
    }
}
