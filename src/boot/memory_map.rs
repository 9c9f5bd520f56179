//! The memory map that the kernel is told, in BIOS E820 terms, made from `machine::pc`'s address map.
//!
//! Written into the zero page by `linux` and into the start info by `pvh`.

use crate::machine::pc::{
    ACPI_BASE, EBDA_BASE, ECAM_BASE, ECAM_LEN, HIGH_RAM_BASE, KVM_IDENTITY_MAP_BASE, LOW_MIB_END, ram_layout,
};

/// What a range is for (ACPI 6.5, table 15.1 address range types; PVH uses the same numbers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryKind {
    /// AddressRangeMemory.
    Ram = 1,
    /// AddressRangeReserved.
    Reserved = 2,
}

/// One range of the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryRange {
    /// First guest physical address.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
    /// What it is for.
    pub kind: MemoryKind,
}

/// The map of a machine with `ram_bytes` of RAM, lowest address first, without overlaps. The gap at 640 KiB (video
/// and option ROMs) and the PCI window are not mentioned, as on any PC; the ECAM window is reserved, because Linux
/// uses it only then.
pub fn memory_map(ram_bytes: u64) -> Vec<MemoryRange> {
    let range = |start, end: u64, kind| MemoryRange { start, len: end.saturating_sub(start), kind };
    let layout = ram_layout(ram_bytes);
    let low_end = layout[0].1;
    let mut map = vec![
        range(0, EBDA_BASE, MemoryKind::Ram),
        range(EBDA_BASE, 0xa_0000, MemoryKind::Reserved),
        range(ACPI_BASE, LOW_MIB_END, MemoryKind::Reserved),
        range(LOW_MIB_END, low_end, MemoryKind::Ram),
        range(ECAM_BASE, ECAM_BASE + ECAM_LEN, MemoryKind::Reserved),
        // Where a PC has its BIOS ROM, and below it KVM's own pages on old hosts.
        range(KVM_IDENTITY_MAP_BASE, HIGH_RAM_BASE, MemoryKind::Reserved),
    ];
    map.extend(layout[1..].iter().map(|&(start, len)| MemoryRange { start, len, kind: MemoryKind::Ram }));
    map.retain(|r| r.len > 0);
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_sorted_and_apart() {
        for bytes in [16 << 20, 256 << 20, 3 << 30, 5 << 30] {
            let map = memory_map(bytes);
            assert!(map.windows(2).all(|w| w[0].start + w[0].len <= w[1].start), "{map:x?}");
        }
    }

    #[test]
    fn ram_is_what_was_asked_for_less_the_legacy_hole() {
        let ram: u64 = memory_map(5 << 30).iter().filter(|r| r.kind == MemoryKind::Ram).map(|r| r.len).sum();
        assert_eq!(ram, (5 << 30) - (LOW_MIB_END - EBDA_BASE));
    }

    #[test]
    fn the_ecam_window_is_reserved() {
        let ecam = memory_map(64 << 20).into_iter().find(|r| r.start == ECAM_BASE).unwrap();
        assert_eq!((ecam.len, ecam.kind), (ECAM_LEN, MemoryKind::Reserved));
    }
}
