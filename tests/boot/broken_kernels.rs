//! Truncated and inconsistent kernels, each refused with one line that says what is wrong with it.

use minivmm::boot::BootTarget;

use super::builder::*;

const CODE32_START: usize = 0x214;

/// A way to break a kernel, and what the line must say.
type Case = (&'static str, fn(&mut Vec<u8>), &'static str);

fn set32(file: &mut [u8], at: usize, value: u32) {
    poke(file, at, &value.to_le_bytes());
}

fn set64(file: &mut [u8], at: usize, value: u64) {
    poke(file, at, &value.to_le_bytes());
}

fn refuse_all(base: &[u8], target: &BootTarget, cases: &[Case]) {
    for (name, damage, expected) in cases {
        let mut kernel = base.to_vec();
        damage(&mut kernel);
        let line = refusal(kernel, target);
        assert!(line.contains(expected), "{name}: {line}");
        assert!(line.starts_with("-kernel (memory): ") && line.lines().count() == 1, "{name}: {line}");
    }
}

const BZIMAGE: &[Case] = &[
    ("empty", |k| k.clear(), "an empty file"),
    ("one byte", |k| k.truncate(1), "not an x86-64 kernel"),
    ("boot sector only", |k| k.truncate(0x200), "a boot sector or disk image"),
    ("header cut in the magic", |k| k.truncate(0x204), "not an x86-64 kernel"),
    ("header cut behind the magic", |k| k.truncate(0x206), "truncated: the setup code reaches to byte 2048"),
    (
        "setup code cut",
        |k| k.truncate(0x500),
        "truncated: the setup code reaches to byte 2048, but the file has 1280",
    ),
    ("protected-mode part missing", |k| k.truncate(BODY_AT), "truncated: the kernel reaches"),
    ("half the file", |k| k.truncate(k.len() / 2), "truncated: the kernel reaches"),
    ("last paragraph missing", |k| k.truncate(k.len() - 16), "truncated: the kernel reaches"),
    ("boot flag gone", |k| k[field::BOOT_FLAG] = 0, "not an x86-64 kernel"),
    ("magic gone", |k| k[0x203] = b'x', "a boot sector or disk image"),
    ("255 setup sectors", |k| k[field::SETUP_SECTS] = 255, "truncated: the setup code"),
    ("size of 4 GiB", |k| set32(k, field::SYSSIZE, 0x1000_0000), "truncated: the kernel"),
    ("size of 64 GiB", |k| set32(k, field::SYSSIZE, u32::MAX), "truncated: the kernel"),
    ("header without length", |k| k[field::JUMP_LEN] = 0, "speaks boot protocol 0.00"),
    ("protocol 1.0", |k| poke(k, field::VERSION, &[0, 1]), "boot protocol 1.00, older than Linux 2.4"),
    ("zImage", |k| k[field::LOADFLAGS] = 0, "this is a zImage"),
    (
        "payload offset behind the end",
        |k| set32(k, field::PAYLOAD_OFFSET, 0x10_0000),
        "truncated: the compressed kernel",
    ),
    (
        "payload offset of 4 GiB",
        |k| set32(k, field::PAYLOAD_OFFSET, u32::MAX),
        "truncated: the compressed kernel",
    ),
    ("payload too long", |k| set32(k, field::PAYLOAD_LENGTH, 0x10_0000), "truncated: the compressed kernel"),
    ("payload of 4 GiB", |k| set32(k, field::PAYLOAD_LENGTH, u32::MAX), "truncated: the compressed kernel"),
    (
        "payload beyond the kernel's size",
        |k| {
            set32(k, field::SYSSIZE, 0x30);
        },
        "is larger than the kernel",
    ),
    ("payload of two bytes", |k| set32(k, field::PAYLOAD_LENGTH, 2), "shorter than its size field"),
    ("payload one byte late", |k| k[field::PAYLOAD_OFFSET] += 1, "try -machine kernel-unpack=guest"),
    ("unknown compression", |k| poke(k, BODY_AT + PAYLOAD_AT, b"????"), "compressed in no way"),
    ("wrong compression", |k| poke(k, BODY_AT + PAYLOAD_AT, b"BZh9"), "its bzip2 payload is damaged"),
    ("flipped payload", |k| k[BODY_AT + PAYLOAD_AT + 60] ^= 0xff, "its gzip payload is damaged"),
    ("zeroed payload", |k| k[BODY_AT + PAYLOAD_AT + 20..].fill(0), "its gzip payload is damaged"),
];

