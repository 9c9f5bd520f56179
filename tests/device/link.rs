//! PHY and link: autonegotiation, forced modes, power-down, the cable, STATUS and LSC.

use minivmm::nic::e1000::Config;
use minivmm::nic::e1000::spec::{cause, ctrl, mdic, reg, status};
use minivmm::nic::e1000::testing::{MAC, TestNic};

/// A board whose driver leaves speed and duplex to the PHY.
fn unforced() -> TestNic {
    let bench = TestNic::default();
    bench.write(reg::CTRL, ctrl::SLU);
    bench
}

fn link(bench: &TestNic) -> (bool, u32, bool) {
    let now = bench.read(reg::STATUS);
    (now & status::LU != 0, now >> status::SPEED_SHIFT & 3, now & status::FD != 0)
}

#[test]
fn negotiation_takes_the_best_that_is_advertised() {
    let bench = unforced();
    for (anar, gbcr, speed, full) in [
        (0x0de1, 0x0300, 2, true),
        (0x0de1, 0x0100, 2, false),
        (0x0de1, 0x0000, 1, true),
        (0x0ce1, 0x0000, 1, false),
        (0x0c61, 0x0000, 0, true),
        (0x0c21, 0x0000, 0, false),
    ] {
        bench.phy_write(4, anar);
        bench.phy_write(9, gbcr);
        bench.phy_write(0, 0x1340);
        assert_eq!(link(&bench), (true, speed, full), "{anar:#x} {gbcr:#x}");
    }
    bench.phy_write(4, 0x0c01);
    bench.phy_write(0, 0x1340);
    assert!(!link(&bench).0, "nothing in common");
}

#[test]
fn without_negotiation_bmcr_says_speed_and_duplex() {
    let bench = unforced();
    for (bmcr, speed, full) in [(0x0100, 0, true), (0x0000, 0, false), (0x2100, 1, true), (0x0140, 2, true)] {
        bench.phy_write(0, bmcr);
        assert_eq!(link(&bench), (true, speed, full), "{bmcr:#x}");
    }
}

#[test]
fn ctrl_overrides_what_status_says() {
    let bench = TestNic::default();
    bench.write(reg::CTRL, ctrl::SLU | ctrl::FRCSPD | ctrl::FRCDPX | 1 << ctrl::SPEED_SHIFT);
    assert_eq!(link(&bench), (true, 1, false));
}

#[test]
fn bmsr_shows_a_loss_once() {
    let bench = TestNic::default();
    bench.phy_read(1);
    assert_eq!(bench.phy_read(1), 0x796d);
    bench.nic.set_link(false);
    bench.nic.set_link(true);
    assert_eq!(bench.phy_read(1) & 4, 0);
    assert_eq!(bench.phy_read(1) & 4, 4);
}

#[test]
fn lsc_comes_with_every_change_and_the_peer_hears_of_it() {
    let bench = TestNic::default();
    bench.read(reg::ICR);
    bench.nic.set_link(false);
    assert_eq!(bench.read(reg::ICR), cause::LSC);
    bench.nic.set_link(false);
    assert_eq!(bench.read(reg::ICR), 0);
    bench.nic.set_link(true);
    assert_eq!(bench.read(reg::ICR), cause::LSC);
    assert_eq!(bench.peer.links(), [false, true]);
}

#[test]
fn power_down_holds_the_link_through_resets() {
    let bench = TestNic::default();
    bench.phy_write(0, 0x1940);
    assert!(!link(&bench).0);
    bench.phy_write(0, 0x9940);
    bench.io_write(reg::CTRL, ctrl::RST);
    bench.advance(5_000_000_000);
    assert!(!link(&bench).0);
    bench.phy_write(0, 0x1140);
    assert!(link(&bench).0);
}

#[test]
fn phy_reset_keeps_the_other_bits_and_clears_itself() {
    let bench = TestNic::default();
    bench.phy_write(16, 0x0808);
    bench.phy_write(0, 0xa100);
    assert_eq!(bench.phy_read(0), 0x2100);
    assert_eq!(bench.phy_read(16), 0x0808);
}

#[test]
fn ctrl_phy_rst_holds_the_phy_and_its_end_restarts_it() {
    let bench = TestNic::new(Config { link_delay_ns: 1000, ..Config::new(MAC) });
    bench.advance(1000);
    bench.phy_write(16, 0x0808);
    bench.write(reg::CTRL, bench.read(reg::CTRL) | ctrl::PHY_RST);
    assert_ne!(bench.read(reg::CTRL) & ctrl::PHY_RST, 0, "does not clear itself");
    bench.advance(10_000);
    assert!(!link(&bench).0);
    bench.write(reg::CTRL, bench.read(reg::CTRL) & !ctrl::PHY_RST);
    assert!(!link(&bench).0);
    bench.advance(1000);
    assert!(link(&bench).0);
    assert_eq!(bench.phy_read(16), 0x0360, "defaults");
}

#[test]
fn there_is_exactly_one_phy() {
    let bench = TestNic::default();
    for address in 0..32 {
        bench.write(reg::MDIC, 2 << 16 | address << 21 | mdic::OP_READ << 26);
        let answer = bench.read(reg::MDIC);
        assert_ne!(answer & mdic::READY, 0);
        assert_eq!(answer & mdic::ERROR == 0, address == 1, "{address}");
    }
}

#[test]
fn mdic_interrupts_when_asked() {
    let bench = TestNic::default();
    bench.read(reg::ICR);
    bench.write(reg::MDIC, 2 << 16 | 1 << 21 | mdic::OP_READ << 26 | mdic::INT_EN);
    assert_eq!(bench.read(reg::ICR), cause::MDAC);
}

#[test]
fn strict_boards_need_slu() {
    let bench = TestNic::new(Config { strict: true, ..Config::new(MAC) });
    assert!(!link(&bench).0);
    bench.write(reg::CTRL, bench.read(reg::CTRL) | ctrl::SLU);
    assert!(link(&bench).0);
    assert!(link(&TestNic::default()).0, "otherwise it counts as set");
}
