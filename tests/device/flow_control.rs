//! PAUSE frames: they hold the transmitter, and DPF and PMCF decide who sees them.

use minivmm::netport::{Delivery, DropReason};
use minivmm::nic::e1000::spec::{ctrl, rctl, reg, status};
use minivmm::nic::e1000::testing::{OTHER, TestNic, frame_to};

fn pause(quanta: u16) -> Vec<u8> {
    let mut frame = vec![0x01, 0x80, 0xc2, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0x88, 0x08, 0, 1];
    frame.extend(quanta.to_be_bytes());
    frame.resize(60, 0);
    frame
}

fn bench(control: u32) -> TestNic {
    let mut bench = TestNic::default();
    bench.start_tx(16);
    bench.start_rx(16, control);
    bench.write(reg::FCAL, 0x00c2_8001);
    bench.write(reg::FCAH, 0x0100);
    bench.write(reg::FCT, 0x8808);
    bench.write(reg::CTRL, bench.read(reg::CTRL) | ctrl::RFCE);
    bench
}

#[test]
fn a_pause_frame_holds_the_transmitter_for_its_time() {
    let mut bench = bench(rctl::DPF);
    bench.inject(&pause(100));
    assert_ne!(bench.read(reg::STATUS) & status::TXOFF, 0);
    bench.send(&frame_to(OTHER, 60));
    bench.advance(100 * 512 - 1);
    assert!(bench.peer.take().is_none());
    bench.advance(1);
    assert!(bench.peer.take().is_some());
    assert_eq!(bench.read(reg::STATUS) & status::TXOFF, 0);
    assert_eq!((bench.read(reg::XOFFRXC), bench.read(reg::XONRXC)), (1, 0));
}

#[test]
fn a_zero_pause_lets_it_go_at_once() {
    let mut bench = bench(rctl::DPF);
    bench.inject(&pause(0xffff));
    bench.send(&frame_to(OTHER, 60));
    assert!(bench.peer.take().is_none());
    bench.inject(&pause(0));
    bench.advance(0);
    assert!(bench.peer.take().is_some());
    assert_eq!(bench.read(reg::XONRXC), 1);
}

#[test]
fn without_rfce_nothing_is_held() {
    let mut bench = bench(rctl::DPF);
    bench.write(reg::CTRL, bench.read(reg::CTRL) & !ctrl::RFCE);
    bench.inject(&pause(100));
    bench.send(&frame_to(OTHER, 60));
    assert!(bench.peer.take().is_some());
}

#[test]
fn dpf_and_pmcf_decide_what_the_host_sees() {
    let filtered = Delivery::Dropped(DropReason::Filtered);
    assert_eq!(bench(rctl::DPF | rctl::MPE).inject(&pause(1)), filtered);
    assert_eq!(bench(rctl::MPE).inject(&pause(1)), Delivery::Taken);
    assert_eq!(bench(0).inject(&pause(1)), filtered, "the ordinary filters");
    let mut other = pause(1);
    other[15] = 9;
    assert_eq!(bench(rctl::MPE).inject(&other), filtered);
    assert_eq!(bench(rctl::MPE | rctl::PMCF).inject(&other), Delivery::Taken);
}

#[test]
fn swxoff_sends_a_pause_frame() {
    use minivmm::nic::e1000::spec::tctl;
    let bench = bench(0);
    bench.write(reg::FCTTV, 0x1234);
    bench.write(reg::CTRL, bench.read(reg::CTRL) | ctrl::TFCE);
    bench.write(reg::TCTL, tctl::EN | tctl::SWXOFF);
    assert_eq!(bench.read(reg::TCTL) & tctl::SWXOFF, 0, "clears itself");
    let sent = bench.peer.take_all();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0][..6], pause(0)[..6]);
    assert_eq!(sent[0][12..18], pause(0x1234)[12..18]);
    assert_eq!(bench.read(reg::XOFFTXC), 1);
}

#[test]
fn an_unknown_opcode_is_counted() {
    let bench = bench(0);
    let mut other = pause(1);
    other[15] = 9;
    bench.inject(&other);
    assert_eq!((bench.read(reg::FCRUC), bench.read(reg::XOFFRXC)), (1, 0));
    assert_eq!(bench.read(reg::STATUS) & status::TXOFF, 0);
}

#[test]
fn a_pause_frame_for_the_host_is_no_good_packet() {
    let bench = bench(rctl::MPE);
    assert_eq!(bench.inject(&pause(1)), Delivery::Taken);
    assert_eq!((bench.read(reg::TPR), bench.read(reg::GPRC), bench.read(reg::MPRC)), (1, 0, 0));
}
