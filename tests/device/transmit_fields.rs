//! Fields of transmit descriptors: which of a packet's descriptors decides, what is written back, what is passed over.

use minivmm::nic::e1000::spec::{DESC_LEN, cause, ctrl, reg, tctl, txd};
use minivmm::nic::e1000::testing::{OTHER, RAM_LEN, TX_BUFFERS, TX_RING, TestNic, frame_to};

const SEND: u32 = txd::EOP | txd::IFCS | txd::RS;

fn bench() -> TestNic {
    let mut bench = TestNic::default();
    bench.start_tx(16);
    bench.write(reg::CTRL, bench.read(reg::CTRL) | ctrl::VME);
    bench
}

/// A non-segmentation context: sum from 34 to the end, stored at 50.
fn checksum_context(bench: &mut TestNic) -> u32 {
    bench.queue_descriptor([34 << 32 | 50 << 40, u64::from(txd::DEXT | txd::RS)])
}

#[test]
fn popts_count_in_the_first_data_descriptor() {
    for (popts, inserted) in [([txd::POPTS_TXSM, 0], true), ([0, txd::POPTS_TXSM], false)] {
        let mut bench = bench();
        let frame = frame_to(OTHER, 200);
        bench.poke(TX_BUFFERS, &frame);
        checksum_context(&mut bench);
        bench.queue_data(TX_BUFFERS, 100, txd::IFCS, popts[0], 0);
        bench.queue_data(TX_BUFFERS + 100, 100, SEND, popts[1], 0);
        bench.ring_doorbell();
        assert_eq!(bench.peer.take().unwrap().0 != frame, inserted);
    }
}

#[test]
fn tag_and_ifcs_count_in_the_last_descriptor() {
    let mut bench = bench();
    bench.poke(TX_BUFFERS, &frame_to(OTHER, 200));
    bench.queue_data(TX_BUFFERS, 100, txd::VLE, 0, 1);
    bench.queue_data(TX_BUFFERS + 100, 100, SEND, 0, 2);
    bench.queue_data(TX_BUFFERS, 100, 0, 0, 1);
    bench.queue_data(TX_BUFFERS + 100, 100, SEND | txd::VLE, 0, 2);
    bench.ring_doorbell();
    let sent = bench.peer.take_all();
    assert_eq!(sent[0].len(), 200);
    assert_eq!(sent[1][12..16], [0x81, 0, 0, 2]);
}

#[test]
fn write_back_touches_nothing_but_dd() {
    let mut bench = bench();
    bench.poke(TX_BUFFERS, &frame_to(OTHER, 60));
    let n = bench.queue_descriptor([TX_BUFFERS, u64::from(60 | SEND) | 0xabcd_5660 << 32]);
    let at = TX_RING + DESC_LEN * u64::from(n);
    let before = bench.peek(at, 16);
    bench.ring_doorbell();
    let mut expected = before;
    expected[12] |= txd::DD;
    assert_eq!(bench.peek(at, 16), expected);
}

#[test]
fn rs_is_honoured_on_contexts_and_in_the_middle_of_a_packet() {
    let mut bench = bench();
    bench.poke(TX_BUFFERS, &frame_to(OTHER, 200));
    let context = checksum_context(&mut bench);
    let first = bench.queue_data(TX_BUFFERS, 100, txd::IFCS | txd::RS, 0, 0);
    let last = bench.queue_data(TX_BUFFERS + 100, 100, txd::EOP | txd::IFCS, 0, 0);
    bench.ring_doorbell();
    let done = [context, first, last].map(|n| bench.tx_status(n) & txd::DD != 0);
    assert_eq!(done, [true, true, false]);
}

#[test]
fn data_without_any_context_is_sent_as_it_is() {
    let mut bench = bench();
    let frame = frame_to(OTHER, 100);
    bench.poke(TX_BUFFERS, &frame);
    bench.queue_data(TX_BUFFERS, 100, SEND, 0, 0);
    bench.queue_data(TX_BUFFERS, 100, SEND, txd::POPTS_TXSM | txd::POPTS_IXSM, 0);
    bench.ring_doorbell();
    assert_eq!(bench.peer.take_all(), [frame.clone(), frame]);
}

#[test]
fn a_context_alone_sends_nothing() {
    let mut bench = bench();
    let n = checksum_context(&mut bench);
    bench.ring_doorbell();
    assert!(bench.peer.take().is_none());
    assert_eq!(bench.tx_status(n) & txd::DD, txd::DD);
    assert_eq!(bench.read(reg::TDH), bench.read(reg::TDT));
}

