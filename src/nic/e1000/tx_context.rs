//! Context descriptors: what offloading asks for, kept until replaced (manual, sections 3.3.6 and 3.5).
//!
//! Two contexts live side by side, one for segmentation and one for plain checksums; a data descriptor's TSE
//! says which one it means. Pure decoding; nothing is checked here, since any value may come.

use super::spec::txd;
use crate::netport::segment::{Insert, IpVersion, L4, SegmentPlan};

/// A decoded context descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    ipcss: u8,
    ipcso: u8,
    ipcse: u16,
    tucss: u8,
    tucso: u8,
    tucse: u16,
    tucmd: u32,
    header_len: u8,
    mss: u16,
}

impl Context {
    /// Decodes the 16 bytes of a context descriptor.
    pub fn decode(raw: &[u8; 16]) -> Self {
        Self {
            ipcss: raw[0],
            ipcso: raw[1],
            ipcse: u16::from_le_bytes([raw[2], raw[3]]),
            tucss: raw[4],
            tucso: raw[5],
            tucse: u16::from_le_bytes([raw[6], raw[7]]),
            tucmd: u32::from_le_bytes([raw[8], raw[9], raw[10], raw[11]]),
            header_len: raw[13],
            mss: u16::from_le_bytes([raw[14], raw[15]]),
        }
    }

    /// Whether it is the segmentation context.
    pub fn is_tso(&self) -> bool {
        self.tucmd & txd::TSE != 0
    }

    /// The IP header checksum.
    pub fn ip_checksum(&self) -> Insert {
        insert(self.ipcss, self.ipcso, self.ipcse)
    }

    /// The TCP or UDP checksum.
    pub fn l4_checksum(&self) -> Insert {
        insert(self.tucss, self.tucso, self.tucse)
    }

    /// HDRLEN and MSS.
    pub fn segmentation(&self) -> (usize, usize) {
        (usize::from(self.header_len), usize::from(self.mss))
    }

    /// How to cut a packet whose first data descriptor carries `popts`; `None` for a request that makes the
    /// real part hang (no header, no segment size).
    pub fn plan(&self, popts: u8) -> Option<SegmentPlan> {
        if self.header_len == 0 || self.mss == 0 {
            return None;
        }
        let v4 = self.tucmd & txd::TUCMD_IP != 0;
        Some(SegmentPlan {
            header_len: usize::from(self.header_len),
            mss: usize::from(self.mss),
            version: if v4 { IpVersion::V4 } else { IpVersion::V6 },
            ip_start: usize::from(self.ipcss),
            ip_checksum: (popts & txd::POPTS_IXSM != 0).then(|| self.ip_checksum()),
            l4: if self.tucmd & txd::TUCMD_TCP != 0 { L4::Tcp } else { L4::Udp },
            l4_start: usize::from(self.tucss),
            l4_checksum: (popts & txd::POPTS_TXSM != 0).then(|| self.l4_checksum()),
        })
    }
}

/// The end is inclusive in the descriptor, and 0 means the end of the packet.
fn insert(start: u8, at: u8, last: u16) -> Insert {
    let end = if last == 0 { usize::MAX } else { usize::from(last) + 1 };
    Insert { start: usize::from(start), end, at: usize::from(at) }
}

/// The two contexts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Contexts {
    tso: Option<Context>,
    plain: Option<Context>,
}

impl Contexts {
    /// Replaces the one that `context` belongs to.
    pub fn store(&mut self, context: Context) {
        let slot = if context.is_tso() { &mut self.tso } else { &mut self.plain };
        *slot = Some(context);
    }

    /// The one that a data descriptor with this TSE means.
    pub fn get(&self, tse: bool) -> Option<&Context> {
        if tse { self.tso.as_ref() } else { self.plain.as_ref() }
    }
}
