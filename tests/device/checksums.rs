//! Checksums against an independent implementation (etherparse, and the plain sum): what the receiver says about packets,
//! and what the transmitter inserts.

use etherparse::{IpFragOffset, IpHeaders, Ipv4Extensions, Ipv4Header, Ipv4Options, PacketBuilder};
use minivmm::netport::checksum::Sum;
use minivmm::netport::{FrameMeta, Offloads, OwnedFrame, finish};
use minivmm::nic::e1000::spec::{ctrl, rctl, reg, rxcsum, rxd, tctl, txd};
use minivmm::nic::e1000::testing::{MAC, OTHER, TX_BUFFERS, TestNic};
use proptest::prelude::*;

/// How a packet is built.
#[derive(Debug, Clone)]
struct Packet {
    v4: bool,
    tcp: bool,
    tagged: bool,
    /// Dwords of IPv4 options.
    options: usize,
    payload: Vec<u8>,
}

impl Packet {
    fn ip_at(&self) -> usize {
        if self.tagged { 18 } else { 14 }
    }

    fn l4_at(&self) -> usize {
        self.ip_at() + if self.v4 { 20 + 4 * self.options } else { 40 }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let eth = PacketBuilder::ethernet2(OTHER, MAC);
        let v4 = || {
            let mut header =
                Ipv4Header::new(0, 64, etherparse::IpNumber(0), [10, 0, 2, 2], [10, 0, 2, 15]).unwrap();
            header.options = Ipv4Options::try_from(&vec![1; 4 * self.options][..]).unwrap();
            IpHeaders::Ipv4(header, Ipv4Extensions::default())
        };
        let ip = match (self.v4, self.tagged) {
            (true, false) => eth.ip(v4()),
            (true, true) => eth.single_vlan(7.try_into().unwrap()).ip(v4()),
            (false, false) => eth.ipv6([0xfd; 16], [0xfe; 16], 64),
            (false, true) => eth.single_vlan(7.try_into().unwrap()).ipv6([0xfd; 16], [0xfe; 16], 64),
        };
        if self.tcp {
            ip.tcp(1234, 80, 5000, 512).write(&mut bytes, &self.payload).unwrap();
        } else {
            ip.udp(9, 9).write(&mut bytes, &self.payload).unwrap();
        }
        bytes
    }
}

fn packet() -> impl Strategy<Value = Packet> {
    let payload = proptest::collection::vec(any::<u8>(), 0..1400);
    (any::<bool>(), any::<bool>(), any::<bool>(), 0usize..4, payload)
        .prop_map(|(v4, tcp, tagged, options, payload)| Packet { v4, tcp, tagged, options, payload })
}

/// What a driver asks for: a checksum from `start` on, to be put at `at`.
struct Request {
    frame: Vec<u8>,
    start: usize,
    at: usize,
}

/// What makes a request one whose checksum comes out wrong on the real part, or covers more than the packet.
#[derive(Debug, Clone, PartialEq)]
enum Slip {
    Seed(u16),
    At(usize),
    Start(usize),
    Padding(Vec<u8>),
    Fragment,
    Longer,
}

fn slip() -> impl Strategy<Value = Slip> {
    let padding = proptest::collection::vec(any::<u8>(), 1..30);
    prop_oneof![
        (1..0xffffu16).prop_map(Slip::Seed),
        (1..6usize).prop_map(Slip::At),
        (1..6usize).prop_map(Slip::Start),
        padding.prop_map(Slip::Padding),
        Just(Slip::Fragment),
        Just(Slip::Longer),
    ]
}

impl Slip {
    fn happen(&self, packet: &Packet, request: &mut Request) {
        let frame = &mut request.frame;
        let ip = packet.ip_at();
        let mut add = |at: usize, more: u16| {
            let field = frame.get_mut(at..at + 2).unwrap();
            let sum = u32::from(field[0]) << 8 | u32::from(field[1]);
            let sum = sum + u32::from(more);
            field.copy_from_slice(&((sum + (sum >> 16)) as u16).to_be_bytes());
        };
        match self {
            Slip::Seed(error) => add(request.at, *error),
            Slip::At(bytes) => request.at += bytes,
            Slip::Start(bytes) => request.start -= bytes,
            Slip::Padding(bytes) => frame.extend(bytes),
            Slip::Fragment if packet.v4 => frame[ip + 6] |= 0x20,
            Slip::Fragment => {}
            Slip::Longer => add(ip + if packet.v4 { 2 } else { 4 }, 8),
        }
    }
}

