//! A board that behaves like a wire: without descriptors frames wait in the receive FIFO, and are lost and counted when
//! that is full; flow control keeps the peer from sending that many.

use minivmm::netport::{Delivery, DropReason, Frame, FrameMeta, FramePort, Gso, GsoKind};
use minivmm::nic::e1000::spec::{cause, ctrl, rctl, reg};
use minivmm::nic::e1000::testing::{MAC, OTHER, TestNic, frame_to};
use minivmm::nic::e1000::{Config, Overflow};

const LOST: Delivery = Delivery::Dropped(DropReason::Overrun);
/// What a frame of 1000 bytes takes in the FIFO: with FCS, a multiple of 8, and a note.
const TAKES: usize = 1008 + 16;

/// A wire-like board with four descriptors, three of them given.
fn bench() -> TestNic {
    let mut bench = TestNic::new(Config { overflow: Overflow::Drop, ..Config::new(MAC) });
    bench.start_tx(16);
    bench.start_rx(8, rctl::BAM);
    bench
}

fn fill(bench: &TestNic) -> usize {
    (0..1000).take_while(|_| bench.inject(&frame_to(MAC, 1000)) == Delivery::Taken).count()
}

#[test]
fn frames_wait_in_the_fifo_and_come_in_order_when_rdt_moves() {
    let mut bench = bench();
    for len in 100..110 {
        assert_eq!(bench.inject(&frame_to(MAC, len)), Delivery::Taken);
    }
    assert_eq!(bench.read(reg::RDFPC), 3);
    assert_eq!(bench.read(reg::RNBC), 3, "seven descriptors, ten frames");
    assert_eq!((bench.read(reg::MPC), bench.read(reg::ICR) & cause::RXO), (0, 0), "none is lost");
    let lens: Vec<_> = std::iter::from_fn(|| bench.receive()).map(|f| f.bytes.len() - 4).collect();
    assert_eq!(lens, [100, 101, 102, 103, 104, 105, 106]);
    bench.refill();
    let lens: Vec<_> = std::iter::from_fn(|| bench.receive()).map(|f| f.bytes.len() - 4).collect();
    assert_eq!(lens, [107, 108, 109]);
    assert_eq!(bench.read(reg::RDFPC), 0);
    assert_eq!(bench.read(reg::GPRC), 10);
}

#[test]
fn a_full_fifo_loses_frames_counts_them_and_raises_rxo() {
    let bench = bench();
    let taken = fill(&bench);
    assert_eq!(taken, 7 + 48 * 1024 / TAKES, "the ring, then PBA's 48 KiB");
    assert_eq!(bench.read(reg::ICR) & cause::RXO, cause::RXO);
    assert_eq!(bench.inject(&frame_to(MAC, 1000)), LOST);
    assert_eq!(bench.read(reg::MPC), 2);
    assert_eq!(bench.read(reg::RNBC) as usize, taken - 7 + 2);
    assert_eq!(
        (bench.read(reg::GPRC), bench.read(reg::TPR) as usize),
        (7, 7 + 2),
        "missed ones have arrived"
    );
    assert_eq!(bench.nic.stats_snapshot().rx_overrun, 2);
    assert_eq!(
        bench.inject(&frame_to(OTHER, 1000)),
        Delivery::Dropped(DropReason::Filtered),
        "no room needed"
    );
}

#[test]
fn the_fifo_has_the_size_that_pba_gave_it_at_the_last_reset() {
    let mut bench = bench();
    bench.write(reg::PBA, 8);
    assert_eq!(fill(&bench), 7 + 48 * 1024 / TAKES);
    bench.write(reg::CTRL, ctrl::RST);
    assert_eq!(bench.read(reg::PBA), 56 << 16 | 8);
    bench.start_rx(8, rctl::BAM);
    assert_eq!(fill(&bench), 7 + 8 * 1024 / TAKES, "and the reset has emptied it");
}

#[test]
fn the_receiver_switched_off_empties_the_fifo() {
    let mut bench = bench();
    fill(&bench);
    bench.write(reg::RCTL, 0);
    bench.start_rx(8, rctl::BAM);
    assert!(bench.receive().is_none());
}

#[test]
fn without_bus_mastering_frames_wait_in_the_fifo() {
    let mut bench = bench();
    bench.dma.set_enabled(false);
    assert_eq!(bench.inject(&frame_to(MAC, 100)), Delivery::Taken);
    assert!(bench.receive().is_none());
    bench.dma.set_enabled(true);
    use minivmm::pci::Function;
    bench.nic.bus_master_changed(true);
    assert!(bench.receive().is_some());
}

