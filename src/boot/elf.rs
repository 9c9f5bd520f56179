//! Reads an ELF kernel, 64-bit or 32-bit: its loadable segments, its entry and its PVH note.
//!
//! Used by `prepare` for a vmlinux and by `bzimage` for the kernel inside. Every length and offset is a stranger's;
//! nothing is copied here, segments are windows into the file. System V gABI chapters 4 and 5; Xen's public/elfnote.h.

use std::ops::Range;
use std::sync::Arc;

use linux_loader::elf::{
    ET_DYN, ET_EXEC, ET_REL, Elf64_Ehdr, Elf64_Phdr, PT_INTERP, PT_LOAD, PT_NOTE, PT_TLS,
};
use vm_memory::ByteValued;

use super::bytes::{align_up, array_at, u16_at, u32_at};
use super::detect::ELFCLASS32;
use super::error::KernelError;
use super::image::Piece;
use crate::machine::pc::{LOW_MIB_END, LOW_RAM_END};

/// XEN_ELFNOTE_PHYS32_ENTRY: where a PVH kernel is entered.
const PHYS32_ENTRY: u32 = 18;

/// A part of the file that belongs in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    /// Guest physical address.
    paddr: u64,
    /// Virtual address, by which the entry may be given.
    vaddr: u64,
    /// Bytes it takes in memory; what the file does not have is zero.
    mem_len: u64,
    /// Its bytes in the file.
    file: Range<usize>,
}

impl Segment {
    fn end(&self) -> u64 {
        self.paddr + self.mem_len
    }
}

/// A checked ELF kernel: at least one segment, none overlapping, all inside the file, entries inside a segment.
#[derive(Debug)]
pub(super) struct ElfKernel {
    segments: Vec<Segment>,
    /// ELF64.
    pub(super) long: bool,
    /// Physical address of the ELF entry.
    pub(super) entry: u64,
    /// Physical address of the 32-bit PVH entry, if the kernel has one.
    pub(super) pvh_entry: Option<u64>,
}

/// Reads and checks the headers of `file`.
///
/// # Errors
/// [`KernelError`] when it is truncated, contradicts itself or is no kernel.
pub(super) fn parse(file: &[u8]) -> Result<ElfKernel, KernelError> {
    let header = read_header(file)?;
    check_type(header.e_type)?;
    let programs = program_headers(file, &header)?;
    if programs.iter().any(|p| matches!(p.p_type, PT_INTERP | PT_TLS)) {
        return Err(KernelError::NotAKernel { what: "a program that runs under Linux".into(), hint: "" });
    }
    let segments = segments(file, &programs)?;
    let entry = physical_entry(&segments, header.e_entry)
        .ok_or_else(|| damaged(format!("its entry {:#x} is in no segment", header.e_entry)))?;
    let pvh_entry = pvh_note(file, &programs)?;
    if let Some(at) = pvh_entry.filter(|&at| !segments.iter().any(|s| (s.paddr..s.end()).contains(&at))) {
        return Err(damaged(format!("its PVH entry {at:#x} is in no segment")));
    }
    Ok(ElfKernel { long: file.get(4) != Some(&ELFCLASS32), segments, entry, pvh_entry })
}

impl ElfKernel {
    /// One past the last byte that the kernel takes in memory.
    pub(super) fn end(&self) -> u64 {
        self.segments.iter().map(Segment::end).max().unwrap_or(0)
    }

    /// The first byte that the kernel takes in memory.
    pub(super) fn start(&self) -> u64 {
        self.segments.iter().map(|s| s.paddr).min().unwrap_or(0)
    }

    /// One past the last byte of the file that is loaded; symbols and debug information follow.
    pub(super) fn file_end(&self) -> usize {
        self.segments.iter().map(|s| s.file.end).max().unwrap_or(0)
    }

    /// The segments as pieces of `file`, in a machine whose low RAM ends at `ram_end`.
    ///
    /// # Errors
    /// [`KernelError::DoesNotFit`].
    pub(super) fn place(&self, file: &Arc<Vec<u8>>, ram_end: u64) -> Result<Vec<Piece>, KernelError> {
        for segment in &self.segments {
            check_fits("an ELF segment", segment.paddr, segment.end(), ram_end)?;
        }
        Ok(self.unplaced(file))
    }