impl Request {
    /// As a driver should.
    fn of(packet: &Packet) -> Self {
        let (mut frame, start) = (packet.bytes(), packet.l4_at());
        let at = start + if packet.tcp { 16 } else { 6 };
        let mut seed = Sum::new(if packet.tcp { 6 } else { 17 });
        seed.add(&frame[packet.ip_at() + if packet.v4 { 12 } else { 8 }..][..if packet.v4 { 8 } else { 32 }]);
        seed.add_word((frame.len() - start) as u16);
        frame[at..at + 2].copy_from_slice(&seed.folded().to_be_bytes());
        Self { frame, start, at }
    }

    /// The frame as a peer with these abilities gets it.
    fn send(&self, accepts: Offloads) -> (Vec<u8>, FrameMeta) {
        let mut bench = TestNic::default();
        bench.start_tx(16);
        bench.write(reg::TCTL, tctl::EN);
        bench.peer.set_accepts(accepts);
        bench.poke(TX_BUFFERS, &self.frame);
        bench.queue_descriptor([(self.start << 32 | self.at << 40) as u64, u64::from(txd::DEXT)]);
        let command = txd::EOP | txd::IFCS | txd::RS;
        bench.queue_data(TX_BUFFERS, self.frame.len() as u32, command, txd::POPTS_TXSM, 0);
        bench.ring_doorbell();
        bench.peer.take().unwrap()
    }
}

/// Status and errors that the descriptor of `frame` shows.
fn verdict(frame: &[u8], rxcsum: u32) -> (u8, u8) {
    let mut bench = TestNic::default();
    bench.start_rx(16, rctl::UPE);
    bench.write(reg::RXCSUM, rxcsum);
    bench.inject(frame);
    let got = bench.receive().unwrap();
    (got.status & (rxd::IXSM | rxd::IPCS | rxd::TCPCS), got.errors)
}

proptest! {
    #[test]
    fn good_packets_are_called_good_and_a_flipped_bit_bad(
        packet in packet(), ipofl: bool, tuofl: bool, ipv6ofl: bool, flip in proptest::option::of((0usize..60, 0u8..8)),
    ) {
        let mut frame = packet.bytes();
        let flag = |on, bit| if on { bit } else { 0 };
        let rxcsum = flag(ipofl, rxcsum::IPOFL) | flag(tuofl, rxcsum::TUOFL) | flag(ipv6ofl, rxcsum::IPV6OFL);
        let checked_ip = ipofl && packet.v4;
        let mut status = flag(checked_ip, u32::from(rxd::IPCS)) | flag(tuofl, u32::from(rxd::TCPCS));
        if status == 0 {
            status = rxd::IXSM.into();
        }
        let mut errors = 0;
        if let Some((at, bit)) = flip {
            // In the payload, or in the last bytes of the transport header: both belong to its sum only.
            let at = frame.len() - 1 - at % (packet.payload.len() + 1);
            frame[at] ^= 1 << bit;
            errors |= if tuofl { rxd::TCPE } else { 0 };
        }
        // A flip that makes a UDP checksum zero means "none".
        let udp_sum = packet.l4_at() + 6;
        prop_assume!(packet.tcp || frame[udp_sum..udp_sum + 2] != [0, 0]);
        prop_assert_eq!(verdict(&frame, rxcsum), (status as u8, errors));
    }

    #[test]
    fn a_checksum_is_left_to_the_peer_only_if_it_comes_out_right(
        packet in packet(), slip in proptest::option::of(slip()),
    ) {
        let mut request = Request::of(&packet);
        if let Some(slip) = &slip {
            slip.happen(&packet, &mut request);
        }
        let (done_here, meta) = request.send(Offloads::default());
        prop_assert_eq!(meta.csum, None);
        let (bytes, meta) = request.send(Offloads { csum: true, tso4: true, tso6: true });
        prop_assert!(meta.csum.is_none() == slip.is_some() || !packet.v4 && slip == Some(Slip::Fragment));
        let wire = finish(OwnedFrame { bytes, meta }).unwrap();
        prop_assert_eq!(&wire[0].bytes, &done_here, "the same on the wire");
        if slip.is_none() {
            prop_assert_eq!(verdict(&done_here, rxcsum::TUOFL).1, 0, "and right");
        }
    }

    #[test]
    fn an_inserted_checksum_is_the_plain_sum_over_the_range_of_the_context(
        bytes in proptest::collection::vec(any::<u8>(), 80..1500),
        start in 14usize..70, at in 14usize..76, last in proptest::option::of(0usize..1600), legacy: bool, tagged: bool,
    ) {
        let mut bench = TestNic::default();
        bench.start_tx(16);
        bench.write(reg::CTRL, bench.read(reg::CTRL) | ctrl::VME);
        bench.poke(TX_BUFFERS, &bytes);
        let end = match last.filter(|_| !legacy) {
            Some(last) if last != 0 => (last + 1).min(bytes.len()),
            _ => bytes.len(),
        };
        let mut expected = bytes.clone();
        if start <= end {
            let mut sum: u32 = bytes[start..end]
                .chunks(2)
                .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
                .sum();
            while sum > 0xffff {
                sum = (sum & 0xffff) + (sum >> 16);
            }
            // A result of zero goes out as ones where the field is UDP's.
            let value = if at == start + 6 && sum == 0xffff { 0xffff } else { !sum as u16 };
            expected[at..at + 2].copy_from_slice(&value.to_be_bytes());
        }
        let cmd = txd::EOP | txd::IFCS | txd::RS | if tagged { txd::VLE } else { 0 };
        let len = bytes.len() as u32;
        if legacy {
            let lower = u64::from(len | cmd | txd::IC) | (at as u64) << 16;
            bench.queue_descriptor([TX_BUFFERS, lower | (start as u64) << 40 | 7 << 48]);
        } else {
            let context = (start as u64) << 32 | (at as u64) << 40 | (last.unwrap_or(0) as u64) << 48;
            bench.queue_descriptor([context, u64::from(txd::DEXT)]);
            bench.queue_data(TX_BUFFERS, len, cmd, txd::POPTS_TXSM, 7);
        }
        bench.ring_doorbell();
        if tagged {
            expected.splice(12..12, [0x81, 0, 0, 7]);
        }
        prop_assert_eq!(bench.peer.take().unwrap().0, expected);
    }
}

