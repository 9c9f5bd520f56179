//! Cutting a frame that is longer than the wire takes into segments with finished headers.
//!
//! One cutter for both directions: a NIC describes its driver's segmentation request as a [`SegmentPlan`], and
//! a frame with [`super::Gso`] metadata is planned by [`SegmentPlan::for_gso`]. The rules are those of the
//! 8254x manual, section 3.5 (IPv4 identification counts up, FIN and PSH only in the last segment, lengths
//! and checksums anew in each). Works on private memory only; offsets that lie outside the header are skipped,
//! never followed.

use super::checksum::{self, Sum, load, store};
use super::{FrameMeta, GsoKind};

/// Header bits of TCP that only the last segment carries: FIN and PSH.
const TCP_LAST_ONLY: u8 = 0x09;

/// Which IP header stands at [`SegmentPlan::ip_start`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpVersion {
    /// Total length at +2, identification at +4.
    V4,
    /// Payload length at +4.
    V6,
}

/// Which header stands at [`SegmentPlan::l4_start`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum L4 {
    /// Sequence number at +4, flags at +13.
    Tcp,
    /// Length at +4.
    Udp,
}

/// A checksum to insert into each segment: the sum of `start..end` stored at `at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insert {
    /// First byte of the sum, from the start of the frame.
    pub start: usize,
    /// One past the last byte of the sum; `usize::MAX` is the end of the segment.
    pub end: usize,
    /// Where the checksum goes, from the start of the frame.
    pub at: usize,
}

/// How to cut one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentPlan {
    /// Bytes at the start of the frame that every segment repeats.
    pub header_len: usize,
    /// Payload bytes of each segment but the last; at least 1.
    pub mss: usize,
    /// Kind of the IP header.
    pub version: IpVersion,
    /// Where the IP header starts.
    pub ip_start: usize,
    /// The IPv4 header checksum, if it is to be inserted.
    pub ip_checksum: Option<Insert>,
    /// Kind of the transport header.
    pub l4: L4,
    /// Where the transport header starts.
    pub l4_start: usize,
    /// The transport checksum, if it is to be inserted. Its field holds the sum of the pseudo-header without
    /// the length.
    pub l4_checksum: Option<Insert>,
}

impl SegmentPlan {
    /// Plans the cutting of `frame`, whose metadata asks for it, and writes into its header what the plan
    /// expects there (the pseudo-header's sum without the length).
    ///
    /// Returns `None` when the metadata contradicts the frame.
    pub fn for_gso(frame: &mut [u8], meta: &FrameMeta) -> Option<Self> {
        let gso = meta.gso?;
        let (ip_start, ethertype) = network_header(frame)?;
        let (version, addresses, after_ip) = match (gso.kind, ethertype) {
            (GsoKind::Tcp4, 0x0800) => {
                let ihl = usize::from(frame.get(ip_start)? & 0xf) * 4;
                (IpVersion::V4, ip_start + 12..ip_start + 20, ip_start + ihl)
            }
            (GsoKind::Tcp6, 0x86dd) => (IpVersion::V6, ip_start + 8..ip_start + 40, ip_start + 40),
            _ => return None,
        };
        // IPv6 extension headers: only the checksum request knows where TCP starts.
        let l4_start = meta.csum.map_or(after_ip, |c| usize::from(c.start));
        let header_len = l4_start + usize::from(frame.get(l4_start + 12)? >> 4) * 4;
        let sane = l4_start >= after_ip && header_len >= l4_start + 20 && header_len <= frame.len();
        if !sane || gso.mss == 0 || after_ip < addresses.end {
            return None;
        }
        let mut seed = Sum::new(6);
        seed.add(frame.get(addresses)?);
        store(frame, l4_start + 16, seed.folded());
        let ip_checksum = (version == IpVersion::V4).then_some(Insert {
            start: ip_start,
            end: after_ip,
            at: ip_start + 10,
        });
        if let Some(field) = ip_checksum {
            store(frame, field.at, 0);
        }
        Some(Self {
            header_len,
            mss: usize::from(gso.mss),
            version,
            ip_start,
            ip_checksum,
            l4: L4::Tcp,
            l4_start,
            l4_checksum: Some(Insert { start: l4_start, end: usize::MAX, at: l4_start + 16 }),
        })
    }

