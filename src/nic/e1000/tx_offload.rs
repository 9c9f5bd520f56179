//! What is left to the peer and what is computed here: checksums and segmentation (manual, sections 3.5 and 3.6).
//!
//! Called by the transmit engine with a packet's header in private memory. A request passes to the peer as
//! frame metadata only if the peer would compute exactly what the real part computes; otherwise it is
//! done here.

use super::tx_context::Contexts;
use super::tx_frame::Offload;
use crate::netport::checksum::{self, Sum, load, store};
use crate::netport::segment::{Insert, IpVersion, L4, SegmentPlan};
use crate::netport::transport::Transport;
use crate::netport::{CsumRequest, FrameMeta, Gso, GsoKind, Offloads};

/// TCP's CWR bit: cutters disagree about it, so such packets are cut here.
const TCP_CWR: u8 = 0x80;
/// Offset of the UDP checksum in its header.
const UDP_CHECKSUM: usize = 6;

/// What a packet needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// Up to two checksums: the IP header's, and the transport's.
    Checksums {
        /// IXSM.
        ip: Option<Insert>,
        /// TXSM or IC.
        l4: Option<Insert>,
    },
    /// Cutting.
    Segment(SegmentPlan),
}

impl Job {
    /// What `offload` asks for. `None`: a request that makes the real part hang.
    #[inline(always)]
    pub fn of(offload: Option<Offload>, contexts: &Contexts) -> Option<Self> {
        let nothing = Self::Checksums { ip: None, l4: None };
        match offload {
            None => Some(nothing),
            Some(Offload::Legacy { ic, cso, css }) => {
                let l4 = Insert { start: usize::from(css), end: usize::MAX, at: usize::from(cso) };
                Some(Self::Checksums { ip: None, l4: ic.then_some(l4) })
            }
            Some(Offload::Extended { tse, popts }) => match contexts.get(tse) {
                Some(context) if tse => context.plan(popts).map(Self::Segment),
                Some(context) => Some(Self::Checksums {
                    ip: (popts & super::spec::txd::POPTS_IXSM != 0).then(|| context.ip_checksum()),
                    l4: (popts & super::spec::txd::POPTS_TXSM != 0).then(|| context.l4_checksum()),
                }),
                None if tse => None,
                None => Some(nothing),
            },
        }
    }

    /// How many bytes have to be private so that everything the job writes lies in them, if the peer does the
    /// rest; `None` when it cannot, for a packet of `len` bytes.
    pub fn private_len(&self, accepts: Offloads, len: usize) -> Option<usize> {
        match self {
            Self::Checksums { ip, l4 } => {
                let ip = ip.map_or(Some(0), |i| (i.end <= len).then_some(i.end.max(i.at + 2)));
                let l4 = l4.map_or(Some(0), |l| {
                    (accepts.csum && l.end >= len && request(&l).is_some()).then_some(l.at + 2)
                });
                Some(ip?.max(l4?)).filter(|&needed| needed <= len)
            }
            Self::Segment(plan) => {
                let able = match plan.version {
                    IpVersion::V4 => accepts.tso4,
                    IpVersion::V6 => accepts.tso6,
                };
                let fits = plan.header_len <= len && len - plan.ip_start.min(len) <= 0xffff;
                (able && fits).then_some(plan.header_len)
            }
        }
    }
}

/// The checksum as the peer's metadata says it, if that can say it.
fn request(l4: &Insert) -> Option<CsumRequest> {
    let offset = l4.at.checked_sub(l4.start)?;
    Some(CsumRequest { start: u16::try_from(l4.start).ok()?, offset: u16::try_from(offset).ok()? })
}

/// Inserts the IP header's checksum.
pub fn insert_ip(frame: &mut [u8], ip: Option<Insert>) {
    if let Some(ip) = ip {
        checksum::insert(frame, ip.start, ip.end, ip.at);
    }
}

/// Inserts the transport checksum into a whole frame in private memory.
pub fn insert_l4(frame: &mut [u8], l4: Option<Insert>) {
    if let Some(l4) = l4 {
        let udp = l4.at.checked_sub(l4.start) == Some(UDP_CHECKSUM);
        let insert = if udp { checksum::insert_udp } else { checksum::insert };
        insert(frame, l4.start, l4.end, l4.at);
    }
}

