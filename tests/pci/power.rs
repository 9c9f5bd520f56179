//! D0 and D3hot.

use minivmm::bus::Width;
use minivmm::pci::PowerState;

use crate::probe::{Call, MEM32, NOBODY, PM, TestBus};

#[test]
fn in_d3hot_only_configuration_space_answers() {
    let (bus, dev) = TestBus::with_probe();
    let base = bus.bar(dev.bdf, MEM32);
    bus.set_command(dev.bdf, 0b111);
    dev.intx.set_level(true);
    dev.probe.take();
    bus.write(dev.bdf, PM + 4, Width::Word, 3);
    assert_eq!((bus.mem(base), dev.dma.enabled(), dev.intx.level()), (NOBODY, false, false));
    assert_eq!(bus.read(dev.bdf, 0, Width::Word), 0x8086);
    assert_eq!(dev.probe.take(), [Call::Power(PowerState::D3hot), Call::BusMaster(false)]);
}

#[test]
fn waking_loses_bars_and_command_but_not_the_interrupt_line() {
    let (bus, dev) = TestBus::with_probe();
    let line = bus.read(dev.bdf, 0x3c, Width::Byte);
    bus.write(dev.bdf, PM + 4, Width::Word, 0x0103);
    dev.probe.take();
    bus.write(dev.bdf, PM + 4, Width::Word, 0x0100);
    assert_eq!((bus.bar(dev.bdf, MEM32), bus.command(dev.bdf)), (0, 0));
    assert_eq!(bus.read(dev.bdf, 0x3c, Width::Byte), line);
    assert_eq!(bus.read(dev.bdf, PM + 4, Width::Word), 0x0100, "PME enable stays");
    assert_eq!(dev.probe.take(), [Call::Power(PowerState::D0)]);
}

#[test]
fn d1_and_d2_are_refused() {
    let (bus, dev) = TestBus::with_probe();
    for state in [1, 2] {
        bus.write(dev.bdf, PM + 4, Width::Word, state);
        assert_eq!(bus.read(dev.bdf, PM + 4, Width::Word), 0);
    }
    bus.write(dev.bdf, PM + 4, Width::Word, 3);
    bus.write(dev.bdf, PM + 4, Width::Word, 1);
    assert_eq!(bus.read(dev.bdf, PM + 4, Width::Word), 3);
}
