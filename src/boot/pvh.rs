//! PVH, the direct boot protocol of Xen that Linux and BSD kernels share (docs/misc/pvh.pandoc and
//! public/arch-x86/hvm/start_info.h of Xen): 32-bit entry, EBX points at the start info.
//!
//! Used by `prepare` for ELF kernels with a PVH note.

use linux_loader::loader::elf::start_info::{
    XEN_HVM_START_MAGIC_VALUE, hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use vm_memory::ByteValued;

use super::cmdline;
use super::image::Piece;
use super::low_memory::{self, CMDLINE, GDT, GDT_LIMIT, PVH_INFO, STACK_TOP};
use super::memory_map::memory_map;
use super::prepare::{BootTarget, Fault, Initrd};
use crate::accel::{EntryMode, EntryState};

const MODULES: u64 = PVH_INFO + 0x40;
const MEMORY_MAP: u64 = PVH_INFO + 0x80;

/// Adds start info, command line and initrd to the kernel's `pieces`, which end at `end`.
///
/// # Errors
/// A [`Fault`] of the command line or the initrd.
pub(super) fn finish(
    mut pieces: Vec<Piece>,
    (entry, end): (u64, u64),
    initrd: Option<Initrd>,
    target: &BootTarget,
) -> Result<(Vec<Piece>, EntryState), Fault> {
    pieces.push(cmdline::place(&target.cmdline, cmdline::DEFAULT_MAX)?);
    let mut info = hvm_start_info {
        magic: XEN_HVM_START_MAGIC_VALUE,
        version: 1,
        cmdline_paddr: CMDLINE,
        rsdp_paddr: target.rsdp,
        memmap_paddr: MEMORY_MAP,
        ..Default::default()
    };
    if let Some(initrd) = initrd {
        let piece = initrd.place(end, target.low_ram_end())?;
        let module =
            hvm_modlist_entry { paddr: piece.addr(), size: piece.bytes().len() as u64, ..Default::default() };
        info.nr_modules = 1;
        info.modlist_paddr = MODULES;
        pieces.push(Piece::new(MODULES, module.as_slice().to_vec()));
        pieces.push(piece);
    }
    let map = memory_map_table(target);
    info.memmap_entries = (map.len() / size_of::<hvm_memmap_table_entry>()) as u32;
    pieces.push(Piece::new(MEMORY_MAP, map));
    pieces.push(Piece::new(PVH_INFO, info.as_slice().to_vec()));
    pieces.push(low_memory::gdt(false));
    let state = EntryState {
        mode: EntryMode::Protected,
        rip: entry,
        rsp: STACK_TOP,
        rsi: 0,
        rbx: PVH_INFO,
        rax: 0,
        gdt_base: GDT,
        gdt_limit: GDT_LIMIT,
    };
    Ok((pieces, state))
}

fn memory_map_table(target: &BootTarget) -> Vec<u8> {
    let entry = |r: &super::MemoryRange| hvm_memmap_table_entry {
        addr: r.start,
        size: r.len,
        type_: r.kind as u32,
        reserved: 0,
    };
    memory_map(target.ram_bytes).iter().flat_map(|r| entry(r).as_slice().to_vec()).collect()
}
