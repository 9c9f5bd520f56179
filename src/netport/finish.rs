//! Doing for a receiver what it does not accept: cutting, checksums.
//!
//! For ports that pass frames on to receivers of different abilities (hubs) or keep them for later. Works on
//! private copies; metadata that contradicts the frame is refused, never followed.

use super::checksum;
use super::segment::SegmentPlan;
use super::{DropReason, Frame, FrameMeta, Offloads};

/// A port's own copy of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedFrame {
    /// The whole frame, without FCS.
    pub bytes: Vec<u8>,
    /// What is still to be done to it.
    pub meta: FrameMeta,
}

impl OwnedFrame {
    /// A copy; guest memory is read once, here.
    pub fn copy(frame: &Frame<'_>) -> Self {
        let mut bytes = Vec::with_capacity(frame.len());
        frame.copy_to(&mut bytes);
        Self { bytes, meta: frame.meta }
    }

    /// To be offered to a port.
    pub fn frame(&self) -> Frame<'_> {
        Frame { head: &self.bytes, body: &[], meta: self.meta }
    }
}

/// Whether a receiver that accepts this takes such a frame as it is.
pub fn fits(meta: &FrameMeta, accepted: Offloads) -> bool {
    match meta.gso {
        Some(gso) => accepted.cuts(gso.kind),
        None => meta.csum.is_none() || accepted.csum,
    }
}

/// Makes finished wire frames of a frame, in their order.
///
/// # Errors
/// [`DropReason::BadMeta`] when the metadata contradicts the frame.
pub fn finish(mut frame: OwnedFrame) -> Result<Vec<OwnedFrame>, DropReason> {
    let meta = FrameMeta { csum_valid: true, ..FrameMeta::default() };
    if frame.meta.gso.is_some() {
        let plan = SegmentPlan::for_gso(&mut frame.bytes, &frame.meta).ok_or(DropReason::BadMeta)?;
        let count = plan.count(frame.bytes.len().saturating_sub(plan.header_len));
        let segment = |k| {
            let mut bytes = Vec::with_capacity(plan.header_len + plan.mss);
            let payload = plan.cut(&frame.bytes, k, &mut bytes);
            bytes.extend_from_slice(payload);
            OwnedFrame { bytes, meta }
        };
        return Ok((0..count).map(segment).collect());
    }
    if let Some(csum) = frame.meta.csum {
        let (start, len) = (usize::from(csum.start), frame.bytes.len());
        let at = start + usize::from(csum.offset);
        if start >= len || at + 2 > len {
            return Err(DropReason::BadMeta);
        }
        // Offset 6 is UDP's checksum, where a zero would mean "none".
        let insert = if csum.offset == 6 { checksum::insert_udp } else { checksum::insert };
        insert(&mut frame.bytes, start, len, at);
        frame.meta = meta;
    }
    Ok(vec![frame])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netport::{CsumRequest, Gso, GsoKind};

    #[test]
    fn a_checksum_is_inserted_and_a_wrong_request_refused() {
        let bytes = vec![0x11; 20];
        let with = |start, offset| {
            let csum = Some(CsumRequest { start, offset });
            finish(OwnedFrame { bytes: bytes.clone(), meta: FrameMeta { csum, ..FrameMeta::default() } })
        };
        let done = with(14, 2).unwrap();
        // Three words of 0x1111, one of which is the field itself.
        assert_eq!(done[0].bytes[16..18], (!0x3333u16).to_be_bytes());
        assert_eq!((done.len(), done[0].meta.csum, done[0].meta.csum_valid), (1, None, true));
        for (start, offset) in [(20, 0), (14, 5), (18, 1), (u16::MAX, u16::MAX)] {
            assert_eq!(with(start, offset), Err(DropReason::BadMeta), "{start} {offset}");
        }
    }

    #[test]
    fn a_segmentation_request_without_tcp_is_refused() {
        let gso = Some(Gso { kind: GsoKind::Tcp4, mss: 100, header_len: 54 });
        let frame = OwnedFrame { bytes: vec![0; 400], meta: FrameMeta { gso, ..FrameMeta::default() } };
        assert_eq!(finish(frame), Err(DropReason::BadMeta));
    }
}
