//! What the receiver computes about a frame: padding, FCS, VLAN strip, checksum verdicts (manual, section 3.2.9).
//!
//! Works on a frame in private memory, given as header and payload, so that a segment cut from a big frame
//! needs no copy of its own.

use super::spec::{MIN_FRAME, rxcsum, rxd};
use crate::netport::checksum::{Sum, load};
use crate::netport::segment::network_header;

/// A wire frame in two pieces of private memory, without FCS.
#[derive(Debug, Clone, Copy)]
pub struct WireFrame<'a> {
    /// The first bytes; at least the Ethernet header, or all there is.
    pub head: &'a [u8],
    /// The rest.
    pub payload: &'a [u8],
    /// The sender vouches for the checksums, or we have just computed them.
    pub checksums_good: bool,
    /// How it ends.
    pub tail: Tail,
}

/// The end of a frame on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tail {
    /// From a peer, whose MAC pads and computes the FCS.
    #[default]
    Finished,
    /// As it was sent, with a good FCS.
    Unpadded,
    /// As it was sent, with whatever software put there for an FCS.
    Own([u8; 4]),
}

/// Zeroes to pad with.
static PADDING: [u8; MIN_FRAME] = [0; MIN_FRAME];

impl<'a> WireFrame<'a> {
    /// A finished frame in one piece.
    pub fn whole(head: &'a [u8], checksums_good: bool) -> Self {
        Self { head, payload: &[], checksums_good, tail: Tail::Finished }
    }

    /// Length on the wire without FCS.
    pub fn len(&self) -> usize {
        let bytes = self.head.len() + self.payload.len();
        if self.tail == Tail::Finished { bytes.max(MIN_FRAME) } else { bytes }
    }

    /// The padding that brings the frame to the shortest length of the wire.
    pub fn padding(&self) -> &'static [u8] {
        &PADDING[..self.len() - self.head.len() - self.payload.len()]
    }

    /// The frame check sequence as it stands on the wire.
    pub fn fcs(&self) -> [u8; 4] {
        match self.tail {
            Tail::Own(fcs) => fcs,
            Tail::Finished | Tail::Unpadded => self.good_fcs(),
        }
    }

    /// Whether the frame check sequence is not the frame's.
    pub fn crc_is_bad(&self) -> bool {
        matches!(self.tail, Tail::Own(fcs) if fcs != self.good_fcs())
    }

    fn good_fcs(&self) -> [u8; 4] {
        let mut crc = crc32fast::Hasher::new();
        crc.update(self.head);
        crc.update(self.payload);
        crc.update(self.padding());
        crc.finalize().to_le_bytes()
    }

    /// The bytes `from..to`, if they lie in one of the two pieces.
    fn range(&self, from: usize, to: usize) -> Option<&'a [u8]> {
        match self.head.get(from..to) {
            Some(bytes) => Some(bytes),
            None => self.payload.get(from.checked_sub(self.head.len())?..to.checked_sub(self.head.len())?),
        }
    }

    /// The sum of the bytes `from..to`, as far as there are such.
    fn sum(&self, seed: u16, from: usize, to: usize) -> Sum {
        let mut sum = Sum::new(seed);
        let split = self.head.len();
        let total = split + self.payload.len();
        let (from, to) = (from.min(total), to.min(total));
        sum.add(self.head.get(from.min(split)..to.min(split)).unwrap_or_default());
        let (from, to) = (from.saturating_sub(split), to.saturating_sub(split));
        sum.add(self.payload.get(from..to).unwrap_or_default());
        sum
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.range(at, at + 1).map(|b| b[0])
    }

    fn word(&self, at: usize) -> Option<u16> {
        load(self.range(at, at + 2)?, 0)
    }
}

/// What goes into the descriptor: status and error bits, and the packet checksum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// IXSM, IPCS and TCPCS.
    pub status: u8,
    /// IPE and TCPE.
    pub errors: u8,
}

