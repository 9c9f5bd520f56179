//! Where the initrd goes: as high as the kernel can reach and RAM allows, or right behind the kernel; page aligned.
//!
//! Used by `linux`, `pvh` and `multiboot`; the bytes are never looked at.

use super::error::InitrdError;

const PAGE: u64 = 4096;

/// Guest physical address for an initrd of `size` bytes as high as possible between `kernel_end` and `limit` (one past
/// the last byte that both RAM and the kernel allow).
///
/// # Errors
/// [`InitrdError::DoesNotFit`].
pub(super) fn place(size: u64, kernel_end: u64, limit: u64) -> Result<u64, InitrdError> {
    let (low, high) = free_room(kernel_end, limit);
    let start = high.checked_sub(size).map(|s| s & !(PAGE - 1)).filter(|&s| s >= low);
    start.ok_or(InitrdError::DoesNotFit { size, room: high.saturating_sub(low), low, high })
}

/// The same right behind the kernel, for kernels that map only the start of memory (multiboot).
///
/// # Errors
/// [`InitrdError::DoesNotFit`].
pub(super) fn place_low(size: u64, kernel_end: u64, limit: u64) -> Result<u64, InitrdError> {
    place(size, kernel_end, limit).map(|_| free_room(kernel_end, limit).0)
}

fn free_room(kernel_end: u64, limit: u64) -> (u64, u64) {
    (kernel_end.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX), limit & !(PAGE - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_to_the_top_on_a_page_boundary() {
        assert_eq!(place(1, 0x20_0000, 0x1000_0000).unwrap(), 0x0fff_f000);
        assert_eq!(place(0x1001, 0x20_0000, 0x0fff_ffff).unwrap(), 0x0fff_d000);
        assert_eq!(place(0x1000, 0x20_0001, 0x20_2000).unwrap(), 0x20_1000);
        assert_eq!(place_low(0x1000, 0x20_0001, 0x1000_0000).unwrap(), 0x20_1000);
        assert!(place_low(0x1001, 0x20_0001, 0x20_2000).is_err());
    }

    #[test]
    fn says_how_much_room_there_is() {
        let line = place(0x1001, 0x20_0001, 0x20_2000).unwrap_err().to_string();
        assert!(line.starts_with("4097 bytes do not fit: 4096 bytes are free"), "{line}");
        assert!(place(u64::MAX, 0, u64::MAX).is_err());
        assert!(place(1, u64::MAX, 0x1000).is_err());
    }
}
