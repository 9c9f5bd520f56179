//! Intel's own self-test as Linux runs it (`ethtool -t eth0 offline`): registers, EEPROM, interrupts, loopback,
//! link, in the driver's order, at both extremes of the link delay.

use std::sync::Arc;

use minivmm::nic::e1000::doctor::{Doctor, Severity};
use minivmm::nic::e1000::spec::{ctrl, ctrl_ext, rctl, reg, status, tctl};
use minivmm::nic::e1000::testing::{MAC, RX_RING, TX_RING, TestNic};
use minivmm::nic::e1000::{Config, Model, Overflow, regs::table};

const PATTERNS: [u32; 4] = [0x5a5a_5a5a, 0xa5a5_a5a5, 0, 0xffff_ffff];
const MS: u64 = 1_000_000;

fn reset(bench: &TestNic) {
    bench.write(reg::IMC, 0xffff_ffff);
    bench.write(reg::RCTL, 0);
    bench.write(reg::TCTL, tctl::PSP);
    bench.advance(10 * MS);
    bench.io_write(reg::CTRL, bench.read(reg::CTRL) | ctrl::RST);
    if bench.nic.model() == Model::I82544Gc {
        bench.write(reg::CTRL_EXT, bench.read(reg::CTRL_EXT) | ctrl_ext::EE_RST);
    }
    bench.advance(5 * MS);
    bench.write(reg::IMC, 0xffff_ffff);
    bench.read(reg::ICR);
    bench.write(reg::CTRL, (bench.read(reg::CTRL) | ctrl::SLU) & !(ctrl::FRCSPD | ctrl::FRCDPX));
    bench.phy_write(16, bench.phy_read(16) | 0x0060);
    bench.phy_write(0, bench.phy_read(0) | 0x8000);
}

fn pattern(bench: &TestNic, register: u32, mask: u32, write: u32) {
    for p in PATTERNS {
        bench.write(register, p & write);
        assert_eq!(bench.read(register), p & write & mask, "{register:#x} with {p:#x}");
    }
}

fn set_and_check(bench: &TestNic, register: u32, mask: u32, value: u32) {
    bench.write(register, value & mask);
    assert_eq!(bench.read(register) & mask, value & mask, "{register:#x} with {value:#x}");
}

fn register_test(bench: &TestNic) {
    let before = bench.read(reg::STATUS);
    bench.write(reg::STATUS, 0xffff_f833);
    assert_eq!(bench.read(reg::STATUS) & 0xffff_f833, before & 0xffff_f833);
    bench.write(reg::STATUS, before);
    for (register, mask, write) in [
        (reg::FCAL, 0xffff_ffff, 0xffff_ffff),
        (reg::FCAH, 0x0000_ffff, 0xffff_ffff),
        (reg::FCT, 0x0000_ffff, 0xffff_ffff),
        (reg::VET, 0x0000_ffff, 0xffff_ffff),
        (reg::RDTR, 0x0000_ffff, 0xffff_ffff),
        (reg::RDBAH, 0xffff_ffff, 0xffff_ffff),
        (reg::RDLEN, 0x000f_ff80, 0x000f_ffff),
        (reg::RDH, 0x0000_ffff, 0x0000_ffff),
        (reg::RDT, 0x0000_ffff, 0x0000_ffff),
        (reg::FCRTH, 0x0000_fff8, 0x0000_fff8),
        (reg::FCTTV, 0x0000_ffff, 0x0000_ffff),
        (reg::TIPG, 0x3fff_ffff, 0x3fff_ffff),
        (reg::TDBAH, 0xffff_ffff, 0xffff_ffff),
        (reg::TDLEN, 0x000f_ff80, 0x000f_ffff),
    ] {
        pattern(bench, register, mask, write);
    }
    set_and_check(bench, reg::RCTL, 0xffff_ffff, 0);
    set_and_check(bench, reg::RCTL, 0x06df_b3fe, 0x003f_fffb);
    set_and_check(bench, reg::TCTL, 0xffff_ffff, 0);
    set_and_check(bench, reg::RCTL, 0x06df_b3fe, 0xffff_ffff);
    pattern(bench, reg::RDBAL, 0xffff_fff0, 0xffff_ffff);
    pattern(bench, reg::TXCW, 0xc000_ffff, 0x0000_ffff);
    pattern(bench, reg::TDBAL, 0xffff_fff0, 0xffff_ffff);
    pattern(bench, reg::TIDV, 0x0000_ffff, 0x0000_ffff);
    for n in 0..15 {
        pattern(bench, reg::RAH + 8 * n, 0x8003_ffff, 0xffff_ffff);
    }
    for n in 0..128 {
        pattern(bench, reg::MTA + 4 * n, 0xffff_ffff, 0xffff_ffff);
    }
}

