//! The ACPI tables of the machine, made from its address and interrupt map.
//!
//! `machine` calls [`write`] at each start, before the kernel's image is loaded. Layout: the RSDP at
//! [`ACPI_BASE`], where kernels search, the other tables behind it. Tables are made by the acpi_tables crate,
//! except MADT and WAET, whose flags it does not offer. ACPI 6.5; the source of each figure is at its place.
//!
//! There is not one control method: everything is a constant `Name`, because AML runs in the guest's kernel,
//! and on a KVM without hardware under it that kernel runs at two million instructions a second. For the same
//! reason `_PRT` lists the functions that exist, and no other slots.

use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Device, EISAName, IO, Interrupt, Memory32Fixed, Name,
    PackageBuilder, Path, ResourceTemplate, Scope,
};
use acpi_tables::facs::FACS;
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{self, AccessSize, GAS};
use acpi_tables::madt::{EnabledStatus, IoApic, ProcessorLocalApic};
use acpi_tables::mcfg::MCFG;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, aml};

use crate::chipset::{CENTURY, PM_TIMER, PM1_CONTROL, RESET_VALUE, SLEEP_TYPE_S5};
use crate::machine::pc;
use crate::memory::{GuestRam, MemoryError};
use crate::pci::Window;

const OEM: [u8; 6] = *b"MINVMM";
const OEM_TABLE: [u8; 8] = *b"MINIVMM ";
const REVISION: u32 = 1;

/// MADT flag: there is a PIC too.
const PCAT_COMPAT: u32 = 1;
/// Interrupt source override flags: active high, level.
const LEVEL_HIGH: u16 = 0x000d;
/// WAET: the RTC needs no acknowledgement by reading C, the PM timer is read once.
const WAET_GOOD: u32 = 0b11;
/// FADT IA-PC boot flags: legacy devices; no VGA to probe; keyboard controller.
const LEGACY_DEVICES: u16 = 1 << 0;
const KEYBOARD_CONTROLLER: u16 = 1 << 1;
const NO_VGA: u16 = 1 << 2;

/// A PCI interrupt pin and the interrupt it reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntxRoute {
    /// Slot on bus 0.
    pub slot: u8,
    /// 1 = INTA#.
    pub pin: u8,
    /// Global system interrupt.
    pub gsi: u32,
}

/// What the tables tell about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableConfig {
    /// CPUs, 1 to 254; APIC ids count from 0, and the IOAPIC's follows.
    pub cpus: u8,
    /// Ports for BARs.
    pub pci_io: Window,
    /// Memory for BARs.
    pub pci_mem: Window,
    /// The functions' interrupt pins.
    pub routes: Vec<IntxRoute>,
    /// How many serial ports exist, COM1 first.
    pub serial: usize,
    /// The keyboard controller exists.
    pub i8042: bool,
    /// fw_cfg exists.
    pub fw_cfg: bool,
    /// pvpanic exists.
    pub pvpanic: bool,
}

/// The tables as (guest physical address, bytes), the RSDP first, which is at [`ACPI_BASE`].
///
/// [`ACPI_BASE`]: pc::ACPI_BASE
pub fn tables(config: &TableConfig) -> Vec<(u64, Vec<u8>)> {
    tables_at(config, pc::ACPI_BASE)
}

/// The same with the RSDP at `base`, a multiple of 64 below 4 GiB.
pub fn tables_at(config: &TableConfig, base: u64) -> Vec<(u64, Vec<u8>)> {
    let mut place = Placement::new(base);
    let dsdt = place.put(dsdt(config).as_slice());
    let facs = place.put(&bytes(&FACS::new()));
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, REVISION);
    xsdt.add_entry(place.put(&fadt(config, dsdt, facs)));
    xsdt.add_entry(place.put(madt(config.cpus).as_slice()));
    xsdt.add_entry(place.put(&mcfg()));
    xsdt.add_entry(place.put(waet().as_slice()));
    let xsdt = place.put(&bytes(&xsdt));
    place.tables[0].1 = bytes(&Rsdp::new(OEM, xsdt));
    place.tables
}

/// Writes the tables into the guest's memory; returns the RSDP's address.
///
/// # Errors
/// [`MemoryError`] when the machine has less than 1 MiB of RAM.
pub fn write(ram: &GuestRam, config: &TableConfig) -> Result<u64, MemoryError> {
    write_at(ram, config, pc::ACPI_BASE)
}

/// The same with the RSDP at `base`, a multiple of 64 below 4 GiB.
///
/// # Errors
/// [`MemoryError`] when there is not RAM for all of it.
pub fn write_at(ram: &GuestRam, config: &TableConfig, base: u64) -> Result<u64, MemoryError> {
    for (addr, table) in tables_at(config, base) {
        ram.write(addr, &table)?;
    }
    Ok(base)
}

