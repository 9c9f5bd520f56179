//! What a Linux kernel finds at its 64-bit entry: zero page, command line, initrd, memory map, GDT, page tables.

use minivmm::accel::EntryMode;
use minivmm::boot::{BootTarget, prepare_from_bytes};
use minivmm::machine::pc;

use super::builder::*;

/// Offsets in the zero page (Documentation/arch/x86/zero-page.rst).
const RSDP: u64 = 0x70;
const ALT_MEM_K: u64 = 0x1e0;
const E820_ENTRIES: u64 = 0x1e8;
const HDR_TYPE_OF_LOADER: u64 = 0x210;
const HDR_RAMDISK_IMAGE: u64 = 0x218;
const HDR_RAMDISK_SIZE: u64 = 0x21c;
const HDR_CMD_LINE_PTR: u64 = 0x228;
const E820_TABLE: u64 = 0x2d0;

#[test]
fn the_kernel_is_entered_in_long_mode_with_the_zero_page_in_rsi() {
    let (image, ram, entry) = boot(gzip_bzimage(), None, &BootTarget { rsdp: 0xe_0000, ..target() });
    assert_eq!(image.summary(), "6.16.9-test (bzImage), gzip unpacked by minivmm, 64-bit entry 0x1000040");
    assert!(matches!(entry.mode, EntryMode::Long { .. }));
    assert_eq!(u64_at(&ram, entry.rsi + RSDP), 0xe_0000);
    assert_eq!(u32_at(&ram, entry.rsi + 0x202), 0x5372_6448);
    assert_eq!(u16_at(&ram, entry.rsi + 0x206), 0x020f);
    assert_eq!(bytes_at(&ram, entry.rsi + HDR_TYPE_OF_LOADER, 1), [0xff]);
    let cmdline = u64::from(u32_at(&ram, entry.rsi + HDR_CMD_LINE_PTR));
    assert_eq!(text_at(&ram, cmdline), "console=ttyS0");
    assert_eq!(u64_at(&ram, entry.rsi + HDR_RAMDISK_IMAGE), 0);
    assert_eq!(bytes_at(&ram, entry.rsi + 0x1ef, 1), [0], "sentinel");
}

#[test]
fn gdt_and_page_tables_are_where_the_registers_say() {
    let (_, ram, entry) = boot(gzip_bzimage(), None, &target());
    let EntryMode::Long { cr3 } = entry.mode else { panic!("{:?}", entry.mode) };
    assert_eq!(u64_at(&ram, entry.gdt_base + 0x10), 0x00af_9b00_0000_ffff);
    assert_eq!(u64_at(&ram, entry.gdt_base + 0x18), 0x00cf_9300_0000_ffff);
    assert_eq!(entry.gdt_limit, 0x1f);
    for addr in [entry.rip, entry.rsi, entry.rsp - 8, 0xffff_fff0] {
        assert_eq!(translate(&ram, cr3, addr), addr);
    }
}

fn translate(ram: &minivmm::memory::GuestRam, cr3: u64, addr: u64) -> u64 {
    let frame = |entry: u64| {
        assert_eq!(entry & 3, 3, "present and writable");
        entry & 0x000f_ffff_ffff_f000
    };
    let pdpt = frame(u64_at(ram, cr3 + (addr >> 39 & 0x1ff) * 8));
    let pd = frame(u64_at(ram, pdpt + (addr >> 30 & 0x1ff) * 8));
    let pde = u64_at(ram, pd + (addr >> 21 & 0x1ff) * 8);
    assert_eq!(pde & 0x80, 0x80, "2 MiB page");
    frame(pde) + (addr & 0x1f_ffff)
}

#[test]
fn the_memory_map_reaches_the_kernel() {
    for ram_bytes in [RAM, 5 << 30] {
        let target = BootTarget { ram_bytes, ..target() };
        let (_, ram, entry) = boot(gzip_bzimage(), None, &target);
        let expected = minivmm::boot::memory_map(ram_bytes);
        assert_eq!(bytes_at(&ram, entry.rsi + E820_ENTRIES, 1), [expected.len() as u8]);
        for (n, range) in expected.iter().enumerate() {
            let at = entry.rsi + E820_TABLE + 20 * n as u64;
            assert_eq!((u64_at(&ram, at), u64_at(&ram, at + 8)), (range.start, range.len));
            assert_eq!(u32_at(&ram, at + 16), range.kind as u32);
        }
        let above_1m_kib = (ram_bytes.min(pc::LOW_RAM_END) >> 10) as u32 - 1024;
        assert_eq!(u32_at(&ram, entry.rsi + ALT_MEM_K), above_1m_kib);
    }
}

