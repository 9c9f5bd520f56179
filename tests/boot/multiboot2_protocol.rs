//! What a multiboot 2 kernel finds, as ELF32, ELF64 and flat file; and how broken ones are refused.

use std::collections::BTreeMap;

use minivmm::accel::EntryMode;
use minivmm::boot::BootTarget;
use minivmm::memory::GuestRam;

use super::builder::*;

const LOAD: u32 = MIB as u32;
const MAGIC: u32 = 0xe852_50d6;

/// A header tag: type, flags, content.
type Tag<'a> = (u16, u16, &'a [u32]);

/// A header with `tags` and an end tag.
fn header(tags: &[Tag<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for &(kind, flags, content) in tags.iter().chain([&(0, 0, &[][..])]) {
        body.extend([kind.to_le_bytes(), flags.to_le_bytes()].concat());
        body.extend((8 + 4 * content.len() as u32).to_le_bytes());
        content.iter().for_each(|word| body.extend(word.to_le_bytes()));
        body.resize(body.len().next_multiple_of(8), 0);
    }
    let len = 16 + body.len() as u32;
    let sum = 0u32.wrapping_sub(MAGIC.wrapping_add(len));
    [[MAGIC, 0, len, sum].iter().flat_map(|w| w.to_le_bytes()).collect(), body].concat()
}

/// An ELF kernel with a header of these tags at a multiple of 8 in its file, whether it is built for 32 or 64 bits.
fn elf(tags: &[Tag<'_>]) -> Elf {
    let mut elf = Elf::kernel();
    for (code_begins, at) in [(PHDRS + 2 * PHDR, 256), (EHDR32 + 2 * PHDR32, 520)] {
        poke(&mut elf.segments[0].bytes, at - code_begins, &header(tags));
    }
    elf
}

/// A flat kernel: 16 bytes, the header, then code.
fn flat(tags: &[Tag<'_>]) -> Vec<u8> {
    let mut file = vec![0x90; 600];
    poke(&mut file, 16, &header(tags));
    file
}

/// The boot information: each tag's content by its type; total_size and the end are checked.
fn information(ram: &GuestRam, at: u64) -> BTreeMap<u32, Vec<u8>> {
    let total = u64::from(u32_at(ram, at));
    let mut tags = BTreeMap::new();
    let mut tag = at + 8;
    loop {
        let (kind, size) = (u32_at(ram, tag), u64::from(u32_at(ram, tag + 4)));
        assert!(
            tag.is_multiple_of(8) && size >= 8 && tag + size <= at + total,
            "tag {kind} at {tag:#x} has {size} bytes"
        );
        tag += size.next_multiple_of(8);
        if kind == 0 {
            assert_eq!((size, tag), (8, at + total));
            return tags;
        }
        let content = bytes_at(ram, tag - size.next_multiple_of(8) + 8, size as usize - 8);
        assert!(tags.insert(kind, content).is_none(), "tag {kind} twice");
    }
}

fn word(bytes: &[u8], n: usize) -> u32 {
    u32::from_le_bytes(bytes[4 * n..4 * n + 4].try_into().unwrap())
}

#[test]
fn elf_kernels_are_entered_in_protected_mode_with_the_magic_in_eax() {
    let kernel = elf(&[(6, 0, &[])]);
    for file in [kernel.build32(), kernel.build()] {
        let (image, ram, entry) = boot(file, None, &target());
        assert_eq!(image.summary(), "multiboot 2 kernel (ELF)");
        assert_eq!((entry.mode, entry.rip, entry.rax), (EntryMode::Protected, LINKED_AT + 0x40, 0x36d7_6289));
        assert_eq!(u64_at(&ram, entry.gdt_base + 0x10), 0x00cf_9b00_0000_ffff, "32-bit code");
        assert_eq!(entry.rbx % 8, 0);
        for segment in &kernel.segments {
            assert_eq!(bytes_at(&ram, segment.paddr, segment.bytes.len()), segment.bytes);
        }
    }
}

#[test]
fn the_information_has_command_line_names_memory_and_a_module() {
    let (_, ram, entry) = boot(elf(&[]).build32(), Some(vec![0x5a; 5000]), &target());
    let tags = information(&ram, entry.rbx);
    assert_eq!(tags.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 6]);
    assert_eq!(tags[&1], b"console=ttyS0\0");
    assert_eq!(tags[&2], b"minivmm\0");
    assert_eq!(tags[&4], [639u32, (RAM / 1024 - 1024) as u32].map(u32::to_le_bytes).concat());
    let (start, end) = (word(&tags[&3], 0), word(&tags[&3], 1));
    assert_eq!((start, end - start, &tags[&3][8..]), (0x120_3000, 5000, &b"initrd\0"[..]));
    assert_eq!(bytes_at(&ram, u64::from(start), 5000), [0x5a; 5000]);
}

#[test]
fn the_memory_map_has_every_range() {
    let target = BootTarget { ram_bytes: 5 << 30, ..target() };
    let (_, ram, entry) = boot(elf(&[]).build(), None, &target);
    let map = &information(&ram, entry.rbx)[&6];
    assert_eq!((word(map, 0), word(map, 1)), (24, 0));
    let read: Vec<(u64, u64, u32)> = map[8..]
        .chunks_exact(24)
        .map(|e| {
            (
                u64::from_le_bytes(e[..8].try_into().unwrap()),
                u64::from_le_bytes(e[8..16].try_into().unwrap()),
                word(e, 4),
            )
        })
        .collect();
    let told: Vec<_> =
        minivmm::boot::memory_map(5 << 30).iter().map(|r| (r.start, r.len, r.kind as u32)).collect();
    assert_eq!(read, told);
}

#[test]
fn the_rsdp_is_copied_as_the_machine_made_it() {
    let target = BootTarget { rsdp: 0xe_0000, ..target() };
    let image = minivmm::boot::prepare_from_bytes(elf(&[]).build(), None, &target).unwrap();
    let ram = GuestRam::new(&minivmm::machine::pc::ram_layout(target.ram_bytes)).unwrap();
    let rsdp: Vec<u8> = (1..=36).collect();
    ram.write(target.rsdp, &rsdp).unwrap();
    let entry = image.load(&ram).unwrap();
    assert_eq!(information(&ram, entry.rbx)[&15], rsdp);
}

#[test]
fn the_longest_command_line_fits_and_a_longer_one_is_refused() {
    let long = BootTarget { cmdline: "x".repeat(2047), rsdp: 0xe_0000, ram_bytes: 5 << 30, ..target() };
    let (_, ram, entry) = boot(elf(&[]).build(), Some(vec![1]), &long);
    assert_eq!(information(&ram, entry.rbx)[&1].len(), 2048);
    assert!(u32_at(&ram, entry.rbx) <= 4096, "what follows is another protocol's page");
    let longer = BootTarget { cmdline: "x".repeat(2048), ..target() };
    assert!(refusal(elf(&[]).build(), &longer).contains("takes at most 2047"));
}

#[test]
fn an_entry_tag_wins_over_the_elf() {
    let (_, _, entry) = boot(elf(&[(3, 0, &[LINKED_AT as u32 + 0x80])]).build(), None, &target());
    assert_eq!(entry.rip, LINKED_AT + 0x80);
}

#[test]
fn a_flat_kernel_goes_where_its_header_says() {
    let addresses = [LOAD + 8, LOAD, LOAD + 300, LOAD + 9000];
    let file = flat(&[(2, 0, &addresses), (3, 0, &[LOAD + 0x60])]);
    let (image, ram, entry) = boot(file.clone(), Some(vec![1]), &target());
    assert_eq!(image.summary(), "multiboot 2 kernel");
    assert_eq!(entry.rip, u64::from(LOAD) + 0x60);
    // header_addr is 8 above load_addr, and 16 into the file: loading starts at byte 8.
    assert_eq!(bytes_at(&ram, u64::from(LOAD), 300), file[8..308]);
    assert_eq!(bytes_at(&ram, u64::from(LOAD) + 300, 8), [0; 8]);
    assert_eq!(word(&information(&ram, entry.rbx)[&3], 0), LOAD + 0x3000, "behind .bss");
}

#[test]
fn a_flat_kernel_may_be_loaded_from_its_beginning() {
    let file = flat(&[(2, 0, &[LOAD + 16, u32::MAX, 0, 0]), (3, 0, &[LOAD])]);
    let (_, ram, _) = boot(file.clone(), None, &target());
    assert_eq!(bytes_at(&ram, u64::from(LOAD), 600), file);
}

#[test]
fn a_relocatable_kernel_stays_where_it_is_linked_or_goes_where_it_may() {
    let linked = LINKED_AT as u32;
    let cases = [
        // It may lie where it is linked.
        ([MIB as u32, u32::MAX, 4096, 1], linked),
        // It must lie elsewhere: lowest, highest.
        ([MIB as u32, linked - 1, 2 << 20, 1], 2 << 20),
        ([MIB as u32, 12 << 20, 4096, 2], 0x9f_d000),
        // It is linked at no multiple of what it asks for.
        ([MIB as u32, u32::MAX, 32 << 20, 0], 32 << 20),
    ];
    for (tag, base) in cases {
        let kernel = elf(&[(10, 0, &tag)]);
        let (_, ram, entry) = boot(kernel.build(), None, &target());
        let loaded = word(&information(&ram, entry.rbx)[&21], 0);
        assert_eq!(loaded, base, "{tag:x?}");
        assert_eq!(entry.rip, u64::from(base) + 0x40);
        let code = &kernel.segments[0].bytes;
        assert!(bytes_at(&ram, loaded.into(), code.len()) == *code, "{tag:x?}");
    }
}

#[test]
fn what_is_only_wished_for_is_no_reason_to_refuse() {
    let tags: &[Tag<'_>] = &[
        (1, 0, &[1, 6, 8, 9, 12]),
        (1, 1, &[99]),
        (4, 1, &[3]),
        (4, 0, &[2]),
        (5, 0, &[1024, 768, 32]),
        (6, 0, &[]),
        (7, 0, &[]),
        (8, 0, &[LOAD]),
        (9, 0, &[LOAD]),
        (99, 1, &[]),
    ];
    let (_, ram, entry) = boot(elf(tags).build(), None, &target());
    assert!(!information(&ram, entry.rbx).contains_key(&8), "there is no display");
}

#[test]
fn broken_headers_are_refused() {
    let code = [(3, 0, &[LOAD][..])];
    let with = |addresses: [u32; 4]| flat(&[(2, 0, &addresses), code[0]]);
    let mut unending = flat(&[]);
    poke(&mut unending, 32, &[9, 0, 1, 0]);
    let mut tiny = flat(&[]);
    poke(&mut tiny, 36, &[4]);
    let mut mips = flat(&[]);
    poke(&mut mips, 20, &[4, 0, 0, 0]);
    poke(&mut mips, 28, &0u32.wrapping_sub(MAGIC + 4 + 24).to_le_bytes());
    let cases = [
        (flat(&[]), "has no address tag, and it is no ELF file"),
        (flat(&[(2, 0, &[LOAD + 16, LOAD, 0, 0])]), "has an address tag and no entry tag"),
        (flat(&[(99, 0, &[])]), "demands feature 99"),
        (flat(&[(1, 0, &[1, 22])]), "demands boot information of type 22"),
        (flat(&[(4, 0, &[1])]), "demands a console that it can draw on"),
        (flat(&[(4, 0, &[])]), "is too short"),
        (flat(&[(2, 0, &[LOAD, LOAD, 0])]), "is too short"),
        (flat(&[(10, 0, &[2, 1, 4096, 0])]), "contradicts itself"),
        (flat(&[(10, 0, &[0, 1, 3, 0])]), "contradicts itself"),
        (unending[..40].to_vec(), "has no end tag"),
        (unending, "reaches beyond the header"),
        (tiny, "reaches beyond the header"),
        (mips, "is for another architecture"),
        (flat(&[])[..38].to_vec(), "reaches beyond the file"),
        (with([LOAD - 1, LOAD, 0, 0]), "lies before its load address"),
        (with([LOAD + 17, LOAD, 0, 0]), "puts the load address before the file"),
        (with([8, u32::MAX, 0, 0]), "puts the file's beginning below 0"),
        (with([LOAD + 16, LOAD, LOAD + 601, 0]), "truncated: the kernel reaches to byte 601"),
        (with([LOAD + 16, LOAD, 0, u32::MAX]), "needs guest memory 0x100000-0xffffffff"),
        (elf(&[(10, 0, &[0xf000_0000, u32::MAX, 4096, 0])]).build(), "needs guest memory 0xf0000000-"),
    ];
    for (file, expected) in cases {
        let line = refusal(file, &target());
        assert!(line.contains(expected) && line.lines().count() == 1, "{expected}: {line}");
    }
}

#[test]
fn a_pvh_note_and_a_multiboot_1_header_win() {
    let kernel = Elf { notes: note(b"Xen\0", 18, &LINKED_AT.to_le_bytes()), ..elf(&[]) };
    assert_eq!(boot(kernel.build(), None, &target()).0.summary(), "ELF kernel, PVH entry 0x1000000");
    let mut both = elf(&[]);
    poke(&mut both.segments[0].bytes, 4000, &multiboot_header(0, [0; 5]));
    assert_eq!(boot(both.build(), None, &target()).0.summary(), "multiboot 1 kernel (ELF)");
}