#[test]
fn a_big_frame_overflows_segment_by_segment() {
    let mut bench = bench();
    bench.write(reg::PBA, 8);
    bench.write(reg::CTRL, ctrl::RST);
    bench.start_rx(8, rctl::BAM);
    let mut frame = vec![0; 14 + 20 + 20 + 60_000];
    frame[..6].copy_from_slice(&MAC);
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&60_040u16.to_be_bytes());
    frame[23] = 6;
    frame[46] = 0x50;
    let gso = Gso { kind: GsoKind::Tcp4, mss: 1000, header_len: 54 };
    let meta = FrameMeta { gso: Some(gso), ..FrameMeta::default() };
    assert_eq!(bench.nic.deliver(&Frame { head: &frame, body: &[], meta }), Delivery::Taken);
    assert_eq!(
        bench.read(reg::TPR) as usize,
        60 - 8192 / (1064 + 16),
        "all but those in the FIFO are decided"
    );
    assert_eq!(bench.read(reg::GPRC), 7);
    assert_eq!(bench.read(reg::MPC) as usize, 60 - 7 - 8192 / (1064 + 16));
}

fn pausing() -> TestNic {
    let bench = bench();
    for (register, value) in [
        (reg::FCAL, 0x00c2_8001),
        (reg::FCAH, 0x0100),
        (reg::FCT, 0x8808),
        (reg::FCTTV, 100),
        (reg::FCRTH, 4 * TAKES as u32),
        (reg::FCRTL, (1 << 31) | (2 * TAKES as u32)),
    ] {
        bench.write(register, value);
    }
    bench.write(reg::CTRL, bench.read(reg::CTRL) | ctrl::TFCE);
    bench
}

/// Pause times of the PAUSE frames that have reached the peer.
fn pauses(bench: &TestNic) -> Vec<u16> {
    let frames = bench.peer.take_all();
    frames.iter().map(|f| u16::from_be_bytes([f[16], f[17]])).collect()
}

#[test]
fn xoff_goes_out_at_fcrth_and_xon_below_fcrtl() {
    let mut bench = pausing();
    for _ in 0..7 + 3 {
        bench.inject(&frame_to(MAC, 1000));
    }
    bench.advance(0);
    assert_eq!(pauses(&bench), [0u16; 0]);
    bench.inject(&frame_to(MAC, 1000));
    bench.advance(0);
    assert_eq!(pauses(&bench), [100], "the fourth in the FIFO");
    bench.inject(&frame_to(MAC, 1000));
    bench.advance(0);
    assert_eq!(pauses(&bench), [0u16; 0], "once is enough");
    bench.advance(100 * 512);
    bench.inject(&frame_to(MAC, 1000));
    bench.advance(0);
    assert_eq!(pauses(&bench), [100], "its time was over");
    while bench.receive().is_some() {}
    bench.refill();
    bench.advance(0);
    assert_eq!(pauses(&bench), [0], "XON");
    assert_eq!((bench.read(reg::XOFFTXC), bench.read(reg::XONTXC)), (2, 1));
    assert_eq!((bench.read(reg::TPT), bench.read(reg::GPTC)), (3, 0), "sent, but no good packets");
}

#[test]
fn without_xone_nothing_tells_the_peer_to_go_on_and_without_tfce_nothing_at_all() {
    let mut bench = pausing();
    bench.write(reg::FCRTL, 2 * TAKES as u32);
    for _ in 0..7 + 4 {
        bench.inject(&frame_to(MAC, 1000));
    }
    while bench.receive().is_some() {}
    bench.refill();
    bench.advance(0);
    assert_eq!(bench.read(reg::RDFPC), 0, "below FCRTL");
    assert_eq!(pauses(&bench), [100]);
    let bench = pausing();
    bench.write(reg::CTRL, bench.read(reg::CTRL) & !ctrl::TFCE);
    fill(&bench);
    bench.advance(0);
    assert_eq!(pauses(&bench), [0u16; 0]);
}

#[test]
fn a_full_peer_gets_its_xoff_when_it_is_ready() {
    let bench = pausing();
    bench.peer.set_room(0);
    fill(&bench);
    bench.advance(0);
    assert_eq!(bench.read(reg::XOFFTXC), 0);
    bench.peer.set_room(10);
    bench.nic.peer_ready();
    assert_eq!(pauses(&bench), [100]);
    assert_eq!(bench.read(reg::XOFFTXC), 1);
}

#[test]
fn a_pause_frame_for_the_host_does_not_wait_for_descriptors() {
    let bench = TestNic::default();
    bench.write(reg::RCTL, rctl::EN | rctl::MPE);
    bench.write(reg::CTRL, bench.read(reg::CTRL) | ctrl::RFCE);
    bench.write(reg::FCAL, 0x00c2_8001);
    bench.write(reg::FCAH, 0x0100);
    bench.write(reg::FCT, 0x8808);
    let mut pause = frame_to([1, 0x80, 0xc2, 0, 0, 1], 60);
    pause[12..18].copy_from_slice(&[0x88, 0x08, 0, 1, 0, 9]);
    assert_eq!(bench.inject(&pause), LOST);
    assert_eq!((bench.read(reg::XOFFRXC), bench.read(reg::MPC)), (1, 1));
}