#[test]
fn the_initrd_goes_to_the_top_of_ram_or_of_what_the_kernel_reaches() {
    let initrd: Vec<u8> = (0..10_000).map(|n| n as u8).collect();
    let (_, ram, entry) = boot(gzip_bzimage(), Some(initrd.clone()), &target());
    assert_eq!(u32_at(&ram, entry.rsi + HDR_RAMDISK_SIZE), 10_000);
    assert_eq!(u32_at(&ram, entry.rsi + HDR_RAMDISK_IMAGE), (RAM - 0x3000) as u32);
    assert_eq!(bytes_at(&ram, RAM - 0x3000, 10_000), initrd);

    let mut limited = gzip_bzimage();
    poke(&mut limited, field::INITRD_ADDR_MAX, &0x01ff_ffffu32.to_le_bytes());
    let (_, ram, entry) = boot(limited, Some(initrd.clone()), &target());
    assert_eq!(u32_at(&ram, entry.rsi + HDR_RAMDISK_IMAGE), 0x01ff_d000);

    let mut old = gzip_bzimage();
    poke(&mut old, field::VERSION, &0x0202u16.to_le_bytes());
    let big = BootTarget { ram_bytes: 5 << 30, ..target() };
    let (_, ram, entry) = boot(old, Some(initrd), &big);
    assert_eq!(u32_at(&ram, entry.rsi + HDR_RAMDISK_IMAGE), 0x37ff_d000);
}

#[test]
fn an_initrd_that_does_not_fit_is_refused_with_its_sizes() {
    let line =
        prepare_from_bytes(gzip_bzimage(), Some(vec![0; 60 << 20]), &target()).unwrap_err().to_string();
    // The kernel ends at 18 MiB + 700 + 9000 bytes; the next page is 0x1203000.
    let expected = "-initrd (memory): 62914560 bytes do not fit: 48222208 bytes are free between the end of the \
                    kernel at 0x1203000 and 0x4000000; give more memory with -m or use a smaller initrd";
    assert_eq!(line, expected);
    let line = prepare_from_bytes(gzip_bzimage(), Some(vec![]), &target()).unwrap_err().to_string();
    assert_eq!(line, "-initrd (memory): the file is empty");
}

#[test]
fn a_command_line_is_held_to_the_kernels_limit() {
    let with = |len: usize| BootTarget { cmdline: "x".repeat(len), ..target() };
    let (_, ram, entry) = boot(gzip_bzimage(), None, &with(2047));
    assert_eq!(text_at(&ram, u64::from(u32_at(&ram, entry.rsi + HDR_CMD_LINE_PTR))).len(), 2047);
    let line = refusal(gzip_bzimage(), &with(2048));
    assert_eq!(
        line,
        "-append: the kernel command line has 2048 bytes, this kernel takes at most 2047; shorten it"
    );
    let mut old = gzip_bzimage();
    poke(&mut old, field::VERSION, &0x0205u16.to_le_bytes());
    assert!(refusal(old, &with(256)).contains("at most 255"));
    assert!(
        refusal(gzip_bzimage(), &BootTarget { cmdline: "a\0b".into(), ..target() }).contains("zero byte")
    );
}

#[test]
fn bss_stays_zero_and_loading_again_gives_the_same_machine() {
    let (image, ram, first) = boot(gzip_bzimage(), Some(vec![1; 5000]), &target());
    let data = &Elf::kernel().segments[1];
    let bss = data.paddr + data.bytes.len() as u64;
    assert!(bytes_at(&ram, bss, 9000).iter().all(|&b| b == 0));
    let before = bytes_at(&ram, 0, RAM as usize);
    for scribble in [first.rip, first.rsi, bss] {
        ram.write(scribble, &[0xa5; 64]).unwrap();
    }
    ram.clear();
    assert_eq!(image.load(&ram).unwrap(), first);
    assert!(bytes_at(&ram, 0, RAM as usize) == before);
}

#[test]
fn a_machine_smaller_than_prepared_for_gets_nothing() {
    let image = prepare_from_bytes(gzip_bzimage(), None, &target()).unwrap();
    let small = minivmm::memory::GuestRam::new(&[(0, 17 * MIB)]).unwrap();
    let line = image.load(&small).unwrap_err().to_string();
    assert!(line.starts_with("the kernel was prepared for a machine with more memory"), "{line}");
    assert!(bytes_at(&small, 0, 17 << 20).iter().all(|&b| b == 0));
}

#[test]
fn an_elf_without_a_note_is_entered_as_linux() {
    let (image, ram, entry) = boot(Elf::kernel().build(), Some(vec![1; 100]), &target());
    assert_eq!(image.summary(), "ELF kernel, Linux 64-bit entry 0x1000040");
    assert!(matches!(entry.mode, EntryMode::Long { .. }));
    assert_eq!(u32_at(&ram, entry.rsi + 0x202), 0x5372_6448);
    assert_eq!(u32_at(&ram, entry.rsi + HDR_RAMDISK_SIZE), 100);
    assert_eq!(u32_at(&ram, entry.rsi + HDR_RAMDISK_IMAGE), (RAM - 0x1000) as u32);
}

#[test]
fn an_entry_given_as_virtual_address_is_translated() {
    let mut elf = Elf::kernel();
    elf.entry = elf.segments[1].vaddr + 0x20;
    let (_, _, entry) = boot(elf.build(), None, &target());
    assert_eq!(entry.rip, elf.segments[1].paddr + 0x20);
}

#[test]
fn the_bios_data_area_points_at_the_ebda() {
    let (_, ram, _) = boot(gzip_bzimage(), None, &target());
    assert_eq!(u64::from(u16_at(&ram, 0x40e)) << 4, pc::EBDA_BASE);
    assert_eq!(u64::from(u16_at(&ram, 0x413)) << 10, pc::EBDA_BASE);
    assert_eq!(u64::from(u16_at(&ram, 0x400)), pc::COM1.0);
}
