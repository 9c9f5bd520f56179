//! The Internet checksum (RFC 1071): sums over pieces, insertion, verification by the caller.
//!
//! Used by NICs (offloads in both directions) and by [`super::segment`]. Never allocates, never panics.

/// A ones' complement sum of 16-bit big-endian words, fed piece by piece.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum {
    words: u64,
    odd: bool,
}

impl Sum {
    /// A sum that starts at `seed`.
    pub fn new(seed: u16) -> Self {
        Self { words: u64::from(seed), odd: false }
    }

    /// Adds one 16-bit word, whatever the parity of the bytes so far.
    pub fn add_word(&mut self, word: u16) {
        self.words += u64::from(word);
    }

    /// Adds `bytes`, continuing in the middle of a word when the bytes so far were odd in number.
    pub fn add(&mut self, bytes: &[u8]) {
        let piece = sum_of(bytes);
        self.words += u64::from(if self.odd { piece.swap_bytes() } else { piece });
        self.odd ^= bytes.len() % 2 == 1;
    }

    /// The sum, folded to 16 bits (not complemented).
    pub fn folded(self) -> u16 {
        fold(self.words)
    }

    /// The checksum: the complement of the folded sum.
    pub fn checksum(self) -> u16 {
        !self.folded()
    }
}

/// The folded sum of one piece that starts at an even offset. An odd last byte is the high half of a word.
fn sum_of(bytes: &[u8]) -> u16 {
    // Summed in host order four bytes at a time and turned round once at the end (RFC 1071, section 2(B)).
    let (quads, tail) = bytes.as_chunks::<4>();
    let mut acc: u64 = quads.iter().map(|q| u64::from(u32::from_ne_bytes(*q))).sum();
    let mut last = [0; 4];
    last[..tail.len()].copy_from_slice(tail);
    acc += u64::from(u32::from_ne_bytes(last));
    u16::from_be(fold(acc))
}

fn fold(mut acc: u64) -> u16 {
    while acc > 0xffff {
        acc = (acc & 0xffff) + (acc >> 16);
    }
    acc as u16
}

/// Equality of ones' complement numbers, which have two zeroes.
pub fn equal(a: u16, b: u16) -> bool {
    a == b || [a, b].iter().all(|sum| [0, 0xffff].contains(sum))
}

/// Sums `frame` from `start` up to `end` (exclusive), including what the field holds, and stores the
/// complement big-endian at `at`. Does nothing when a position lies outside the frame.
pub fn insert(frame: &mut [u8], start: usize, end: usize, at: usize) {
    let end = end.min(frame.len());
    let Some(covered) = frame.get(start..end) else { return };
    let mut sum = Sum::default();
    sum.add(covered);
    store(frame, at, sum.checksum());
}

/// As [`insert`], for UDP: a result of zero goes out as all-ones (RFC 768).
pub fn insert_udp(frame: &mut [u8], start: usize, end: usize, at: usize) {
    insert(frame, start, end, at);
    if frame.get(at..at + 2) == Some(&[0, 0]) {
        store(frame, at, 0xffff);
    }
}

/// Stores `value` big-endian at `at`; outside the frame nothing happens.
pub fn store(frame: &mut [u8], at: usize, value: u16) {
    if let Some(field) = frame.get_mut(at..at.saturating_add(2)) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

/// The big-endian word at `at`, if the frame reaches that far.
pub fn load(frame: &[u8], at: usize) -> Option<u16> {
    let field = frame.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes([field[0], field[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(bytes: &[u8]) -> u16 {
        let mut acc = 0u64;
        for pair in bytes.chunks(2) {
            acc += u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
        fold(acc)
    }

    #[test]
    fn any_split_gives_the_sum_of_the_whole() {
        let bytes: Vec<u8> = (0..97u32).map(|i| (i * 37 + 11) as u8).collect();
        for a in 0..bytes.len() {
            for b in a..bytes.len() {
                let mut sum = Sum::default();
                sum.add(&bytes[..a]);
                sum.add(&bytes[a..b]);
                sum.add(&bytes[b..]);
                assert_eq!(sum.folded(), naive(&bytes), "{a} {b}");
            }
        }
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let mut sum = Sum::default();
        sum.add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.folded(), 0xddf2);
    }

    #[test]
    fn a_zero_result_goes_out_as_all_ones_in_udp_only() {
        let mut frame = [0xff, 0xff, 0, 0];
        insert(&mut frame, 0, 4, 2);
        assert_eq!(frame, [0xff, 0xff, 0, 0]);
        insert_udp(&mut frame, 0, 4, 2);
        assert_eq!(frame, [0xff, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn positions_outside_the_frame_change_nothing() {
        let mut frame = [1, 2, 3];
        insert(&mut frame, 5, 9, 0);
        insert(&mut frame, 0, 3, 2);
        insert(&mut frame, 0, 3, usize::MAX);
        assert_eq!(frame, [1, 2, 3]);
    }
}
