//! Frames that no good wire carries: runts, giants, wrong FCS. They come by loopback; the statistics name them, and only
//! RCTL.SBP lets them into memory.

use minivmm::netport::Delivery;
use minivmm::nic::e1000::Config;
use minivmm::nic::e1000::spec::{rctl, reg, rxd, tctl, txd};
use minivmm::nic::e1000::testing::{MAC, OTHER, TX_BUFFERS, TestNic, frame_to};

/// A strict board in MAC loopback that pads nothing.
fn looped(control: u32) -> TestNic {
    let mut bench = TestNic::new(Config { strict: true, ..Config::new(MAC) });
    bench.start_tx(16);
    bench.write(reg::TCTL, tctl::EN);
    bench.start_rx(16, rctl::BAM | rctl::LBM_MAC | control);
    bench
}

/// Sends `frame` with the last four bytes as its FCS.
fn send_with_fcs(bench: &mut TestNic, frame: &[u8]) {
    bench.poke(TX_BUFFERS, frame);
    bench.queue_legacy(TX_BUFFERS, frame.len() as u32, txd::EOP | txd::RS);
    bench.ring_doorbell();
}

#[test]
fn a_wrong_fcs_is_counted_and_dropped_unless_sbp_stores_it() {
    let frame = frame_to(MAC, 104);
    let mut bench = looped(0);
    send_with_fcs(&mut bench, &frame);
    assert!(bench.receive().is_none());
    assert_eq!((bench.read(reg::CRCERRS), bench.read(reg::TPR), bench.read(reg::GPRC)), (1, 1, 0));
    let mut bench = looped(rctl::SBP);
    send_with_fcs(&mut bench, &frame);
    let got = bench.receive().unwrap();
    assert_eq!(got.bytes, frame, "with the FCS that it came with");
    assert_eq!(got.errors & rxd::CE, rxd::CE);
    assert_eq!((bench.read(reg::CRCERRS), bench.read(reg::GPRC), bench.read(reg::PRC64 + 4)), (1, 0, 0));
}

#[test]
fn a_right_fcs_of_the_drivers_own_is_as_good_as_the_macs() {
    let mut frame = frame_to(MAC, 100);
    let fcs = crc32fast::hash(&frame).to_le_bytes();
    frame.extend(fcs);
    let mut bench = looped(0);
    send_with_fcs(&mut bench, &frame);
    assert_eq!(bench.receive().unwrap().bytes, frame);
}

#[test]
fn flaws_of_frames_for_others_are_not_counted() {
    let mut bench = looped(0);
    send_with_fcs(&mut bench, &frame_to(OTHER, 104));
    assert_eq!((bench.read(reg::CRCERRS), bench.read(reg::TPR)), (0, 1));
}

#[test]
fn runts_are_undersize_or_fragments() {
    let mut bench = looped(0);
    bench.send(&frame_to(MAC, 40));
    send_with_fcs(&mut bench, &frame_to(MAC, 40));
    assert!(bench.receive().is_none());
    assert_eq!((bench.read(reg::RUC), bench.read(reg::RFC), bench.read(reg::CRCERRS)), (1, 1, 0));
    let mut bench = looped(rctl::SBP);
    bench.send(&frame_to(MAC, 40));
    assert_eq!(bench.receive().unwrap().bytes.len(), 44);
    assert_eq!((bench.read(reg::RUC), bench.read(reg::GPRC)), (1, 0));
}

#[test]
fn giants_are_oversize_or_jabber() {
    let mut bench = looped(0);
    bench.send(&frame_to(MAC, 1519));
    send_with_fcs(&mut bench, &frame_to(MAC, 1600));
    assert!(bench.receive().is_none());
    assert_eq!((bench.read(reg::ROC), bench.read(reg::RJC)), (1, 1));
    bench.send(&frame_to(MAC, 1518));
    assert_eq!(bench.receive().unwrap().bytes.len(), 1522, "the longest good one");
}

#[test]
fn sbp_lets_giants_from_the_wire_in_too() {
    let mut bench = TestNic::default();
    bench.start_rx(16, rctl::SBP);
    assert_eq!(bench.inject(&frame_to(MAC, 3000)), Delivery::Taken);
    assert_eq!(bench.receive().unwrap().bytes.len(), 3004);
    assert_eq!((bench.read(reg::ROC), bench.read(reg::GPRC)), (1, 0));
}

#[test]
fn on_the_wire_a_strict_boards_bad_fcs_is_lost() {
    let mut bench = TestNic::new(Config { strict: true, ..Config::new(MAC) });
    bench.start_tx(16);
    send_with_fcs(&mut bench, &frame_to(OTHER, 104));
    assert!(bench.peer.take().is_none());
    assert_eq!(bench.nic.stats_snapshot().tx_bad_fcs, 1);
    let n = bench.send(&frame_to(OTHER, 104));
    assert!(bench.peer.take().is_some());
    assert_eq!(bench.tx_status(n) & txd::DD, txd::DD, "the ring goes on");
}
