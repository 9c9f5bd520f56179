//! Whether a frame that leaves has the TCP or UDP checksum that its receiver computes.

use crate::netport::checksum::{Sum, load};
use crate::netport::segment::Insert;
use crate::nic::e1000::observe::SentFrame;

const TAG: [u8; 2] = [0x81, 0x00];
const TCP: u8 = 6;
const UDP: u8 = 17;

/// The transport header of a frame.
struct Transport {
    start: usize,
    len: usize,
    /// Where its checksum is.
    checksum: usize,
    /// The pseudo-header's sum.
    pseudo: Sum,
    is_udp: bool,
}

/// `asked`: what the device was to insert. None if that cannot be told: neither TCP nor UDP, a fragment, a payload that
/// is not at hand.
pub(super) fn is_good(frame: &SentFrame<'_>, asked: &Insert) -> Option<bool> {
    let found = Transport::of(frame.head, frame.head.len() + frame.rest)?;
    let field = load(frame.head, found.checksum)?;
    if frame.checksum_left {
        // The peer sums the rest; the driver's part is the pseudo-header's sum, in the field.
        let inserted_here = [asked.at, asked.at + 4].contains(&found.checksum);
        return inserted_here.then(|| same(field, found.pseudo.folded()));
    }
    if frame.rest > 0 || found.is_udp && field == 0 {
        return None;
    }
    let mut sum = found.pseudo;
    sum.add(frame.head.get(found.start..found.start + found.len)?);
    Some(same(sum.folded(), 0xffff))
}

/// Equality of ones' complement numbers, which have two zeroes.
fn same(a: u16, b: u16) -> bool {
    a == b || [a, b].iter().all(|sum| [0, 0xffff].contains(sum))
}

impl Transport {
    /// In the first bytes of a frame of `len` bytes.
    fn of(head: &[u8], len: usize) -> Option<Self> {
        let ip = if head.get(12..14)? == TAG { 18 } else { 14 };
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
        let is_udp = protocol == UDP;
        if !is_udp && protocol != TCP || end > len {
            return None;
        }
        let transport = end.checked_sub(start)?;
        let mut pseudo = Sum::new(u16::from(protocol));
        pseudo.add(head.get(addresses)?);
        pseudo.add_word(u16::try_from(transport).ok()?);
        Some(Self { start, len: transport, checksum: start + if is_udp { 6 } else { 16 }, pseudo, is_udp })
    }
}