fn udp() -> Packet {
    Packet { v4: true, tcp: false, tagged: false, options: 0, payload: vec![1; 40] }
}

#[test]
fn a_damaged_ip_header_is_ipe_and_leaves_tcpcs_alone() {
    let mut frame = udp().bytes();
    frame[22] ^= 1;
    let both = rxcsum::IPOFL | rxcsum::TUOFL;
    assert_eq!(verdict(&frame, both), (rxd::IPCS | rxd::TCPCS, rxd::IPE));
    assert_eq!(verdict(&frame, rxcsum::TUOFL), (rxd::TCPCS, 0));
}

#[test]
fn fragments_and_udp_without_checksum_are_not_looked_at() {
    let both = rxcsum::IPOFL | rxcsum::TUOFL;
    let mut frame = udp().bytes();
    frame[40..42].fill(0);
    assert_eq!(verdict(&frame, both), (rxd::IPCS, 0), "UDP checksum 0");
    for (more, offset) in [(true, 0), (false, 100)] {
        let mut frame = udp().bytes();
        let mut header = Ipv4Header::from_slice(&frame[14..]).unwrap().0;
        header.dont_fragment = false;
        header.more_fragments = more;
        header.fragment_offset = IpFragOffset::try_new(offset).unwrap();
        header.header_checksum = header.calc_header_checksum();
        frame[14..34].copy_from_slice(&header.to_bytes());
        assert_eq!(verdict(&frame, both), (rxd::IPCS, 0), "fragment {more} {offset}");
    }
}

#[test]
fn what_is_neither_ip_nor_whole_says_ixsm() {
    let both = rxcsum::IPOFL | rxcsum::TUOFL;
    let mut arp = udp().bytes();
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    assert_eq!(verdict(&arp, both), (rxd::IXSM, 0));
    let mut snap = udp().bytes();
    snap[12..14].copy_from_slice(&[0x00, 0x40]);
    assert_eq!(verdict(&snap, both), (rxd::IXSM, 0), "802.3 length");
    let mut lying = udp().bytes();
    lying[14] = 0x4f;
    assert_eq!(verdict(&lying[..62], both), (rxd::IXSM, 0), "a header longer than the frame");
    let mut other = udp().bytes();
    other[23] = 47;
    assert_eq!(verdict(&other, rxcsum::TUOFL), (rxd::IXSM, 0), "neither TCP nor UDP");
}
