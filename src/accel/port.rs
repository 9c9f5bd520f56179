//! One CPU's way to the bus: accesses cut into the widths that `GuestBus` takes.
//!
//! Used by the accelerators; pure but for the call to the bus.

use std::fmt;

use super::GuestBus;
use crate::bus::{Access, Origin, Width};

/// The bus, as one instruction of one CPU uses it.
#[derive(Clone, Copy)]
pub(super) struct Port<'a> {
    pub bus: &'a dyn GuestBus,
    pub cpu: u32,
    pub origin: &'a dyn Origin,
}

impl fmt::Debug for Port<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("cpu", &self.cpu).finish_non_exhaustive()
    }
}

impl Port<'_> {
    fn access(&self, width: Width) -> Access<'_> {
        Access { cpu: self.cpu, width, origin: self.origin }
    }

    /// IN.
    pub fn pio_read(&self, port: u16, width: Width) -> u64 {
        self.bus.pio_read(port, &self.access(width))
    }

    /// OUT.
    pub fn pio_write(&self, port: u16, value: u64, width: Width) {
        self.bus.pio_write(port, value, &self.access(width));
    }

    /// Reads memory that is not RAM.
    pub fn mmio_read(&self, addr: u64, data: &mut [u8]) {
        for (offset, width) in parts(addr, data.len()) {
            let value =
                self.bus.mmio_read(addr.wrapping_add(offset as u64), &self.access(width)).to_le_bytes();
            let n = width.bytes() as usize;
            data[offset..offset + n].copy_from_slice(&value[..n]);
        }
    }

    /// Writes memory that is not RAM.
    pub fn mmio_write(&self, addr: u64, data: &[u8]) {
        for (offset, width) in parts(addr, data.len()) {
            let (n, mut value) = (width.bytes() as usize, [0; 8]);
            value[..n].copy_from_slice(&data[offset..offset + n]);
            let at = addr.wrapping_add(offset as u64);
            self.bus.mmio_write(at, u64::from_le_bytes(value), &self.access(width));
        }
    }
}

/// Cuts `len` bytes at `addr` into bus accesses. 1, 2, 4 and 8 stay whole at any alignment; other lengths come
/// from accesses that cross a page and are cut at natural boundaries, as a processor's bus unit does.
fn parts(addr: u64, len: usize) -> impl Iterator<Item = (usize, Width)> {
    let whole = Width::from_len(len);
    let mut offset = 0;
    std::iter::from_fn(move || {
        let left = len - offset;
        let fits = |w: &Width| {
            let n = w.bytes();
            n as usize <= left && addr.wrapping_add(offset as u64).is_multiple_of(n)
        };
        let natural = [Width::Qword, Width::Dword, Width::Word, Width::Byte].into_iter().find(fits);
        let width = whole.filter(|_| offset == 0).or(natural).filter(|_| left > 0)?;
        let at = offset;
        offset += width.bytes() as usize;
        Some((at, width))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(addr: u64, len: usize) -> Vec<(usize, u64)> {
        parts(addr, len).map(|(offset, width)| (offset, width.bytes())).collect()
    }

    #[test]
    fn natural_lengths_stay_whole_at_any_alignment() {
        assert_eq!(cut(0x1001, 4), [(0, 4)]);
        assert_eq!(cut(0x1003, 8), [(0, 8)]);
        assert_eq!(cut(0x1000, 1), [(0, 1)]);
        assert_eq!(cut(0x1000, 0), []);
    }

    #[test]
    fn odd_lengths_are_cut_at_natural_boundaries() {
        assert_eq!(cut(0x1000, 3), [(0, 2), (2, 1)]);
        assert_eq!(cut(0x1ffd, 3), [(0, 1), (1, 2)]);
        assert_eq!(cut(0x1000, 5), [(0, 4), (4, 1)]);
        assert_eq!(cut(0x1ffb, 5), [(0, 1), (1, 4)]);
        assert_eq!(cut(0x1000, 6), [(0, 4), (4, 2)]);
        assert_eq!(cut(0x1000, 7), [(0, 4), (4, 2), (6, 1)]);
        assert_eq!(cut(0x1000, 16), [(0, 8), (8, 8)]);
    }
}
