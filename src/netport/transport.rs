//! The TCP or UDP header of a frame, and whether its checksum is right.
//!
//! Used where a request for a checksum is judged: by NICs, which pass a request on to a peer only if it is for this
//! header's own field, and by those who watch what a NIC sends. Reads frames only; never panics.

use std::ops::Range;

use super::checksum::{Sum, equal, load};

const TAG: u16 = 0x8100;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// The transport header of an unfragmented IPv4 packet, or of an IPv6 packet without extension headers.
#[derive(Debug, Clone)]
pub struct Transport {
    /// Header and payload, in the frame; the frame may be longer by its padding.
    pub range: Range<usize>,
    /// Where its checksum is, in the frame.
    pub checksum: usize,
    /// UDP, which may go without a checksum; else TCP.
    pub is_udp: bool,
    pseudo: Sum,
}

impl Transport {
    /// In a frame of `len` bytes, untagged or with one 802.1Q tag, of which the first are `head`. `None` for other
    /// frames, and if the packet is longer than the frame.
    pub fn find(head: &[u8], len: usize) -> Option<Self> {
        let ip = if load(head, 12)? == TAG { 18 } else { 14 };
        let (protocol, start, end, addresses) = match load(head, ip - 2)? {
            0x0800 if load(head, ip + 6)? & 0x3fff == 0 => {
                let header = usize::from(head.get(ip)? & 0xf) * 4;
                (*head.get(ip + 9)?, ip + header, ip + usize::from(load(head, ip + 2)?), ip + 12..ip + 20)
            }
            0x86dd => {
                let payload = usize::from(load(head, ip + 4)?);
                (*head.get(ip + 6)?, ip + 40, ip + 40 + payload, ip + 8..ip + 40)
            }
            _ => return None,
        };
        let offset = match protocol {
            TCP => 16,
            UDP => 6,
            _ => return None,
        };
        if end > len {
            return None;
        }
        let mut pseudo = Sum::new(u16::from(protocol));
        pseudo.add(head.get(addresses)?);
        pseudo.add_word(u16::try_from(end.checked_sub(start)?).ok()?);
        Some(Self { range: start..end, checksum: start + offset, is_udp: protocol == UDP, pseudo })
    }

    /// Whether `field`, as the checksum's, is the pseudo-header's sum, to which the sum of [`Self::range`] is to be added.
    pub fn is_seed(&self, field: u16) -> bool {
        equal(field, self.pseudo.folded())
    }

    /// Whether the finished checksum in `packet`, the bytes of [`Self::range`], is right.
    pub fn is_good(&self, packet: &[u8]) -> bool {
        let mut sum = self.pseudo;
        sum.add(packet);
        equal(sum.folded(), 0xffff)
    }
}
