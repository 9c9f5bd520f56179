//! IPv4 fragments: putting the guest's together, cutting what is too long for the cable.
//!
//! Memory is bounded: so many packets at a time, each for so long; the oldest makes way. A packet whose
//! fragments contradict each other is dropped whole. Reassembly by etherparse.

use std::collections::HashMap;
use std::net::IpAddr;

use etherparse::defrag::IpDefragBuf;
use etherparse::{IpFragOffset, IpNumber};
use smoltcp::wire::Ipv4Packet;

use super::ip::{Fragment, MTU};
use super::link::ETHERNET_HEADER;

/// Packets that are being put together at a time; each is at most 64 KiB.
const MAX_PACKETS: usize = 16;
/// Fragments of one packet. The shortest sensible fragment carries some 500 bytes.
const MAX_PIECES: usize = 256;
/// How long fragments are kept (RFC 1122, section 3.3.2 has 60 s at least; the cable is short).
const KEEP_NS: u64 = 15_000_000_000;

/// Who cut what (RFC 791).
type Key = (IpAddr, IpAddr, u8, u16);

#[derive(Debug)]
struct Partial {
    buffer: IpDefragBuf,
    /// Header of the first fragment.
    header: Vec<u8>,
    pieces: usize,
    since: u64,
}

/// Packets that are not complete yet.
#[derive(Debug, Default)]
pub struct Reassembly {
    partial: HashMap<Key, Partial>,
}

impl Reassembly {
    /// Adds a fragment; returns the whole packet, header and all, when nothing is missing any more.
    pub fn add(&mut self, fragment: &Fragment<'_>, now: u64) -> Option<Vec<u8>> {
        let packet = &fragment.packet;
        let protocol = u8::from(packet.protocol);
        let key = (packet.src, packet.dst, protocol, fragment.ident);
        self.partial.retain(|_, partial| now.saturating_sub(partial.since) < KEEP_NS);
        if self.partial.len() >= MAX_PACKETS && !self.partial.contains_key(&key) {
            let oldest = self.partial.iter().min_by_key(|(_, partial)| partial.since).map(|(&key, _)| key);
            oldest.and_then(|key| self.partial.remove(&key));
        }
        let partial = self.partial.entry(key).or_insert_with(|| Partial {
            buffer: IpDefragBuf::new(IpNumber(protocol), Vec::new(), Vec::new()),
            header: Vec::new(),
            pieces: 0,
            since: now,
        });
        partial.pieces += 1;
        if fragment.offset == 0 {
            partial.header = packet.whole[..packet.whole.len() - packet.payload.len()].to_vec();
        }
        let offset = IpFragOffset::try_new(fragment.offset / 8).ok();
        let added = offset.is_some_and(|at| partial.buffer.add(at, fragment.more, packet.payload).is_ok());
        if !added || partial.pieces > MAX_PIECES {
            self.partial.remove(&key);
            return None;
        }
        if !partial.buffer.is_complete() {
            return None;
        }
        let partial = self.partial.remove(&key)?;
        let (payload, _) = partial.buffer.take_bufs();
        whole(partial.header, &payload)
    }
}

/// The header of the first fragment made that of the whole packet.
fn whole(mut bytes: Vec<u8>, payload: &[u8]) -> Option<Vec<u8>> {
    bytes.extend_from_slice(payload);
    let total = u16::try_from(bytes.len()).ok()?;
    let mut header = Ipv4Packet::new_checked(&mut bytes).ok()?;
    header.set_total_len(total);
    header.clear_flags();
    header.set_frag_offset(0);
    header.fill_checksum();
    Some(bytes)
}