#[test]
fn bzimages() {
    refuse_all(&gzip_bzimage(), &target(), BZIMAGE);
}

#[test]
fn bzimages_that_unpack_themselves() {
    const CASES: &[Case] = &[
        ("cut", |k| k.truncate(k.len() - 100), "truncated: the kernel reaches"),
        (
            "real mode only, as ipxe.lkrn",
            |k| {
                set32(k, CODE32_START, 0);
                poke(k, field::VERSION, &[7, 2]);
            },
            "it starts in real mode and needs a BIOS",
        ),
        ("alignment of 3", |k| set32(k, field::KERNEL_ALIGNMENT, 3), "alignment 0x3 is no power of two"),
        ("no alignment", |k| set32(k, field::KERNEL_ALIGNMENT, 0), "alignment 0x0 is no power of two"),
        (
            "preferred address in the sky",
            |k| set64(k, field::PREF_ADDRESS, u64::MAX),
            "its preferred address is",
        ),
        (
            "preferred address beyond RAM",
            |k| set64(k, field::PREF_ADDRESS, 1 << 32),
            "needs guest memory 0x100000000-",
        ),
        (
            "init size of 4 GiB",
            |k| set32(k, field::INIT_SIZE, u32::MAX),
            "but RAM for a kernel is 0x100000-0x4000000",
        ),
        ("init size beyond RAM", |k| set32(k, field::INIT_SIZE, 49 << 20), "give at least -m 65M"),
        (
            "too short for its entry",
            |k| {
                set32(k, field::SYSSIZE, 0x20);
                k.truncate(BODY_AT + 0x200);
            },
            "too short for its 64-bit entry",
        ),
    ];
    refuse_all(&gzip_bzimage(), &guest_target(), CASES);
}

/// Offsets in the first program header.
const P_TYPE: usize = PHDRS;
const P_OFFSET: usize = PHDRS + 8;
const P_PADDR: usize = PHDRS + 24;
const P_FILESZ: usize = PHDRS + 32;
const P_MEMSZ: usize = PHDRS + 40;

