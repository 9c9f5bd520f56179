//! QEMU's frames on a byte stream: four bytes of length, big-endian, then the frame.
//!
//! Read by `stream` and by passt's socket. Pure: bytes in, frames out. The other side is not trusted: a length
//! beyond [`LONGEST`] ends the connection, and memory never grows beyond one such frame.

use std::ops::Range;

use crate::netport::Frame;

/// Bytes of the length before each frame.
pub const PREFIX: usize = 4;
/// The longest frame that is understood, in bytes; QEMU's limit (NET_BUFSIZE in include/net/net.h).
pub const LONGEST: usize = 4096 + 65536;

/// The other side announced a frame of this length, which nobody sends: it speaks another protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes was announced, and {LONGEST} is the limit: is this QEMU's socket protocol?")]
pub struct TooLong(pub u32);

/// Replaces the contents of `out` by `frame` as it goes over the stream.
pub fn encode(frame: &Frame<'_>, out: &mut Vec<u8>) {
    out.clear();
    // A frame is at most netport::MAX_FRAME bytes.
    out.extend_from_slice(&(frame.len() as u32).to_be_bytes());
    frame.copy_to(out);
}

/// Cuts a stream into frames, however its bytes arrive.
///
/// The caller puts bytes into [`Self::room`], tells how many by [`Self::filled`], and takes frames by
/// [`Self::next_frame`] until there is none.
#[derive(Debug)]
pub struct Decoder {
    buffer: Box<[u8]>,
    /// What was put in and not yet taken.
    filled: Range<usize>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { buffer: vec![0; PREFIX + LONGEST].into(), filled: 0..0 }
    }
}

impl Decoder {
    /// Where the next bytes go; never empty after [`Self::next_frame`] has said that there is none. Frames that
    /// were taken before are gone.
    pub fn room(&mut self) -> &mut [u8] {
        if self.filled.start > 0 {
            self.buffer.copy_within(self.filled.clone(), 0);
            self.filled = 0..self.filled.len();
        }
        &mut self.buffer[self.filled.end..]
    }

    /// So many bytes were put into [`Self::room`]; at most its length counts.
    pub fn filled(&mut self, bytes: usize) {
        self.filled.end = (self.filled.end + bytes).min(self.buffer.len());
    }

    /// The place of the next whole frame, for [`Self::bytes`].
    ///
    /// # Errors
    /// [`TooLong`]; the stream is of no use from then on.
    pub fn next_frame(&mut self) -> Result<Option<Range<usize>>, TooLong> {
        let waiting = &self.buffer[self.filled.clone()];
        let Some(&prefix) = waiting.first_chunk::<PREFIX>() else { return Ok(None) };
        let announced = u32::from_be_bytes(prefix);
        let len = announced as usize;
        if len > LONGEST {
            return Err(TooLong(announced));
        }
        if waiting.len() < PREFIX + len {
            return Ok(None);
        }
        let start = self.filled.start + PREFIX;
        self.filled.start = start + len;
        Ok(Some(start..start + len))
    }

    /// The bytes of a frame, until the next [`Self::room`].
    pub fn bytes(&self, place: Range<usize>) -> &[u8] {
        &self.buffer[place]
    }

    /// Whether a frame has begun and not ended.
    pub fn is_amid_frame(&self) -> bool {
        !self.filled.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All frames of `stream`, which arrives in pieces of these sizes, again and again.
    fn decode(stream: &[u8], pieces: &[usize]) -> Result<Vec<Vec<u8>>, TooLong> {
        let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
        let (mut rest, mut sizes) = (stream, pieces.iter().cycle());
        while !rest.is_empty() {
            let room = decoder.room();
            let n = (*sizes.next().unwrap()).min(rest.len()).min(room.len());
            assert!(n > 0, "no room although no frame is whole");
            room[..n].copy_from_slice(&rest[..n]);
            rest = &rest[n..];
            decoder.filled(n);
            while let Some(place) = decoder.next_frame()? {
                frames.push(decoder.bytes(place).to_vec());
            }
        }
        Ok(frames)
    }

    fn encoded(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut one = Vec::new();
        let mut encode_one = |frame: &Vec<u8>| {
            encode(&Frame::whole(frame), &mut one);
            one.clone()
        };
        frames.iter().flat_map(&mut encode_one).collect()
    }

    #[test]
    fn a_frame_is_its_length_and_its_bytes() {
        assert_eq!(encoded(&[vec![7; 258]])[..6], [0, 0, 1, 2, 7, 7]);
        assert_eq!(decode(&[0, 0, 0, 2, 8, 9, 0, 0, 0, 0], &[10]), Ok(vec![vec![8, 9], vec![]]));
    }

    #[test]
    fn the_longest_frame_fits_and_one_byte_more_does_not() {
        let frames = [vec![1; LONGEST], vec![2; 60], vec![3; LONGEST]];
        assert_eq!(decode(&encoded(&frames), &[1000]).unwrap(), frames);
        let over = (LONGEST as u32 + 1).to_be_bytes();
        assert_eq!(decode(&over, &[1]), Err(TooLong(LONGEST as u32 + 1)));
        assert_eq!(decode(b"GET / HTTP/1.1\r\n", &[100]), Err(TooLong(0x4745_5420)));
    }

    proptest! {
        #[test]
        fn any_split_of_the_stream_gives_the_same_frames(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20),
            pieces in proptest::collection::vec(1..400usize, 1..10),
        ) {
            prop_assert_eq!(decode(&encoded(&frames), &pieces).unwrap(), frames);
        }

        #[test]
        fn any_bytes_in_any_pieces_end_alike(
            // Small leading bytes, so that lengths are often possible ones.
            stream in proptest::collection::vec(prop_oneof![4 => 0..2u8, 1 => any::<u8>()], 0..600),
            pieces in proptest::collection::vec(1..40usize, 1..10),
        ) {
            prop_assert_eq!(decode(&stream, &pieces), decode(&stream, &[stream.len().max(1)]));
        }
    }
}
