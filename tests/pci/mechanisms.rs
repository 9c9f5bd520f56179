//! CF8/CFC and ECAM.

use std::sync::Arc;

use minivmm::bus::{Access, Bus, Pio, Width};
use minivmm::machine::pc;
use minivmm::memory::DmaHandle;
use minivmm::pci::{
    Bdf, CONFIG_PORTS_BASE, CONFIG_PORTS_LEN, ConfigPorts, HostBridge, IsaBridge, PciError, Wires,
};

use crate::probe::{Fixed, NOBODY, Plugged, TestBus};

fn with_ports() -> (TestBus, Plugged) {
    let (bus, dev) = TestBus::with_probe();
    let ports = Arc::new(ConfigPorts::new(bus.pci.clone(), Arc::new(Fixed)));
    bus.pio.insert("config", CONFIG_PORTS_BASE, CONFIG_PORTS_LEN, ports).unwrap();
    (bus, dev)
}

fn input(pio: &Bus<Pio>, port: u64, width: Width) -> u64 {
    pio.read(port, &Access::plain(width))
}

fn output(pio: &Bus<Pio>, port: u64, width: Width, value: u64) {
    pio.write(port, value, &Access::plain(width));
}

const CF8: u64 = 0xcf8;
const CFC: u64 = 0xcfc;
const SLOT3: u64 = 0x8000_0000 | 3 << 11;

#[test]
fn linux_detects_mechanism_one() {
    let (bus, _) = with_ports();
    output(&bus.pio, 0xcfb, Width::Byte, 1);
    output(&bus.pio, CF8, Width::Dword, 0x8000_0000);
    assert_eq!(input(&bus.pio, CF8, Width::Dword), 0x8000_0000);
}

#[test]
fn data_ports_take_bytes_words_and_dwords_in_their_lanes() {
    let (bus, _) = with_ports();
    output(&bus.pio, CF8, Width::Dword, SLOT3);
    assert_eq!(input(&bus.pio, CFC, Width::Dword), 0x100e_8086);
    assert_eq!(input(&bus.pio, CFC + 2, Width::Word), 0x100e);
    let bytes: Vec<_> = (0..4).map(|i| input(&bus.pio, CFC + i, Width::Byte)).collect();
    assert_eq!(bytes, [0x86, 0x80, 0x0e, 0x10]);
    output(&bus.pio, CF8, Width::Dword, SLOT3 | 0x3c);
    output(&bus.pio, CFC, Width::Byte, 0x77);
    output(&bus.pio, CFC + 1, Width::Byte, 0x77);
    assert_eq!(input(&bus.pio, CFC, Width::Word), 0x0177, "the pin is read-only");
    assert_eq!(input(&bus.pio, CFC + 3, Width::Word), 0xffff, "an access out of the dword is nobody's");
}

#[test]
fn config_address_takes_dwords_only_and_cf9_is_the_reset_register() {
    let (bus, _) = with_ports();
    output(&bus.pio, CF8, Width::Dword, SLOT3 | 0xff00_0003);
    output(&bus.pio, CF8, Width::Byte, 0xff);
    output(&bus.pio, CF8 + 2, Width::Word, 0xffff);
    assert_eq!(input(&bus.pio, CF8, Width::Dword), SLOT3);
    assert_eq!(input(&bus.pio, CF8, Width::Word), 0xffff);
    assert_eq!(input(&bus.pio, pc::RESET_PORT, Width::Byte), 0xf1);
}

#[test]
fn nobody_answers_without_the_enable_bit_or_where_no_function_is() {
    let (bus, dev) = with_ports();
    output(&bus.pio, CF8, Width::Dword, SLOT3 & 0x7fff_ffff);
    assert_eq!(input(&bus.pio, CFC, Width::Dword), NOBODY);
    for absent in [4 << 11, 3 << 11 | 1 << 8, 1 << 16 | 3 << 11] {
        output(&bus.pio, CF8, Width::Dword, 0x8000_0000 | absent);
        assert_eq!(input(&bus.pio, CFC, Width::Dword), NOBODY, "{absent:#x}");
        output(&bus.pio, CFC, Width::Dword, 0);
    }
    assert_eq!(bus.command(dev.bdf), 3);
}

#[test]
fn ecam_shows_the_same_registers_and_nothing_behind_256_bytes() {
    let (bus, dev) = TestBus::with_probe();
    let page = pc::ECAM_BASE + (3 << 15);
    let byte = Access::plain(Width::Byte);
    for offset in 0..=255_u8 {
        let by_ecam = bus.mmio.read(page + u64::from(offset), &byte);
        assert_eq!(by_ecam, bus.read(dev.bdf, offset, Width::Byte), "{offset:#x}");
    }
    assert_eq!(bus.mem(page + 0x100), NOBODY);
    assert_eq!(bus.mem(page + 0x1000), NOBODY);
    assert_eq!(bus.mem(page + 2), NOBODY, "not across a dword");
    bus.mmio.write(page + 4, 7, &Access::plain(Width::Word));
    assert!(dev.dma.enabled());
}

#[test]
fn the_host_bridge_tells_where_ecam_is() {
    let bus = TestBus::new();
    let wires = || Wires::dma_only(DmaHandle::new(bus.ram.clone(), None));
    bus.pci.add(0, Arc::new(HostBridge::new(pc::ECAM_BASE)), wires()).unwrap();
    bus.pci.add(31, Arc::new(IsaBridge), wires()).unwrap();
    let host = Bdf::on_bus0(0);
    assert_eq!(bus.read(host, 0, Width::Dword), 0x29c0_8086);
    let pciexbar = bus.read(host, 0x60, Width::Dword);
    assert_eq!((pciexbar & !0x3ff_ffff, pciexbar & 1), (pc::ECAM_BASE, 1));
    bus.write(host, 0x60, Width::Dword, 0);
    assert_eq!(bus.read(host, 0x60, Width::Dword), pciexbar, "it does not move");
    assert_eq!(bus.read(Bdf::on_bus0(31), 8, Width::Dword) >> 8, 0x06_01_00);
}

#[test]
fn a_slot_takes_one_function() {
    let bus = TestBus::new();
    let dma = || Wires::dma_only(DmaHandle::new(bus.ram.clone(), None));
    bus.pci.add(31, Arc::new(IsaBridge), dma()).unwrap();
    assert_eq!(bus.pci.add(31, Arc::new(IsaBridge), dma()), Err(PciError::SlotTaken(31)));
    assert_eq!(bus.pci.add(32, Arc::new(IsaBridge), dma()), Err(PciError::NoSuchSlot(32)));
}