struct Placement {
    next: u64,
    tables: Vec<(u64, Vec<u8>)>,
}

impl Placement {
    /// Room for the RSDP is kept at the start.
    fn new(base: u64) -> Self {
        Self { next: base + 64, tables: vec![(base, Vec::new())] }
    }

    /// 64 bytes apart at least, as FACS needs.
    fn put(&mut self, table: &[u8]) -> u64 {
        let at = self.next;
        self.next = (at + table.len() as u64).next_multiple_of(64);
        self.tables.push((at, table.to_vec()));
        at
    }
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut out = Vec::new();
    table.to_aml_bytes(&mut out);
    out
}

/// Section 5.2.9. ACPI is always on (no SMI command port); fixed power button, no sleep button.
fn fadt(config: &TableConfig, dsdt: u64, facs: u64) -> Vec<u8> {
    let flags =
        [Flags::Wbinvd, Flags::ProcC1, Flags::SlpButton, Flags::FixRtc, Flags::TmrValExt, Flags::ResetRegSup];
    let mut fadt = flags.into_iter().fold(FADTBuilder::new(OEM, OEM_TABLE, REVISION), FADTBuilder::flag);
    let (event, control, timer) = (pc::PM_BASE, pc::PM_BASE + PM1_CONTROL, pc::PM_BASE + PM_TIMER);
    fadt.dsdt = (dsdt as u32).into();
    fadt.x_dsdt = dsdt.into();
    fadt.firmware_ctrl = (facs as u32).into();
    fadt.sci_int = (pc::SCI_GSI as u16).into();
    fadt.pm1a_evt_blk = (event as u32).into();
    fadt.pm1a_cnt_blk = (control as u32).into();
    fadt.pm_tmr_blk = (timer as u32).into();
    (fadt.pm1_evt_len, fadt.pm1_cnt_len, fadt.pm_tmr_len) = (4, 2, 4);
    fadt.x_pm1a_evt_blk = port(event, 32, AccessSize::WordAccess);
    fadt.x_pm1a_cnt_blk = port(control, 16, AccessSize::WordAccess);
    fadt.x_pm_tmr_blk = port(timer, 32, AccessSize::DwordAccess);
    // C2 and C3 do not exist: latencies beyond what the specification takes for existing.
    (fadt.p_lvl2_lat, fadt.p_lvl3_lat) = (0xfff.into(), 0xfff.into());
    fadt.century = CENTURY;
    let keyboard = if config.i8042 { KEYBOARD_CONTROLLER } else { 0 };
    fadt.iapc_boot_arch = (LEGACY_DEVICES | NO_VGA | keyboard).into();
    fadt.reset_reg = port(pc::RESET_PORT, 8, AccessSize::ByteAccess);
    fadt.reset_value = RESET_VALUE;
    bytes(&fadt.finalize())
}

fn port(address: u64, bits: u8, access: AccessSize) -> GAS {
    GAS::new(gas::AddressSpace::SystemIo, bits, 0, access, address)
}

/// Section 5.2.12. ISA interrupts reach the IOAPIC inputs of their own number, IRQ 0 too, which is KVM's
/// default routing (arch/x86/kvm/irq.c), so that only the SCI needs an override: it is a level. PCI's
/// interrupts get their mode from `_PRT`.
fn madt(cpus: u8) -> Sdt {
    let mut madt = Sdt::new(*b"APIC", 36, 5, OEM, OEM_TABLE, REVISION);
    madt.append_slice(&(pc::LAPIC_BASE as u32).to_le_bytes());
    madt.append_slice(&PCAT_COMPAT.to_le_bytes());
    for id in 0..cpus {
        madt.append_slice(&bytes(&ProcessorLocalApic::new(id, id, EnabledStatus::Enabled)));
    }
    madt.append_slice(&bytes(&IoApic::new(cpus, pc::IOAPIC_BASE as u32, 0)));
    let sci = pc::SCI_GSI.to_le_bytes();
    let flags = LEVEL_HIGH.to_le_bytes();
    madt.append_slice(&[2, 10, 0, sci[0], sci[0], sci[1], sci[2], sci[3], flags[0], flags[1]]);
    madt
}

/// PCI Firmware 3.0, section 4.1.2: bus 0 only.
fn mcfg() -> Vec<u8> {
    let mut mcfg = MCFG::new(OEM, OEM_TABLE, REVISION);
    mcfg.add_ecam(pc::ECAM_BASE, 0, 0, 0);
    bytes(&mcfg)
}

