//! Multiboot 2 (Multiboot2 Specification 2.0): 32-bit entry with 0x36D76289 in EAX and the boot information in EBX, a
//! list of tags; the kernel is an ELF file, or a flat one whose header says where it goes.
//!
//! Used by `prepare`. The initrd becomes the only module. There is no firmware, no disk, no display and no APM on this
//! machine, so there are no tags about them; symbols (tag 9) are not offered.

use std::sync::Arc;

use super::bytes::{align_up, u16_at, u32_at};
use super::cmdline;
use super::elf::{ElfKernel, check_fits};
use super::error::KernelError;
use super::image::Piece;
use super::low_memory::{self, MULTIBOOT_INFO};
use super::memory_map::memory_map;
use super::multiboot::{Addresses, Placed, Ready, damaged, entry_state, place_at, words};
use super::prepare::{BootTarget, Fault, Initrd};
use crate::machine::pc::{EBDA_BASE, LOW_MIB_END};

/// What EAX says at the entry (section 3.3).
const BOOTED: u64 = 0x36d7_6289;
/// Header field `architecture`: 32-bit protected mode of i386.
const I386: u32 = 0;
/// Address tag: the file is loaded from its beginning.
const FROM_THE_BEGINNING: u32 = u32::MAX;
/// An RSDP of ACPI 2.0 and later.
const RSDP_LEN: usize = 36;

/// Header tags (section 3.1).
mod header_tag {
    pub(super) const END: u16 = 0;
    pub(super) const INFORMATION_REQUEST: u16 = 1;
    pub(super) const ADDRESS: u16 = 2;
    pub(super) const ENTRY: u16 = 3;
    pub(super) const CONSOLE: u16 = 4;
    pub(super) const FRAMEBUFFER: u16 = 5;
    pub(super) const MODULE_ALIGN: u16 = 6;
    pub(super) const EFI_BOOT_SERVICES: u16 = 7;
    pub(super) const EFI_ENTRY_I386: u16 = 8;
    pub(super) const EFI_ENTRY_AMD64: u16 = 9;
    pub(super) const RELOCATABLE: u16 = 10;
    /// Flag of any tag: may be ignored by who does not know it.
    pub(super) const OPTIONAL: u16 = 1;
}

/// Boot information tags (section 3.6).
mod info_tag {
    pub(super) const END: u32 = 0;
    pub(super) const COMMAND_LINE: u32 = 1;
    pub(super) const LOADER_NAME: u32 = 2;
    pub(super) const MODULE: u32 = 3;
    pub(super) const MEMORY: u32 = 4;
    pub(super) const MEMORY_MAP: u32 = 6;
    pub(super) const RSDP: u32 = 15;
    pub(super) const LOAD_BASE: u32 = 21;
    /// The last one that the specification knows.
    pub(super) const LAST: u32 = LOAD_BASE;
}

/// What a header asks for.
#[derive(Debug, Default)]
struct Header {
    /// header_addr, load_addr, load_end_addr, bss_end_addr.
    addresses: Option<[u32; 4]>,
    entry: Option<u32>,
    relocatable: Option<Relocatable>,
}

/// Where a kernel may lie that need not lie where it is linked.
#[derive(Debug, Clone, Copy)]
struct Relocatable {
    min: u64,
    max: u64,
    align: u64,
    highest: bool,
}

/// An ELF kernel whose multiboot 2 header is at `header_at` in the file. Addresses in the header win over the ELF's
/// (section 3.1.5), an entry of its own over the ELF's entry (section 3.1.7).
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
    let header = read_header(&file, header_at)?;
    if header.addresses.is_some() {
        return finish(
            place_by_header(file, header_at, &header, target)?,
            header.relocatable,
            initrd,
            target,
        );
    }
    let entry = header.entry.map_or(elf.entry, u64::from);
    let bounds = elf.start()..elf.end();
    let shift = match header.relocatable {
        Some(allowed) => allowed.base(bounds.start, bounds.end, target)?.wrapping_sub(bounds.start),
        None => 0,
    };
    // Pieces are checked where they would lie unmoved only if that is where they lie.
    let file = Arc::new(file);
    let pieces = if shift == 0 { elf.place(&file, target.low_ram_end())? } else { elf.unplaced(&file) };
    let moved = |piece: Piece| {
        let addr = piece.addr().wrapping_add(shift);
        piece.at(addr)
    };
    let placed = Placed {
        pieces: pieces.into_iter().map(moved).collect(),
        end: bounds.end.wrapping_add(shift),
        entry: entry.wrapping_add(shift),
    };
    finish(placed, header.relocatable, initrd, target)
}

