//! The Linux/x86 boot protocol (Documentation/arch/x86/boot.rst and zero-page.rst): the zero page, the command line and
//! the initrd for a kernel that is already placed, and the registers at its 64-bit or 32-bit entry.
//!
//! Used by `prepare` with what `bzimage` or `elf` found.

use linux_loader::bootparam::{LOADED_HIGH, boot_e820_entry, boot_params, setup_header};
use vm_memory::ByteValued;

use super::cmdline;
use super::image::Piece;
use super::low_memory::{self, CMDLINE, GDT, GDT_LIMIT, PAGE_TABLES, STACK_TOP, ZERO_PAGE};
use super::memory_map::memory_map;
use super::prepare::{BootTarget, Fault, Initrd};
use crate::accel::{EntryMode, EntryState};
use crate::machine::pc::{LOW_MIB_END, LOW_RAM_END};

/// `setup_header.header`: "HdrS".
pub(super) const HEADER_MAGIC: u32 = 0x5372_6448;
/// Boot loader type of loaders without a number of their own.
const UNDEFINED_LOADER: u8 = 0xff;
/// Highest initrd address for kernels that do not say theirs (boot protocol before 2.03).
const OLD_INITRD_MAX: u64 = 0x37ff_ffff;

/// A Linux kernel that has its place in memory.
#[derive(Debug)]
pub(super) struct LinuxKernel {
    /// Its setup header; [`vmlinux_header`] for a vmlinux, which has none.
    pub(super) header: setup_header,
    /// One past the last byte that it needs before it knows its memory map.
    pub(super) end: u64,
    /// Where it is entered.
    pub(super) entry: u64,
    /// By the 64-bit protocol, else the 32-bit one.
    pub(super) long: bool,
    /// The kernel itself.
    pub(super) pieces: Vec<Piece>,
}

/// The header that a boot loader makes up for a vmlinux.
pub(super) fn vmlinux_header() -> setup_header {
    setup_header {
        boot_flag: 0xaa55,
        header: HEADER_MAGIC,
        version: 0x020c,
        loadflags: LOADED_HIGH,
        initrd_addr_max: (LOW_RAM_END - 1) as u32,
        cmdline_size: cmdline::DEFAULT_MAX as u32,
        ..Default::default()
    }
}

/// Adds what the kernel is told and says how to enter it.
///
/// # Errors
/// A [`Fault`] of the command line or the initrd.
pub(super) fn finish(
    kernel: LinuxKernel,
    initrd: Option<Initrd>,
    target: &BootTarget,
) -> Result<(Vec<Piece>, EntryState), Fault> {
    let LinuxKernel { mut header, end, entry, long, mut pieces } = kernel;
    let version = header.version;
    let max = if version >= 0x0206 { u64::from(header.cmdline_size) } else { 255 };
    pieces.push(cmdline::place(&target.cmdline, max)?);
    header.cmd_line_ptr = CMDLINE as u32;
    header.type_of_loader = UNDEFINED_LOADER;
    header.setup_data = 0;
    header.ramdisk_image = 0;
    header.ramdisk_size = 0;
    if let Some(initrd) = initrd {
        let reach = if version >= 0x0203 { u64::from(header.initrd_addr_max) } else { OLD_INITRD_MAX };
        let piece = initrd.place(end, target.low_ram_end().min(reach + 1))?;
        header.ramdisk_image = piece.addr() as u32;
        header.ramdisk_size = piece.bytes().len() as u32;
        pieces.push(piece);
    }
    pieces.push(Piece::new(ZERO_PAGE, zero_page(header, target).as_slice().to_vec()));
    pieces.push(low_memory::gdt(long));
    if long {
        pieces.push(low_memory::page_tables());
    }
    let mode = if long { EntryMode::Long { cr3: PAGE_TABLES } } else { EntryMode::Protected };
    let state = EntryState {
        mode,
        rip: entry,
        rsp: STACK_TOP,
        rsi: ZERO_PAGE,
        rbx: 0,
        rax: 0,
        gdt_base: GDT,
        gdt_limit: GDT_LIMIT,
    };
    Ok((pieces, state))
}

/// `struct boot_params`: everything that is not said here is zero, as the protocol wants it.
fn zero_page(hdr: setup_header, target: &BootTarget) -> boot_params {
    let mut params = boot_params { hdr, acpi_rsdp_addr: target.rsdp, ..Default::default() };
    let above_1m_kib = (target.low_ram_end() - LOW_MIB_END.min(target.low_ram_end())) >> 10;
    params.alt_mem_k = above_1m_kib as u32;
    params.screen_info.ext_mem_k = above_1m_kib.min(0xfc00) as u16;
    let map = memory_map(target.ram_bytes);
    params.e820_entries = map.len() as u8;
    let mut table = params.e820_table;
    for (entry, range) in table.iter_mut().zip(&map) {
        *entry = boot_e820_entry { addr: range.start, size: range.len, r#type: range.kind as u32 };
    }
    params.e820_table = table;
    params
}