#[test]
fn a_descriptor_of_an_unknown_type_is_passed_over() {
    let mut bench = bench();
    let odd = bench.queue_descriptor([TX_BUFFERS, u64::from(100 | SEND | txd::DEXT | 5 << txd::DTYP_SHIFT)]);
    let frame = frame_to(OTHER, 60);
    bench.send(&frame);
    assert_eq!(bench.peer.take_all(), [frame]);
    assert_eq!(bench.tx_status(odd) & txd::DD, txd::DD);
}

#[test]
fn ixsm_inserts_the_ip_header_checksum() {
    let mut bench = bench();
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2([2; 6], OTHER)
        .ipv4([10, 0, 2, 15], [10, 0, 2, 2], 64)
        .udp(9, 9)
        .write(&mut frame, &[7; 33])
        .unwrap();
    let good = frame.clone();
    frame[24..26].fill(0);
    bench.poke(TX_BUFFERS, &frame);
    bench.queue_descriptor([14 | 24 << 8 | 33 << 16, u64::from(txd::DEXT)]);
    bench.queue_data(TX_BUFFERS, frame.len() as u32, SEND, txd::POPTS_IXSM, 0);
    bench.ring_doorbell();
    assert_eq!(bench.peer.take().unwrap().0, good);
}

#[test]
fn offsets_beyond_the_packet_insert_nothing() {
    let mut bench = bench();
    let frame = frame_to(OTHER, 60);
    bench.poke(TX_BUFFERS, &frame);
    for (start, at) in [(100u64, 20u64), (14, 59), (14, 200)] {
        bench.queue_descriptor([start << 32 | at << 40, u64::from(txd::DEXT)]);
        bench.queue_data(TX_BUFFERS, 60, SEND, txd::POPTS_TXSM, 0);
        bench.ring_doorbell();
        assert_eq!(bench.peer.take().unwrap().0, frame, "{start} {at}");
    }
}

#[test]
fn txqe_comes_when_the_ring_runs_empty_and_not_for_an_idle_doorbell() {
    let mut bench = bench();
    bench.read(reg::ICR);
    bench.write(reg::TDT, 0);
    assert_eq!(bench.read(reg::ICR), 0);
    bench.peer.set_room(1);
    bench.poke(TX_BUFFERS, &frame_to(OTHER, 60));
    for _ in 0..2 {
        bench.queue_legacy(TX_BUFFERS, 60, SEND);
    }
    bench.ring_doorbell();
    assert_eq!(bench.read(reg::ICR), cause::TXDW, "one is left");
    bench.peer.set_room(1);
    use minivmm::netport::FramePort;
    bench.nic.peer_ready();
    assert_eq!(bench.read(reg::ICR), cause::TXDW | cause::TXQE);
}

#[test]
fn a_packet_longer_than_the_fifo_takes_is_given_up_and_the_ring_goes_on() {
    let mut bench = bench();
    for _ in 0..5 {
        bench.queue_legacy(TX_BUFFERS, 16_000, txd::IFCS);
    }
    let last = bench.queue_legacy(TX_BUFFERS, 16_000, SEND);
    let frame = frame_to(OTHER, 60);
    bench.send(&frame);
    assert_eq!(bench.tx_status(last) & txd::DD, txd::DD);
    assert_eq!(bench.peer.take_all(), [frame]);
    assert_eq!(bench.nic.stats_snapshot().tx_errors, 1);
}

#[test]
fn a_ring_that_is_not_memory_sends_nothing() {
    for base in [RAM_LEN as u32, 0xfebc_0000] {
        let bench = bench();
        bench.write(reg::TDBAL, base);
        bench.write(reg::TDT, 3);
        assert!(bench.peer.take().is_none());
        assert_eq!(bench.read(reg::TDH), 0);
        assert!(bench.dma.aborts() > 0);
    }
}

#[test]
fn switching_the_transmitter_off_stops_it_between_packets() {
    let mut bench = bench();
    bench.peer.set_room(1);
    bench.poke(TX_BUFFERS, &frame_to(OTHER, 60));
    for _ in 0..3 {
        bench.queue_legacy(TX_BUFFERS, 60, SEND);
    }
    bench.ring_doorbell();
    bench.write(reg::TCTL, 0);
    bench.peer.set_room(10);
    use minivmm::netport::FramePort;
    bench.nic.peer_ready();
    assert_eq!(bench.peer.take_all().len(), 1);
    bench.write(reg::TCTL, tctl::EN);
    assert_eq!(bench.peer.take_all().len(), 2, "and on it goes on where it stood");
}
