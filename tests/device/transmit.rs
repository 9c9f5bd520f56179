//! Transmission: frames leave, descriptors come back, a full peer stops the ring.

use minivmm::memory::DmaHandle;
use minivmm::netport::FramePort;
use minivmm::nic::e1000::spec::{cause, ctrl, reg, tctl, txd};
use minivmm::nic::e1000::testing::{OTHER, RAM_LEN, TX_BUFFERS, TX_RING, TestNic, frame_to};

const SEND: u32 = txd::EOP | txd::IFCS | txd::RS;

#[test]
fn a_legacy_frame_leaves_and_its_descriptor_is_done() {
    let mut bench = TestNic::default();
    bench.start_tx(16);
    let frame = frame_to(OTHER, 100);
    let n = bench.send(&frame);
    assert_eq!(bench.peer.take_all(), [frame]);
    assert_eq!(bench.tx_status(n) & txd::DD, txd::DD);
    assert_eq!(bench.read(reg::TDH), 1);
    assert_eq!(bench.read(reg::ICR), cause::TXDW | cause::TXQE);
}

#[test]
fn without_rs_the_descriptor_stays_as_it_is() {
    let mut bench = TestNic::default();
    bench.start_tx(16);
    bench.poke(TX_BUFFERS, &frame_to(OTHER, 60));
    let n = bench.queue_legacy(TX_BUFFERS, 60, txd::EOP | txd::IFCS);
    bench.ring_doorbell();
    assert_eq!(bench.tx_status(n), 0);
    assert_eq!(bench.read(reg::ICR) & cause::TXDW, 0);
    assert_eq!(bench.read(reg::TDH), 1);
}

#[test]
fn short_frames_are_padded_only_with_psp() {
    let mut bench = TestNic::default();
    bench.start_tx(16);
    bench.send(&frame_to(OTHER, 20));
    bench.write(reg::TCTL, tctl::EN);
    bench.send(&frame_to(OTHER, 20));
    let sent = bench.peer.take_all();
    assert_eq!((sent[0].len(), sent[1].len()), (60, 20));
    assert!(sent[0][20..].iter().all(|b| *b == 0));
}

#[test]
fn pieces_of_any_length_make_one_frame() {
    let frame = frame_to(OTHER, 1400);
    for sizes in [vec![1, 1, 12, 700, 686], vec![4; 350], vec![700, 0, 700], vec![1396, 4]] {
        let mut bench = TestNic::default();
        bench.start_tx(512);
        bench.poke(TX_BUFFERS, &frame);
        let mut at = 0;
        for (n, size) in sizes.iter().enumerate() {
            let eop = if n + 1 == sizes.len() { txd::EOP | txd::RS } else { 0 };
            bench.queue_data(TX_BUFFERS + at, *size, txd::IFCS | eop, 0, 0);
            at += u64::from(*size);
        }
        bench.ring_doorbell();
        assert_eq!(bench.peer.take_all(), std::slice::from_ref(&frame), "{sizes:?}");
    }
}

#[test]
fn a_packet_may_come_with_several_doorbells() {
    let mut bench = TestNic::default();
    bench.start_tx(16);
    let frame = frame_to(OTHER, 900);
    bench.poke(TX_BUFFERS, &frame);
    let first = bench.queue_data(TX_BUFFERS, 500, txd::IFCS | txd::RS, 0, 0);
    bench.ring_doorbell();
    assert_eq!(bench.tx_status(first) & txd::DD, txd::DD, "RS is honoured without EOP");
    assert_eq!(bench.read(reg::TDH), 1);
    assert!(bench.peer.take().is_none());
    bench.poke(TX_BUFFERS, &[0; 500]);
    bench.queue_data(TX_BUFFERS + 500, 400, SEND, 0, 0);
    bench.ring_doorbell();
    assert_eq!(bench.peer.take_all(), [frame], "what was given back had been read before");
}

