//! What each kind of reset leaves: CTRL.RST by three ways, D3hot to D0, RST#, the PHY's own.

use minivmm::nic::e1000::regs::table::{Class, Effect, OnReset, Reg, TABLE};
use minivmm::nic::e1000::spec::{ctrl, rctl, reg, tctl, txd};
use minivmm::nic::e1000::testing::{MAC, OTHER, TX_BUFFERS, TestNic, frame_to};
use minivmm::pci::{Function, PowerState};

const CTRL_DUP: u32 = 0x0004;

type Reset = fn(&TestNic);

/// The ways to reset the device without resetting its slot.
fn device_resets() -> Vec<(&'static str, Reset)> {
    vec![
        ("CTRL.RST", |bench| bench.write(reg::CTRL, ctrl::RST)),
        ("CTRL_DUP.RST", |bench| bench.write(CTRL_DUP, ctrl::RST)),
        ("CTRL.RST by IODATA", |bench| bench.io_write(reg::CTRL, ctrl::RST)),
        ("D3hot to D0", |bench| {
            bench.nic.power_state_changed(PowerState::D3hot);
            bench.nic.power_state_changed(PowerState::D0);
        }),
    ]
}

/// Registers that are nothing but storage, or whose side effects do not change what they hold.
fn plain() -> impl Iterator<Item = &'static Reg> {
    TABLE.iter().filter(|row| {
        let harmless = matches!(
            row.effect,
            Effect::None
                | Effect::RxRing
                | Effect::TxRing
                | Effect::Rdt
                | Effect::Tdt
                | Effect::Rdtr
                | Effect::Tidv
        );
        row.class == Class::Rw && harmless && !loaded_from_the_eeprom(row.offset)
    })
}

fn loaded_from_the_eeprom(offset: u32) -> bool {
    [reg::RAL, reg::RAH, reg::LEDCTL].contains(&offset)
}

fn elements(row: &Reg) -> [u32; 2] {
    [row.offset, row.offset + (row.count - 1) * row.stride]
}

fn scribble(bench: &TestNic) {
    for row in plain() {
        for offset in elements(row) {
            bench.write(offset, 0x5a5a_5a5a);
        }
    }
}

#[test]
fn every_register_has_its_reset_value_or_is_kept_as_the_table_says() {
    for (name, reset) in device_resets() {
        let bench = TestNic::default();
        scribble(&bench);
        let before: Vec<u32> = plain().map(|row| bench.read(row.offset)).collect();
        reset(&bench);
        for (row, before) in plain().zip(before) {
            let expected = if row.on_reset == OnReset::Keep { before } else { row.reset };
            for offset in elements(row) {
                assert_eq!(bench.read(offset), expected, "{} after {name}", row.name);
            }
        }
        assert_eq!(bench.read(reg::LEDCTL), 0x0706_8302);
        assert_eq!((bench.read(reg::RCTL), bench.read(reg::TCTL)), (0, 0));
    }
}

#[test]
fn rst_on_the_bus_gives_every_register_its_reset_value() {
    let bench = TestNic::default();
    scribble(&bench);
    bench.write(reg::PBA, 8);
    bench.nic.bus_reset();
    for row in plain() {
        for offset in elements(row) {
            assert_eq!(bench.read(offset), row.reset, "{}", row.name);
        }
    }
    assert_eq!(bench.read(reg::PBA), 0x0010_0030);
}

#[test]
fn the_first_address_is_loaded_again_and_the_others_are_invalid() {
    for (name, reset) in device_resets() {
        let bench = TestNic::default();
        for n in 0..16 {
            bench.write(reg::RAL + 8 * n, 0x1111_1111);
            bench.write(reg::RAH + 8 * n, 0x8000_2222);
        }
        reset(&bench);
        assert_eq!(bench.read(reg::RAL), u32::from_le_bytes([MAC[0], MAC[1], MAC[2], MAC[3]]), "{name}");
        let high = u32::from(u16::from_le_bytes([MAC[4], MAC[5]]));
        assert_eq!(bench.read(reg::RAH), 1 << 31 | high);
        assert!((1..16).all(|n| bench.read(reg::RAH + 8 * n) >> 31 == 0));
    }
}

#[test]
fn phy_and_eeprom_outlive_a_device_reset() {
    for (name, reset) in device_resets() {
        let bench = TestNic::default();
        bench.phy_write(16, 0x0808);
        bench.phy_write(4, 0x0061);
        bench.read(reg::ICR);
        let words = bench.nic.eeprom();
        reset(&bench);
        assert_eq!((bench.phy_read(16), bench.phy_read(4)), (0x0808, 0x0061), "{name}");
        assert_eq!(bench.nic.eeprom(), words);
        bench.phy_read(1);
        assert_eq!(bench.phy_read(1) & 4, 4, "the PHY's link stays up");
    }
}

#[test]
fn rst_on_the_bus_resets_the_phy_and_negotiates_anew() {
    use minivmm::nic::e1000::Config;
    use minivmm::nic::e1000::spec::status;
    let bench = TestNic::new(Config { link_delay_ns: 1_000_000, ..Config::new(MAC) });
    bench.advance(1_000_000);
    bench.phy_write(16, 0x0808);
    bench.nic.bus_reset();
    assert_eq!(bench.phy_read(16), 0x0360);
    assert_eq!(bench.read(reg::STATUS) & status::LU, 0);
    bench.advance(1_000_000);
    assert_eq!(bench.read(reg::STATUS) & status::LU, status::LU);
}

#[test]
fn a_packet_in_pieces_does_not_outlive_a_reset() {
    for (name, reset) in device_resets() {
        let mut bench = TestNic::default();
        bench.start_tx(16);
        bench.poke(TX_BUFFERS, &frame_to(OTHER, 200));
        bench.queue_legacy(TX_BUFFERS, 100, txd::IFCS);
        bench.ring_doorbell();
        reset(&bench);
        bench.start_tx(16);
        let frame = frame_to(OTHER, 60);
        bench.send(&frame);
        assert_eq!(bench.peer.take_all(), [frame], "{name}");
    }
}

#[test]
fn a_packet_that_a_full_peer_refused_does_not_outlive_a_reset() {
    for (name, reset) in device_resets() {
        let mut bench = TestNic::default();
        bench.start_tx(16);
        bench.peer.set_room(0);
        bench.send(&frame_to(OTHER, 60));
        reset(&bench);
        bench.peer.set_room(10);
        use minivmm::netport::FramePort;
        bench.nic.peer_ready();
        assert!(bench.peer.take().is_none(), "{name}");
    }
}

#[test]
fn no_reset_is_left_half_done_by_writing_other_bits_with_it() {
    let bench = TestNic::default();
    bench.write(reg::CTRL, 0xffff_ffff);
    assert_eq!(bench.read(reg::CTRL), 0x0000_0a09, "the value written with RST is lost");
}

#[test]
fn units_that_were_on_are_off_afterwards_and_can_be_started_again() {
    for (name, reset) in device_resets() {
        let mut bench = TestNic::default();
        bench.start_tx(16);
        bench.start_rx(16, rctl::BAM);
        bench.write(reg::TCTL, tctl::EN);
        reset(&bench);
        assert_ne!(bench.inject(&frame_to(MAC, 60)), minivmm::netport::Delivery::Taken, "{name}");
        bench.start_tx(16);
        bench.start_rx(16, rctl::BAM);
        bench.send(&frame_to(OTHER, 60));
        assert!(bench.peer.take().is_some());
        bench.inject(&frame_to(MAC, 60));
        assert!(bench.receive().is_some());
    }
}
