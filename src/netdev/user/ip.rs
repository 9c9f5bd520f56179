//! IP packets: reading the guest's, writing ours. IPv4 and IPv6 alike.
//!
//! Called by `stack` for what comes in and by every protocol for what goes out. Headers are read and written by
//! smoltcp's wire formats; a packet that is not what its lengths say is never handed on.

use std::net::{IpAddr, SocketAddr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, IpRepr, Ipv4Packet, Ipv6Packet, UdpPacket, UdpRepr};

use super::link::ETHERNET_HEADER;

/// Longest IP packet on the virtual cable, in bytes.
pub const MTU: usize = 1500;
/// Hop limit of our own packets.
pub const HOP_LIMIT: u8 = 64;
/// Shortest IPv4 header.
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const UDP_HEADER: usize = 8;
/// How much of a packet an ICMP error repeats: what leaves the error within 576 bytes (RFC 1812, section
/// 4.3.2.3), in IPv6 within the least MTU (RFC 4443, section 2.4).
const QUOTE4: usize = 576 - IPV4_HEADER - 8;
const QUOTE6: usize = 1280 - IPV6_HEADER - 8;

/// One packet of the guest's, whole.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// From the guest.
    pub src: IpAddr,
    /// To whom.
    pub dst: IpAddr,
    /// What `payload` is.
    pub protocol: IpProtocol,
    /// Time to live.
    pub hop_limit: u8,
    /// Behind the IP header.
    pub payload: &'a [u8],
    /// Header and payload.
    pub whole: &'a [u8],
}

/// A piece of a longer IPv4 packet.
#[derive(Debug, Clone, Copy)]
pub struct Fragment<'a> {
    /// The packet it is a piece of; `payload` and `whole` are the piece.
    pub packet: Packet<'a>,
    /// Tells packets of one sender apart.
    pub ident: u16,
    /// Where the piece begins, in bytes, a multiple of 8.
    pub offset: u16,
    /// Whether another piece follows.
    pub more: bool,
}

/// What bytes behind an Ethernet header are.
#[derive(Debug)]
pub enum Parsed<'a> {
    /// A whole packet.
    Packet(Packet<'a>),
    /// A piece of one.
    Fragment(Fragment<'a>),
    /// Neither.
    Malformed,
}

/// Reads an IPv4 packet. A header whose lengths and checksum the sender left to be written by whoever cuts the
/// packet (`unfinished`) is taken to fill `bytes`.
pub fn parse4(bytes: &[u8], unfinished: bool) -> Parsed<'_> {
    let Ok(header) = Ipv4Packet::new_checked(bytes) else { return Parsed::Malformed };
    let header_len = usize::from(header.header_len());
    let total = usize::from(header.total_len());
    let sane = header.version() == 4 && header_len >= IPV4_HEADER && header_len <= total;
    if !sane || !unfinished && !header.verify_checksum() {
        return Parsed::Malformed;
    }
    let packet = Packet {
        src: header.src_addr().into(),
        dst: header.dst_addr().into(),
        protocol: header.next_header(),
        hop_limit: header.hop_limit(),
        payload: &bytes[header_len..total],
        whole: &bytes[..total],
    };
    if !header.more_frags() && header.frag_offset() == 0 {
        return Parsed::Packet(packet);
    }
    let (ident, offset, more) = (header.ident(), header.frag_offset(), header.more_frags());
    Parsed::Fragment(Fragment { packet, ident, offset, more })
}

/// Reads an IPv6 packet. Extension headers are not followed: the packet is then of a protocol that nobody has.
pub fn parse6(bytes: &[u8]) -> Parsed<'_> {
    let Ok(header) = Ipv6Packet::new_checked(bytes) else { return Parsed::Malformed };
    if header.version() != 6 {
        return Parsed::Malformed;
    }
    let total = header.total_len();
    Parsed::Packet(Packet {
        src: header.src_addr().into(),
        dst: header.dst_addr().into(),
        protocol: header.next_header(),
        hop_limit: header.hop_limit(),
        payload: &bytes[IPV6_HEADER..total],
        whole: &bytes[..total],
    })
}

