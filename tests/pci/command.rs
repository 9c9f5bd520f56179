//! Command and Status.

use minivmm::bus::Width;
use minivmm::memory::DmaError;

use crate::probe::{Call, IO, MEM32, NOBODY, TestBus};

#[test]
fn before_boot_memory_and_io_are_on_and_bus_mastering_is_off() {
    let (bus, dev) = TestBus::with_probe();
    assert_eq!(bus.command(dev.bdf), 0b011);
    assert!(!dev.dma.enabled());
    assert_eq!(dev.probe.take(), []);
}

#[test]
fn memory_and_io_decoding_are_switched_apart() {
    let (bus, dev) = TestBus::with_probe();
    let (mem, io) = (bus.bar(dev.bdf, MEM32), bus.bar(dev.bdf, IO));
    bus.set_command(dev.bdf, 0b010);
    assert_eq!((bus.mem(mem), bus.port(io)), (0, NOBODY));
    bus.set_command(dev.bdf, 0b001);
    assert_eq!((bus.mem(mem), bus.port(io)), (NOBODY, 0x1000));
    bus.set_command(dev.bdf, 0);
    assert_eq!((bus.mem(mem), bus.port(io)), (NOBODY, NOBODY));
    assert_eq!(bus.bar(dev.bdf, MEM32), mem, "the address stays");
}

#[test]
fn bus_master_enable_opens_dma_and_tells_the_device_once() {
    let (bus, dev) = TestBus::with_probe();
    assert_eq!(dev.dma.write(0, &[1]), Err(DmaError::BusMasterOff));
    bus.set_command(dev.bdf, 0b111);
    bus.set_command(dev.bdf, 0b111);
    dev.dma.write(0, &[1]).unwrap();
    bus.write(dev.bdf, 4, Width::Byte, 0b011);
    assert!(!dev.dma.enabled());
    assert_eq!(dev.probe.take(), [Call::BusMaster(true), Call::BusMaster(false)]);
}

#[test]
fn command_keeps_only_the_bits_that_exist() {
    let (bus, dev) = TestBus::with_probe();
    bus.set_command(dev.bdf, 0xffff);
    assert_eq!(bus.command(dev.bdf), 0x0557);
}

#[test]
fn a_master_abort_shows_in_status_until_software_clears_it() {
    let (bus, dev) = TestBus::with_probe();
    bus.set_command(dev.bdf, 0b100);
    assert!(dev.dma.write(crate::probe::RAM, &[1]).is_err());
    assert_eq!(bus.status(dev.bdf) & 0x2000, 0x2000);
    bus.write(dev.bdf, 6, Width::Word, 0x1000);
    assert_eq!(bus.status(dev.bdf) & 0x2000, 0x2000, "another bit's one does not clear it");
    bus.write(dev.bdf, 4, Width::Dword, 0x2000_0004);
    assert_eq!(bus.status(dev.bdf) & 0x2000, 0);
}

#[test]
fn identity_is_read_only() {
    let (bus, dev) = TestBus::with_probe();
    for offset in
        (0..0x40).step_by(4).filter(|o| ![0x04, 0x0c, 0x3c].contains(o) && !(0x10..0x28).contains(o))
    {
        let before = bus.read(dev.bdf, offset, Width::Dword);
        bus.write(dev.bdf, offset, Width::Dword, !before);
        assert_eq!(bus.read(dev.bdf, offset, Width::Dword), before, "{offset:#x}");
    }
    assert_eq!(bus.read(dev.bdf, 0, Width::Dword), 0x100e_8086);
    assert_eq!(bus.read(dev.bdf, 8, Width::Dword), 0x0200_0003);
    assert_eq!(bus.read(dev.bdf, 0x2c, Width::Dword), 0x1100_1af4);
    assert_eq!(bus.read(dev.bdf, 0x3d, Width::Word), 0xff01);
    bus.write(dev.bdf, 0x3c, Width::Byte, 42);
    assert_eq!(bus.read(dev.bdf, 0x3c, Width::Byte), 42);
}
