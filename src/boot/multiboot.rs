//! Multiboot 1 (Multiboot Specification 0.6.96): 32-bit entry with 0x2BADB002 in EAX and the information structure in
//! EBX; the kernel is an ELF file, or a flat one whose header says where it goes.
//!
//! Used by `prepare`. The initrd becomes the only module. Not offered: video modes, drives, symbols, APM.

use std::sync::Arc;

use super::bytes::u32_at;
use super::cmdline;
use super::elf::{ElfKernel, check_fits};
use super::error::KernelError;
use super::image::Piece;
use super::low_memory::{self, CMDLINE, GDT, GDT_LIMIT, MULTIBOOT_INFO, STACK_TOP};
use super::memory_map::memory_map;
use super::prepare::{BootTarget, Fault, Initrd};
use crate::accel::{EntryMode, EntryState};
use crate::machine::pc::{EBDA_BASE, LOW_MIB_END};

/// What EAX says at the entry.
const BOOTED: u64 = 0x2bad_b002;

/// Header flags: the low half must be understood, the high half is optional.
const WANTS_PAGE_ALIGNED_MODULES: u32 = 1 << 0;
const WANTS_MEMORY_INFO: u32 = 1 << 1;
const WANTS_VIDEO: u32 = 1 << 2;
const HAS_ADDRESSES: u32 = 1 << 16;

/// Fields of the information structure that are valid.
const HAS_MEMORY: u32 = 1 << 0;
const HAS_CMDLINE: u32 = 1 << 2;
const HAS_MODULES: u32 = 1 << 3;
const HAS_MEMORY_MAP: u32 = 1 << 6;
const HAS_LOADER_NAME: u32 = 1 << 9;

/// Places in the page of the information structure, which itself has 116 bytes.
const MODULES: u64 = MULTIBOOT_INFO + 0x80;
const LOADER_NAME: u64 = MULTIBOOT_INFO + 0x90;
const MODULE_NAME: u64 = MULTIBOOT_INFO + 0xa0;
const MEMORY_MAP: u64 = MULTIBOOT_INFO + 0xb0;

pub(super) type Ready = (Vec<Piece>, EntryState);

/// A kernel in its place.
pub(super) struct Placed {
    pub(super) pieces: Vec<Piece>,
    pub(super) end: u64,
    pub(super) entry: u64,
}

/// Where a header says that its kernel goes.
pub(super) struct Addresses {
    /// Of the header itself.
    pub(super) header: u64,
    pub(super) load: u64,
    /// 0: all of the file.
    pub(super) load_end: u64,
    /// 0: nothing behind what is loaded.
    pub(super) bss_end: u64,
    pub(super) entry: u64,
}

/// An ELF kernel whose multiboot header is at `header_at` in the file. Addresses in the header win over the ELF's
/// (specification section 3.1.3).
///
/// # Errors
/// A [`Fault`] of the kernel, the command line or the initrd.
pub(super) fn elf(
    file: Vec<u8>,
    header_at: usize,
    elf: ElfKernel,
    initrd: Option<Initrd>,
    target: &BootTarget,
) -> Result<Ready, Fault> {
    if check_flags(&file, header_at)? & HAS_ADDRESSES != 0 {
        return finish(place_by_header(file, header_at, target)?, initrd, target);
    }
    let pieces = elf.place(&Arc::new(file), target.low_ram_end())?;
    finish(Placed { pieces, end: elf.end(), entry: elf.entry }, initrd, target)
}

/// A flat kernel whose multiboot header is at `header_at` in the file.
///
/// # Errors
/// A [`Fault`] of the kernel, the command line or the initrd.
pub(super) fn flat(
    file: Vec<u8>,
    header_at: usize,
    initrd: Option<Initrd>,
    target: &BootTarget,
) -> Result<Ready, Fault> {
    if check_flags(&file, header_at)? & HAS_ADDRESSES == 0 {
        return Err(damaged("its multiboot header has no addresses, and it is no ELF file").into());
    }
    finish(place_by_header(file, header_at, target)?, initrd, target)
}

pub(super) fn damaged(why: &str) -> KernelError {
    KernelError::Inconsistent(why.into())
}

/// A video mode is a wish that cannot be fulfilled here; the information structure then simply has none.
fn check_flags(file: &[u8], header_at: usize) -> Result<u32, KernelError> {
    const KNOWN: u32 = WANTS_PAGE_ALIGNED_MODULES | WANTS_MEMORY_INFO | WANTS_VIDEO;
    let flags = u32_at(file, header_at + 4).unwrap_or(0);
    match flags & 0xffff & !KNOWN {
        0 => Ok(flags),
        unknown => Err(KernelError::Unsupported(format!(
            "its multiboot header demands features {unknown:#x} that the specification does not know"
        ))),
    }
}