const ELF: &[Case] = &[
    ("magic only", |k| k.truncate(4), "an ELF file for a big-endian processor"),
    ("identification only", |k| k.truncate(16), "another processor (e_machine 0)"),
    ("header cut", |k| k.truncate(63), "truncated: its ELF header reaches to byte 64, but the file has 63"),
    ("program headers cut", |k| k.truncate(PHDRS + PHDR + 5), "truncated: its program header table"),
    ("segment cut", |k| k.truncate(3000), "truncated: an ELF segment reaches"),
    ("last byte missing", |k| k.truncate(k.len() - 1), "truncated: an ELF segment reaches"),
    ("32-bit", |k| k[4] = 1, "an ELF file for x32"),
    (
        "32-bit x86",
        |k| {
            k[4] = 1;
            k[18] = 3;
        },
        "no loadable segment",
    ),
    ("big-endian", |k| k[5] = 2, "big-endian"),
    ("ARM64", |k| k[18] = 183, "an ELF file for ARM64"),
    ("RISC-V", |k| k[18] = 243, "an ELF file for RISC-V"),
    ("object file", |k| k[16] = 1, "a kernel module?"),
    ("core dump", |k| k[16] = 4, "of type 4 (a core dump?)"),
    ("no program headers", |k| poke(k, 56, &[0, 0]), "no loadable segment"),
    ("65535 program headers", |k| poke(k, 56, &[255, 255]), "truncated: its program header table"),
    ("program header size", |k| k[54] = 32, "program headers have 32 bytes instead of 56"),
    ("program headers behind the end", |k| set64(k, 32, 1 << 40), "truncated: its program header table"),
    ("program headers at the end of time", |k| set64(k, 32, u64::MAX), "truncated: its program header table"),
    ("an interpreter", |k| k[P_TYPE] = 3, "a program that runs under Linux"),
    ("thread-local storage", |k| k[P_TYPE] = 7, "a program that runs under Linux"),
    (
        "nothing to load",
        |k| {
            k[P_TYPE] = 0;
            k[P_TYPE + PHDR] = 0;
        },
        "no loadable segment",
    ),
    ("entry outside", |k| set64(k, 24, 0x1234), "its entry 0x1234 is in no segment"),
    ("entry in no segment's range", |k| set64(k, 24, u64::MAX), "is in no segment"),
    ("segment behind the file", |k| set64(k, P_OFFSET, 1 << 33), "truncated: an ELF segment"),
    ("segment offset overflow", |k| set64(k, P_OFFSET, u64::MAX), "truncated: an ELF segment"),
    (
        "file size overflow",
        |k| {
            set64(k, P_FILESZ, u64::MAX);
            set64(k, P_MEMSZ, u64::MAX);
        },
        "wraps around",
    ),
    ("larger in the file", |k| set64(k, P_MEMSZ, 100), "more bytes in the file than in memory"),
    ("segment wraps", |k| set64(k, P_PADDR, u64::MAX - 100), "wraps around the address space"),
    ("segments overlap", |k| set64(k, P_MEMSZ, 3 << 20), "its segments at 0x1000000 and 0x1200000 overlap"),
    ("segment in low memory", |k| set64(k, P_PADDR + PHDR, 0x7000), "needs guest memory 0x7000-"),
    (
        "segment across 1 MiB",
        |k| set64(k, P_PADDR + PHDR, 0xf_ffff),
        "RAM for a kernel is 0x100000-0x4000000",
    ),
    ("segment beyond RAM", |k| set64(k, P_PADDR + PHDR, 64 << 20), "give at least -m 65M"),
    ("segment in the PCI hole", |k| set64(k, P_PADDR + PHDR, 0xd000_0000), "needs guest memory 0xd0000000-"),
    (".bss beyond RAM", |k| set64(k, P_MEMSZ + PHDR, 1 << 30), "give at least -m 1042M"),
    (".bss of the whole address space", |k| set64(k, P_MEMSZ + PHDR, u64::MAX), "wraps around"),
];

#[test]
fn elf_kernels() {
    refuse_all(&Elf::kernel().build(), &target(), ELF);
}

#[test]
fn notes() {
    let file = Elf::pvh(0x1234_5678).build();
    assert!(refusal(file, &target()).contains("its PVH entry 0x12345678 is in no segment"));
    let mut cut = Elf::pvh(LINKED_AT).build();
    cut.truncate(cut.len() - 4);
    assert!(refusal(cut, &target()).contains("truncated: an ELF note reaches"));
}

/// The kernel inside is as hostile as one outside.
#[test]
fn elf_kernels_inside_a_bzimage() {
    for (name, damage, expected) in ELF {
        let mut inner = Elf::kernel().build();
        damage(&mut inner);
        let packed = lz4_flex::block::compress(&inner);
        let stream = [&[0x02, 0x21, 0x4c, 0x18], &(packed.len() as u32).to_le_bytes()[..], &packed].concat();
        let image = bzimage(&with_size(&stream, inner.len() as u32));
        // A 32-bit kernel is not unpacked here: its own decompressor is entered.
        if name.contains("32-bit") || *name == "magic only" {
            continue;
        }
        let line = refusal(image, &target());
        assert!(line.contains(expected), "{name}: {line}");
    }
}

#[test]
fn a_payload_without_elf_is_refused() {
    let packed = lz4_flex::block::compress(&[0x90; 4096]);
    let stream = [&[0x02, 0x21, 0x4c, 0x18], &(packed.len() as u32).to_le_bytes()[..], &packed].concat();
    let line = refusal(bzimage(&with_size(&stream, 4096)), &target());
    assert!(line.contains("its LZ4 payload is damaged: it holds no ELF file"), "{line}");
}
