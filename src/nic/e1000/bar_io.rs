//! The I/O BAR: IOADDR and IODATA, a window to the whole register file (manual, section 13.1.2).
//!
//! Drivers reset the part through it, because the part cannot acknowledge the memory write that resets it.
//! Only dwords count; everything behind IODATA reads 0.

use std::sync::atomic::Ordering;

use super::E1000;
use super::regs::table::BAR0_LEN;
use crate::bus::Width;

/// Bytes of the I/O BAR.
pub const BAR_IO_LEN: u64 = 64;

const IOADDR: u64 = 0;
const IODATA: u64 = 4;
/// Bits 31:20 of IOADDR are hard-wired to 0.
const IOADDR_MASK: u32 = 0x000f_ffff;

impl E1000 {
    /// A read in the I/O BAR.
    pub(super) fn io_read(&self, offset: u64, width: Width) -> u64 {
        let ioaddr = self.ioaddr().load(Ordering::SeqCst);
        match (offset & !3, width) {
            (IOADDR, _) => u64::from(ioaddr) >> (8 * (offset & 3)) & width.all_ones(),
            (IODATA, Width::Dword) if offset == IODATA && ioaddr < BAR0_LEN => {
                u64::from(self.read_register(ioaddr & !3))
            }
            _ => 0,
        }
    }

    /// A write in the I/O BAR.
    pub(super) fn io_write(&self, offset: u64, value: u64, width: Width) {
        if width != Width::Dword {
            return;
        }
        match offset {
            IOADDR => self.ioaddr().store(value as u32 & IOADDR_MASK, Ordering::SeqCst),
            IODATA => {
                let ioaddr = self.ioaddr().load(Ordering::SeqCst);
                if ioaddr < BAR0_LEN {
                    self.write_register(ioaddr & !3, value as u32);
                }
            }
            _ => {}
        }
    }
}
