//! Wide accesses to byte-wide chips: split into single bytes, lowest address first, as the ISA bus does.

use crate::bus::Access;

/// Reads `access.width` bytes one by one.
pub(super) fn read(offset: u64, access: &Access<'_>, mut byte: impl FnMut(u64) -> u8) -> u64 {
    (0..access.width.bytes()).fold(0, |sum, i| sum | u64::from(byte(offset + i)) << (8 * i))
}

/// Writes `access.width` bytes one by one.
pub(super) fn write(offset: u64, value: u64, access: &Access<'_>, mut byte: impl FnMut(u64, u8)) {
    for i in 0..access.width.bytes() {
        byte(offset + i, (value >> (8 * i)) as u8);
    }
}