#[test]
fn a_full_peer_stops_the_ring_and_loses_nothing() {
    let mut bench = TestNic::default();
    bench.start_tx(16);
    bench.peer.set_room(1);
    let frames: Vec<_> = (0..3).map(|n| frame_to(OTHER, 700 + n)).collect();
    let indices: Vec<_> = frames.iter().map(|f| bench.send(f)).collect();
    assert_eq!(bench.tx_status(indices[1]), 0, "not taken, not done");
    assert_eq!(bench.read(reg::TDH), 1);
    bench.peer.set_room(1);
    bench.nic.peer_ready();
    assert_eq!(bench.read(reg::TDH), 2);
    bench.peer.set_room(usize::MAX);
    bench.nic.peer_ready();
    assert_eq!(bench.peer.take_all(), frames);
    assert!(indices.iter().all(|&n| bench.tx_status(n) & txd::DD != 0));
}

#[test]
fn the_doorbell_waits_for_enable_link_and_bus_mastering() {
    let mut bench = TestNic::default();
    bench.start_tx(16);
    bench.write(reg::TCTL, 0);
    bench.send(&frame_to(OTHER, 60));
    assert!(bench.peer.take().is_none());
    bench.nic.set_link(false);
    bench.write(reg::TCTL, tctl::EN);
    assert!(bench.peer.take().is_none());
    bench.dma.set_enabled(false);
    bench.nic.set_link(true);
    assert!(bench.peer.take().is_none());
    master(&bench.dma, &bench);
    assert!(bench.peer.take().is_some());
}

fn master(dma: &DmaHandle, bench: &TestNic) {
    use minivmm::pci::Function;
    dma.set_enabled(true);
    bench.nic.bus_master_changed(true);
}

#[test]
fn the_ring_wraps() {
    let mut bench = TestNic::default();
    bench.start_tx(8);
    for n in 0..30 {
        bench.send(&frame_to(OTHER, 60 + n));
    }
    assert_eq!(bench.peer.take_all().len(), 30);
    assert_eq!(bench.read(reg::TDH), 30 % 8);
}

#[test]
fn a_vlan_tag_is_inserted_with_vle_if_ctrl_vme_allows_it() {
    let mut bench = TestNic::default();
    bench.start_tx(16);
    let frame = frame_to(OTHER, 100);
    bench.poke(TX_BUFFERS, &frame);
    bench.queue_data(TX_BUFFERS, 100, SEND | txd::VLE, 0, 0x2064);
    bench.ring_doorbell();
    bench.write(reg::CTRL, bench.read(reg::CTRL) | ctrl::VME);
    bench.queue_data(TX_BUFFERS, 100, SEND | txd::VLE, 0, 0x2064);
    bench.ring_doorbell();
    let sent = bench.peer.take_all();
    assert_eq!(sent[0], frame);
    assert_eq!(sent[1][..12], frame[..12]);
    assert_eq!(sent[1][12..16], [0x81, 0x00, 0x20, 0x64]);
    assert_eq!(sent[1][16..], frame[12..]);
}

#[test]
fn a_frame_that_brings_its_fcs_loses_it_and_one_that_forgot_ifcs_is_sent_whole() {
    let mut bench = TestNic::default();
    bench.start_tx(16);
    let frame = frame_to(OTHER, 100);
    let mut with_fcs = frame.clone();
    with_fcs.extend(crc32fast::hash(&frame).to_le_bytes());
    bench.poke(TX_BUFFERS, &with_fcs);
    bench.queue_legacy(TX_BUFFERS, 104, txd::EOP | txd::RS);
    bench.queue_legacy(TX_BUFFERS, 100, txd::EOP | txd::RS);
    bench.ring_doorbell();
    assert_eq!(bench.peer.take_all(), [frame.clone(), frame]);
}

#[test]
fn legacy_checksum_insertion() {
    let mut bench = TestNic::default();
    bench.start_tx(16);
    let mut frame = frame_to(OTHER, 101);
    frame[40..42].fill(0);
    bench.poke(TX_BUFFERS, &frame);
    let (css, cso) = (30u64, 40u64);
    let cmd = u64::from(101 | SEND | txd::IC) | cso << 16 | css << 40;
    bench.queue_descriptor([TX_BUFFERS, cmd]);
    bench.ring_doorbell();
    let (sent, meta) = bench.peer.take().unwrap();
    assert_eq!(meta.csum, None);
    assert_eq!(sum(&sent[30..]), 0xffff);
}