    /// How many segments `payload_len` bytes make; a header alone is one.
    pub fn count(&self, payload_len: usize) -> usize {
        payload_len.div_ceil(self.mss.max(1)).max(1)
    }

    /// Cuts segment number `k` of `frame`: its finished header replaces the contents of `header`; returns its
    /// payload. Numbers beyond the last give an empty payload.
    pub fn cut<'f>(&self, frame: &'f [u8], k: usize, header: &mut Vec<u8>) -> &'f [u8] {
        let header_len = self.header_len.min(frame.len());
        let (proto, all) = frame.split_at(header_len);
        let from = k.saturating_mul(self.mss).min(all.len());
        let to = from.saturating_add(self.mss).min(all.len());
        let payload = &all[from..to];
        header.clear();
        header.extend_from_slice(proto);
        self.write_ip(header, k, payload.len());
        self.write_l4(header, from, payload.len(), to == all.len());
        self.write_checksums(header, payload);
        payload
    }

    fn write_ip(&self, header: &mut [u8], k: usize, payload: usize) {
        let from_ip = (header.len().saturating_sub(self.ip_start) + payload) as u16;
        match self.version {
            IpVersion::V4 => {
                store(header, self.ip_start + 2, from_ip);
                let id = load(header, self.ip_start + 4).unwrap_or(0);
                store(header, self.ip_start + 4, id.wrapping_add(k as u16));
            }
            IpVersion::V6 => store(header, self.ip_start + 4, from_ip.wrapping_sub(40)),
        }
    }

    fn write_l4(&self, header: &mut [u8], from: usize, payload: usize, last: bool) {
        let at = self.l4_start + 4;
        match self.l4 {
            L4::Tcp => {
                if let Some(field) = header.get_mut(at..at + 4) {
                    let seq = u32::from_be_bytes([field[0], field[1], field[2], field[3]]);
                    field.copy_from_slice(&seq.wrapping_add(from as u32).to_be_bytes());
                }
                if !last && let Some(flags) = header.get_mut(self.l4_start + 13) {
                    *flags &= !TCP_LAST_ONLY;
                }
            }
            L4::Udp => store(header, at, self.l4_len(header, payload)),
        }
    }

    fn write_checksums(&self, header: &mut [u8], payload: &[u8]) {
        if let Some(ip) = self.ip_checksum {
            checksum::insert(header, ip.start, ip.end, ip.at);
        }
        let Some(l4) = self.l4_checksum else { return };
        let total = header.len() + payload.len();
        let end = l4.end.min(total);
        let mut sum = Sum::new(self.l4_len(header, payload.len()));
        sum.add(header.get(l4.start..end.min(header.len())).unwrap_or_default());
        let payload_start = l4.start.saturating_sub(header.len());
        let payload_end = end.saturating_sub(header.len());
        sum.add(payload.get(payload_start..payload_end).unwrap_or_default());
        let value = match (self.l4, sum.checksum()) {
            (L4::Udp, 0) => 0xffff,
            (_, value) => value,
        };
        store(header, l4.at, value);
    }

    fn l4_len(&self, header: &[u8], payload: usize) -> u16 {
        (header.len().saturating_sub(self.l4_start) + payload) as u16
    }
}

/// Offset and EtherType of the network header, behind at most two VLAN tags.
pub fn network_header(frame: &[u8]) -> Option<(usize, u16)> {
    let mut at = 12;
    for _ in 0..2 {
        match load(frame, at)? {
            0x8100 | 0x88a8 => at += 4,
            ethertype => return Some((at + 2, ethertype)),
        }
    }
    Some((at + 2, load(frame, at)?))
}

#[cfg(test)]
mod tests;