/// A flat kernel.
///
/// # Errors
/// A [`Fault`] of the kernel, the command line or the initrd.
pub(super) fn flat(
    file: Vec<u8>,
    header_at: usize,
    initrd: Option<Initrd>,
    target: &BootTarget,
) -> Result<Ready, Fault> {
    let header = read_header(&file, header_at)?;
    if header.addresses.is_none() {
        return Err(damaged("its multiboot 2 header has no address tag, and it is no ELF file").into());
    }
    finish(place_by_header(file, header_at, &header, target)?, header.relocatable, initrd, target)
}

/// Walks the tags of the header; those that must be understood and are not end it.
fn read_header(file: &[u8], at: usize) -> Result<Header, KernelError> {
    let word = |at: usize| u32_at(file, at);
    if word(at + 4) != Some(I386) {
        return Err(unsupported("is for another architecture than i386"));
    }
    let end = word(at + 8).and_then(|len| at.checked_add(len as usize)).filter(|&end| end <= file.len());
    let end = end.ok_or_else(|| damaged("its multiboot 2 header reaches beyond the file"))?;
    let mut header = Header::default();
    let mut tag = at + 16;
    loop {
        let (Some(kind), Some(flags), Some(size)) = (u16_at(file, tag), u16_at(file, tag + 2), word(tag + 4))
        else {
            return Err(damaged("its multiboot 2 header has no end tag"));
        };
        let size = size as usize;
        if size < 8 || tag.checked_add(size).is_none_or(|after| after > end) {
            return Err(damaged("a tag of its multiboot 2 header reaches beyond the header"));
        }
        if kind == header_tag::END {
            return Ok(header);
        }
        let body = &file[tag + 8..tag + size];
        read_tag(&mut header, kind, flags & header_tag::OPTIONAL != 0, body)?;
        tag += size.next_multiple_of(8);
    }
}

fn read_tag(header: &mut Header, kind: u16, optional: bool, body: &[u8]) -> Result<(), KernelError> {
    let short = || damaged("a tag of its multiboot 2 header is too short");
    let word = |n: usize| u32_at(body, 4 * n).ok_or_else(short);
    match kind {
        header_tag::INFORMATION_REQUEST => {
            // What is known but not on this machine is simply absent.
            let unknown = body.chunks_exact(4).filter_map(|request| u32_at(request, 0));
            if let Some(unknown) = unknown.into_iter().find(|&tag| tag > info_tag::LAST && !optional) {
                return Err(unsupported(&format!("demands boot information of type {unknown}")));
            }
        }
        header_tag::ADDRESS => header.addresses = Some([word(0)?, word(1)?, word(2)?, word(3)?]),
        header_tag::ENTRY => header.entry = Some(word(0)?),
        // Bit 0: a console must be there.
        header_tag::CONSOLE if word(0)? & 1 != 0 && !optional => {
            return Err(unsupported("demands a console that it can draw on, and there is no display"));
        }
        header_tag::RELOCATABLE => {
            header.relocatable = Some(relocatable([word(0)?, word(1)?, word(2)?, word(3)?])?)
        }
        // Wishes for a display, modules on page boundaries (they are), and how to be entered by EFI firmware.
        header_tag::CONSOLE
        | header_tag::FRAMEBUFFER
        | header_tag::MODULE_ALIGN
        | header_tag::EFI_BOOT_SERVICES
        | header_tag::EFI_ENTRY_I386
        | header_tag::EFI_ENTRY_AMD64 => {}
        _ if optional => {}
        _ => return Err(unsupported(&format!("demands feature {kind}"))),
    }
    Ok(())
}

fn unsupported(what: &str) -> KernelError {
    KernelError::Unsupported(format!("its multiboot 2 header {what}"))
}

/// Section 3.1.14.
fn relocatable([min, max, align, preference]: [u32; 4]) -> Result<Relocatable, KernelError> {
    const HIGHEST: u32 = 2;
    if !align.is_power_of_two() || min > max {
        return Err(damaged("the relocatable tag of its multiboot 2 header contradicts itself"));
    }
    Ok(Relocatable { min: min.into(), max: max.into(), align: align.into(), highest: preference == HIGHEST })
}

impl Relocatable {
    /// Where a kernel linked at `start..end` begins: where it is linked if that is allowed and there is RAM.
    fn base(self, start: u64, end: u64, target: &BootTarget) -> Result<u64, KernelError> {
        let (len, ram_end) = (end - start, target.low_ram_end());
        let allowed = |at: &u64| {
            let last = at.saturating_add(len.saturating_sub(1));
            *at >= self.min && last <= self.max && check_fits("the kernel", *at, *at + len, ram_end).is_ok()
        };
        let lowest = align_up(self.min.max(LOW_MIB_END), self.align);
        let top = ram_end.min(self.max.saturating_add(1));
        let highest = top.checked_sub(len).map(|at| at & !(self.align - 1));
        let [first, second] = if self.highest { [highest, lowest] } else { [lowest, highest] };
        // Fewer surprises where it is linked, which is what a debugger expects.
        let places = [Some(start).filter(|at| at % self.align == 0), first, second];
        places.into_iter().flatten().find(allowed).ok_or_else(|| {
            let low = self.min.max(LOW_MIB_END);
            KernelError::DoesNotFit {
                what: "the kernel",
                start: low,
                end: low.saturating_add(len),
                low,
                high: top,
            }
        })
    }
}

