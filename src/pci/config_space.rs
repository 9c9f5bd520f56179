//! 256 bytes of configuration space with per-bit write rules: the one place where byte, word and dword
//! accesses are merged.
//!
//! Called by the header only. It knows masks, not meanings: BAR sizing, for one, is nothing but address bits
//! below the size that cannot be written.

use super::spec::CONFIG_LEN;
use crate::bus::Width;

/// Registers as bytes. Any access of any width at any offset is defined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSpace {
    value: [u8; CONFIG_LEN],
    reset: [u8; CONFIG_LEN],
    /// Bits that take the written value.
    writable: [u8; CONFIG_LEN],
    /// Bits that a written one clears.
    clear: [u8; CONFIG_LEN],
}

impl Default for ConfigSpace {
    fn default() -> Self {
        let zero = [0; CONFIG_LEN];
        Self { value: zero, reset: zero, writable: zero, clear: zero }
    }
}

impl ConfigSpace {
    /// Gives the bytes from `offset` on their value after reset and the bits that software may write.
    /// Bytes beyond the end of the space are dropped.
    pub fn define(&mut self, offset: u8, reset: &[u8], writable: &[u8]) {
        self.force(offset, reset);
        place(&mut self.reset, offset, reset);
        place(&mut self.writable, offset, writable);
    }

    /// Makes the set bits of `mask` unwritable from `offset` on.
    pub fn forbid(&mut self, offset: u8, mask: &[u8]) {
        for (writable, bits) in self.writable[usize::from(offset)..].iter_mut().zip(mask) {
            *writable &= !bits;
        }
    }

    /// Makes the set bits of `mask` write-one-to-clear from `offset` on.
    pub fn define_clear(&mut self, offset: u8, mask: &[u8]) {
        place(&mut self.clear, offset, mask);
    }

    /// Everything to its value after reset.
    pub fn reset(&mut self) {
        self.value = self.reset;
    }

    /// Reads `width` bytes; bytes beyond the end read all-ones.
    pub fn read(&self, offset: u16, width: Width) -> u64 {
        let byte = |i| self.value.get(usize::from(offset) + i).copied().unwrap_or(0xff);
        (0..width.bytes() as usize).fold(0, |sum, i| sum | u64::from(byte(i)) << (8 * i))
    }

    /// A software write of `width` bytes, under the masks.
    pub fn write(&mut self, offset: u16, width: Width, data: u64) {
        for (i, new) in data.to_le_bytes().into_iter().take(width.bytes() as usize).enumerate() {
            let at = usize::from(offset) + i;
            let Some(value) = self.value.get_mut(at) else { return };
            *value = (*value & !self.writable[at] | new & self.writable[at]) & !(new & self.clear[at]);
        }
    }

    /// Sets bytes from `offset` on, past the masks: what the hardware or firmware does.
    pub fn force(&mut self, offset: u8, bytes: &[u8]) {
        place(&mut self.value, offset, bytes);
    }

    /// The 8-bit register at `offset`.
    pub fn byte(&self, offset: u8) -> u8 {
        self.value[usize::from(offset)]
    }

    /// The 16-bit register at `offset`.
    pub fn word(&self, offset: u8) -> u16 {
        self.read(u16::from(offset), Width::Word) as u16
    }
}

fn place(to: &mut [u8; CONFIG_LEN], offset: u8, bytes: &[u8]) {
    for (to, from) in to[usize::from(offset)..].iter_mut().zip(bytes) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four bytes at 0x40: plain, read-only, half and half, write-one-to-clear.
    fn space() -> ConfigSpace {
        let mut space = ConfigSpace::default();
        space.define(0x40, &[0x11, 0x22, 0x33, 0xff], &[0xff, 0, 0x0f, 0]);
        space.define_clear(0x43, &[0xff]);
        space
    }

    /// What one byte of `space()` becomes when `new` is written.
    fn expected(at: usize, new: u8) -> u8 {
        match at {
            0x40 => new,
            0x41 => 0x22,
            0x42 => 0x30 | new & 0x0f,
            0x43 => !new,
            _ => 0,
        }
    }

    #[test]
    fn every_width_at_every_offset_merges_as_single_bytes_do() {
        let data = 0x8765_4321_0fed_cba9_u64;
        for width in [Width::Byte, Width::Word, Width::Dword, Width::Qword] {
            for offset in 0x38..0x48_u16 {
                let mut space = space();
                space.write(offset, width, data);
                for at in 0x38..0x48_u16 {
                    let lane = usize::from(at.wrapping_sub(offset));
                    let old = super::tests::space().byte(at as u8);
                    let written = (lane as u64) < width.bytes() && at >= offset;
                    let want = if written { expected(at.into(), data.to_le_bytes()[lane]) } else { old };
                    assert_eq!(space.byte(at as u8), want, "{width:?} at {offset:#x}, byte {at:#x}");
                    let read = space.read(offset, width) >> (8 * lane.min(7)) & 0xff;
                    assert!(!written || read == u64::from(want), "{width:?} at {offset:#x}");
                }
            }
        }
    }

    #[test]
    fn beyond_the_end_reads_all_ones_and_swallows_writes() {
        let mut space = space();
        space.define(0xff, &[0x5a, 1, 2], &[0xff; 3]);
        space.write(0xff, Width::Qword, u64::MAX);
        space.write(0x100, Width::Dword, 0);
        space.write(u16::MAX, Width::Qword, 0);
        assert_eq!(space.read(0xfe, Width::Dword), 0xffff_ff00);
        assert_eq!(space.read(u16::MAX, Width::Byte), 0xff);
    }

    #[test]
    fn reset_restores_what_software_changed() {
        let mut space = space();
        space.write(0x40, Width::Dword, u64::MAX);
        space.force(0x41, &[9]);
        space.reset();
        assert_eq!(space, super::tests::space());
    }
}
