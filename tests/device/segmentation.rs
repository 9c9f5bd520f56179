//! TCP and UDP segmentation: cut here, or left to the peer, with the same bytes on the wire.

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use minivmm::netport::segment::SegmentPlan;
use minivmm::netport::{FrameMeta, FramePort, Offloads};
use minivmm::nic::e1000::spec::{ctrl, reg, txd};
use minivmm::nic::e1000::testing::{MAC, OTHER, TX_BUFFERS, TestNic};
use proptest::prelude::*;

const TAKES_ALL: Offloads = Offloads { csum: true, tso4: true, tso6: true };

/// A packet as a driver prepares it: IP length and checksum zero, the pseudo-header's sum without length in
/// the transport checksum.
struct Prepared {
    frame: Vec<u8>,
    context: [u64; 2],
    header_len: usize,
}

fn context(v4: bool, tcp: bool, l4: usize, header_len: usize, mss: u16) -> [u64; 2] {
    let checksum_at = l4 + if tcp { 16 } else { 6 };
    let (ip_checksum_at, ip_end) = if v4 { (24, l4 - 1) } else { (0, 0) };
    let low =
        14 | ip_checksum_at << 8 | (ip_end as u64) << 16 | (l4 as u64) << 32 | (checksum_at as u64) << 40;
    let tucmd =
        txd::DEXT | txd::TSE | if v4 { txd::TUCMD_IP } else { 0 } | if tcp { txd::TUCMD_TCP } else { 0 };
    [low, u64::from(tucmd) | (header_len as u64) << 40 | u64::from(mss) << 48]
}

fn prepare(v4: bool, tcp: bool, payload: &[u8], mss: u16) -> Prepared {
    let eth = PacketBuilder::ethernet2(MAC, OTHER);
    let ip =
        if v4 { eth.ipv4([10, 0, 2, 15], [10, 0, 2, 2], 64) } else { eth.ipv6([0xfd; 16], [0xfe; 16], 64) };
    let mut frame = Vec::new();
    if tcp {
        ip.tcp(1234, 80, 5000, 512).ack(1).psh().fin().write(&mut frame, payload).unwrap();
    } else {
        ip.udp(9, 9).write(&mut frame, payload).unwrap();
    }
    let l4 = if v4 { 34 } else { 54 };
    let (header_len, checksum_at, protocol) = if tcp { (l4 + 20, l4 + 16, 6) } else { (l4 + 8, l4 + 6, 17) };
    let addresses = if v4 { 26..34 } else { 22..54 };
    let mut seed = minivmm::netport::checksum::Sum::new(protocol);
    seed.add(&frame[addresses]);
    frame[checksum_at..checksum_at + 2].copy_from_slice(&seed.folded().to_be_bytes());
    if v4 {
        frame[16..18].fill(0);
        frame[24..26].fill(0);
    }
    Prepared { frame, context: context(v4, tcp, l4, header_len, mss), header_len }
}

fn queue(bench: &mut TestNic, packet: &Prepared, pieces: &[u32], popts: u8, cmd: u32) {
    bench.poke(TX_BUFFERS, &packet.frame);
    bench.queue_descriptor(packet.context);
    let mut at = 0;
    for size in pieces {
        bench.queue_data(TX_BUFFERS + u64::from(at), *size, txd::TSE | txd::IFCS | cmd, popts, 0x64);
        at += size;
    }
    let rest = packet.frame.len() as u32 - at;
    bench.queue_data(
        TX_BUFFERS + u64::from(at),
        rest,
        txd::TSE | txd::IFCS | txd::EOP | txd::RS | cmd,
        popts,
        0x64,
    );
    bench.ring_doorbell();
}

const BOTH: u8 = txd::POPTS_IXSM | txd::POPTS_TXSM;