/// Loads by header_addr, load_addr, load_end_addr, bss_end_addr and entry_addr (specification section 3.1.3).
fn place_by_header(file: Vec<u8>, header_at: usize, target: &BootTarget) -> Result<Placed, KernelError> {
    let mut fields = [0u64; 5];
    for (n, field) in fields.iter_mut().enumerate() {
        *field = u32_at(&file, header_at + 12 + 4 * n).map(u64::from).ok_or(KernelError::Truncated {
            what: "its multiboot header",
            need: header_at as u64 + 32,
            have: file.len() as u64,
        })?;
    }
    let [header, load, load_end, bss_end, entry] = fields;
    place_at(file, header_at, &Addresses { header, load, load_end, bss_end, entry }, target)
}

/// Loads the part of `file` that `to` names; its header is at `header_at`.
///
/// # Errors
/// [`KernelError`] when the addresses contradict each other or the file, or there is no RAM.
pub(super) fn place_at(
    file: Vec<u8>,
    header_at: usize,
    to: &Addresses,
    target: &BootTarget,
) -> Result<Placed, KernelError> {
    let &Addresses { header, load, load_end, bss_end, entry } = to;
    let before = header
        .checked_sub(load)
        .ok_or_else(|| damaged("its multiboot header lies before its load address"))?;
    let start = (header_at as u64)
        .checked_sub(before)
        .ok_or_else(|| damaged("its multiboot header puts the load address before the file"))?;
    let have = file.len() as u64;
    let len = if load_end == 0 { have - start } else { load_end.saturating_sub(load) };
    if start + len > have {
        return Err(KernelError::Truncated { what: "the kernel", need: start + len, have });
    }
    let end = bss_end.max(load + len);
    check_fits("the kernel", load, end, target.low_ram_end())?;
    if !(load..end).contains(&entry) {
        return Err(KernelError::Inconsistent(format!("its entry {entry:#x} is outside {load:#x}-{end:#x}")));
    }
    let window = start as usize..(start + len) as usize;
    Ok(Placed { pieces: vec![Piece::window(load, &Arc::new(file), window)], end, entry })
}

fn finish(kernel: Placed, initrd: Option<Initrd>, target: &BootTarget) -> Result<Ready, Fault> {
    let Placed { mut pieces, end, entry } = kernel;
    pieces.push(cmdline::place(&target.cmdline, cmdline::DEFAULT_MAX)?);
    let map = memory_map_entries(target);
    let mut info = [0u32; 29];
    info[0] = HAS_MEMORY | HAS_CMDLINE | HAS_MEMORY_MAP | HAS_LOADER_NAME;
    info[1] = (EBDA_BASE >> 10) as u32;
    info[2] = (target.low_ram_end().saturating_sub(LOW_MIB_END) >> 10) as u32;
    info[4] = CMDLINE as u32;
    info[11] = map.len() as u32;
    info[12] = MEMORY_MAP as u32;
    info[16] = LOADER_NAME as u32;
    if let Some(initrd) = initrd {
        let piece = initrd.place_low(end, target.low_ram_end())?;
        let module =
            [piece.addr() as u32, (piece.addr() + piece.bytes().len() as u64) as u32, MODULE_NAME as u32, 0];
        info[0] |= HAS_MODULES;
        info[5] = 1;
        info[6] = MODULES as u32;
        pieces.push(Piece::new(MODULES, words(&module)));
        pieces.push(Piece::new(MODULE_NAME, b"initrd\0".to_vec()));
        pieces.push(piece);
    }
    pieces.push(Piece::new(MULTIBOOT_INFO, words(&info)));
    pieces.push(Piece::new(LOADER_NAME, b"minivmm\0".to_vec()));
    pieces.push(Piece::new(MEMORY_MAP, map));
    pieces.push(low_memory::gdt(false));
    Ok((pieces, entry_state(entry, BOOTED)))
}

/// 32-bit protected mode, flat segments, interrupts off; `magic` is what EAX says.
pub(super) fn entry_state(entry: u64, magic: u64) -> EntryState {
    EntryState {
        mode: EntryMode::Protected,
        rip: entry,
        rsp: STACK_TOP,
        rsi: 0,
        rbx: MULTIBOOT_INFO,
        rax: magic,
        gdt_base: GDT,
        gdt_limit: GDT_LIMIT,
    }
}

/// Each entry begins with its size, which does not count itself.
fn memory_map_entries(target: &BootTarget) -> Vec<u8> {
    let entry = |r: &super::MemoryRange| {
        let [low, high] = [r.start, r.len].map(|v| [v as u32, (v >> 32) as u32]);
        words(&[20, low[0], low[1], high[0], high[1], r.kind as u32])
    };
    memory_map(target.ram_bytes).iter().flat_map(entry).collect()
}

pub(super) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}
