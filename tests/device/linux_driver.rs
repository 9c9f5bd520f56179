//! What Linux's e1000 driver does, in its order: probe, reset, PHY, rings, first frames.

use minivmm::netport::Delivery;
use minivmm::nic::e1000::spec::{cause, ctrl, rctl, reg, rxcsum, rxd, status, tctl, txd};
use minivmm::nic::e1000::testing::{MAC, OTHER, TestNic, frame_to};

/// Linux's interrupt mask: RXT0, TXDW, RXDMT0, RXSEQ, LSC.
const IMS_ENABLE: u32 = 0x9d;

fn reset(bench: &TestNic) {
    bench.write(reg::IMC, 0xffff_ffff);
    bench.write(reg::RCTL, 0);
    bench.write(reg::TCTL, tctl::PSP);
    bench.read(reg::STATUS);
    bench.io_write(reg::CTRL, bench.read(reg::CTRL) | ctrl::RST);
    bench.advance(5_000_000);
    bench.write(reg::MANC, bench.read(reg::MANC) & !(1 << 13));
    bench.write(reg::IMC, 0xffff_ffff);
    bench.read(reg::ICR);
}

fn init(bench: &TestNic) {
    bench.write(reg::VET, 0);
    for n in 0..15 {
        if n > 0 {
            bench.write(reg::RAL + 8 * n, 0);
            bench.write(reg::RAH + 8 * n, 0);
        }
    }
    for n in 0..128 {
        bench.write(reg::MTA + 4 * n, 0);
    }
    bench.write(reg::CTRL, (bench.read(reg::CTRL) | ctrl::SLU) & !(ctrl::FRCSPD | ctrl::FRCDPX));
    let id = u32::from(bench.phy_read(2)) << 16 | u32::from(bench.phy_read(3) & 0xfff0);
    assert_eq!(id, 0x0141_0c20, "the PHY that the driver expects");
    bench.phy_write(16, bench.phy_read(16) | 0x0060);
    bench.phy_write(0, bench.phy_read(0) | 0x8000);
    bench.phy_write(4, 0x0de1);
    bench.phy_write(9, 0x0200);
    bench.phy_write(0, bench.phy_read(0) | 0x1200);
    bench.write(reg::FCT, 0x8808);
    bench.write(reg::FCAH, 0x0100);
    bench.write(reg::FCAL, 0x00c2_8001);
    bench.write(reg::TXDCTL, 0x0101_0000);
}

fn open(bench: &mut TestNic) {
    reset(bench);
    init(bench);
    bench.start_tx(256);
    bench.write(reg::TCTL, 0);
    bench.write(reg::TIDV, 8);
    bench.write(reg::TADV, 32);
    bench.write(reg::RDTR, 0);
    bench.write(reg::RADV, 8);
    bench.write(reg::ITR, 195);
    bench.write(reg::RXCSUM, rxcsum::TUOFL);
    bench.start_rx(256, rctl::BAM);
    bench.write(reg::IMS, IMS_ENABLE);
    bench.write(reg::ICS, cause::LSC);
}

/// The interrupt handler and the watchdog that it schedules: link up switches the transmitter on.
fn handle_link(bench: &TestNic) {
    assert!(bench.interrupted());
    assert_ne!(bench.read(reg::ICR) & cause::LSC, 0);
    bench.phy_read(1);
    assert_ne!(bench.phy_read(1) & 0x24, 0, "link and autonegotiation, on the second read");
    let up = bench.read(reg::STATUS);
    assert_eq!(up & status::LU, status::LU);
    assert_eq!(up & status::FD, status::FD);
    assert_eq!(up >> status::SPEED_SHIFT & 3, 2, "1000 Mb/s");
    bench.write(reg::TCTL, tctl::EN | tctl::PSP);
}

#[test]
fn probe_reset_link_and_traffic() {
    let mut bench = TestNic::default();
    let sum = (0..64).fold(0u16, |sum, n| sum.wrapping_add(bench.eeprom_read(n)));
    assert_eq!(sum, 0xbaba);
    open(&mut bench);
    handle_link(&bench);

    let request = frame_to([0xff; 6], 60);
    let n = bench.send(&request);
    assert_eq!(bench.peer.take_all(), [request]);
    assert_eq!(bench.tx_status(n) & txd::DD, txd::DD);
    bench.advance(100_000);
    bench.read(reg::ICR);

    let reply = frame_to(MAC, 98);
    assert_eq!(bench.inject(&reply), Delivery::Taken);
    assert!(bench.interrupted());
    assert_ne!(bench.read(reg::ICR) & cause::RXT0, 0);
    bench.write(reg::IMC, 0xffff_ffff);
    let got = bench.receive().unwrap();
    assert_eq!(got.bytes.len() - 4, reply.len(), "the driver takes 4 off");
    assert_eq!(got.errors & 0x97, 0);
    assert_ne!(got.status & rxd::IXSM, 0, "not IP: the driver has to ignore the checksum bits");
    bench.write(reg::IMS, IMS_ENABLE);
    assert!(!bench.interrupted());
    assert_eq!(bench.read(reg::GPRC), 1);
    assert_eq!(bench.read(reg::GPTC), 1);
}

#[test]
fn link_delay_counts_from_the_restart_of_autonegotiation() {
    use minivmm::nic::e1000::Config;
    let mut bench = TestNic::new(Config { link_delay_ns: 2_000_000_000, ..Config::new(MAC) });
    open(&mut bench);
    bench.read(reg::ICR);
    assert_eq!(bench.read(reg::STATUS) & status::LU, 0);
    bench.advance(1_999_999_999);
    assert_eq!(bench.read(reg::STATUS) & status::LU, 0);
    assert!(!bench.interrupted());
    bench.advance(1);
    handle_link(&bench);
}

#[test]
fn down_and_up_again_works_two_hundred_times() {
    let mut bench = TestNic::default();
    for round in 0..200 {
        open(&mut bench);
        handle_link(&bench);
        bench.send(&frame_to(OTHER, 60 + round % 100));
        assert_eq!(bench.peer.take_all().len(), 1);
        assert_eq!(bench.inject(&frame_to(MAC, 60)), Delivery::Taken);
        assert!(bench.receive().is_some());
        bench.phy_write(0, bench.phy_read(0) | 0x0800);
        assert_eq!(bench.read(reg::STATUS) & status::LU, 0, "powered down");
        bench.phy_write(0, bench.phy_read(0) & !0x0800);
    }
}
