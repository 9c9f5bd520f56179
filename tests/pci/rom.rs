//! The expansion ROM's base address register (PCI Local Bus 3.0, section 6.2.5.2).

use std::sync::Arc;

use minivmm::bus::{Access, Width};
use minivmm::pci::MAX_ROM;

use crate::probe::{NOBODY, Plugged, TestBus};

const ROM_BAR: u8 = 0x30;

/// A function with a ROM of `len` bytes, which count up.
fn with_rom(len: usize) -> (TestBus, Plugged) {
    let bus = TestBus::new();
    let rom: Arc<[u8]> = (0..len).map(|i| i as u8).collect();
    let dev = bus.plug_with_rom(3, Some(rom));
    bus.pci.program_bars().unwrap();
    (bus, dev)
}

#[test]
fn its_size_is_the_next_power_of_two_of_at_least_2_kib() {
    for (len, expected) in
        [(512, 0xffff_f801), (2048, 0xffff_f801), (75264, 0xfffe_0001), (2049, 0xffff_f001)]
    {
        let (bus, dev) = with_rom(len);
        bus.write(dev.bdf, ROM_BAR, Width::Dword, NOBODY);
        assert_eq!(bus.read(dev.bdf, ROM_BAR, Width::Dword), expected, "{len} bytes");
        bus.write(dev.bdf, ROM_BAR, Width::Dword, 0xffff_fffe);
        assert_eq!(bus.read(dev.bdf, ROM_BAR, Width::Dword), expected & !1, "without the enable bit");
    }
}

#[test]
fn it_answers_only_with_its_enable_bit_and_memory_decoding() {
    let (bus, dev) = with_rom(5000);
    let base = bus.read(dev.bdf, ROM_BAR, Width::Dword);
    assert_eq!(base & 0x7ff, 0, "firmware leaves it off");
    assert_eq!(bus.mem(base), NOBODY);
    bus.write(dev.bdf, ROM_BAR, Width::Dword, base | 1);
    assert_eq!(bus.mem(base), 0x0302_0100);
    bus.set_command(dev.bdf, 0);
    assert_eq!(bus.mem(base), NOBODY);
    bus.set_command(dev.bdf, 2);
    bus.write(dev.bdf, ROM_BAR, Width::Dword, 0xd000_0001);
    assert_eq!((bus.mem(base), bus.mem(0xd000_0004)), (NOBODY, 0x0706_0504));
    bus.write(dev.bdf, ROM_BAR, Width::Byte, 0);
    assert_eq!(bus.mem(0xd000_0004), NOBODY);
}

#[test]
fn it_is_read_at_any_width_gives_ones_behind_its_image_and_takes_no_writes() {
    let (bus, dev) = with_rom(4097);
    bus.write(dev.bdf, ROM_BAR, Width::Dword, 0xd000_0001);
    let read = |at: u64, width| bus.mmio.read(0xd000_0000 + at, &Access::plain(width));
    assert_eq!(read(0x81, Width::Byte), 0x81);
    assert_eq!(read(0x81, Width::Word), 0x8281);
    assert_eq!(read(0x10, Width::Qword), 0x1716_1514_1312_1110);
    assert_eq!(read(4096, Width::Dword), 0xffff_ff00);
    assert_eq!(read(0x1fff, Width::Byte), 0xff);
    bus.mmio.write(0xd000_0000, 0, &Access::plain(Width::Dword));
    assert_eq!(read(0, Width::Dword), 0x0302_0100);
    assert_eq!(dev.probe.take(), [], "the device never hears of it");
    bus.pci.reset().unwrap();
    assert_eq!(read(0, Width::Dword), NOBODY);
}

#[test]
fn a_rom_that_is_too_large_is_refused() {
    let bus = TestBus::new();
    let rom: Arc<[u8]> = vec![0; MAX_ROM as usize + 1].into();
    let dev = bus.plug(4);
    let wires = minivmm::pci::Wires::dma_only(dev.dma.clone());
    assert!(bus.pci.add_with_rom(5, dev.probe, wires, Some(rom)).is_err());
}