/// Checks one segment with an independent reader; returns its payload and, for TCP, its sequence number.
fn check(segment: &[u8]) -> (Vec<u8>, u32) {
    let parsed = SlicedPacket::from_ethernet(segment).unwrap();
    let net = parsed.net.unwrap();
    if let NetSlice::Ipv4(ip) = &net {
        let header = ip.header().to_header();
        assert_eq!(header.calc_header_checksum(), header.header_checksum, "IP checksum");
        assert_eq!(60.max(usize::from(header.total_len) + 14), segment.len(), "length, padded");
    }
    match parsed.transport.unwrap() {
        TransportSlice::Tcp(tcp) => {
            let header = tcp.to_header();
            let sum = match &net {
                NetSlice::Ipv4(ip) => header.calc_checksum_ipv4(&ip.header().to_header(), tcp.payload()),
                NetSlice::Ipv6(ip) => header.calc_checksum_ipv6(&ip.header().to_header(), tcp.payload()),
            };
            assert_eq!(header.checksum, sum.unwrap(), "TCP checksum");
            (tcp.payload().to_vec(), header.sequence_number)
        }
        TransportSlice::Udp(udp) => {
            let header = udp.to_header();
            let sum = match &net {
                NetSlice::Ipv4(ip) => header.calc_checksum_ipv4(&ip.header().to_header(), udp.payload()),
                NetSlice::Ipv6(ip) => header.calc_checksum_ipv6(&ip.header().to_header(), udp.payload()),
            };
            assert_eq!(header.checksum, sum.unwrap(), "UDP checksum");
            (udp.payload().to_vec(), 0)
        }
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn segments_are_good_whatever_the_pieces(
        v4: bool, tcp: bool, passed: bool,
        payload in proptest::collection::vec(any::<u8>(), 1..6000),
        mss in 100u16..1500,
        sizes in proptest::collection::vec(1u32..200, 0..20),
    ) {
        let mut bench = TestNic::default();
        bench.start_tx(64);
        if passed {
            bench.peer.set_accepts(TAKES_ALL);
        }
        let packet = prepare(v4, tcp, &payload, mss);
        let mut left = packet.frame.len() as u32;
        let pieces: Vec<u32> = sizes.into_iter().take_while(|s| { left = left.saturating_sub(*s); left > 0 }).collect();
        queue(&mut bench, &packet, &pieces, BOTH, 0);
        let mut whole = Vec::new();
        let count = payload.len().div_ceil(usize::from(mss));
        for frame in wire_frames(&bench) {
            let (data, seq) = check(&frame);
            if tcp {
                prop_assert_eq!(seq, 5000 + whole.len() as u32);
            }
            whole.extend(data);
        }
        prop_assert_eq!(&whole, &payload);
        prop_assert_eq!(bench.read(reg::TPT) as usize, count);
        prop_assert_eq!(bench.read(reg::TSCTC), 1);
        let lengths = payload.chunks(mss.into()).map(|piece| 60.max(packet.header_len + piece.len()) + 4);
        let octets: usize = lengths.sum();
        prop_assert_eq!(bench.read(reg::TOTL) as usize, octets);
    }
}

/// What goes onto the wire: the peer's offloads are carried out.
fn wire_frames(bench: &TestNic) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    while let Some((mut frame, meta)) = bench.peer.take() {
        finish(&mut frame, &meta, &mut out);
    }
    out
}

fn finish(frame: &mut [u8], meta: &FrameMeta, out: &mut Vec<Vec<u8>>) {
    if meta.gso.is_some() {
        let plan = SegmentPlan::for_gso(frame, meta).unwrap();
        for k in 0..plan.count(frame.len() - plan.header_len) {
            let mut segment = Vec::new();
            let payload = plan.cut(frame, k, &mut segment).to_vec();
            segment.extend(payload);
            segment.resize(segment.len().max(60), 0);
            out.push(segment);
        }
        return;
    }
    if let Some(csum) = meta.csum {
        let start = usize::from(csum.start);
        minivmm::netport::checksum::insert(frame, start, usize::MAX, start + usize::from(csum.offset));
    }
    out.push(frame.to_vec());
}

#[test]
fn a_peer_that_cuts_gets_one_big_frame() {
    let mut bench = TestNic::default();
    bench.start_tx(64);
    bench.peer.set_accepts(TAKES_ALL);
    let packet = prepare(true, true, &[3; 40_000], 1448);
    queue(&mut bench, &packet, &[54, 4000, 4000], BOTH, 0);
    let (frame, meta) = bench.peer.take().unwrap();
    assert_eq!(frame.len(), 40_054);
    assert_eq!(meta.gso.map(|g| (g.mss, g.header_len)), Some((1448, 54)));
    assert_eq!(bench.nic.stats_snapshot().tx_gso_frames, 1);
    assert_eq!(bench.nic.stats_snapshot().tx_frames, 28);
}

