//! From descriptors to one packet: decoding, gathering, VLAN tags (manual, sections 3.3.3 to 3.3.7).
//!
//! Called by the transmit engine with descriptors that were read once. Buffers are remembered as addresses
//! until the packet is complete; headers are then copied once into private memory, and the rest is lent.

use super::spec::txd;
use super::tx_context::Context;
use crate::memory::{DmaError, DmaHandle, GuestSlice};
use crate::netport::{Frame, FrameMeta};

/// Most bytes that a packet may gather: PAYLEN's 20 bits and a header.
pub const MAX_PACKET: usize = (1 << 20) + 256;
/// Where a VLAN tag goes.
const TAG_AT: usize = 12;

/// A decoded descriptor.
#[derive(Debug, Clone, Copy)]
pub enum Descriptor {
    /// Sets a context.
    Context(Context),
    /// Carries bytes.
    Data(Data),
    /// DTYP that this part does not know: passed over.
    Unknown,
}

/// A descriptor that carries bytes, legacy or extended.
#[derive(Debug, Clone, Copy)]
pub struct Data {
    /// Where the bytes are.
    pub address: u64,
    /// How many.
    pub len: usize,
    /// Last of its packet.
    pub eop: bool,
    /// Append the FCS.
    pub ifcs: bool,
    /// Insert the VLAN tag.
    pub vle: bool,
    /// The tag.
    pub special: u16,
    /// What the first descriptor of a packet decides.
    pub offload: Offload,
}

/// What is to be computed for a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offload {
    /// Legacy: one checksum from `css` to the end, stored at `cso`, if `ic`.
    Legacy {
        /// CMD.IC.
        ic: bool,
        /// Where it goes.
        cso: u8,
        /// First byte of the sum.
        css: u8,
    },
    /// Extended: by context.
    Extended {
        /// DCMD.TSE.
        tse: bool,
        /// IXSM and TXSM.
        popts: u8,
    },
}

/// RS and IDE of any descriptor.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// Write DD back.
    pub status: bool,
    /// The interrupt may wait for TIDV.
    pub delay: bool,
}

/// Decodes a descriptor.
pub fn decode(raw: &[u8; 16]) -> (Descriptor, Report) {
    let lower = u32::from_le_bytes([raw[8], raw[9], raw[10], raw[11]]);
    let report = Report { status: lower & txd::RS != 0, delay: lower & txd::IDE != 0 };
    let legacy = lower & txd::DEXT == 0;
    let dtyp = lower >> txd::DTYP_SHIFT & 0xf;
    let descriptor = match dtyp {
        txd::DTYP_CONTEXT if !legacy => Descriptor::Context(Context::decode(raw)),
        txd::DTYP_DATA if !legacy => Descriptor::Data(data(raw, lower, false)),
        _ if legacy => Descriptor::Data(data(raw, lower, true)),
        _ => Descriptor::Unknown,
    };
    (descriptor, report)
}

fn data(raw: &[u8; 16], lower: u32, legacy: bool) -> Data {
    let [a, b, c, d, e, f, g, h, ..] = *raw;
    let (len, offload) = if legacy {
        (lower & 0xffff, Offload::Legacy { ic: lower & txd::IC != 0, cso: raw[10], css: raw[13] })
    } else {
        (lower & 0xf_ffff, Offload::Extended { tse: lower & txd::TSE != 0, popts: raw[13] })
    };
    Data {
        address: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        len: len as usize,
        eop: lower & txd::EOP != 0,
        ifcs: lower & txd::IFCS != 0,
        vle: lower & txd::VLE != 0,
        special: u16::from_le_bytes([raw[14], raw[15]]),
        offload,
    }
}

/// A packet that is being put together.
#[derive(Debug, Default)]
pub struct Packet {
    /// Bytes of descriptors that had to be given back before the packet was complete.
    copied: Vec<u8>,
    pieces: Vec<(u64, usize)>,
    len: usize,
    offload: Option<Offload>,
    oversize: bool,
}

