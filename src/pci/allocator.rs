//! Where BARs go before boot, since no BIOS runs that would place them.
//!
//! Called by [`super::PciBus::program_bars`]. Pure: requests and windows in, addresses out.

use super::map::{PciMap, Window};
use super::{BarKind, BarSpec};

/// A page: memory BARs do not share one, so that a guest can map each alone.
const PAGE: u64 = 0x1000;

/// A BAR and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarAllocation {
    /// Slot of the function.
    pub slot: u8,
    /// Which BAR.
    pub bar: BarSpec,
    /// First address or port.
    pub base: u64,
}

/// A window is too small for the devices of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no room for BAR{index} of the device in PCI slot {slot} ({size:#x} bytes): use fewer devices")]
pub struct NoRoom {
    /// Slot of the function.
    pub slot: u8,
    /// Register number.
    pub index: u8,
    /// Size in bytes.
    pub size: u64,
}

/// Places every BAR in its window, largest first, so that alignment leaves no holes.
///
/// # Errors
/// [`NoRoom`] names the first BAR that does not fit.
pub fn allocate(requests: &[(u8, BarSpec)], map: &PciMap) -> Result<Vec<BarAllocation>, NoRoom> {
    let mut order = requests.to_vec();
    order.sort_by_key(|(slot, bar)| (std::cmp::Reverse(bar.size), *slot, bar.index));
    let (mut io_next, mut mem_next) = (map.io.base, map.mem.base);
    let mut placed = Vec::new();
    for (slot, bar) in order {
        let base = match bar.kind {
            BarKind::Io => take(&mut io_next, &map.io, bar.size, bar.size),
            BarKind::Mem32 | BarKind::Mem64 | BarKind::Rom => {
                take(&mut mem_next, &map.mem, bar.size, bar.size.max(PAGE))
            }
        };
        let base = base.ok_or(NoRoom { slot, index: bar.index, size: bar.size })?;
        placed.push(BarAllocation { slot, bar, base });
    }
    Ok(placed)
}

fn take(next: &mut u64, window: &Window, size: u64, align: u64) -> Option<u64> {
    let base = next.checked_next_multiple_of(align)?;
    if !window.holds(base, size) {
        return None;
    }
    *next = base + size;
    Some(base)
}
