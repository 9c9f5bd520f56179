//! The BARs: widths, places without a register, the I/O window, aliases, reset.

use minivmm::bus::{Access, AccessError, Width};
use minivmm::nic::e1000::spec::{cause, ctrl, reg};
use minivmm::nic::e1000::testing::{MAC, TestNic};
use minivmm::nic::e1000::{BAR_IO, BAR_MMIO, Config, Model};
use minivmm::pci::{BarKind, Function};

#[test]
fn the_function_is_an_82540em_with_a_memory_and_an_io_bar() {
    let bench = TestNic::default();
    let identity = bench.nic.identity();
    assert_eq!((identity.vendor, identity.device, identity.class), (0x8086, 0x100e, 0x02_0000));
    assert_eq!((identity.interrupt_pin, identity.min_gnt), (1, 0xff));
    let bars = bench.nic.bars();
    assert_eq!((bars[0].index, bars[0].kind, bars[0].size), (0, BarKind::Mem32, 0x2_0000));
    assert_eq!((bars[1].index, bars[1].kind, bars[1].size), (2, BarKind::Io, 64));
}

#[test]
fn narrow_reads_give_lanes_and_narrow_writes_are_lost() {
    let bench = TestNic::default();
    let nic = &bench.nic;
    bench.write(reg::FCAL, 0x1122_3344);
    let at = u64::from(reg::FCAL);
    assert_eq!(nic.bar_read(BAR_MMIO, at + 1, &Access::plain(Width::Byte)), Ok(0x33));
    assert_eq!(nic.bar_read(BAR_MMIO, at + 2, &Access::plain(Width::Word)), Ok(0x1122));
    let narrow = nic.bar_write(BAR_MMIO, at, 0xff, &Access::plain(Width::Byte));
    assert_eq!(narrow, Err(AccessError::Width));
    let skew = nic.bar_read(BAR_MMIO, at + 2, &Access::plain(Width::Dword));
    assert_eq!(skew, Err(AccessError::Misaligned));
    assert_eq!(bench.read(reg::FCAL), 0x1122_3344);
}

#[test]
fn a_quadword_is_two_registers() {
    let bench = TestNic::default();
    let quad = Access::plain(Width::Qword);
    bench.nic.bar_write(BAR_MMIO, 0x5408, 0x8000_6655_4433_2211, &quad).unwrap();
    assert_eq!(bench.read(0x5408), 0x4433_2211);
    assert_eq!(bench.read(0x540c), 0x8000_6655);
    assert_eq!(bench.nic.bar_read(BAR_MMIO, 0x5408, &quad), Ok(0x8000_6655_4433_2211));
}

#[test]
fn places_without_a_register_read_zero_and_take_nothing() {
    let bench = TestNic::default();
    for offset in [0x3c, 0x5818, 0x6000, 0x7004, 0xfffc] {
        bench.write(offset, 0xffff_ffff);
        assert_eq!(bench.read(offset), 0, "{offset:#x}");
    }
}

#[test]
fn the_io_window_reaches_every_register() {
    let bench = TestNic::default();
    bench.io_write(reg::FCAL, 0xdead_beef);
    assert_eq!(bench.read(reg::FCAL), 0xdead_beef);
    assert_eq!(bench.io_read(reg::FCAL), 0xdead_beef);
    let word = Access::plain(Width::Word);
    let dword = Access::plain(Width::Dword);
    bench.nic.bar_write(BAR_IO, 0, 0x1234, &word).unwrap();
    assert_eq!(bench.nic.bar_read(BAR_IO, 0, &dword), Ok(u64::from(reg::FCAL)), "narrow writes are lost");
    bench.nic.bar_write(BAR_IO, 0, 0xffff_ffff, &dword).unwrap();
    assert_eq!(bench.nic.bar_read(BAR_IO, 0, &dword), Ok(0x000f_ffff), "bits 31:20 are hard-wired");
    assert_eq!(bench.nic.bar_read(BAR_IO, 4, &dword), Ok(0));
}

#[test]
fn the_82542_places_are_the_same_registers() {
    let bench = TestNic::default();
    bench.write(0x0110, 0x1234_5670);
    assert_eq!(bench.read(reg::RDBAL), 0x1234_5670);
    bench.write(reg::MTA + 8, 5);
    assert_eq!(bench.read(0x0208), 5);
}

#[test]
fn reset_through_the_io_window_resets_but_keeps_what_the_manual_says() {
    let bench = TestNic::default();
    bench.write(reg::RDBAL, 0x1000);
    bench.write(reg::MTA, 7);
    bench.write(reg::RDLEN, 0x1000);
    bench.write(reg::RDT, 5);
    bench.write(0x540c, 0x8000_0001);
    bench.write(reg::IMS, cause::RXT0);
    bench.write(reg::ICS, cause::RXT0);
    assert!(bench.interrupted());
    bench.io_write(reg::CTRL, bench.read(reg::CTRL) | ctrl::RST);
    assert!(!bench.interrupted(), "INTx falls");
    assert_eq!(bench.read(reg::CTRL) & ctrl::RST, 0, "RST clears itself");
    assert_eq!((bench.read(reg::RDBAL), bench.read(reg::MTA)), (0x1000, 7));
    assert_eq!((bench.read(reg::RDLEN), bench.read(reg::RDT)), (0, 0));
    assert_eq!((bench.read(reg::IMS), bench.read(0x540c)), (0, 0));
    assert_eq!(bench.read(reg::RAL), u32::from_le_bytes([MAC[0], MAC[1], MAC[2], MAC[3]]));
    assert_eq!(bench.read(reg::RAH), 0x8000_0000 | u32::from(u16::from_le_bytes([MAC[4], MAC[5]])));
}

#[test]
fn bus_reset_clears_the_kept_registers_too() {
    let bench = TestNic::default();
    bench.write(reg::RDBAL, 0x1000);
    bench.write(reg::MTA, 7);
    bench.phy_write(16, 0x0808);
    bench.nic.bus_reset();
    assert_eq!((bench.read(reg::RDBAL), bench.read(reg::MTA)), (0, 0));
    assert_eq!(bench.phy_read(16), 0x0360);
}

#[test]
fn the_other_models_have_their_own_ids() {
    for (model, device, phy) in [
        (Model::I82540Em, 0x100e, 0x0c20),
        (Model::I82545Em, 0x100f, 0x0c20),
        (Model::I82544Gc, 0x100c, 0x0c30),
    ] {
        let bench = TestNic::new(Config { model, ..Config::new(MAC) });
        assert_eq!(bench.nic.identity().device, device);
        assert_eq!((bench.phy_read(2), bench.phy_read(3)), (0x0141, phy));
        assert_eq!(bench.nic.eeprom().device_id(), device);
    }
}

#[test]
fn the_82545_has_a_64_bit_bar_and_its_io_window_behind_it() {
    let bench = TestNic::new(Config { model: Model::I82545Em, ..Config::new(MAC) });
    let bars = bench.nic.bars();
    assert_eq!((bars[0].index, bars[0].kind), (0, BarKind::Mem64));
    assert_eq!((bars[1].index, bars[1].kind, bars[1].size), (4, BarKind::Io, 64));
    bench.io_write(reg::FCAL, 7);
    assert_eq!(bench.read(reg::FCAL), 7);
    let stray = bench.nic.bar_read(BAR_IO, 0, &Access::plain(Width::Dword));
    assert_eq!(stray, Err(AccessError::NoRegister));
}
