//! The virtio-net header that a tap puts before each frame: to and from [`FrameMeta`].
//!
//! Layout: virtio 1.2, section 5.1.6 (`struct virtio_net_hdr`, 10 bytes, little-endian as x86 hosts have it;
//! longer headers only append fields that are zero here). Linux fills and checks it in
//! include/linux/virtio_net.h. Never trusts a header: what contradicts the frame is refused.

use crate::netport::{CsumRequest, FrameMeta, Gso, GsoKind};

/// Length of the header in bytes.
pub const VNET_HDR_LEN: usize = 10;

const F_NEEDS_CSUM: u8 = 1;
const F_DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const TCP_MIN_HEADER: usize = 20;

/// The header that asks the host for what `meta` leaves undone.
pub fn encode(meta: &FrameMeta) -> [u8; VNET_HDR_LEN] {
    let mut hdr = [0; VNET_HDR_LEN];
    hdr[0] = if meta.csum_valid { F_DATA_VALID } else { 0 };
    if let Some(gso) = meta.gso {
        hdr[1] = match gso.kind {
            GsoKind::Tcp4 => GSO_TCPV4,
            GsoKind::Tcp6 => GSO_TCPV6,
        };
        hdr[2..4].copy_from_slice(&gso.header_len.to_le_bytes());
        hdr[4..6].copy_from_slice(&gso.mss.to_le_bytes());
    }
    if let Some(csum) = meta.csum {
        hdr[0] = F_NEEDS_CSUM;
        hdr[6..8].copy_from_slice(&csum.start.to_le_bytes());
        hdr[8..10].copy_from_slice(&csum.offset.to_le_bytes());
    }
    hdr
}

/// What the host leaves undone in `frame`, according to the header before it. None: the header contradicts
/// the frame or asks for something that was never offered.
pub fn decode(hdr: &[u8; VNET_HDR_LEN], frame: &[u8]) -> Option<FrameMeta> {
    let word = |at: usize| u16::from_le_bytes([hdr[at], hdr[at + 1]]);
    let mut meta = FrameMeta { csum_valid: hdr[0] & F_DATA_VALID != 0, ..FrameMeta::default() };
    if hdr[0] & F_NEEDS_CSUM != 0 {
        let csum = CsumRequest { start: word(6), offset: word(8) };
        let field = usize::from(csum.start) + usize::from(csum.offset);
        frame.get(field..field + 2)?;
        meta.csum = Some(csum);
    }
    let kind = match hdr[1] {
        GSO_NONE => return Some(meta),
        GSO_TCPV4 => GsoKind::Tcp4,
        GSO_TCPV6 => GsoKind::Tcp6,
        _ => return None,
    };
    // The header's own hdr_len is a hint (Linux: the length of its linear part); TCP knows better.
    let header_len = tcp_header_end(frame, meta.csum?.start.into())?;
    let mss = word(4);
    if mss == 0 {
        return None;
    }
    meta.gso = Some(Gso { kind, mss, header_len: u16::try_from(header_len).ok()? });
    Some(meta)
}

/// Where the TCP header that starts at `start` ends.
fn tcp_header_end(frame: &[u8], start: usize) -> Option<usize> {
    let tcp = frame.get(start..)?;
    let len = usize::from(tcp.get(12)? >> 4) * 4;
    (len >= TCP_MIN_HEADER && len <= tcp.len()).then_some(start + len)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tcp_frame(len: usize) -> Vec<u8> {
        let mut frame = vec![0; len];
        frame[34 + 12] = 8 << 4;
        frame
    }

    #[test]
    fn a_segmentation_request_survives_both_ways() {
        let meta = FrameMeta {
            csum: Some(CsumRequest { start: 34, offset: 16 }),
            csum_valid: false,
            gso: Some(Gso { kind: GsoKind::Tcp4, mss: 1448, header_len: 34 + 32 }),
        };
        let hdr = encode(&meta);
        assert_eq!(hdr, [1, 1, 66, 0, 0xa8, 5, 34, 0, 16, 0]);
        assert_eq!(decode(&hdr, &tcp_frame(4000)), Some(meta));
    }

    #[test]
    fn a_finished_frame_has_a_zero_header() {
        assert_eq!(encode(&FrameMeta::default()), [0; VNET_HDR_LEN]);
        assert_eq!(decode(&[0; VNET_HDR_LEN], &[0; 14]), Some(FrameMeta::default()));
    }

    #[test]
    fn contradictions_are_refused() {
        let good = [1, 1, 66, 0, 0xa8, 5, 34, 0, 16, 0];
        let frame = tcp_frame(4000);
        let refused = |at: usize, value: u8| {
            let mut hdr = good;
            hdr[at] = value;
            decode(&hdr, &frame).is_none()
        };
        assert!(refused(0, 0), "segmentation without a checksum request");
        assert!(refused(1, 3), "UDP fragmentation was never offered");
        assert!(refused(1, 0x81), "ECN segmentation was never offered");
        assert!(refused(7, 0xff), "checksum beyond the end");
        assert!(decode(&[1, 1, 66, 0, 0, 0, 34, 0, 16, 0], &frame).is_none(), "no segment size");
        assert!(decode(&good, &frame[..60]).is_none(), "TCP header cut off");
    }

    proptest! {
        #[test]
        fn no_header_makes_it_reach_beyond_the_frame(
            hdr: [u8; VNET_HDR_LEN],
            frame in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            if let Some(meta) = decode(&hdr, &frame) {
                if let Some(csum) = meta.csum {
                    prop_assert!(usize::from(csum.start) + usize::from(csum.offset) + 2 <= frame.len());
                }
                if let Some(gso) = meta.gso {
                    prop_assert!(gso.mss > 0 && usize::from(gso.header_len) <= frame.len());
                }
            }
        }
    }
}