/// Cuts a finished IPv4 packet behind room for an Ethernet header into fragments with the like. None for IPv6,
/// where only the sender's own host cuts.
pub fn cut(frame: &[u8], ident: u16) -> Option<Vec<Vec<u8>>> {
    let packet = frame.get(ETHERNET_HEADER..).filter(|ip| ip.first().is_some_and(|b| b >> 4 == 4))?;
    let header_len = usize::from(packet[0] & 0xf) * 4;
    let (header, payload) = packet.split_at_checked(header_len)?;
    let step = (MTU - header_len) / 8 * 8;
    let piece = |(k, data): (usize, &[u8])| {
        let mut bytes = vec![0; ETHERNET_HEADER];
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(data);
        let mut ip = Ipv4Packet::new_unchecked(&mut bytes[ETHERNET_HEADER..]);
        ip.set_total_len((header_len + data.len()) as u16);
        ip.set_ident(ident);
        ip.clear_flags();
        ip.set_more_frags((k + 1) * step < payload.len());
        ip.set_frag_offset((k * step) as u16);
        ip.fill_checksum();
        bytes
    };
    Some(payload.chunks(step).enumerate().map(piece).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ip::{self, Parsed};
    use super::*;

    fn pieces(len: usize, ident: u16) -> (Vec<u8>, Vec<Vec<u8>>) {
        let data: Vec<u8> = (0..len).map(|i| (i * 31) as u8).collect();
        let (src, dst) = ("10.0.2.15:5".parse().unwrap(), "10.0.2.2:7".parse().unwrap());
        let frame = ip::udp(src, dst, &data).unwrap();
        let pieces = cut(&frame, ident).unwrap();
        (frame[ETHERNET_HEADER..].to_vec(), pieces)
    }

    fn add(reassembly: &mut Reassembly, piece: &[u8], now: u64) -> Option<Vec<u8>> {
        let Parsed::Fragment(fragment) = ip::parse4(&piece[ETHERNET_HEADER..], false) else {
            panic!("not a fragment")
        };
        reassembly.add(&fragment, now)
    }

    /// Payload of a packet, whose header differs in what fragmentation may change.
    fn payload(bytes: &[u8]) -> &[u8] {
        let Parsed::Packet(packet) = ip::parse4(bytes, false) else { panic!("not whole") };
        packet.payload
    }

    #[test]
    fn fragments_in_any_order_give_the_packet_and_fit_the_cable() {
        let (whole, mut parts) = pieces(20_000, 7);
        assert!(parts.iter().all(|part| part.len() <= ETHERNET_HEADER + MTU));
        for _ in 0..parts.len() {
            parts.rotate_left(1);
            let mut reassembly = Reassembly::default();
            let (last, first) = parts.split_last().unwrap();
            for part in first {
                assert_eq!(add(&mut reassembly, part, 0), None);
            }
            assert_eq!(payload(&add(&mut reassembly, last, 0).unwrap()), payload(&whole));
            assert!(reassembly.partial.is_empty());
        }
    }

    #[test]
    fn packets_without_end_make_way_and_go_in_time() {
        let mut reassembly = Reassembly::default();
        for ident in 0..100 {
            add(&mut reassembly, &pieces(4000, ident).1[0], u64::from(ident));
            assert!(reassembly.partial.len() <= MAX_PACKETS);
        }
        let (_, parts) = pieces(4000, 200);
        add(&mut reassembly, &parts[0], KEEP_NS * 2);
        assert_eq!(reassembly.partial.len(), 1);
    }

    proptest! {
        #[test]
        fn any_fragments_are_survived(
            seeds in proptest::collection::vec((0..4u16, any::<u16>(), any::<bool>(), 0..200usize), 0..80)
        ) {
            let data = [0; 256];
            let mut reassembly = Reassembly::default();
            let (_, parts) = pieces(3000, 1);
            let Parsed::Fragment(model) = ip::parse4(&parts[0][ETHERNET_HEADER..], false) else { unreachable!() };
            for (ident, offset, more, len) in seeds {
                let packet = ip::Packet { payload: &data[..len], ..model.packet };
                let packet = ip::Packet { whole: &model.packet.whole[..20], ..packet };
                let fragment = Fragment { packet: ip::Packet { payload: &packet.payload[..len.min(20)], ..packet },
                    ident, offset: offset & 0xfff8, more };
                if let Some(whole) = reassembly.add(&fragment, 0) {
                    prop_assert!(whole.len() <= usize::from(u16::MAX));
                }
                prop_assert!(reassembly.partial.len() <= MAX_PACKETS);
            }
        }
    }
}