    /// The segments as pieces of `file` at the addresses they are linked for, wherever that is.
    pub(super) fn unplaced(&self, file: &Arc<Vec<u8>>) -> Vec<Piece> {
        self.segments.iter().map(|s| Piece::window(s.paddr, file, s.file.clone())).collect()
    }
}

/// Whether `start..end` is RAM where a kernel may be: above the legacy 1 MiB, below `ram_end`.
///
/// # Errors
/// [`KernelError::DoesNotFit`].
pub(super) fn check_fits(what: &'static str, start: u64, end: u64, ram_end: u64) -> Result<(), KernelError> {
    let high = ram_end.min(LOW_RAM_END);
    if start >= LOW_MIB_END && end <= high {
        return Ok(());
    }
    Err(KernelError::DoesNotFit { what, start, end, low: LOW_MIB_END, high })
}

fn damaged(why: String) -> KernelError {
    KernelError::Inconsistent(why)
}

fn read_struct<T: ByteValued + Default>(file: &[u8], at: u64, what: &'static str) -> Result<T, KernelError> {
    let mut value = T::default();
    let bytes = value.as_mut_slice();
    let need = at.saturating_add(bytes.len() as u64);
    let source = usize::try_from(at).ok().and_then(|at| file.get(at..)?.get(..bytes.len()));
    bytes.copy_from_slice(source.ok_or(truncated(file, what, need))?);
    Ok(value)
}

/// The ELF header; a 32-bit one is widened.
fn read_header(file: &[u8]) -> Result<Elf64_Ehdr, KernelError> {
    const WHAT: &str = "its ELF header";
    if file.get(4) != Some(&ELFCLASS32) {
        return read_struct(file, 0, WHAT);
    }
    let raw: [u8; 52] = array_at(file, 0).ok_or(truncated(file, WHAT, 52))?;
    let half = |at| u16_at(&raw, at).unwrap_or(0);
    let word = |at| u64::from(u32_at(&raw, at).unwrap_or(0));
    Ok(Elf64_Ehdr {
        e_type: half(16),
        e_entry: word(24),
        e_phoff: word(28),
        e_phentsize: half(42),
        e_phnum: half(44),
        ..Default::default()
    })
}

/// A 32-bit program header at `at`, widened.
fn read_program32(file: &[u8], at: u64) -> Result<Elf64_Phdr, KernelError> {
    let raw = usize::try_from(at).ok().and_then(|at| array_at::<32>(file, at));
    let raw = raw.ok_or(truncated(file, "its program header table", at.saturating_add(32)))?;
    let word = |at| u32_at(&raw, at).unwrap_or(0);
    let [p_offset, p_vaddr, p_paddr, p_filesz, p_memsz] = [4, 8, 12, 16, 20].map(|at| u64::from(word(at)));
    let p_align = u64::from(word(28));
    Ok(Elf64_Phdr {
        p_type: word(0),
        p_flags: word(24),
        p_offset,
        p_vaddr,
        p_paddr,
        p_filesz,
        p_memsz,
        p_align,
    })
}

fn truncated(file: &[u8], what: &'static str, need: u64) -> KernelError {
    KernelError::Truncated { what, need, have: file.len() as u64 }
}

fn check_type(e_type: u16) -> Result<(), KernelError> {
    match e_type {
        ET_EXEC | ET_DYN => Ok(()),
        ET_REL => Err(KernelError::NotAKernel {
            what: "an ELF object file (a kernel module?)".into(),
            hint: "modules are loaded by the guest",
        }),
        other => Err(KernelError::NotAKernel {
            what: format!("an ELF file of type {other} (a core dump?)"),
            hint: "",
        }),
    }
}