impl Packet<'_> {
    /// What an ICMP error about this packet repeats of it.
    pub fn quote(&self) -> Vec<u8> {
        let most = if self.src.is_ipv4() { QUOTE4 } else { QUOTE6 };
        self.whole[..self.whole.len().min(most)].to_vec()
    }
}

/// An IP packet behind room for an Ethernet header; `fill` writes its payload of `len` bytes. `src` and `dst`
/// are of one version.
pub fn build(
    src: IpAddr,
    dst: IpAddr,
    protocol: IpProtocol,
    hop_limit: u8,
    len: usize,
    fill: impl FnOnce(&mut [u8]),
) -> Vec<u8> {
    let repr = IpRepr::new(src.into(), dst.into(), protocol, len, hop_limit);
    let header = repr.header_len();
    let mut bytes = vec![0; ETHERNET_HEADER + header + len];
    repr.emit(&mut bytes[ETHERNET_HEADER..], &ChecksumCapabilities::default());
    fill(&mut bytes[ETHERNET_HEADER + header..]);
    bytes
}

/// A UDP datagram behind room for an Ethernet header. Longer than a UDP datagram can be: nothing.
pub fn udp(src: SocketAddr, dst: SocketAddr, data: &[u8]) -> Option<Vec<u8>> {
    let len = UDP_HEADER + data.len();
    if len + IPV4_HEADER > usize::from(u16::MAX) {
        return None;
    }
    let ports = UdpRepr { src_port: src.port(), dst_port: dst.port() };
    Some(build(src.ip(), dst.ip(), IpProtocol::Udp, HOP_LIMIT, len, |bytes| {
        ports.emit(
            &mut UdpPacket::new_unchecked(bytes),
            &src.ip().into(),
            &dst.ip().into(),
            data.len(),
            |payload| payload.copy_from_slice(data),
            &ChecksumCapabilities::default(),
        );
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_built_parses_as_it_was_meant() {
        for (src, dst) in [("10.0.2.2:67", "10.0.2.15:68"), ("[fec0::2]:53", "[fec0::15]:99")] {
            let (src, dst): (SocketAddr, SocketAddr) = (src.parse().unwrap(), dst.parse().unwrap());
            let bytes = udp(src, dst, b"hello").unwrap();
            let ip = &bytes[ETHERNET_HEADER..];
            let parsed = if src.is_ipv4() { parse4(ip, false) } else { parse6(ip) };
            let Parsed::Packet(packet) = parsed else { panic!("{parsed:?}") };
            assert_eq!((packet.src, packet.dst, packet.protocol), (src.ip(), dst.ip(), IpProtocol::Udp));
            assert_eq!(&packet.payload[UDP_HEADER..], b"hello");
        }
    }

    #[test]
    fn lengths_that_lie_are_malformed() {
        let good = udp("10.0.2.2:1".parse().unwrap(), "10.0.2.15:2".parse().unwrap(), b"x").unwrap();
        let good = &good[ETHERNET_HEADER..];
        for (at, value) in [(0, 0x44), (0, 0x4f), (0, 0x65), (2, 0xff), (3, 19), (8, 1)] {
            let mut bad = good.to_vec();
            bad[at] = value;
            assert!(matches!(parse4(&bad, false), Parsed::Malformed), "{at} {value}");
        }
        assert!(matches!(parse4(good, false), Parsed::Packet(_)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_every_quote_is_short(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            for parsed in [parse4(&bytes, false), parse4(&bytes, true), parse6(&bytes)] {
                if let Parsed::Packet(packet) | Parsed::Fragment(Fragment { packet, .. }) = parsed {
                    prop_assert!(packet.quote().len() <= 1232);
                }
            }
        }
    }
}
