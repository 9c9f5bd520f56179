//! The receive FIFO of a board that behaves like a wire: accepted frames that wait for descriptors.
//!
//! Used by the receive engine only. Storage and accounting; what its fill means to the peer is `flow_control.rs`.

use std::collections::VecDeque;

use super::rx_filter::Accepted;
use super::rx_offload::{Tail, WireFrame};
use super::spec::FCS_LEN;

/// Bytes of the note that the part keeps beside each frame. It does not say; a descriptor's worth is assumed.
const NOTE: usize = 16;

/// A frame with what is known about it.
#[derive(Debug)]
pub struct Waiting {
    /// The frame without padding and FCS.
    pub bytes: Vec<u8>,
    /// What the filters said.
    pub accepted: Accepted,
    /// As [`WireFrame::checksums_good`].
    pub checksums_good: bool,
    /// As [`WireFrame::tail`].
    pub tail: Tail,
}

impl Waiting {
    fn frame(&self) -> WireFrame<'_> {
        let Self { bytes, checksums_good, tail, accepted: _ } = self;
        WireFrame { head: bytes, payload: &[], checksums_good: *checksums_good, tail: *tail }
    }
}

/// First in, first out.
#[derive(Debug, Default)]
pub struct Fifo {
    frames: VecDeque<Waiting>,
    bytes: usize,
}

impl Fifo {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Frames that wait.
    pub fn frames(&self) -> usize {
        self.frames.len()
    }

    /// Bytes that are taken.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a copy of `frame`; `false` when a FIFO of `len` bytes has no room for it.
    pub fn push(&mut self, frame: &WireFrame<'_>, accepted: Accepted, len: usize) -> bool {
        let takes = space(frame);
        if self.bytes + takes > len {
            return false;
        }
        self.bytes += takes;
        let bytes = [frame.head, frame.payload].concat();
        let (checksums_good, tail) = (frame.checksums_good, frame.tail);
        self.frames.push_back(Waiting { bytes, accepted, checksums_good, tail });
        true
    }

    /// The oldest.
    pub fn first(&self) -> Option<&Waiting> {
        self.frames.front()
    }

    /// Forgets the oldest.
    pub fn drop_first(&mut self) {
        if let Some(first) = self.frames.pop_front() {
            self.bytes -= space(&first.frame());
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Bytes that a frame takes.
fn space(frame: &WireFrame<'_>) -> usize {
    (frame.len() + FCS_LEN).next_multiple_of(8) + NOTE
}
