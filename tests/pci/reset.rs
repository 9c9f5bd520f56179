//! RST#.

use minivmm::bus::Width;

use crate::probe::{Call, MEM32, MSI, PM, TestBus};

#[test]
fn reset_brings_back_the_state_before_boot() {
    let (bus, dev) = TestBus::with_probe();
    let config = || (0..=255).map(|o| bus.read(dev.bdf, o, Width::Byte)).collect::<Vec<_>>();
    let (before, claims) = (config(), bus.pci.claims());
    for offset in (0..=255).filter(|o| !(PM..PM + 8).contains(o)) {
        bus.write(dev.bdf, offset, Width::Byte, 0xff);
    }
    bus.write(dev.bdf, 0x10, Width::Dword, 0xd000_0000);
    assert!(dev.dma.enabled());
    dev.probe.take();
    bus.pci.reset().unwrap();
    assert_eq!(config(), before);
    assert_eq!(bus.pci.claims(), claims);
    assert!(!dev.dma.enabled() && !dev.msi.enabled());
    let calls = dev.probe.take();
    assert_eq!(calls.last(), Some(&Call::Reset));
    assert!(calls.contains(&Call::BusMaster(false)));
    assert_eq!(bus.mem(bus.bar(dev.bdf, MEM32)), 0);
}

#[test]
fn an_interrupt_disabled_before_reset_can_leave_after_it() {
    let (bus, dev) = TestBus::with_probe();
    bus.set_command(dev.bdf, 0x0400);
    bus.write(dev.bdf, MSI + 2, Width::Word, 1);
    bus.pci.reset().unwrap();
    dev.intx.set_level(true);
    assert!(dev.intx.level());
}
