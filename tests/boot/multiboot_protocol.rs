//! What a multiboot 1 kernel finds, as ELF32, ELF64 and flat file; and how broken ones are refused.

use minivmm::accel::EntryMode;
use minivmm::boot::BootTarget;

use super::builder::*;

const LOAD: u32 = MIB as u32;
const ADDRESSES: u32 = 1 << 16;

/// A flat kernel: 16 bytes, the header, then code.
fn flat(flags: u32, addresses: [u32; 5]) -> Vec<u8> {
    let mut file = vec![0x90; 600];
    poke(&mut file, 16, &multiboot_header(flags, addresses));
    file
}

#[test]
fn elf_kernels_are_entered_in_protected_mode_with_the_magic_in_eax() {
    let kernel = Elf::multiboot(3, [0; 5]);
    for file in [kernel.build32(), kernel.build()] {
        let (image, ram, entry) = boot(file, None, &target());
        assert_eq!(image.summary(), "multiboot 1 kernel (ELF)");
        assert_eq!((entry.mode, entry.rip, entry.rax), (EntryMode::Protected, LINKED_AT + 0x40, 0x2bad_b002));
        assert_eq!(u64_at(&ram, entry.gdt_base + 0x10), 0x00cf_9b00_0000_ffff, "32-bit code");
        for segment in &kernel.segments {
            assert_eq!(bytes_at(&ram, segment.paddr, segment.bytes.len()), segment.bytes);
        }
    }
}

#[test]
fn the_information_structure_has_memory_command_line_and_names() {
    let (_, ram, entry) = boot(Elf::multiboot(0, [0; 5]).build32(), None, &target());
    let field = |n: u64| u32_at(&ram, entry.rbx + 4 * n);
    assert_eq!(field(0), 1 | 1 << 2 | 1 << 6 | 1 << 9);
    assert_eq!((field(1), field(2)), (639, (RAM / 1024 - 1024) as u32));
    assert_eq!(text_at(&ram, u64::from(field(4))), "console=ttyS0");
    assert_eq!(text_at(&ram, u64::from(field(16))), "minivmm");
}

#[test]
fn the_memory_map_has_every_range() {
    let target = BootTarget { ram_bytes: 5 << 30, ..target() };
    let (_, ram, entry) = boot(Elf::multiboot(0, [0; 5]).build32(), None, &target);
    let (len, mut at) = (u32_at(&ram, entry.rbx + 44), u64::from(u32_at(&ram, entry.rbx + 48)));
    let end = at + u64::from(len);
    for range in minivmm::boot::memory_map(5 << 30) {
        let read = (u64_at(&ram, at + 4), u64_at(&ram, at + 12), u32_at(&ram, at + 20));
        assert_eq!(read, (range.start, range.len, range.kind as u32));
        at += u64::from(u32_at(&ram, at)) + 4;
    }
    assert_eq!(at, end);
    assert_eq!(u32_at(&ram, entry.rbx + 8), (3 << 20) - 1024, "KiB from 1 MiB to the PCI hole");
}

#[test]
fn the_initrd_is_a_module_right_behind_the_kernel() {
    let (_, ram, entry) = boot(Elf::multiboot(1, [0; 5]).build32(), Some(vec![0x5a; 5000]), &target());
    assert_eq!(u32_at(&ram, entry.rbx) & 8, 8);
    assert_eq!(u32_at(&ram, entry.rbx + 20), 1);
    let module = u64::from(u32_at(&ram, entry.rbx + 24));
    let (start, end) = (u32_at(&ram, module), u32_at(&ram, module + 4));
    assert_eq!((start, end - start), (0x120_3000, 5000));
    assert_eq!(bytes_at(&ram, u64::from(start), 5000), [0x5a; 5000]);
    assert_eq!(text_at(&ram, u64::from(u32_at(&ram, module + 8))), "initrd");
}