#[test]
fn the_last_segment_alone_carries_fin_and_psh() {
    let mut bench = TestNic::default();
    bench.start_tx(64);
    let packet = prepare(true, true, &[3; 2500], 1000);
    queue(&mut bench, &packet, &[2550], BOTH, 0);
    let flags: Vec<u8> = bench.peer.take_all().iter().map(|f| f[47]).collect();
    assert_eq!(flags, [0x10, 0x10, 0x19]);
}

#[test]
fn tags_go_into_every_segment() {
    let mut bench = TestNic::default();
    bench.start_tx(64);
    bench.peer.set_accepts(TAKES_ALL);
    bench.write(reg::CTRL, bench.read(reg::CTRL) | ctrl::VME);
    let packet = prepare(true, true, &[3; 2500], 1000);
    queue(&mut bench, &packet, &[], BOTH, txd::VLE);
    let sent = bench.peer.take_all();
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|f| f[12..16] == [0x81, 0, 0, 0x64]));
}

#[test]
fn a_wrong_seed_gives_the_wrong_checksum_of_the_real_part() {
    for accepts in [Offloads::default(), TAKES_ALL] {
        let mut bench = TestNic::default();
        bench.start_tx(64);
        bench.peer.set_accepts(accepts);
        let mut packet = prepare(true, true, &[3; 2500], 1000);
        packet.frame[50] ^= 0x10;
        queue(&mut bench, &packet, &[], BOTH, 0);
        for frame in wire_frames(&bench) {
            let parsed = SlicedPacket::from_ethernet(&frame).unwrap();
            let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Tcp(tcp))) = (&parsed.net, &parsed.transport)
            else {
                panic!("TCP")
            };
            let header = tcp.to_header();
            let good = header.calc_checksum_ipv4(&ip.header().to_header(), tcp.payload()).unwrap();
            assert_ne!(header.checksum, good);
        }
    }
}

#[test]
fn a_peer_that_fills_up_between_segments_gets_the_rest_later() {
    let mut bench = TestNic::default();
    bench.start_tx(64);
    bench.peer.set_room(2);
    let packet = prepare(true, true, &(0..4000).map(|n| n as u8).collect::<Vec<_>>(), 1000);
    queue(&mut bench, &packet, &[], BOTH, 0);
    assert_eq!(bench.read(reg::TDH), 0);
    assert_eq!(bench.tx_status(1) & txd::DD, 0);
    bench.peer.set_room(usize::MAX);
    bench.nic.peer_ready();
    let payload: Vec<u8> = bench.peer.take_all().iter().flat_map(|f| check(f).0).collect();
    assert_eq!(payload, packet.frame[54..]);
    assert_eq!(bench.tx_status(1) & txd::DD, txd::DD);
    assert_eq!(bench.read(reg::TPT), 4);
}

#[test]
fn requests_that_hang_the_real_part_are_given_up() {
    for (mss, header_len) in [(0, 54), (1000, 0), (1000, 255)] {
        let mut bench = TestNic::default();
        bench.start_tx(64);
        let mut packet = prepare(true, true, &[3; 100], mss);
        packet.context = context(true, true, 34, header_len, mss);
        queue(&mut bench, &packet, &[], BOTH, 0);
        assert!(bench.peer.take().is_none());
        assert_eq!(bench.tx_status(1) & txd::DD, txd::DD, "the ring goes on");
        assert_eq!(bench.nic.stats_snapshot().tx_errors, 1);
    }
}

#[test]
fn a_segment_size_of_one_byte_is_worked_off_in_portions() {
    let mut bench = TestNic::default();
    bench.start_tx(8);
    let packet = prepare(true, true, &[3; 9000], 1);
    queue(&mut bench, &packet, &[], BOTH, 0);
    assert!(bench.read(reg::TDH) < 2, "not done in one doorbell");
    bench.advance(1);
    for _ in 0..100 {
        bench.advance(1);
        bench.nic.peer_ready();
    }
    assert_eq!(bench.peer.take_all().len(), 9000);
    assert_eq!(bench.read(reg::TDH), 2);
}