/// Leaves the transport checksum of a frame of `len` bytes to the peer. `None` unless it is TCP's or UDP's own, the
/// driver has put the pseudo-header's sum into its field, and nothing but the packet is summed: peers that deliver
/// the frame without computing take it for right, whatever the real part would have made of it.
pub fn pass_l4(head: &[u8], len: usize, l4: &Insert) -> Option<FrameMeta> {
    let found = Transport::find(head, len)?;
    let own = found.range == (l4.start..len) && found.checksum == l4.at;
    let right = own && found.is_seed(load(head, l4.at)?);
    right.then(|| FrameMeta { csum: request(l4), ..FrameMeta::default() })
}

/// Leaves the cutting to the peer: makes the prototype header one of a big frame of `len` bytes. `None`
/// when the peer would not produce what the plan says; the header is then untouched.
pub fn pass_segmentation(head: &mut [u8], len: usize, plan: &SegmentPlan) -> Option<FrameMeta> {
    let l4 = plan.l4_checksum?;
    let l4_start = plan.l4_start;
    let (kind, addresses) = standard_headers(head, plan)?;
    let mut seed = Sum::new(6);
    seed.add(head.get(addresses)?);
    let as_driver_wrote = load(head, l4_start + 16)?;
    let standard = l4.at == l4_start + 16 && l4.start == l4_start && l4.end >= len;
    // A wrong seed has to give the wrong checksum that it gives on the real part.
    if !standard
        || !checksum::equal(as_driver_wrote, seed.folded())
        || head.get(l4_start + 13)? & TCP_CWR != 0
    {
        return None;
    }
    let ip_len = len - plan.ip_start;
    match plan.version {
        IpVersion::V4 => {
            store(head, plan.ip_start + 2, ip_len as u16);
            store(head, plan.ip_start + 10, 0);
            checksum::insert(head, plan.ip_start, l4_start, plan.ip_start + 10);
        }
        IpVersion::V6 => store(head, plan.ip_start + 4, (ip_len - 40) as u16),
    }
    seed.add_word((len - l4_start) as u16);
    store(head, l4_start + 16, seed.folded());
    let csum = Some(CsumRequest { start: l4_start as u16, offset: 16 });
    let gso = Gso { kind, mss: plan.mss as u16, header_len: plan.header_len as u16 };
    let one_is_enough = len - plan.header_len <= plan.mss;
    Some(FrameMeta { csum, csum_valid: false, gso: (!one_is_enough).then_some(gso) })
}

/// Whether the header is untagged Ethernet, IP without surprises and TCP, all where the plan says.
fn standard_headers(head: &[u8], plan: &SegmentPlan) -> Option<(GsoKind, std::ops::Range<usize>)> {
    let ip = plan.ip_start;
    let tcp_len = usize::from(head.get(plan.l4_start + 12)? >> 4) * 4;
    let ethertype = load(head, 12)?;
    if ip != 14 || plan.l4 != L4::Tcp || tcp_len < 20 || plan.l4_start + tcp_len != plan.header_len {
        return None;
    }
    match plan.version {
        IpVersion::V4 => {
            let header_len = usize::from(head.get(ip)? & 0xf) * 4;
            let checksum = plan.ip_checksum?;
            let good = ethertype == 0x0800
                && head.get(ip)? >> 4 == 4
                && header_len >= 20
                && ip + header_len == plan.l4_start
                && load(head, ip + 6)? & 0x3fff == 0
                && *head.get(ip + 9)? == 6
                && load(head, ip + 10)? == 0
                && checksum == Insert { start: ip, end: plan.l4_start, at: ip + 10 };
            good.then_some((GsoKind::Tcp4, ip + 12..ip + 20))
        }
        IpVersion::V6 => {
            let good = ethertype == 0x86dd
                && head.get(ip)? >> 4 == 6
                && *head.get(ip + 6)? == 6
                && plan.l4_start == ip + 40;
            good.then_some((GsoKind::Tcp6, ip + 8..ip + 40))
        }
    }
}
