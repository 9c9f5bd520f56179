//! Write-back in bursts: TXDCTL.WTHRESH and RXDCTL.WTHRESH, and what flushes them.

use minivmm::nic::e1000::spec::{cause, ctrl, rctl, reg, rxd, txd};
use minivmm::nic::e1000::testing::{MAC, OTHER, RX_RING, TX_BUFFERS, TX_RING, TestNic, frame_to};

const GRAN: u32 = 1 << 24;
const TICK: u64 = 1024;

fn wthresh(descriptors: u32) -> u32 {
    GRAN | descriptors << 16
}

fn transmitter(control: u32) -> TestNic {
    let mut bench = TestNic::default();
    bench.start_tx(16);
    bench.write(reg::TXDCTL, control);
    bench
}

/// Descriptors of the transmit ring that have DD.
fn sent(bench: &TestNic) -> Vec<u32> {
    (0..16).filter(|&n| bench.tx_status(n) & txd::DD != 0).collect()
}

/// Descriptors of the receive ring that have DD.
fn filled(bench: &TestNic) -> Vec<u64> {
    (0..16).filter(|n| bench.peek(RX_RING + n * 16 + 12, 1)[0] & rxd::DD != 0).collect()
}

fn receiver(control: u32, delay: u32) -> TestNic {
    let mut bench = TestNic::default();
    bench.start_rx(16, rctl::BAM);
    bench.write(reg::RXDCTL, control);
    bench.write(reg::RDTR, delay);
    bench
}

#[test]
fn transmitted_descriptors_wait_for_wthresh_of_them() {
    let mut bench = transmitter(wthresh(4));
    for n in 0..3 {
        bench.send(&frame_to(OTHER, 60));
        assert_eq!(bench.peer.take_all().len(), 1, "frames do not wait");
        assert_eq!(bench.read(reg::TDH), n + 1, "nor does TDH");
    }
    assert!(sent(&bench).is_empty());
    assert_eq!(bench.read(reg::ICR), cause::TXQE, "the ring is empty, and nothing written back");
    bench.send(&frame_to(OTHER, 60));
    assert_eq!(sent(&bench), [0, 1, 2, 3]);
    assert_eq!(bench.read(reg::ICR), cause::TXDW | cause::TXQE);
    bench.send(&frame_to(OTHER, 60));
    assert_eq!(sent(&bench), [0, 1, 2, 3], "the next burst begins");
}

#[test]
fn counting_begins_with_the_first_descriptor_that_has_rs() {
    let mut bench = transmitter(wthresh(4));
    bench.poke(TX_BUFFERS, &frame_to(OTHER, 60));
    for cmd in [0, 0, txd::RS, 0, 0] {
        bench.queue_legacy(TX_BUFFERS, 60, txd::EOP | txd::IFCS | cmd);
    }
    bench.ring_doorbell();
    assert!(sent(&bench).is_empty());
    bench.queue_legacy(TX_BUFFERS, 60, txd::EOP | txd::IFCS);
    bench.ring_doorbell();
    assert_eq!(sent(&bench), [2], "four from the one with RS on; the others asked for nothing");
}

#[test]
fn tidv_flushes_what_has_gathered_counted_from_the_first() {
    let mut bench = transmitter(wthresh(8));
    bench.write(reg::TIDV, 10);
    bench.send(&frame_to(OTHER, 60));
    bench.advance(6 * TICK);
    bench.send(&frame_to(OTHER, 60));
    bench.advance(4 * TICK - 1);
    assert!(sent(&bench).is_empty());
    assert_eq!(bench.read(reg::ICR) & cause::TXDW, 0);
    bench.advance(1);
    assert_eq!(sent(&bench), [0, 1]);
    assert_eq!(bench.read(reg::ICR) & cause::TXDW, cause::TXDW);
    bench.advance(100 * TICK);
    assert_eq!(bench.read(reg::ICR) & cause::TXDW, 0, "once");
    bench.send(&frame_to(OTHER, 60));
    bench.advance(10 * TICK);
    assert_eq!(sent(&bench), [0, 1, 2], "the timer starts anew");
}

#[test]
fn a_threshold_of_one_or_in_cache_lines_does_not_wait() {
    for control in [0, wthresh(1), 63 << 16, 0x0101_0000] {
        let mut bench = transmitter(control);
        let n = bench.send(&frame_to(OTHER, 60));
        assert_eq!(sent(&bench), [n], "TXDCTL {control:#x}");
    }
}