#[test]
fn a_flat_kernel_goes_where_its_header_says() {
    let file = flat(ADDRESSES, [LOAD + 8, LOAD, LOAD + 300, LOAD + 9000, LOAD + 0x60]);
    let (image, ram, entry) = boot(file.clone(), Some(vec![1]), &target());
    assert_eq!(image.summary(), "multiboot 1 kernel");
    assert_eq!(entry.rip, u64::from(LOAD) + 0x60);
    // header_addr is 8 above load_addr, and 16 into the file: loading starts at byte 8.
    assert_eq!(bytes_at(&ram, u64::from(LOAD), 300), file[8..308]);
    assert_eq!(bytes_at(&ram, u64::from(LOAD) + 300, 8), [0; 8]);
    let module = u64::from(u32_at(&ram, entry.rbx + 24));
    assert_eq!(u32_at(&ram, module), LOAD + 0x3000, "behind .bss");
}

#[test]
fn a_flat_kernel_without_end_is_loaded_whole() {
    let file = flat(ADDRESSES, [LOAD + 16, LOAD, 0, 0, LOAD]);
    let (_, ram, _) = boot(file.clone(), None, &target());
    assert_eq!(bytes_at(&ram, u64::from(LOAD), 600), file);
}

#[test]
fn addresses_in_the_header_win_over_the_elf() {
    let mut kernel = Elf::multiboot(ADDRESSES, [0; 5]);
    let file_at = (EHDR32 + 2 * PHDR32) as u32;
    let header = multiboot_header(ADDRESSES, [LOAD + file_at, LOAD, 0, 0, LOAD + file_at]);
    kernel.segments[0].bytes[..32].copy_from_slice(&header);
    let (_, ram, entry) = boot(kernel.build32(), None, &target());
    assert_eq!(entry.rip, u64::from(LOAD + file_at));
    assert_eq!(bytes_at(&ram, u64::from(LOAD), 4), *b"\x7fELF");
}

#[test]
fn broken_headers_are_refused() {
    let cases = [
        (flat(3, [0; 5]), "has no addresses, and it is no ELF file"),
        (flat(8, [0; 5]), "demands features 0x8"),
        (Elf::multiboot(0x8000, [0; 5]).build32(), "demands features 0x8000"),
        (flat(ADDRESSES, [LOAD - 1, LOAD, 0, 0, LOAD]), "lies before its load address"),
        (flat(ADDRESSES, [LOAD + 17, LOAD, 0, 0, LOAD]), "puts the load address before the file"),
        (
            flat(ADDRESSES, [LOAD + 16, LOAD, LOAD + 601, 0, LOAD]),
            "truncated: the kernel reaches to byte 601",
        ),
        (flat(ADDRESSES, [LOAD + 16, LOAD, u32::MAX, 0, LOAD]), "truncated: the kernel"),
        (flat(ADDRESSES, [LOAD + 16, LOAD, LOAD + 99, 0, LOAD + 99]), "its entry 0x100063 is outside"),
        (flat(ADDRESSES, [LOAD + 16, LOAD, LOAD - 99, 0, LOAD]), "its entry 0x100000 is outside"),
        (flat(ADDRESSES, [LOAD + 16, LOAD, 0, u32::MAX, LOAD]), "needs guest memory 0x100000-0xffffffff"),
        (flat(ADDRESSES, [0x7c10, 0x7c00, 0, 0, 0x7c00]), "needs guest memory 0x7c00-"),
        (flat(ADDRESSES, [LOAD + 16, LOAD, 0, 0, LOAD])[..40].to_vec(), "truncated: its multiboot header"),
    ];
    for (file, expected) in cases {
        let line = refusal(file, &target());
        assert!(line.contains(expected) && line.lines().count() == 1, "{expected}: {line}");
    }
}

#[test]
fn a_pvh_note_wins_over_the_header() {
    let kernel = Elf { notes: note(b"Xen\0", 18, &LINKED_AT.to_le_bytes()), ..Elf::multiboot(3, [0; 5]) };
    for file in [kernel.build32(), kernel.build()] {
        let (image, _, _) = boot(file, None, &target());
        assert_eq!(image.summary(), "ELF kernel, PVH entry 0x1000000");
    }
}

#[test]
fn a_32_bit_elf_that_names_no_protocol_is_refused() {
    let line = refusal(Elf::kernel().build32(), &target());
    assert!(line.contains("a 32-bit ELF file without PVH note or multiboot header"), "{line}");
}