#[test]
fn a_single_short_segment_is_padded_even_when_its_checksum_is_left_to_the_peer() {
    let mut bench = TestNic::default();
    bench.start_tx(64);
    bench.peer.set_accepts(TAKES_ALL);
    queue(&mut bench, &prepare(true, true, &[0], 100), &[], BOTH, 0);
    let (frame, meta) = bench.peer.take().unwrap();
    assert_eq!((frame.len(), meta.gso, meta.csum.is_some()), (60, None, true));
}

#[test]
fn packets_with_cwr_are_cut_here() {
    let mut bench = TestNic::default();
    bench.start_tx(64);
    bench.peer.set_accepts(TAKES_ALL);
    let mut packet = prepare(true, true, &[3; 2500], 1000);
    packet.frame[47] |= 0x80;
    queue(&mut bench, &packet, &[], BOTH, 0);
    let sent = bench.peer.take_all();
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|f| f[47] & 0x80 != 0), "copied into every segment");
}

#[test]
fn contexts_do_not_outlive_a_reset() {
    let mut bench = TestNic::default();
    bench.start_tx(64);
    let packet = prepare(true, true, &[3; 2500], 1000);
    queue(&mut bench, &packet, &[], BOTH, 0);
    assert_eq!(bench.peer.take_all().len(), 3);
    bench.io_write(reg::CTRL, ctrl::RST);
    bench.start_tx(64);
    bench.queue_data(TX_BUFFERS, 2554, txd::TSE | txd::IFCS | txd::EOP | txd::RS, BOTH, 0);
    bench.ring_doorbell();
    assert!(bench.peer.take().is_none());
}

#[test]
fn finished_and_failed_segmentations_are_counted() {
    for accepts in [Offloads::default(), TAKES_ALL] {
        let mut bench = TestNic::default();
        bench.start_tx(64);
        bench.peer.set_accepts(accepts);
        let packet = prepare(true, true, &[1; 3000], 1000);
        queue(&mut bench, &packet, &[], BOTH, 0);
        queue(&mut bench, &packet, &[], BOTH, 0);
        assert_eq!((bench.read(reg::TSCTC), bench.read(reg::TSCTFC)), (2, 0));
        assert_eq!(bench.read(reg::TPT), 6, "each segment is a packet");
    }
    let mut bench = TestNic::default();
    bench.start_tx(64);
    let packet = prepare(true, true, &[1; 3000], 1000);
    let short = Prepared { frame: packet.frame[..40].to_vec(), ..packet };
    queue(&mut bench, &short, &[], BOTH, 0);
    assert_eq!((bench.read(reg::TSCTC), bench.read(reg::TSCTFC)), (0, 1), "less than a header");
}

#[test]
fn the_identification_counts_up_and_wraps() {
    let mut bench = TestNic::default();
    bench.start_tx(64);
    let mut packet = prepare(true, true, &[1; 3500], 1000);
    packet.frame[18..20].copy_from_slice(&[0xff, 0xfe]);
    queue(&mut bench, &packet, &[], BOTH, 0);
    let ids: Vec<_> = bench.peer.take_all().iter().map(|f| u16::from_be_bytes([f[18], f[19]])).collect();
    assert_eq!(ids, [0xfffe, 0xffff, 0, 1]);
}

#[test]
fn linuxs_four_byte_sentinel_is_payload_like_any_other() {
    let mut bench = TestNic::default();
    bench.start_tx(64);
    let payload: Vec<u8> = (0..2500u32).map(|n| n as u8).collect();
    let packet = prepare(true, true, &payload, 1000);
    let len = packet.frame.len() as u32;
    queue(&mut bench, &packet, &[54, len - 58], BOTH, 0);
    let together: Vec<u8> = bench.peer.take_all().iter().flat_map(|segment| check(segment).0).collect();
    assert_eq!(together, payload);
}