fn eeprom_test(bench: &TestNic) {
    let sum = (0..64).fold(0u16, |sum, n| sum.wrapping_add(bench.eeprom_read(n)));
    assert_eq!(sum, 0xbaba);
}

/// The handler reads ICR whenever the line is high.
fn handle(bench: &TestNic, causes: &mut u32) {
    for _ in 0..10 {
        bench.advance(MS);
        if bench.interrupted() {
            *causes |= bench.read(reg::ICR);
        }
    }
}

fn interrupt_test(bench: &TestNic) {
    bench.write(reg::IMC, 0xffff_ffff);
    bench.advance(10 * MS);
    for i in 0..10 {
        let mask = 1 << i;
        let mut causes = 0;
        bench.write(reg::IMC, mask);
        bench.write(reg::ICS, mask);
        handle(bench, &mut causes);
        assert_eq!(causes & mask, 0, "masked cause {i} is silent");
        causes = 0;
        bench.write(reg::IMS, mask);
        bench.write(reg::ICS, mask);
        handle(bench, &mut causes);
        assert_eq!(causes & mask, mask, "enabled cause {i} interrupts");
        causes = 0;
        bench.write(reg::IMC, !mask & 0x7fff);
        bench.write(reg::ICS, !mask & 0x7fff);
        handle(bench, &mut causes);
        assert_eq!(causes, 0, "other causes are silent while only {i} is enabled");
    }
    bench.write(reg::IMC, 0xffff_ffff);
    bench.advance(10 * MS);
}

const TX_BUFFERS: u64 = 0x10_0000;
const RX_BUFFERS: u64 = 0x40_0002;

fn fill(bench: &TestNic, n: u64) {
    let mut buffer = vec![0xff; 1024];
    buffer[512..1023].fill(0xaa);
    buffer[522] = 0xbe;
    buffer[524] = 0xaf;
    bench.poke(TX_BUFFERS + n * 1024, &buffer);
}

fn set_up_loopback(bench: &TestNic) {
    bench.write(reg::TDBAL, TX_RING as u32);
    bench.write(reg::TDBAH, 0);
    bench.write(reg::TDLEN, 4096);
    bench.write(reg::TDH, 0);
    bench.write(reg::TDT, 0);
    bench.write(reg::TCTL, 0x0003_f0fa);
    for n in 0..256 {
        let command = 1024u64 | 1 << 24 | 1 << 25 | 1 << 28;
        bench.poke(TX_RING + 16 * n, &(TX_BUFFERS + n * 1024).to_le_bytes());
        bench.poke(TX_RING + 16 * n + 8, &command.to_le_bytes());
        bench.poke(RX_RING + 16 * n, &(RX_BUFFERS + n * 2048).to_le_bytes());
        bench.poke(RX_RING + 16 * n + 8, &[0; 8]);
        bench.poke(RX_BUFFERS + n * 2048, &[0; 2048]);
    }
    bench.write(reg::RCTL, bench.read(reg::RCTL) & !rctl::EN);
    bench.write(reg::RDBAL, RX_RING as u32);
    bench.write(reg::RDBAH, 0);
    bench.write(reg::RDLEN, 4096);
    bench.write(reg::RDH, 0);
    bench.write(reg::RDT, 0);
    bench.write(reg::RCTL, 0x0000_8002);
    bench.phy_write(16, 0x0808);
    bench.phy_write(0, 0x9140);
    bench.phy_write(0, 0x8140);
    bench.phy_write(0, 0x4140);
    let ctrl = bench.read(reg::CTRL) & !(3 << 8);
    bench.write(reg::CTRL, ctrl | ctrl::FRCSPD | ctrl::FRCDPX | 2 << 8 | ctrl::FD | 1 << 7);
    for (number, value) in [(29, 0x001f), (30, 0x8ffc), (29, 0x001a), (30, 0x8ff0)] {
        bench.phy_write(number, value);
    }
    assert_eq!(bench.phy_read(0), 0x4140);
}

