//! The MP table, for kernels that know no ACPI (Intel MultiProcessor Specification 1.4, chapter 4).
//!
//! `machine` calls [`write`] at each start. The floating pointer lies in the EBDA, where kernels search; the
//! table itself in ROM space, where there is room for every CPU. Same map and same routes as [`super::acpi`].

use super::acpi::{IntxRoute, TableConfig};
use crate::machine::pc;
use crate::memory::{GuestRam, MemoryError};

/// Where the floating pointer lies: behind the EBDA's size word.
const POINTER: u64 = pc::EBDA_BASE + 0x10;
/// Where the table lies.
const TABLE: u64 = pc::MP_TABLE_BASE;

const SPEC_REVISION: u8 = 4;
const HEADER_LEN: usize = 44;
const LOCAL_APIC_VERSION: u8 = 0x14;
const IOAPIC_VERSION: u8 = 0x11;
/// Family 6, a floating-point unit and a local APIC: nobody reads more out of this field.
const CPU_SIGNATURE: u32 = 0x600;
const CPU_FEATURES: u32 = 0x201;

const CPU_ENABLED: u8 = 1;
const CPU_BOOT: u8 = 2;

const PCI_BUS: u8 = 0;
const ISA_BUS: u8 = 1;
/// The PIC's cascade input: no device interrupt.
const CASCADE: u32 = 2;

const ENTRY_PROCESSOR: u8 = 0;
const ENTRY_BUS: u8 = 1;
const ENTRY_IOAPIC: u8 = 2;
const ENTRY_IO_INTERRUPT: u8 = 3;
const ENTRY_LOCAL_INTERRUPT: u8 = 4;

const INT: u8 = 0;
const NMI: u8 = 1;
const EXT_INT: u8 = 3;
/// Polarity and trigger mode: as the bus has it; active high, level.
const CONFORMS: u16 = 0;
const LEVEL_HIGH: u16 = 0x000d;
const ALL_LOCAL_APICS: u8 = 0xff;

/// Pointer, table and the EBDA's size as (guest physical address, bytes).
pub fn tables(config: &TableConfig) -> Vec<(u64, Vec<u8>)> {
    vec![
        // The EBDA's first word is its length in KiB.
        (pc::EBDA_BASE, vec![1, 0]),
        (POINTER, floating_pointer()),
        (TABLE, table(config)),
    ]
}

/// Writes pointer and table into the guest's memory.
///
/// # Errors
/// [`MemoryError`] when the machine has less than 1 MiB of RAM.
pub fn write(ram: &GuestRam, config: &TableConfig) -> Result<(), MemoryError> {
    tables(config).iter().try_for_each(|(addr, bytes)| ram.write(*addr, bytes))
}

fn floating_pointer() -> Vec<u8> {
    let mut out = b"_MP_".to_vec();
    out.extend((TABLE as u32).to_le_bytes());
    out.extend([1, SPEC_REVISION, 0, 0, 0, 0, 0, 0]);
    out[10] = checksum(&out);
    out
}

fn table(config: &TableConfig) -> Vec<u8> {
    let entries = entries(config);
    let body: Vec<u8> = entries.concat();
    let mut out = b"PCMP".to_vec();
    out.extend(((HEADER_LEN + body.len()) as u16).to_le_bytes());
    out.extend([SPEC_REVISION, 0]);
    out.extend(b"MINIVMM PC          ");
    out.extend([0; 6]);
    out.extend((entries.len() as u16).to_le_bytes());
    out.extend((pc::LAPIC_BASE as u32).to_le_bytes());
    out.extend([0; 4]);
    out.extend(body);
    out[7] = checksum(&out);
    out
}

/// In the order that the specification demands: by type.
fn entries(config: &TableConfig) -> Vec<Vec<u8>> {
    let ioapic = config.cpus;
    let mut out: Vec<Vec<u8>> = (0..config.cpus).map(processor).collect();
    out.push(bus(PCI_BUS, b"PCI   "));
    out.push(bus(ISA_BUS, b"ISA   "));
    let mut io = vec![ENTRY_IOAPIC, ioapic, IOAPIC_VERSION, 1];
    io.extend((pc::IOAPIC_BASE as u32).to_le_bytes());
    out.push(io);
    out.extend(isa_interrupts(ioapic));
    out.extend(config.routes.iter().map(|route| pci_interrupt(ioapic, route)));
    out.push(interrupt(ENTRY_LOCAL_INTERRUPT, EXT_INT, CONFORMS, [ISA_BUS, 0, ALL_LOCAL_APICS, 0]));
    out.push(interrupt(ENTRY_LOCAL_INTERRUPT, NMI, CONFORMS, [ISA_BUS, 0, ALL_LOCAL_APICS, 1]));
    out
}

fn processor(id: u8) -> Vec<u8> {
    let flags = if id == 0 { CPU_ENABLED | CPU_BOOT } else { CPU_ENABLED };
    let mut out = vec![ENTRY_PROCESSOR, id, LOCAL_APIC_VERSION, flags];
    out.extend(CPU_SIGNATURE.to_le_bytes());
    out.extend(CPU_FEATURES.to_le_bytes());
    out.resize(20, 0);
    out
}

fn bus(id: u8, name: &[u8; 6]) -> Vec<u8> {
    let mut out = vec![ENTRY_BUS, id];
    out.extend(name);
    out
}

/// ISA interrupts reach the IOAPIC input of their number; those that PCI uses belong to PCI alone.
fn isa_interrupts(ioapic: u8) -> impl Iterator<Item = Vec<u8>> {
    let irqs = (0..16).filter(|irq| *irq != CASCADE && !pc::PIRQ_GSI.contains(irq));
    irqs.map(move |irq| {
        let flags = if irq == pc::SCI_GSI { LEVEL_HIGH } else { CONFORMS };
        interrupt(ENTRY_IO_INTERRUPT, INT, flags, [ISA_BUS, irq as u8, ioapic, irq as u8])
    })
}

/// Source of a PCI interrupt: slot in bits 6:2, pin (0 = INTA#) in bits 1:0 (table D-1).
fn pci_interrupt(ioapic: u8, route: &IntxRoute) -> Vec<u8> {
    let source = route.slot << 2 | (route.pin - 1);
    interrupt(ENTRY_IO_INTERRUPT, INT, CONFORMS, [PCI_BUS, source, ioapic, route.gsi as u8])
}

/// `wiring` is source bus, source interrupt, destination APIC, destination input.
fn interrupt(entry: u8, kind: u8, flags: u16, wiring: [u8; 4]) -> Vec<u8> {
    let flags = flags.to_le_bytes();
    [&[entry, kind, flags[0], flags[1]], &wiring[..]].concat()
}

/// What makes the sum of all bytes zero, given that its own place holds zero.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, b| sum.wrapping_sub(*b))
}