#[test]
fn contexts_persist_and_there_are_two() {
    let mut bench = TestNic::default();
    bench.start_tx(16);
    let mut frame = frame_to(OTHER, 200);
    frame[50..52].fill(0);
    bench.poke(TX_BUFFERS, &frame);
    bench.queue_descriptor([34 << 32 | 50 << 40, u64::from(txd::DEXT)]);
    // A segmentation context in between does not touch the other.
    bench.queue_descriptor([14 << 32 | 16 << 40, u64::from(txd::DEXT | txd::TSE) | 54 << 40 | 100 << 48]);
    for _ in 0..2 {
        bench.queue_data(TX_BUFFERS, 200, SEND, txd::POPTS_TXSM, 0);
    }
    bench.ring_doorbell();
    for sent in bench.peer.take_all() {
        assert_eq!(sum(&sent[34..]), 0xffff);
    }
}

#[test]
fn a_buffer_that_is_not_memory_loses_the_packet_but_not_the_ring() {
    let mut bench = TestNic::default();
    bench.start_tx(16);
    let bad = bench.queue_legacy(RAM_LEN + 0x1000, 60, SEND);
    bench.ring_doorbell();
    let frame = frame_to(OTHER, 60);
    bench.send(&frame);
    assert_eq!(bench.tx_status(bad) & txd::DD, txd::DD);
    assert_eq!(bench.peer.take_all(), [frame]);
    assert_eq!(bench.nic.stats_snapshot().tx_errors, 1);
}

#[test]
fn a_zero_length_descriptor_sends_nothing_but_reports() {
    let mut bench = TestNic::default();
    bench.start_tx(16);
    let n = bench.queue_legacy(TX_BUFFERS, 0, SEND);
    bench.ring_doorbell();
    assert!(bench.peer.take().is_none());
    assert_eq!(bench.tx_status(n) & txd::DD, txd::DD);
}

#[test]
fn a_ring_without_length_sends_its_one_descriptor_at_each_doorbell() {
    let mut bench = TestNic::default();
    bench.start_tx(16);
    bench.write(reg::TDLEN, 16);
    assert_eq!(bench.read(reg::TDLEN), 0, "shorter than 8 descriptors is nothing");
    let frame = frame_to(OTHER, 60);
    bench.poke(TX_BUFFERS, &frame);
    for _ in 0..2 {
        bench.poke(TX_RING, &TX_BUFFERS.to_le_bytes());
        bench.poke(TX_RING + 8, &u64::from(60 | SEND).to_le_bytes());
        bench.write(reg::TDT, 1);
        assert_eq!(bench.tx_status(0) & txd::DD, txd::DD);
    }
    assert_eq!(bench.peer.take_all(), [frame.clone(), frame]);
    assert_eq!(bench.read(reg::TDH), 0);
}

#[test]
fn indices_beyond_the_ring_stop_it() {
    let mut bench = TestNic::default();
    bench.start_tx(16);
    bench.poke(TX_BUFFERS, &frame_to(OTHER, 60));
    bench.queue_legacy(TX_BUFFERS, 60, SEND);
    bench.write(reg::TDT, 16);
    bench.write(reg::TDT, 0xffff);
    assert!(bench.peer.take().is_none());
    bench.write(reg::TDH, 99);
    bench.write(reg::TDT, 1);
    assert!(bench.peer.take().is_none());
    bench.write(reg::TDH, 0);
    bench.write(reg::TDT, 1);
    assert!(bench.peer.take().is_some());
}

#[test]
fn low_threshold_is_reported_when_it_is_crossed() {
    let mut bench = TestNic::default();
    bench.start_tx(64);
    bench.write(reg::TXDCTL, 1 << 25);
    bench.peer.set_room(1);
    bench.poke(TX_BUFFERS, &frame_to(OTHER, 60));
    for _ in 0..10 {
        bench.queue_legacy(TX_BUFFERS, 60, txd::EOP | txd::IFCS);
    }
    bench.ring_doorbell();
    assert_eq!(bench.read(reg::ICR) & cause::TXD_LOW, 0, "nine left");
    bench.peer.set_room(1);
    bench.nic.peer_ready();
    assert_eq!(bench.read(reg::ICR) & cause::TXD_LOW, cause::TXD_LOW, "eight left");
}

/// Ones' complement sum, the plain way.
fn sum(bytes: &[u8]) -> u32 {
    let mut acc = 0u32;
    for pair in bytes.chunks(2) {
        acc += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while acc > 0xffff {
        acc = (acc & 0xffff) + (acc >> 16);
    }
    acc
}