/// Checks what RXCSUM asks for.
pub fn verify(frame: &WireFrame<'_>, rxcsum: u32) -> Verdicts {
    let mut found = Verdicts::default();
    if let Some((ip, ethertype)) = network_header(frame.head) {
        match ethertype {
            0x0800 => verify_ipv4(frame, rxcsum, ip, &mut found),
            0x86dd if rxcsum & rxcsum::IPV6OFL != 0 || rxcsum & rxcsum::TUOFL != 0 => {
                verify_ipv6(frame, rxcsum, ip, &mut found);
            }
            _ => {}
        }
    }
    if found.status & (rxd::IPCS | rxd::TCPCS) == 0 {
        found.status |= rxd::IXSM;
    }
    found
}

/// The packet checksum field: the sum from byte `start` to the end, of the frame as it is stored. `fcs` is part
/// of it unless it is stripped; `cut` is a removed VLAN tag.
pub fn packet_checksum(
    frame: &WireFrame<'_>,
    start: usize,
    vlan_stripped: bool,
    fcs: Option<[u8; 4]>,
) -> u16 {
    // Bytes behind the Ethernet addresses move up by the length of the tag.
    let start = if vlan_stripped && start >= 12 { start + 4 } else { start };
    let mut sum = frame.sum(0, start, usize::MAX);
    if vlan_stripped && start < 12 {
        // The tag itself is not stored: take its words out again, at their parity.
        let tag = frame.sum(0, 12, 16).folded();
        sum.add_word(!(if start % 2 == 1 { tag.swap_bytes() } else { tag }));
    }
    if let Some(fcs) = fcs {
        let stored = frame.len().saturating_sub(start);
        let word = |a: u8, b: u8| u16::from_be_bytes([a, b]);
        let (first, second) = (word(fcs[0], fcs[1]), word(fcs[2], fcs[3]));
        for w in [first, second] {
            sum.add_word(if stored % 2 == 1 { w.swap_bytes() } else { w });
        }
    }
    sum.folded()
}

fn verify_ipv4(frame: &WireFrame<'_>, rxcsum: u32, ip: usize, found: &mut Verdicts) {
    let Some(version) = frame.byte(ip) else { return };
    let header_len = usize::from(version & 0xf) * 4;
    if version >> 4 != 4 || header_len < 20 || frame.range(ip, ip + header_len).is_none() {
        return;
    }
    if rxcsum & rxcsum::IPOFL != 0 {
        found.status |= rxd::IPCS;
        if frame.sum(0, ip, ip + header_len).checksum() != 0 {
            found.errors |= rxd::IPE;
        }
    }
    let (Some(total), Some(fragment)) = (frame.word(ip + 2), frame.word(ip + 6)) else { return };
    let Some(protocol) = frame.byte(ip + 9) else { return };
    let whole = fragment & 0x3fff == 0;
    let l4_len = usize::from(total).checked_sub(header_len);
    if let Some(len) = l4_len.filter(|_| whole && rxcsum & rxcsum::TUOFL != 0) {
        verify_l4(frame, protocol, ip + 12..ip + 20, ip + header_len, len, found);
    }
}

fn verify_ipv6(frame: &WireFrame<'_>, rxcsum: u32, ip: usize, found: &mut Verdicts) {
    let (Some(len), Some(protocol)) = (frame.word(ip + 4), frame.byte(ip + 6)) else { return };
    if rxcsum & rxcsum::TUOFL != 0 {
        verify_l4(frame, protocol, ip + 8..ip + 40, ip + 40, usize::from(len), found);
    }
}

fn verify_l4(
    frame: &WireFrame<'_>,
    protocol: u8,
    addresses: std::ops::Range<usize>,
    start: usize,
    len: usize,
    found: &mut Verdicts,
) {
    let (checksum_at, shortest) = match protocol {
        6 => (start + 16, 20),
        17 => (start + 6, 8),
        _ => return,
    };
    let fits = len >= shortest && start + len <= frame.head.len() + frame.payload.len();
    let field = frame.word(checksum_at);
    if !fits || field.is_none() || (protocol == 17 && field == Some(0)) {
        return;
    }
    found.status |= rxd::TCPCS;
    if frame.checksums_good {
        return;
    }
    let mut sum = frame.sum(u16::from(protocol), addresses.start, addresses.end);
    sum.add_word(len as u16);
    sum.add_word((len >> 16) as u16);
    sum.add_word(frame.sum(0, start, start + len).folded());
    if sum.checksum() != 0 {
        found.errors |= rxd::TCPE;
    }
}