#[test]
fn a_lower_threshold_gives_everything_back_with_the_next_packet() {
    let mut bench = transmitter(wthresh(8));
    bench.send(&frame_to(OTHER, 60));
    bench.write(reg::TXDCTL, wthresh(1));
    bench.send(&frame_to(OTHER, 60));
    assert_eq!(sent(&bench), [0, 1]);
}

#[test]
fn a_burst_does_not_outlive_a_reset_or_a_new_ring() {
    for reset in [true, false] {
        let mut bench = transmitter(wthresh(4));
        bench.write(reg::TIDV, 10);
        bench.send(&frame_to(OTHER, 60));
        if reset {
            bench.write(reg::CTRL, ctrl::RST);
        }
        bench.start_tx(16);
        bench.write(reg::ICR, !0);
        bench.poke(TX_RING, &[0; 256]);
        bench.advance(100 * TICK);
        assert!(sent(&bench).is_empty());
        assert_eq!(bench.read(reg::ICR) & cause::TXDW, 0);
    }
    for reset in [true, false] {
        let mut bench = receiver(wthresh(4), 10);
        bench.inject(&frame_to(MAC, 60));
        if reset {
            bench.write(reg::CTRL, ctrl::RST);
        }
        bench.start_rx(16, rctl::BAM);
        bench.write(reg::ICR, !0);
        bench.advance(100 * TICK);
        assert!(filled(&bench).is_empty());
        assert_eq!(bench.read(reg::ICR) & cause::RXT0, 0);
    }
}

#[test]
fn received_descriptors_wait_for_wthresh_of_them() {
    let mut bench = receiver(wthresh(4), 100);
    let frames: Vec<_> = (0..5).map(|n| frame_to(MAC, 60 + n)).collect();
    for (n, frame) in frames[..3].iter().enumerate() {
        bench.inject(frame);
        assert_eq!(bench.read(reg::RDH), n as u32 + 1);
    }
    assert!(filled(&bench).is_empty());
    bench.inject(&frames[3]);
    assert_eq!(filled(&bench), [0, 1, 2, 3]);
    assert_eq!(bench.read(reg::ICR) & cause::RXT0, 0, "the interrupt waits for RDTR all the same");
    bench.inject(&frames[4]);
    bench.advance(100 * TICK - 1);
    assert_eq!(filled(&bench), [0, 1, 2, 3]);
    bench.advance(1);
    assert_eq!(bench.read(reg::ICR) & cause::RXT0, cause::RXT0);
    for frame in &frames {
        let received = bench.receive().expect("written back");
        assert_eq!((&received.bytes[..frame.len()], received.errors), (&frame[..], 0));
    }
    bench.advance(1000 * TICK);
    assert_eq!(bench.read(reg::ICR) & cause::RXT0, 0, "once");
}

#[test]
fn radv_and_fpd_flush_received_descriptors() {
    let bench = receiver(wthresh(16), 10);
    bench.write(reg::RADV, 25);
    for _ in 0..3 {
        bench.inject(&frame_to(MAC, 60));
        bench.advance(9 * TICK);
    }
    assert_eq!(filled(&bench), [0, 1, 2], "RADV: 25 ticks after the first, although RDTR never ended");
    assert_eq!(bench.read(reg::ICR) & cause::RXT0, cause::RXT0);
    bench.inject(&frame_to(MAC, 60));
    bench.write(reg::RDTR, 1 << 31 | 10);
    assert_eq!(filled(&bench), [0, 1, 2, 3]);
    assert_eq!(bench.read(reg::ICR) & cause::RXT0, cause::RXT0);
}

#[test]
fn without_rdtr_and_for_small_packets_nothing_waits() {
    let bench = receiver(wthresh(16), 0);
    bench.inject(&frame_to(MAC, 60));
    assert_eq!(filled(&bench), [0]);
    let bench = receiver(wthresh(16), 100);
    bench.write(reg::RSRPD, 100);
    bench.inject(&frame_to(MAC, 500));
    assert!(filled(&bench).is_empty());
    bench.inject(&frame_to(MAC, 60));
    assert_eq!(filled(&bench), [0, 1], "in their order, before the interrupt");
    assert_eq!(bench.read(reg::ICR) & cause::RXT0, cause::RXT0);
}
