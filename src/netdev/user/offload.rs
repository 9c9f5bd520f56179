//! What is left undone in TCP segments on their way to the guest, and doing it where the guest's NIC cannot.
//!
//! smoltcp is told that the guest takes segments of nearly 64 KiB, so that one of its packets carries what
//! otherwise would be 44; such a packet goes to the NIC as a GSO frame. Checksums are the NIC's job as well. A
//! peer without these abilities gets finished, cut frames.

use smoltcp::wire::TcpPacket;

use super::link::ETHERNET_HEADER;
use crate::netport::segment::{SegmentPlan, network_header};
use crate::netport::{CsumRequest, FrameMeta, Gso, GsoKind, Offloads, checksum};

/// What smoltcp believes the guest's segment size to be: what fits into the longest IP packet.
pub const LARGE_MSS: u16 = u16::MAX - 60;
/// Segment size of a guest that names none (RFC 9293, section 3.7.1).
pub const DEFAULT_MSS: u16 = 536;
/// TCP's checksum, from the start of its header.
const TCP_CHECKSUM: u16 = 16;
const TCP_FLAGS: usize = 13;
const SYN: u8 = 0x02;
const TCP_PROTOCOL: u16 = 6;

/// Puts `new` into the MSS option of a SYN and returns what was there. Nothing without such an option.
pub fn replace_mss(tcp: &mut [u8], new: u16) -> Option<u16> {
    let header = TcpPacket::new_checked(&*tcp).ok().filter(TcpPacket::syn)?.header_len();
    let mut at = 20;
    while at < usize::from(header) {
        match tcp[at] {
            0 => return None,
            1 => at += 1,
            2 if tcp.get(at + 1) == Some(&4) && at + 4 <= usize::from(header) => {
                let old = checksum::load(tcp, at + 2)?;
                checksum::store(tcp, at + 2, new);
                return Some(old);
            }
            _ => at += usize::from(*tcp.get(at + 1)?).max(2),
        }
    }
    None
}

/// Describes a TCP packet of smoltcp's, whose checksum is not written yet: `frame` is room for an Ethernet
/// header and the IP packet, `mss` what the guest takes in one segment, `advertise` what goes into a SYN, which is
/// what the link takes.
pub fn describe(frame: &mut [u8], mss: u16, advertise: u16) -> FrameMeta {
    let v4 = frame[ETHERNET_HEADER] >> 4 == 4;
    let (addresses, start) = match v4 {
        true => (12..20, ETHERNET_HEADER + usize::from(frame[ETHERNET_HEADER] & 0xf) * 4),
        false => (8..40, ETHERNET_HEADER + 40),
    };
    if frame[start + TCP_FLAGS] & SYN != 0 {
        replace_mss(&mut frame[start..], advertise);
    }
    let mut seed = checksum::Sum::new(TCP_PROTOCOL);
    seed.add(&frame[ETHERNET_HEADER + addresses.start..ETHERNET_HEADER + addresses.end]);
    seed.add_word((frame.len() - start) as u16);
    checksum::store(frame, start + usize::from(TCP_CHECKSUM), seed.folded());
    let header_len = start + usize::from(frame[start + 12] >> 4) * 4;
    // A segment size does not count options, which take room in the packet all the same (RFC 6691).
    let options = (header_len - start).saturating_sub(20) as u16;
    let mss = mss.min(advertise).saturating_sub(options).max(1);
    let gso = (frame.len() - header_len > usize::from(mss)).then_some(Gso {
        kind: if v4 { GsoKind::Tcp4 } else { GsoKind::Tcp6 },
        mss,
        header_len: header_len as u16,
    });
    FrameMeta {
        csum: Some(CsumRequest { start: start as u16, offset: TCP_CHECKSUM }),
        csum_valid: false,
        gso,
    }
}

/// Finishes what `accepts` does not cover. A frame that is to be cut becomes the returned frames.
pub fn finish(frame: &mut [u8], meta: &mut FrameMeta, accepts: Offloads) -> Option<Vec<Vec<u8>>> {
    if let Some(gso) = meta.gso {
        return (!accepts.cuts(gso.kind)).then(|| cut(frame, meta));
    }
    if let Some(csum) = meta.csum.filter(|_| !accepts.csum) {
        let start = usize::from(csum.start);
        checksum::insert(frame, start, frame.len(), start + usize::from(csum.offset));
        meta.csum = None;
    }
    None
}

/// The wire frames of a frame that is to be cut; none when its metadata contradicts it.
pub fn cut(frame: &mut [u8], meta: &FrameMeta) -> Vec<Vec<u8>> {
    let Some(plan) = SegmentPlan::for_gso(frame, meta) else { return Vec::new() };
    let piece = |k| {
        let mut bytes = Vec::with_capacity(plan.header_len + plan.mss);
        let payload = plan.cut(frame, k, &mut bytes);
        bytes.extend_from_slice(payload);
        bytes
    };
    (0..plan.count(frame.len() - plan.header_len)).map(piece).collect()
}

