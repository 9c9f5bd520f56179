//! INTx gating, MSI, the capability list.

use minivmm::bus::Width;
use minivmm::memory::DmaError;

use crate::probe::{MSI, PM, TestBus};

#[test]
fn intx_disable_keeps_the_wire_low_while_status_shows_the_cause() {
    let (bus, dev) = TestBus::with_probe();
    dev.intx.set_level(true);
    assert!(dev.intx.level());
    bus.set_command(dev.bdf, 0x0400);
    assert!(!dev.intx.level());
    assert_eq!(bus.status(dev.bdf) & 8, 8);
    bus.set_command(dev.bdf, 0);
    assert!(dev.intx.level());
    dev.intx.set_level(false);
    assert_eq!(bus.status(dev.bdf) & 8, 0);
}

#[test]
fn the_capability_list_leads_through_power_management_to_msi() {
    let (bus, dev) = TestBus::with_probe();
    assert_eq!(bus.status(dev.bdf) & 0x10, 0x10);
    assert_eq!(bus.read(dev.bdf, 0x34, Width::Byte), u64::from(PM));
    assert_eq!(bus.read(dev.bdf, PM, Width::Dword), 0xc822_0001 | u64::from(MSI) << 8);
    assert_eq!(bus.read(dev.bdf, MSI, Width::Dword), 0x0080_0005);
}

#[test]
fn msi_sends_what_was_programmed_and_silences_intx() {
    let (bus, dev) = TestBus::with_probe();
    bus.set_command(dev.bdf, 0b110);
    dev.intx.set_level(true);
    bus.write(dev.bdf, MSI + 4, Width::Dword, 0xfee0_1007);
    bus.write(dev.bdf, MSI + 12, Width::Word, 0x4041);
    dev.msi.send().unwrap();
    assert_eq!(*bus.messages.0.lock().unwrap(), [], "not enabled yet");
    bus.write(dev.bdf, MSI + 2, Width::Word, 1);
    assert!(dev.msi.enabled() && !dev.intx.level());
    dev.msi.send().unwrap();
    assert_eq!(*bus.messages.0.lock().unwrap(), [(0xfee0_1004, 0x4041)]);
    bus.write(dev.bdf, MSI + 2, Width::Word, 0);
    assert!(dev.intx.level());
}

#[test]
fn msi_without_bus_mastering_is_lost() {
    let (bus, dev) = TestBus::with_probe();
    bus.write(dev.bdf, MSI + 2, Width::Word, 1);
    assert_eq!(dev.msi.send(), Err(DmaError::BusMasterOff));
}
