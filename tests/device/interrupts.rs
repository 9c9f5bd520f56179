//! ICR, ICS, IMS, IMC and the line; the throttle and the delay timers.

use minivmm::nic::e1000::spec::{cause, rctl, reg, txd};
use minivmm::nic::e1000::testing::{MAC, TX_BUFFERS, TestNic, frame_to};

#[test]
fn the_line_is_high_while_an_enabled_cause_is_latched() {
    let bench = TestNic::default();
    bench.write(reg::ICS, cause::RXT0);
    assert!(!bench.interrupted());
    bench.write(reg::IMS, cause::RXT0);
    assert!(bench.interrupted(), "enabling a latched cause asserts");
    bench.write(reg::IMC, cause::RXT0);
    assert!(!bench.interrupted());
    bench.write(reg::IMS, cause::RXT0);
    assert_eq!(bench.read(reg::ICS), cause::RXT0, "ICS reads the causes without clearing");
    assert_eq!(bench.read(reg::ICR), cause::RXT0);
    assert!(!bench.interrupted(), "reading ICR clears all");
    assert_eq!(bench.read(reg::ICR), 0);
}

#[test]
fn writing_ones_to_icr_acknowledges() {
    let bench = TestNic::default();
    bench.write(reg::IMS, cause::RXT0 | cause::TXDW);
    bench.write(reg::ICS, cause::RXT0 | cause::TXDW);
    bench.write(reg::ICR, cause::RXT0);
    assert!(bench.interrupted());
    bench.write(reg::ICR, 0xffff_ffff);
    assert!(!bench.interrupted());
    assert_eq!(bench.read(reg::ICR), 0);
}

#[test]
fn itr_keeps_assertions_apart_and_loses_none() {
    let bench = TestNic::default();
    bench.advance(1_000_000);
    bench.write(reg::ITR, 195);
    bench.write(reg::IMS, cause::RXT0);
    bench.write(reg::ICS, cause::RXT0);
    assert!(bench.interrupted(), "the first comes at once");
    bench.read(reg::ICR);
    bench.write(reg::ICS, cause::RXT0);
    assert!(!bench.interrupted());
    bench.advance(195 * 256 - 1);
    assert!(!bench.interrupted());
    bench.advance(1);
    assert!(bench.interrupted());
}

#[test]
fn rdtr_restarts_with_each_frame_and_radv_bounds_it() {
    let mut bench = TestNic::default();
    bench.start_rx(16, rctl::BAM);
    bench.write(reg::RDTR, 10);
    bench.write(reg::RADV, 25);
    bench.write(reg::IMS, cause::RXT0);
    for _ in 0..3 {
        bench.inject(&frame_to(MAC, 60));
        bench.advance(9 * 1024);
    }
    assert!(bench.interrupted(), "RADV: 25 ticks after the first");
    bench.read(reg::ICR);
    bench.inject(&frame_to(MAC, 60));
    bench.advance(10 * 1024 - 1);
    assert!(!bench.interrupted());
    bench.advance(1);
    assert!(bench.interrupted(), "RDTR: 10 ticks of silence");
}

#[test]
fn fpd_flushes_the_receive_delay_and_reads_zero() {
    let mut bench = TestNic::default();
    bench.start_rx(16, rctl::BAM);
    bench.write(reg::RDTR, 100);
    bench.inject(&frame_to(MAC, 60));
    assert_eq!(bench.read(reg::ICR) & cause::RXT0, 0);
    bench.write(reg::RDTR, 1 << 31 | 100);
    assert_eq!(bench.read(reg::ICR) & cause::RXT0, cause::RXT0);
    assert_eq!(bench.read(reg::RDTR), 100);
}

#[test]
fn ide_waits_for_tidv_and_rs_without_ide_does_not() {
    let mut bench = TestNic::default();
    bench.start_tx(16);
    bench.write(reg::TIDV, 8);
    bench.write(reg::TADV, 32);
    bench.poke(TX_BUFFERS, &frame_to([0xff; 6], 60));
    let n = bench.queue_legacy(TX_BUFFERS, 60, txd::EOP | txd::IFCS | txd::RS | txd::IDE);
    bench.ring_doorbell();
    assert_eq!(bench.tx_status(n) & txd::DD, txd::DD);
    assert_eq!(bench.read(reg::ICR) & cause::TXDW, 0);
    bench.advance(8 * 1024 - 1);
    assert_eq!(bench.read(reg::ICR) & cause::TXDW, 0);
    bench.advance(1);
    assert_eq!(bench.read(reg::ICR) & cause::TXDW, cause::TXDW);
    bench.queue_legacy(TX_BUFFERS, 60, txd::EOP | txd::IFCS | txd::RS);
    bench.ring_doorbell();
    assert_eq!(bench.read(reg::ICR) & cause::TXDW, cause::TXDW);
}

#[test]
fn a_stream_of_delayed_frames_asks_for_one_wake_up_only() {
    let mut bench = TestNic::default();
    bench.start_tx(64);
    bench.write(reg::TIDV, 8);
    bench.write(reg::TADV, 32);
    bench.poke(TX_BUFFERS, &frame_to([0xff; 6], 60));
    let mut armed = Vec::new();
    for _ in 0..5 {
        bench.queue_legacy(TX_BUFFERS, 60, txd::EOP | txd::IFCS | txd::RS | txd::IDE);
        bench.ring_doorbell();
        armed.push(bench.clock.armed());
        bench.clock.advance(1024);
    }
    assert!(armed.iter().all(|a| *a == Some(8 * 1024)), "{armed:?}");
}
