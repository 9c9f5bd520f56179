//! BAR sizing, moving, decoding and conflicts.

use std::sync::Arc;

use minivmm::bus::Width;
use minivmm::machine::pc;

use crate::probe::{Call, Fixed, IO, MEM32, MEM64, NOBODY, TestBus};

#[test]
fn sizing_reads_back_the_size_and_the_kind_of_each_bar() {
    let (bus, dev) = TestBus::with_probe();
    bus.set_command(dev.bdf, 0);
    for offset in (0x10..0x28).step_by(4) {
        bus.write(dev.bdf, offset, Width::Dword, NOBODY);
    }
    let sizes: Vec<_> = (0x10..0x28).step_by(4).map(|at| bus.read(dev.bdf, at, Width::Dword)).collect();
    assert_eq!(sizes, [0xfffe_0000, 0xffff_ffc1, 0xffff_c004, 0xffff_ffff, 0, 0]);
    bus.write(dev.bdf, 0x30, Width::Dword, NOBODY);
    assert_eq!(bus.read(dev.bdf, 0x30, Width::Dword), 0, "there is no expansion ROM");
}

#[test]
fn sizing_byte_by_byte_gives_the_same_as_by_dwords() {
    let (bus, dev) = TestBus::with_probe();
    for offset in 0x10..0x28 {
        bus.write(dev.bdf, offset, Width::Byte, 0xff);
    }
    assert_eq!(bus.read(dev.bdf, 0x10, Width::Dword), 0xfffe_0000);
    assert_eq!(bus.read(dev.bdf, 0x12, Width::Word), 0xfffe);
    assert_eq!(bus.read(dev.bdf, 0x14, Width::Dword), 0xffff_ffc1);
}

#[test]
fn a_bar_answers_over_its_whole_size_and_not_beyond() {
    let (bus, dev) = TestBus::with_probe();
    let base = bus.bar(dev.bdf, MEM32);
    assert_eq!(bus.mem(base + 0x1fffc), 0x1fffc);
    let io = bus.bar(dev.bdf, IO);
    assert_eq!(bus.port(io + 60), 0x1000 + 60);
    assert_eq!(bus.port(io + 62), NOBODY, "an access across the end belongs to nobody");
    bus.pio.write(io + 4, 7, &minivmm::bus::Access::plain(Width::Word));
    assert_eq!(dev.probe.take(), [Call::Read(0, 0x1fffc), Call::Read(1, 60), Call::Write(1, 4, 7)]);
}

#[test]
fn sizing_while_decoding_is_on_answers_nowhere_and_comes_back() {
    let (bus, dev) = TestBus::with_probe();
    let base = bus.bar(dev.bdf, MEM32);
    bus.write(dev.bdf, 0x10, Width::Dword, NOBODY);
    assert_eq!((bus.mem(base), bus.mem(0xfffe_0000)), (NOBODY, NOBODY));
    bus.write(dev.bdf, 0x10, Width::Dword, base);
    assert_eq!(bus.mem(base + 8), 8);
}

#[test]
fn moving_a_bar_moves_what_answers() {
    let (bus, dev) = TestBus::with_probe();
    let old = bus.bar(dev.bdf, MEM32);
    bus.write(dev.bdf, 0x10, Width::Dword, 0xd123_4567);
    assert_eq!(bus.read(dev.bdf, 0x10, Width::Dword), 0xd122_0000, "low bits are not writable");
    assert_eq!((bus.mem(old), bus.mem(0xd122_0010)), (NOBODY, 0x10));
    bus.write(dev.bdf, 0x14, Width::Dword, 0x1234);
    assert_eq!((bus.port(0x1200), bus.read(dev.bdf, 0x14, Width::Dword)), (0x1000, 0x1201));
}

#[test]
fn a_64_bit_bar_moves_above_4_gib_in_two_halves() {
    let (bus, dev) = TestBus::with_probe();
    let old = bus.bar(dev.bdf, MEM64);
    bus.write(dev.bdf, 0x1c, Width::Dword, 0x12);
    assert_eq!(bus.mem(old), NOBODY);
    bus.write(dev.bdf, 0x18, Width::Dword, 0x3456_8000);
    assert_eq!(bus.mem(0x12_3456_8004), 0x2004);
    bus.write(dev.bdf, 0x1c, Width::Dword, 0xffff_ffff);
    assert_eq!(bus.mem(0x12_3456_8004), NOBODY);
    assert!(bus.pci.claims().iter().any(|c| c.bar == MEM64 && !c.decodes));
    bus.write(dev.bdf, 0x1c, Width::Dword, 0);
    bus.write(dev.bdf, 0x18, Width::Dword, 0xd000_0000);
    assert_eq!(bus.mem(0xd000_0000), 0x2000);
}

#[test]
fn a_bar_over_ram_ecam_ioapic_or_nothing_does_not_decode() {
    let (bus, dev) = TestBus::with_probe();
    let good = bus.bar(dev.bdf, MEM32);
    for bad in
        [0, pc::ECAM_BASE, pc::IOAPIC_BASE, pc::LAPIC_BASE, pc::KVM_IDENTITY_MAP_BASE, 0xfffe_0000, 0x8_0000]
    {
        let before = bus.mem(bad & !0x1_ffff);
        bus.write(dev.bdf, 0x10, Width::Dword, bad);
        assert_eq!(bus.mem(bad & !0x1_ffff), before, "{bad:#x}");
        assert_eq!(dev.probe.take(), [], "{bad:#x}");
        assert_eq!(
            bus.read(dev.bdf, 0x10, Width::Dword),
            bad & !0x1_ffff,
            "the register holds it all the same"
        );
    }
    bus.write(dev.bdf, 0x10, Width::Dword, good);
    assert_eq!(bus.mem(good), 0);
}

#[test]
fn ecam_still_answers_after_a_bar_was_put_over_it() {
    let (bus, dev) = TestBus::with_probe();
    bus.write(dev.bdf, 0x10, Width::Dword, pc::ECAM_BASE);
    assert_eq!(bus.mem(pc::ECAM_BASE + (3 << 15)), 0x100e_8086);
}

#[test]
fn an_io_bar_never_covers_chipset_ports() {
    let (bus, dev) = TestBus::with_probe();
    bus.pio.insert("late chip", 0x2000, 4, Arc::new(Fixed)).unwrap();
    for bad in [0, 0x3c0, 0xcc0, 0xfc0, 0x2000, 0x1_0000] {
        bus.write(dev.bdf, 0x14, Width::Dword, bad);
        bus.port(bad);
        assert_eq!(dev.probe.take(), [], "{bad:#x}");
    }
    assert_eq!(bus.port(0x2000), 0xf1);
}

#[test]
fn of_two_bars_at_one_address_the_first_answers_and_the_other_returns_when_it_leaves() {
    let bus = TestBus::new();
    let (a, b) = (bus.plug(3), bus.plug(4));
    bus.pci.program_bars().unwrap();
    let at = bus.bar(a.bdf, MEM32);
    let away = bus.bar(b.bdf, MEM32);
    bus.write(b.bdf, 0x10, Width::Dword, at);
    bus.mem(at);
    assert_eq!((a.probe.take().len(), b.probe.take().len()), (1, 0));
    bus.write(a.bdf, 0x10, Width::Dword, away);
    bus.mem(at);
    assert_eq!((a.probe.take().len(), b.probe.take().len()), (0, 1));
}