fn program_headers(file: &[u8], header: &Elf64_Ehdr) -> Result<Vec<Elf64_Phdr>, KernelError> {
    let short = file.get(4) == Some(&ELFCLASS32);
    let size = if short { 32 } else { size_of::<Elf64_Phdr>() };
    if header.e_phnum > 0 && usize::from(header.e_phentsize) != size {
        return Err(damaged(format!(
            "its program headers have {} bytes instead of {size}",
            header.e_phentsize
        )));
    }
    let read = |n: u16| {
        let at = header.e_phoff.saturating_add(u64::from(n) * size as u64);
        if short { read_program32(file, at) } else { read_struct(file, at, "its program header table") }
    };
    (0..header.e_phnum).map(read).collect()
}

fn segments(file: &[u8], programs: &[Elf64_Phdr]) -> Result<Vec<Segment>, KernelError> {
    let mut segments: Vec<Segment> = programs
        .iter()
        .filter(|p| p.p_type == PT_LOAD && p.p_memsz > 0)
        .map(|p| segment(file, p))
        .collect::<Result<_, _>>()?;
    if segments.is_empty() {
        return Err(damaged("it has no loadable segment".into()));
    }
    segments.sort_by_key(|s| s.paddr);
    match segments.windows(2).find(|w| w[0].end() > w[1].paddr) {
        None => Ok(segments),
        Some(w) => Err(damaged(format!("its segments at {:#x} and {:#x} overlap", w[0].paddr, w[1].paddr))),
    }
}

fn segment(file: &[u8], program: &Elf64_Phdr) -> Result<Segment, KernelError> {
    let &Elf64_Phdr { p_offset, p_paddr: paddr, p_vaddr: vaddr, p_filesz, p_memsz: mem_len, .. } = program;
    if p_filesz > mem_len {
        return Err(damaged(format!("its segment at {paddr:#x} has more bytes in the file than in memory")));
    }
    if paddr.checked_add(mem_len).is_none() {
        return Err(damaged(format!("its segment at {paddr:#x} wraps around the address space")));
    }
    let file = file_range(file, p_offset, p_filesz, "an ELF segment")?;
    Ok(Segment { paddr, vaddr, mem_len, file })
}

fn file_range(file: &[u8], at: u64, len: u64, what: &'static str) -> Result<Range<usize>, KernelError> {
    let need = at.saturating_add(len);
    if need > file.len() as u64 {
        return Err(truncated(file, what, need));
    }
    Ok(at as usize..need as usize)
}

/// The ELF entry as a physical address: Linux gives that, other kernels a virtual one.
fn physical_entry(segments: &[Segment], entry: u64) -> Option<u64> {
    if segments.iter().any(|s| (s.paddr..s.end()).contains(&entry)) {
        return Some(entry);
    }
    let inside = segments.iter().find(|s| entry.checked_sub(s.vaddr).is_some_and(|at| at < s.mem_len))?;
    Some(inside.paddr + (entry - inside.vaddr))
}

/// The PVH entry, if some note names it.
fn pvh_note(file: &[u8], programs: &[Elf64_Phdr]) -> Result<Option<u64>, KernelError> {
    for program in programs.iter().filter(|p| p.p_type == PT_NOTE) {
        let range = file_range(file, program.p_offset, program.p_filesz, "an ELF note")?;
        let align = if program.p_align == 8 { 8 } else { 4 };
        if let Some(entry) = find_pvh_entry(&file[range], align) {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// Walks the notes of one segment; whatever follows a note that is cut off is no note.
fn find_pvh_entry(mut notes: &[u8], align: u64) -> Option<u64> {
    const HEADER: usize = 12;
    while notes.len() >= HEADER {
        let (name_len, desc_len, kind) = (u32_at(notes, 0)?, u32_at(notes, 4)?, u32_at(notes, 8)?);
        let desc_at = align_up(HEADER as u64 + u64::from(name_len), align)? as usize;
        let next = align_up(desc_at as u64 + u64::from(desc_len), align)? as usize;
        let name = notes.get(HEADER..HEADER + name_len as usize)?;
        if name == b"Xen\0" && kind == PHYS32_ENTRY && desc_len >= 4 {
            return u32_at(notes, desc_at).map(u64::from);
        }
        notes = notes.get(next..)?;
    }
    None
}