/// Writes the length of the IP packet that `frame` holds into its header, as far as it fits: a NIC may leave
/// it to whoever cuts the frame. False when it does not fit.
pub fn set_length(frame: &mut [u8]) -> bool {
    let Some((at, ethertype)) = network_header(frame) else { return false };
    let len = frame.len() - at.min(frame.len());
    let (field, value) = match ethertype {
        0x0800 => (at + 2, len),
        0x86dd => (at + 4, len.saturating_sub(40)),
        _ => return false,
    };
    let Ok(value) = u16::try_from(value) else { return false };
    checksum::store(frame, field, value);
    true
}

#[cfg(test)]
mod tests {
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{IpProtocol, TcpControl, TcpRepr, TcpSeqNumber};

    use super::super::ip;
    use super::*;

    fn segment(control: TcpControl, payload: &[u8]) -> Vec<u8> {
        let repr = TcpRepr {
            src_port: 80,
            dst_port: 4000,
            control,
            seq_number: TcpSeqNumber(1000),
            ack_number: Some(TcpSeqNumber(5)),
            window_len: 100,
            window_scale: (control == TcpControl::Syn).then_some(3),
            max_seg_size: (control == TcpControl::Syn).then_some(9000),
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload,
        };
        let (src, dst) = ("10.0.2.2".parse().unwrap(), "10.0.2.15".parse().unwrap());
        let mut frame = ip::build(src, dst, IpProtocol::Tcp, 64, repr.buffer_len(), |bytes| {
            let none = ChecksumCapabilities::ignored();
            repr.emit(&mut TcpPacket::new_unchecked(bytes), &src.into(), &dst.into(), &none);
        });
        frame[12..14].copy_from_slice(&[8, 0]);
        frame
    }

    fn check(frame: &[u8]) -> TcpRepr<'_> {
        let ip::Parsed::Packet(packet) = ip::parse4(&frame[ETHERNET_HEADER..], false) else {
            panic!("bad IP")
        };
        let tcp = TcpPacket::new_checked(packet.payload).unwrap();
        let caps = ChecksumCapabilities::default();
        TcpRepr::parse(&tcp, &packet.src.into(), &packet.dst.into(), &caps).unwrap()
    }

    #[test]
    fn a_peer_without_offloads_gets_finished_segments_with_every_byte() {
        let data: Vec<u8> = (0..4001u32).map(|i| (i * 7) as u8).collect();
        let mut frame = segment(TcpControl::Psh, &data);
        let mut meta = describe(&mut frame, 1460, 1460);
        assert_eq!(meta.gso.map(|gso| (gso.mss, gso.header_len)), Some((1460, 54)));
        let pieces = finish(&mut frame, &mut meta, Offloads::default()).unwrap();
        let parsed: Vec<TcpRepr<'_>> = pieces.iter().map(|piece| check(piece)).collect();
        assert_eq!(parsed.iter().map(|p| p.payload.len()).collect::<Vec<_>>(), [1460, 1460, 1081]);
        assert_eq!(parsed.iter().flat_map(|p| p.payload).copied().collect::<Vec<_>>(), data);
        assert_eq!(parsed.last().unwrap().control, TcpControl::Psh);
    }

    #[test]
    fn no_segment_is_longer_than_the_link_takes_whatever_the_guest_says() {
        for (payload, mss, options, expected) in [
            (4000, 9000, 0, vec![1460, 1460, 1080]),
            (1460, 1460, 12, vec![1448, 12]),
            (1450, 1460, 12, vec![1448, 2]),
            (1448, 1460, 12, vec![1448]),
            (100, 64, 40, vec![24, 24, 24, 24, 4]),
        ] {
            let mut frame = segment(TcpControl::None, &vec![7; payload]);
            frame[46] += (options / 4) << 4;
            frame.splice(54..54, vec![1; options.into()]);
            assert!(set_length(&mut frame));
            let mut meta = describe(&mut frame, mss, 1460);
            let pieces =
                finish(&mut frame, &mut meta, Offloads::default()).unwrap_or_else(|| vec![frame.clone()]);
            let header = 54 + usize::from(options);
            assert_eq!(pieces.iter().map(|piece| piece.len() - header).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn a_short_segment_keeps_its_request_or_gets_its_checksum() {
        let mut frame = segment(TcpControl::None, b"abc");
        let mut meta = describe(&mut frame, 1460, 1460);
        let all = Offloads { csum: true, tso4: true, tso6: true };
        assert_eq!(finish(&mut frame, &mut meta, all), None);
        assert_eq!(meta.csum, Some(CsumRequest { start: 34, offset: 16 }));
        assert_eq!(finish(&mut frame, &mut meta, Offloads::default()), None);
        assert_eq!((check(&frame).payload, meta), (&b"abc"[..], FrameMeta::default()));
    }

    #[test]
    fn the_mss_of_a_syn_is_replaced_and_told() {
        let mut frame = segment(TcpControl::Syn, &[]);
        assert_eq!(replace_mss(&mut frame[34..], LARGE_MSS), Some(9000));
        describe(&mut frame, 1460, 1460);
        assert_eq!(replace_mss(&mut frame[34..], 1), Some(1460));
        assert_eq!(replace_mss(&mut segment(TcpControl::None, b"\x02\x04\x05\xb4")[34..], 1), None);
    }
}
