//! Causes: which bits can be latched, how they go, what resets do to them, and the throttle's corner cases.

use minivmm::nic::e1000::spec::{cause, ctrl, rctl, reg};
use minivmm::nic::e1000::testing::{MAC, TestNic, frame_to};

#[test]
fn bits_0_to_16_are_latched_by_ics_whatever_the_mask_and_bit_31_never() {
    for ims in [0, 0xffff_ffff] {
        let bench = TestNic::default();
        bench.read(reg::ICR);
        bench.write(reg::IMS, ims);
        for bit in 0..32 {
            bench.write(reg::ICS, 1 << bit);
            let expected = if bit <= 16 { 1 << bit } else { 0 };
            assert_eq!(bench.read(reg::ICR), expected, "bit {bit}");
        }
    }
}

#[test]
fn causes_gather_while_everything_is_masked_for_drivers_that_poll() {
    let mut bench = TestNic::default();
    bench.start_tx(16);
    bench.start_rx(16, 0);
    bench.read(reg::ICR);
    bench.inject(&frame_to(MAC, 60));
    bench.send(&frame_to(MAC, 60));
    assert!(!bench.interrupted());
    assert_eq!(bench.read(reg::ICR), cause::RXT0 | cause::TXDW | cause::TXQE);
    assert_eq!(bench.read(reg::ICR), 0);
}

#[test]
fn imc_reads_zero_and_ims_reads_the_mask() {
    let bench = TestNic::default();
    bench.write(reg::IMS, 0x9d);
    bench.write(reg::IMS, 0x02);
    bench.write(reg::IMC, 0x08);
    assert_eq!((bench.read(reg::IMS), bench.read(reg::IMC)), (0x97, 0));
    bench.write(reg::IMS, 0);
    assert_eq!(bench.read(reg::IMS), 0x97, "zeroes change nothing");
}

#[test]
fn the_napi_sequence_loses_no_cause() {
    let mut bench = TestNic::default();
    bench.start_rx(16, 0);
    bench.write(reg::IMS, 0x9d);
    bench.read(reg::ICR);
    bench.inject(&frame_to(MAC, 60));
    assert!(bench.interrupted());
    bench.read(reg::ICR);
    bench.write(reg::IMC, 0xffff_ffff);
    bench.inject(&frame_to(MAC, 60));
    assert!(!bench.interrupted(), "polling");
    bench.write(reg::IMS, 0x9d);
    assert!(bench.interrupted(), "what came meanwhile");
}

#[test]
fn a_reset_stops_delays_throttle_and_line() {
    let mut bench = TestNic::default();
    bench.start_rx(16, 0);
    bench.write(reg::RDTR, 100);
    bench.write(reg::ITR, 0xffff);
    bench.inject(&frame_to(MAC, 60));
    bench.write(reg::CTRL, ctrl::RST);
    assert_eq!((bench.read(reg::ITR), bench.read(reg::RDTR), bench.read(reg::RADV)), (0, 0, 0));
    bench.advance(1_000_000_000);
    assert_eq!(bench.read(reg::ICR) & cause::RXT0, 0, "the delayed cause is forgotten");
    bench.write(reg::IMS, cause::RXT0);
    bench.write(reg::ICS, cause::RXT0);
    assert!(bench.interrupted(), "no throttle");
}

#[test]
fn a_held_assertion_falls_away_with_its_cause_and_comes_with_the_next() {
    let bench = TestNic::default();
    bench.write(reg::ITR, 1000);
    bench.write(reg::IMS, cause::RXT0);
    bench.write(reg::ICS, cause::RXT0);
    bench.read(reg::ICR);
    bench.write(reg::ICS, cause::RXT0);
    bench.read(reg::ICR);
    bench.advance(1000 * 256);
    assert!(!bench.interrupted(), "its cause was read away");
    bench.write(reg::ICS, cause::RXT0);
    assert!(bench.interrupted());
}

#[test]
fn a_shorter_interval_ends_the_gap_sooner() {
    let bench = TestNic::default();
    bench.write(reg::ITR, 0xffff);
    bench.write(reg::IMS, cause::RXT0);
    bench.write(reg::ICS, cause::RXT0);
    bench.read(reg::ICR);
    bench.write(reg::ICS, cause::RXT0);
    bench.write(reg::ITR, 10);
    bench.advance(10 * 256);
    assert!(bench.interrupted());
}

#[test]
fn rdtr_zero_interrupts_at_once_and_radv_alone_does_nothing() {
    let mut bench = TestNic::default();
    bench.start_rx(16, rctl::BAM);
    bench.write(reg::RADV, 1000);
    bench.write(reg::IMS, cause::RXT0);
    bench.inject(&frame_to(MAC, 60));
    assert!(bench.interrupted());
}
