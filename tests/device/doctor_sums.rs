//! Checksums that the device is asked to insert: the driver doctor sees whether a receiver would take them.

use etherparse::PacketBuilder;
use minivmm::netport::Offloads;
use minivmm::netport::checksum::Sum;
use minivmm::nic::e1000::doctor::Severity;
use minivmm::nic::e1000::spec::txd;
use minivmm::nic::e1000::testing::{MAC, OTHER, TX_BUFFERS, TestNic, frame_to};

use super::doctor::{FRAME, N, bench, context, ids};

/// A packet whose checksum the device is to insert.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flow {
    pub v6: bool,
    pub udp: bool,
    pub payload: usize,
}

/// The packet with the pseudo-header's sum (and `error` more) in its checksum field; where its transport header and that
/// field are.
pub(super) fn seeded(flow: Flow, error: u16) -> (Vec<u8>, usize, usize) {
    let builder = PacketBuilder::ethernet2(MAC, OTHER);
    let ip = if flow.v6 {
        builder.ipv6([1; 16], [2; 16], 64)
    } else {
        builder.ipv4([10, 0, 2, 15], [10, 0, 2, 2], 64)
    };
    let payload = vec![0x5a; flow.payload];
    let mut frame = Vec::new();
    if flow.udp {
        ip.udp(1000, 2000).write(&mut frame, &payload).unwrap();
    } else {
        ip.tcp(1000, 2000, 7, 512).write(&mut frame, &payload).unwrap();
    }
    let start = if flow.v6 { 54 } else { 34 };
    let at = start + if flow.udp { 6 } else { 16 };
    let mut sum = Sum::new(if flow.udp { 17 } else { 6 });
    sum.add(&frame[if flow.v6 { 22..54 } else { 26..34 }]);
    sum.add_word((frame.len() - start) as u16 + error);
    frame[at..at + 2].copy_from_slice(&sum.folded().to_be_bytes());
    (frame, start, at)
}

pub(super) fn send_seeded(b: &mut TestNic, frame: &[u8], start: usize, at: usize) {
    b.poke(TX_BUFFERS, frame);
    b.queue_descriptor(context(start as u64, at as u64, false, 0, 0, 0));
    b.queue_data(TX_BUFFERS, frame.len() as u32, FRAME, txd::POPTS_TXSM, 0);
    b.ring_doorbell();
}

#[test]
fn wrong_seeds_are_found_whoever_computes_the_rest() {
    let finds = |flow: Flow, error: u16, accepts: Offloads| {
        let (mut nic, doctor) = bench();
        nic.peer.set_accepts(accepts);
        nic.start_tx(N);
        let (frame, start, at) = seeded(flow, error);
        send_seeded(&mut nic, &frame, start, at);
        assert_eq!(nic.peer.take_all().len(), 1);
        ids(&doctor, Severity::Note).contains(&"E1000-TX-023")
    };
    let all = Offloads { csum: true, tso4: true, tso6: true };
    for (v6, udp, payload) in
        [(false, false, 0), (false, true, 1), (true, false, 99), (true, true, 1400), (false, false, 1460)]
    {
        let flow = Flow { v6, udp, payload };
        for accepts in [Offloads::default(), all] {
            assert!(!finds(flow, 0, accepts), "{flow:?} {accepts:?}");
            assert!(finds(flow, 1, accepts), "{flow:?} {accepts:?}");
        }
    }
}

#[test]
fn what_the_device_was_not_asked_to_sum_is_the_drivers_business() {
    let (mut nic, doctor) = bench();
    nic.start_tx(N);
    let (frame, start, at) = seeded(Flow { payload: 10, ..Flow::default() }, 1);
    nic.send(&frame);
    // A fragment's checksum covers more than the frame.
    let mut fragment = frame.clone();
    fragment[20] = 0x20;
    send_seeded(&mut nic, &fragment, start, at);
    // UDP without a checksum, which the device is asked to insert somewhere else.
    let (mut none, start, _) = seeded(Flow { udp: true, payload: 30, v6: false }, 0);
    none[40..42].fill(0);
    send_seeded(&mut nic, &none, start, 60);
    // No IP at all.
    send_seeded(&mut nic, &frame_to(OTHER, 100), 34, 50);
    // Lengths that contradict each other.
    let mut long = frame;
    long[16..18].copy_from_slice(&2000u16.to_be_bytes());
    send_seeded(&mut nic, &long, start, at);
    assert_eq!(nic.peer.take_all().len(), 5);
    assert_eq!(ids(&doctor, Severity::Note), [""; 0]);
}

#[test]
fn a_legacy_descriptor_with_a_wrong_seed_is_found() {
    for error in [0, 1] {
        let (mut nic, doctor) = bench();
        nic.start_tx(N);
        let (frame, start, at) = seeded(Flow { payload: 100, ..Flow::default() }, error);
        nic.poke(TX_BUFFERS, &frame);
        let sums = (frame.len() | at << 16) as u64 | u64::from(FRAME | txd::IC) | (start as u64) << 40;
        nic.queue_descriptor([TX_BUFFERS, sums]);
        nic.ring_doorbell();
        assert_eq!(ids(&doctor, Severity::Note).contains(&"E1000-TX-023"), error == 1);
    }
}