/// A packet's bytes: the first ones private, the rest lent by the guest.
#[derive(Debug)]
pub struct Gathered<'a> {
    /// Private copy.
    pub head: Vec<u8>,
    /// Still the guest's.
    pub body: Vec<GuestSlice<'a>>,
}

impl Gathered<'_> {
    /// The packet's bytes.
    pub fn len(&self) -> usize {
        self.lent().len()
    }

    /// Makes all bytes private.
    pub fn make_whole(&mut self) {
        let mut head = std::mem::take(&mut self.head);
        self.lent().copy_to(&mut head);
        self.head = head;
        self.body.clear();
    }

    fn lent(&self) -> Frame<'_> {
        Frame { head: &self.head, body: &self.body, meta: FrameMeta::default() }
    }
}

impl Packet {
    /// Adds a descriptor's bytes.
    pub fn push(&mut self, data: &Data) {
        // POPTS and TSE count in the first descriptor; legacy CSS and CSO in the last (3.3.3).
        match (self.offload, data.offload) {
            (None, offload) | (Some(Offload::Legacy { .. }), offload @ Offload::Legacy { .. }) => {
                self.offload = Some(offload);
            }
            _ => {}
        }
        if data.len == 0 || self.oversize {
            return;
        }
        self.len += data.len;
        if self.len > MAX_PACKET {
            self.oversize = true;
            self.copied.clear();
            self.pieces.clear();
        } else {
            self.pieces.push((data.address, data.len));
        }
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it can still be sent.
    pub fn is_oversize(&self) -> bool {
        self.oversize
    }

    /// What the first descriptor asked for.
    pub fn offload(&self) -> Option<Offload> {
        self.offload
    }

    /// Takes the bytes of all descriptors so far, so that these can be given back.
    ///
    /// # Errors
    /// [`DmaError`] when a buffer is not memory; the packet is then spoilt.
    pub fn absorb(&mut self, dma: &DmaHandle) -> Result<(), DmaError> {
        let pieces = std::mem::take(&mut self.pieces);
        let result =
            pieces.into_iter().try_for_each(|(address, len)| append(dma, &mut self.copied, address, len));
        if result.is_err() {
            self.oversize = true;
            self.copied.clear();
        }
        result
    }

    /// Copies at least the first `head_len` bytes (all, if there are fewer) into `head` and lends the rest.
    ///
    /// # Errors
    /// [`DmaError`] when a buffer is not memory.
    pub fn gather<'a>(
        &self,
        dma: &'a DmaHandle,
        head_len: usize,
        mut head: Vec<u8>,
    ) -> Result<Gathered<'a>, DmaError> {
        head.clear();
        head.extend_from_slice(&self.copied);
        let mut body = Vec::new();
        for &(address, len) in &self.pieces {
            let now = head_len.saturating_sub(head.len()).min(len);
            append(dma, &mut head, address, now)?;
            let rest = address.wrapping_add(now as u64);
            if now < len {
                match dma.slice(rest, len - now) {
                    Ok(slice) => body.push(slice),
                    // Across two regions of memory: only a copy of the whole will do.
                    Err(_) if head_len < self.len => return self.gather(dma, self.len, head),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(Gathered { head, body })
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        let Self { copied, pieces, len, offload, oversize } = self;
        copied.clear();
        pieces.clear();
        *len = 0;
        *offload = None;
        *oversize = false;
    }
}

fn append(dma: &DmaHandle, out: &mut Vec<u8>, address: u64, len: usize) -> Result<(), DmaError> {
    let at = out.len();
    out.resize(at + len, 0);
    dma.read(address, &mut out[at..])
}

/// Inserts a VLAN tag with this EtherType behind the addresses; frames shorter than that stay as they are.
pub fn insert_tag(frame: &mut Vec<u8>, ethertype: u16, tag: u16) {
    if frame.len() >= TAG_AT {
        let [a, b] = ethertype.to_be_bytes();
        let [c, d] = tag.to_be_bytes();
        frame.splice(TAG_AT..TAG_AT, [a, b, c, d]);
    }
}