fn loopback_test(bench: &TestNic) {
    set_up_loopback(bench);
    bench.write(reg::RDT, 255);
    let mut looked_at = 0;
    for round in 0..10u32 {
        for n in 0..64 {
            fill(bench, n);
        }
        bench.write(reg::TDT, (round + 1) * 64 % 256);
        bench.advance(200 * MS);
        let mut good = 0;
        for _ in 0..256 {
            let got = bench.peek(RX_BUFFERS + looked_at * 2048, 1024);
            looked_at = (looked_at + 1) % 256;
            good += u32::from(got[3] == 0xff && got[522] == 0xbe && got[524] == 0xaf);
            if good == 64 {
                break;
            }
        }
        assert_eq!(good, 64, "round {round}");
        if round == 0 {
            assert_eq!(looked_at, 64, "the first 64 lie in order");
        }
    }
    assert_eq!(bench.read(reg::TDH), 10 * 64 % 256, "TDH has wrapped");
    assert!(bench.peer.take().is_none(), "nothing reaches the wire");
    bench.write(reg::RCTL, bench.read(reg::RCTL) & !rctl::LBM_MASK);
    let bmcr = bench.phy_read(0);
    bench.phy_write(0, bmcr & !0x4000);
    bench.phy_write(0, bench.phy_read(0) | 0x8000);
}

fn offline_test(config: Config) {
    let bench = TestNic::new(config);
    reset(&bench);
    bench.phy_write(0, bench.phy_read(0) | 0x1200);
    bench.advance(4000 * MS);
    for _ in 0..2 {
        assert_ne!(bench.read(reg::STATUS) & status::LU, 0, "link test");
        bench.phy_write(0, bench.phy_read(0) | 0x0800);
        reset(&bench);
        register_test(&bench);
        reset(&bench);
        eeprom_test(&bench);
        reset(&bench);
        interrupt_test(&bench);
        reset(&bench);
        bench.phy_write(0, bench.phy_read(0) & !0x0800);
        loopback_test(&bench);
        reset(&bench);
        bench.phy_write(4, 0x0de1);
        bench.phy_write(9, 0x0200);
        bench.phy_write(0, bench.phy_read(0) | 0x1200);
        bench.advance(4000 * MS);
    }
}

/// All three parts, patient and wire-like, strict and not.
fn boards() -> impl Iterator<Item = Config> {
    Model::ALL.into_iter().flat_map(|model| {
        [(false, Overflow::Wait), (true, Overflow::Drop)].map(|(strict, overflow)| Config {
            model,
            strict,
            overflow,
            ..Config::new(MAC)
        })
    })
}

#[test]
fn the_offline_test_passes_with_the_link_up_at_once() {
    boards().for_each(offline_test);
}

#[test]
fn the_offline_test_passes_with_two_seconds_of_negotiation() {
    boards().for_each(|board| offline_test(Config { link_delay_ns: 2_000_000_000, ..board }));
}

#[test]
fn the_register_test_leaves_the_receiver_on_and_nothing_happens() {
    let bench = TestNic::default();
    register_test(&bench);
    use minivmm::netport::Delivery;
    use minivmm::nic::e1000::testing::frame_to;
    for _ in 0..3 {
        assert_ne!(bench.inject(&frame_to(MAC, 60)), Delivery::Taken);
    }
    assert_eq!(bench.read(reg::RDH), 0xffff, "never clamped");
    assert_eq!(bench.dma.aborts(), 0);
}

#[test]
fn every_register_stores_its_mask_and_nothing_else() {
    let bench = TestNic::default();
    let dword_only = |row: &&table::Reg| row.class == table::Class::Rw && row.effect == table::Effect::None;
    for row in table::TABLE.iter().filter(dword_only).filter(|row| row.w1c == 0) {
        let last = row.offset + (row.count - 1) * row.stride;
        for offset in [row.offset, last] {
            pattern(&bench, offset, row.mask, 0xffff_ffff);
        }
    }
}

/// What the doctor says of `work` on this board, notes apart.
fn doctors_words(board: Config, work: impl FnOnce(Config)) -> Vec<String> {
    let doctor = Arc::new(Doctor::new(board.model, |_| ()));
    work(Config { observer: Some(doctor.clone()), ..board });
    let bad = doctor.findings().into_iter().filter(|finding| finding.kind.severity > Severity::Note);
    bad.map(|finding| format!("{}: {}", finding.kind.id, finding.subject)).collect()
}

#[test]
fn the_driver_doctor_has_nothing_to_say_about_the_offline_test() {
    for board in boards() {
        let model = board.model;
        assert_eq!(doctors_words(board, offline_test), [""; 0], "{model:?}");
    }
}

#[test]
fn the_interrupt_test_on_a_shared_line_unmasks_one_cause_after_the_other() {
    let words = doctors_words(Config::new(MAC), |config| {
        let bench = TestNic::new(config);
        reset(&bench);
        for i in 0..10 {
            let mut causes = 0;
            bench.write(reg::IMS, 1 << i);
            bench.write(reg::ICS, 1 << i);
            handle(&bench, &mut causes);
            assert_ne!(causes & 1 << i, 0);
        }
    });
    assert_eq!(words, [""; 0]);
}
