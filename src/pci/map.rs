//! Where this machine's PCI may be: the windows BARs are given from, the addresses they may be moved to, and
//! which interrupt a pin reaches. Filled in by `machine::pc`.

use super::BarKind;

/// A range of addresses or ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First address.
    pub base: u64,
    /// Length in bytes.
    pub len: u64,
}

impl Window {
    /// Whether `len` bytes at `base` lie inside.
    pub fn holds(&self, base: u64, len: u64) -> bool {
        base >= self.base && len <= self.len && base - self.base <= self.len - len
    }
}

/// The machine's PCI address and interrupt map.
#[derive(Debug, Clone, Copy)]
pub struct PciMap {
    /// Ports that BARs are given from, and that ACPI announces.
    pub io: Window,
    /// Memory that BARs are given from, and that ACPI announces.
    pub mem: Window,
    /// Ports that a guest may move a BAR to.
    pub io_decode: Window,
    /// Memory below 4 GiB that a guest may move a BAR to. Devices in it win over BARs.
    pub mem_decode: Window,
    /// Memory above 4 GiB that a guest may move a 64-bit BAR to: begins behind RAM.
    pub mem64_decode: Window,
    /// Global system interrupt of (slot, pin), pin 1 = INTA#.
    pub intx_gsi: fn(u8, u8) -> u32,
}

impl PciMap {
    /// Whether a BAR of `kind` and `size` bytes decodes at `base` if no device is there.
    pub fn may_decode(&self, kind: BarKind, base: u64, size: u64) -> bool {
        match kind {
            BarKind::Io => self.io_decode.holds(base, size),
            BarKind::Mem32 | BarKind::Rom => self.mem_decode.holds(base, size),
            BarKind::Mem64 => self.mem_decode.holds(base, size) || self.mem64_decode.holds(base, size),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_holds_only_what_lies_wholly_inside() {
        let w = Window { base: 0x1000, len: 0x100 };
        assert!(w.holds(0x1000, 0x100) && w.holds(0x10ff, 1));
        assert!(!w.holds(0xfff, 2) && !w.holds(0x10ff, 2) && !w.holds(0x1100, 1));
        assert!(!w.holds(u64::MAX, 2) && !w.holds(0x1000, u64::MAX));
        let top = Window { base: u64::MAX - 0xf, len: 0x10 };
        assert!(top.holds(u64::MAX, 1) && !top.holds(0, 1));
    }
}