/// Loads by the address tag and the entry tag (sections 3.1.5 and 3.1.7).
fn place_by_header(
    file: Vec<u8>,
    header_at: usize,
    header: &Header,
    target: &BootTarget,
) -> Result<Placed, KernelError> {
    let entry =
        header.entry.ok_or_else(|| damaged("its multiboot 2 header has an address tag and no entry tag"))?;
    let [address, load, load_end, bss_end] = header.addresses.unwrap_or_default();
    let load = match load {
        FROM_THE_BEGINNING => u64::from(address)
            .checked_sub(header_at as u64)
            .ok_or_else(|| damaged("its multiboot 2 header puts the file's beginning below 0"))?,
        load => load.into(),
    };
    let [header, load_end, bss_end, entry] = [address, load_end, bss_end, entry].map(u64::from);
    place_at(file, header_at, &Addresses { header, load, load_end, bss_end, entry }, target)
}

/// The boot information: tags one behind the other, each at a multiple of 8.
struct Information(Vec<u8>);

impl Information {
    /// Room for total_size and a reserved word.
    fn new() -> Self {
        Self(vec![0; 8])
    }

    /// Adds a tag; the size does not count the padding behind it. Returns where its content is.
    fn tag(&mut self, kind: u32, content: &[u8]) -> u64 {
        self.0.extend(words(&[kind, 8 + content.len() as u32]));
        let at = MULTIBOOT_INFO + self.0.len() as u64;
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        at
    }

    fn text(&mut self, kind: u32, before: &[u32], text: &str) {
        let content = [words(before), text.as_bytes().to_vec(), vec![0]].concat();
        self.tag(kind, &content);
    }

    fn piece(mut self) -> Piece {
        self.tag(info_tag::END, &[]);
        let total = self.0.len() as u32;
        self.0[..4].copy_from_slice(&total.to_le_bytes());
        Piece::new(MULTIBOOT_INFO, self.0)
    }
}

fn finish(
    kernel: Placed,
    relocatable: Option<Relocatable>,
    initrd: Option<Initrd>,
    target: &BootTarget,
) -> Result<Ready, Fault> {
    let Placed { mut pieces, end, entry } = kernel;
    // Checked like any command line; this protocol keeps it among the tags.
    cmdline::place(&target.cmdline, cmdline::DEFAULT_MAX)?;
    let base = pieces.iter().map(Piece::addr).min().unwrap_or(0);
    let mut info = Information::new();
    info.text(info_tag::COMMAND_LINE, &[], &target.cmdline);
    info.text(info_tag::LOADER_NAME, &[], "minivmm");
    if let Some(initrd) = initrd {
        let piece = initrd.place_low(end, target.low_ram_end())?;
        let range = [piece.addr() as u32, (piece.addr() + piece.bytes().len() as u64) as u32];
        info.text(info_tag::MODULE, &range, "initrd");
        pieces.push(piece);
    }
    let upper = target.low_ram_end().saturating_sub(LOW_MIB_END) >> 10;
    info.tag(info_tag::MEMORY, &words(&[(EBDA_BASE >> 10) as u32, upper as u32]));
    info.tag(info_tag::MEMORY_MAP, &memory_map_entries(target));
    if relocatable.is_some() {
        info.tag(info_tag::LOAD_BASE, &words(&[base as u32]));
    }
    if target.rsdp != 0 {
        let at = info.tag(info_tag::RSDP, &[0; RSDP_LEN]);
        let information = info.piece();
        pieces.extend([information, Piece::copied(at, target.rsdp, RSDP_LEN)]);
    } else {
        pieces.push(info.piece());
    }
    pieces.push(low_memory::gdt(false));
    Ok((pieces, entry_state(entry, BOOTED)))
}

/// entry_size, entry_version, then base, length, type and a reserved word for each range.
fn memory_map_entries(target: &BootTarget) -> Vec<u8> {
    let entry = |r: &super::MemoryRange| {
        let [low, high] = [r.start, r.len].map(|v| [v as u32, (v >> 32) as u32]);
        words(&[low[0], low[1], high[0], high[1], r.kind as u32, 0])
    };
    let entries = memory_map(target.ram_bytes).iter().flat_map(entry).collect();
    [words(&[24, 0]), entries].concat()
}