/// Windows ACPI Emulated Devices Table.
fn waet() -> Sdt {
    let mut waet = Sdt::new(*b"WAET", 36, 1, OEM, OEM_TABLE, REVISION);
    waet.append_slice(&WAET_GOOD.to_le_bytes());
    waet
}

fn dsdt(config: &TableConfig) -> Sdt {
    let mut devices = pci_root(config);
    devices.extend(isa_devices(config));
    let mut dsdt = Sdt::new(*b"DSDT", 36, 2, OEM, OEM_TABLE, REVISION);
    dsdt.append_slice(&Scope::raw(Path::new("\\_SB_"), devices));
    let mut s5 = PackageBuilder::new();
    s5.add_element(&SLEEP_TYPE_S5);
    s5.add_element(&SLEEP_TYPE_S5);
    dsdt.append_slice(&bytes(&Name::new(Path::new("_S5_"), &s5)));
    dsdt
}

/// A device whose children are constants.
fn device(name: &str, hid: &dyn Aml, children: Vec<Name>) -> Vec<u8> {
    let hid = Name::new(Path::new("_HID"), hid);
    let mut all: Vec<&dyn Aml> = vec![&hid];
    all.extend(children.iter().map(|c| c as &dyn Aml));
    bytes(&Device::new(Path::new(name), all))
}

fn crs(resources: Vec<&dyn Aml>) -> Name {
    Name::new(Path::new("_CRS"), &ResourceTemplate::new(resources))
}

fn pci_root(config: &TableConfig) -> Vec<u8> {
    let last = |w: Window| w.base + w.len - 1;
    let (io, mem) = (config.pci_io, config.pci_mem);
    let windows = crs(vec![
        &AddressSpace::<u16>::new_bus_number(0, 0),
        &AddressSpace::<u16>::new_io(io.base as u16, last(io) as u16, None),
        &AddressSpace::<u32>::new_memory(
            AddressSpaceCacheable::NotCacheable,
            true,
            mem.base as u32,
            last(mem) as u32,
            None,
        ),
    ]);
    let mut prt = PackageBuilder::new();
    config.routes.iter().for_each(|route| prt.add_element(&prt_entry(route)));
    let names = vec![
        Name::new(Path::new("_CID"), &EISAName::new("PNP0A03")),
        Name::new(Path::new("_BBN"), &aml::ZERO),
        windows,
        Name::new(Path::new("_PRT"), &prt),
    ];
    let mut out = device("PCI0", &EISAName::new("PNP0A08"), names);
    // Linux takes the ECAM window only from a motherboard resource (or E820).
    let ecam = Memory32Fixed::new(true, pc::ECAM_BASE as u32, pc::ECAM_LEN as u32);
    out.extend(device("ECAM", &EISAName::new("PNP0C02"), vec![crs(vec![&ecam])]));
    out
}

/// Section 6.2.13: any function of the slot; pins count from 0; no link device, so a plain GSI, which Linux
/// takes as level, active low (drivers/acpi/pci_irq.c) and programs even where it is an ISA interrupt.
fn prt_entry(route: &IntxRoute) -> PackageBuilder {
    let mut entry = PackageBuilder::new();
    entry.add_element(&(u32::from(route.slot) << 16 | 0xffff));
    entry.add_element(&(route.pin - 1));
    entry.add_element(&aml::ZERO);
    entry.add_element(&route.gsi);
    entry
}

fn isa_devices(config: &TableConfig) -> Vec<u8> {
    let mut out = Vec::new();
    for (n, (base, irq)) in (1_u8..).zip(pc::COM).take(config.serial) {
        let uid = Name::new(Path::new("_UID"), &n);
        let resources = crs(vec![&ports(base, 8), &isa_interrupt(irq)]);
        out.extend(device(&format!("COM{n}"), &EISAName::new("PNP0501"), vec![uid, resources]));
    }
    let (rtc, irq) = pc::RTC;
    let resources = crs(vec![&ports(rtc, 2), &isa_interrupt(irq)]);
    out.extend(device("RTC_", &EISAName::new("PNP0B00"), vec![resources]));
    if config.fw_cfg {
        out.extend(device("FWCF", &"QEMU0002", vec![crs(vec![&ports(pc::FW_CFG_BASE, 2)])]));
    }
    if config.pvpanic {
        out.extend(device("PVPN", &"QEMU0001", vec![crs(vec![&ports(pc::PVPANIC_PORT, 1)])]));
    }
    out
}

fn ports(base: u64, len: u8) -> IO {
    IO::new(base as u16, base as u16, 1, len)
}

/// ISA: edge, active high, not shared.
fn isa_interrupt(irq: u32) -> Interrupt {
    Interrupt::new(true, true, false, false, irq)
}
