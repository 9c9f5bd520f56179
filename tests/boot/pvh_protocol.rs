//! What a kernel with a PVH note finds: 32-bit entry, start info in EBX.

use minivmm::accel::EntryMode;
use minivmm::boot::BootTarget;

use super::builder::*;

#[test]
fn the_note_decides_the_protocol() {
    let target = BootTarget { rsdp: 0xe_0010, ..target() };
    let (image, ram, entry) = boot(Elf::pvh(LINKED_AT + 0x80).build(), None, &target);
    assert_eq!(image.summary(), "ELF kernel, PVH entry 0x1000080");
    assert_eq!((entry.mode, entry.rip), (EntryMode::Protected, LINKED_AT + 0x80));
    assert_eq!(u64_at(&ram, entry.gdt_base + 0x10), 0x00cf_9b00_0000_ffff, "32-bit code");
    let info = entry.rbx;
    assert_eq!(u32_at(&ram, info), 0x336e_c578);
    assert_eq!(u32_at(&ram, info + 4), 1);
    assert_eq!(u32_at(&ram, info + 12), 0, "no modules");
    assert_eq!(text_at(&ram, u64_at(&ram, info + 24)), "console=ttyS0");
    assert_eq!(u64_at(&ram, info + 32), 0xe_0010);
}

#[test]
fn the_memory_map_has_every_range() {
    let target = BootTarget { ram_bytes: 5 << 30, ..target() };
    let (_, ram, entry) = boot(Elf::pvh(LINKED_AT).build(), None, &target);
    let expected = minivmm::boot::memory_map(5 << 30);
    let (table, entries) = (u64_at(&ram, entry.rbx + 40), u32_at(&ram, entry.rbx + 48));
    assert_eq!(entries as usize, expected.len());
    for (n, range) in expected.iter().enumerate() {
        let at = table + 24 * n as u64;
        let read = (u64_at(&ram, at), u64_at(&ram, at + 8), u32_at(&ram, at + 16));
        assert_eq!(read, (range.start, range.len, range.kind as u32));
    }
}

#[test]
fn the_initrd_is_the_first_module() {
    let (_, ram, entry) = boot(Elf::pvh(LINKED_AT).build(), Some(vec![0x5a; 4097]), &target());
    assert_eq!(u32_at(&ram, entry.rbx + 12), 1);
    let module = u64_at(&ram, entry.rbx + 16);
    let (at, len) = (u64_at(&ram, module), u64_at(&ram, module + 8));
    assert_eq!((at, len), (RAM - 0x2000, 4097));
    assert_eq!(bytes_at(&ram, at, 4097), [0x5a; 4097]);
}

#[test]
fn a_four_byte_note_counts_too() {
    let notes = note(b"Xen\0", 18, &(LINKED_AT as u32).to_le_bytes());
    let (_, _, entry) = boot(Elf { notes, ..Elf::kernel() }.build(), None, &target());
    assert_eq!((entry.mode, entry.rip), (EntryMode::Protected, LINKED_AT));
}

#[test]
fn other_notes_and_broken_ones_do_not() {
    let lists = [
        note(b"Xen\0", 17, &LINKED_AT.to_le_bytes()),
        note(b"Xem\0", 18, &LINKED_AT.to_le_bytes()),
        note(b"Xen\0", 18, &[]),
        [&u32::MAX.to_le_bytes()[..], &u32::MAX.to_le_bytes(), &18u32.to_le_bytes(), b"Xen\0"].concat(),
        note(b"Xen\0", 18, &LINKED_AT.to_le_bytes())[..17].to_vec(),
    ];
    for notes in lists {
        let (_, _, entry) = boot(Elf { notes, ..Elf::kernel() }.build(), None, &target());
        assert!(matches!(entry.mode, EntryMode::Long { .. }));
    }
}
