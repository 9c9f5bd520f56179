//! One frame in flight: private head, borrowed guest pieces, and what is still to be done to it.

use crate::memory::GuestSlice;

/// The longest frame any port handles, in bytes: a 64 KiB segmentation-offload frame with its headers.
pub const MAX_FRAME: usize = 65536 + 256;

/// A frame offered to a port. Valid only during the call: a port that queues makes its own copy.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// The first bytes, in private memory: at least all headers that `meta` points into.
    pub head: &'a [u8],
    /// The rest, still in guest memory. The guest may change it at any moment; read it once.
    pub body: &'a [GuestSlice<'a>],
    /// Work the sender left to the receiver.
    pub meta: FrameMeta,
}

/// Work the sender left to the receiver. All `None`/false: a finished wire frame without FCS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FrameMeta {
    /// The L4 checksum is still to be inserted.
    pub csum: Option<CsumRequest>,
    /// The sender vouches for the checksums (as virtio's DATA_VALID); the receiver need not verify.
    pub csum_valid: bool,
    /// The frame is to be cut into segments.
    pub gso: Option<Gso>,
}

/// Sum from `start` to the end of the frame, complement, store at `start + offset` (virtio 1.2, section
/// 5.1.6.2). The field already holds the sum of the pseudo-header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CsumRequest {
    /// First byte of the sum, from the start of the frame.
    pub start: u16,
    /// Where the 16-bit checksum goes, from `start`.
    pub offset: u16,
}

/// A frame longer than the wire takes, to be cut into segments of `mss` payload bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gso {
    /// Which protocol is cut.
    pub kind: GsoKind,
    /// Payload bytes of each segment but the last.
    pub mss: u16,
    /// Length of all headers, L2 to L4, in bytes.
    pub header_len: u16,
}

/// What is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GsoKind {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
}

impl<'a> Frame<'a> {
    /// A finished frame that lies whole in private memory.
    pub fn whole(bytes: &'a [u8]) -> Self {
        Self { head: bytes, body: &[], meta: FrameMeta::default() }
    }

    /// Length in bytes, without FCS.
    pub fn len(&self) -> usize {
        self.head.len() + self.body.iter().map(GuestSlice::len).sum::<usize>()
    }

    /// Whether there is no byte in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a private copy of the whole frame to `out` (guest bytes are read once, here).
    pub fn copy_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.head);
        for piece in self.body {
            let at = out.len();
            out.resize(at + piece.len(), 0);
            piece.copy_to(&mut out[at..]);
        }
    }
}
