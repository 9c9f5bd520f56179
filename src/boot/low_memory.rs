//! What lies below 1 MiB when the kernel starts: the map of it, and the parts that are the same for every kernel
//! (BIOS data area, interrupt vectors, ROM stub, GDT, page tables).
//!
//! Used by `linux`, `pvh` and `prepare`. Linux reserves or copies all of this before it uses the memory.

use super::firmware;
use super::image::Piece;
use crate::machine::pc::{BIOS_STUB_BASE, COM1, COM2, EBDA_BASE};

/// GDT (flat code 0x10 and data 0x18).
pub(super) const GDT: u64 = 0x1000;
/// Multiboot: information structure, module list, names and memory map, one page.
pub(super) const MULTIBOOT_INFO: u64 = 0x5000;
/// PVH: start info, module list and memory map, one page.
pub(super) const PVH_INFO: u64 = 0x6000;
/// Linux: the zero page (`struct boot_params`).
pub(super) const ZERO_PAGE: u64 = 0x7000;
/// PML4, PDPT and four page directories: 4 GiB identity-mapped by 2 MiB pages.
pub(super) const PAGE_TABLES: u64 = 0x8000;
/// Initial stack pointer; one page below it is free.
pub(super) const STACK_TOP: u64 = 0x1_0000;
/// The kernel's command line with its terminating zero.
pub(super) const CMDLINE: u64 = 0x2_0000;
/// Bytes at [`CMDLINE`].
pub(super) const CMDLINE_ROOM: u64 = 0x1_0000;

/// BIOS data area: fields from 0x400.
const BDA: u64 = 0x400;

const PAGE: usize = 4096;
/// How much is identity-mapped.
const MAPPED_GIB: usize = 4;
/// Present, writable, accessed, dirty (as the CPU would set them; a read-only walk is then enough).
const TABLE: u64 = 0x23;
const LARGE_PAGE: u64 = 0xe3;

/// GDT limit, inclusive.
pub(super) const GDT_LIMIT: u16 = 4 * 8 - 1;

/// GDT whose code segment at 0x10 is 64-bit or 32-bit; both segments flat, ring 0, accessed.
pub(super) fn gdt(long: bool) -> Piece {
    const CODE64: u64 = 0x00af_9b00_0000_ffff;
    const CODE32: u64 = 0x00cf_9b00_0000_ffff;
    const DATA: u64 = 0x00cf_9300_0000_ffff;
    let entries = [0, 0, if long { CODE64 } else { CODE32 }, DATA];
    Piece::new(GDT, entries.iter().flat_map(|e: &u64| e.to_le_bytes()).collect())
}

/// Page tables that map the first 4 GiB one to one. CR3 is [`PAGE_TABLES`].
pub(super) fn page_tables() -> Piece {
    let mut tables = vec![0u64; (2 + MAPPED_GIB) * PAGE / 8];
    tables[0] = (PAGE_TABLES + PAGE as u64) | TABLE;
    for gib in 0..MAPPED_GIB {
        tables[PAGE / 8 + gib] = (PAGE_TABLES + ((2 + gib) * PAGE) as u64) | TABLE;
    }
    for (n, entry) in tables[2 * PAGE / 8..].iter_mut().enumerate() {
        *entry = ((n as u64) << 21) | LARGE_PAGE;
    }
    Piece::new(PAGE_TABLES, tables.iter().flat_map(|e| e.to_le_bytes()).collect())
}

/// Interrupt vectors, BIOS data area and ROM stub. Linux finds the EBDA, and in it the MP table, by the word at
/// 0x40e, and the end of conventional memory by the word at 0x413 (arch/x86/kernel/ebda.c).
pub(super) fn bios_area() -> Vec<Piece> {
    let mut bda = vec![0u8; 0x15];
    bda[0..2].copy_from_slice(&(COM1.0 as u16).to_le_bytes());
    bda[2..4].copy_from_slice(&(COM2.0 as u16).to_le_bytes());
    bda[0x0e..0x10].copy_from_slice(&((EBDA_BASE >> 4) as u16).to_le_bytes());
    bda[0x13..0x15].copy_from_slice(&((EBDA_BASE >> 10) as u16).to_le_bytes());
    vec![
        Piece::new(0, firmware::interrupt_vectors()),
        Piece::new(BDA, bda),
        Piece::new(BIOS_STUB_BASE, firmware::ROM.to_vec()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_do_not_overlap() {
        let regions = [
            (0, 0x400),
            (BDA, 0x100),
            (GDT, u64::from(GDT_LIMIT) + 1),
            (MULTIBOOT_INFO, PAGE as u64),
            (PVH_INFO, PAGE as u64),
            (ZERO_PAGE, PAGE as u64),
            (PAGE_TABLES, ((2 + MAPPED_GIB) * PAGE) as u64),
            (STACK_TOP - PAGE as u64, PAGE as u64),
            (CMDLINE, CMDLINE_ROOM),
            (EBDA_BASE, 0x400),
            (BIOS_STUB_BASE, firmware::ROM.len() as u64),
        ];
        assert!(regions.windows(2).all(|w| w[0].0 + w[0].1 <= w[1].0), "{regions:x?}");
    }

    #[test]
    fn page_tables_map_each_address_to_itself() {
        let piece = page_tables();
        let read = |at: u64| {
            let at = (at - PAGE_TABLES) as usize;
            u64::from_le_bytes(piece.bytes()[at..at + 8].try_into().unwrap())
        };
        for addr in [0u64, 0x20_0000, 0x1234_5678, 0x4000_0000, 0xbfff_ffff, 0xffff_ffff] {
            let pml4e = read(PAGE_TABLES + (addr >> 39) * 8);
            let pdpte = read((pml4e & !0xfff) + (addr >> 30 & 0x1ff) * 8);
            let pde = read((pdpte & !0xfff) + (addr >> 21 & 0x1ff) * 8);
            assert_eq!((pde & !0x1f_ffff, pde & 0x81), (addr & !0x1f_ffff, 0x81), "{addr:#x}");
        }
    }
}
