//! `-machine kernel-unpack=guest`: the protected-mode part is loaded as it is and entered at its own entry.

use minivmm::accel::EntryMode;
use minivmm::boot::BootTarget;

use super::builder::*;

fn body(file: &[u8]) -> Vec<u8> {
    file[BODY_AT..].to_vec()
}

#[test]
fn a_relocatable_kernel_goes_where_it_prefers() {
    let file = gzip_bzimage();
    let (image, ram, entry) = boot(file.clone(), None, &guest_target());
    assert_eq!(image.summary(), "6.16.9-test (bzImage), unpacked by itself, 64-bit entry 0x1000200");
    assert!(matches!(entry.mode, EntryMode::Long { .. }));
    assert_eq!(entry.rip, LINKED_AT + 0x200);
    assert_eq!(bytes_at(&ram, LINKED_AT, body(&file).len()), body(&file));
    assert_eq!(u32_at(&ram, entry.rsi + 0x214), LINKED_AT as u32, "code32_start");
}

#[test]
fn its_alignment_is_kept() {
    let mut file = gzip_bzimage();
    poke(&mut file, field::PREF_ADDRESS, &(LINKED_AT + 1).to_le_bytes());
    let (_, _, entry) = boot(file, None, &guest_target());
    assert_eq!(entry.rip, LINKED_AT + 2 * MIB + 0x200);
}

#[test]
fn one_that_is_not_relocatable_goes_to_1_mib() {
    let mut file = gzip_bzimage();
    poke(&mut file, field::RELOCATABLE, &[0]);
    let (_, _, entry) = boot(file, None, &guest_target());
    assert_eq!(entry.rip, MIB + 0x200);
}

#[test]
fn room_for_unpacking_is_kept_free() {
    let mut file = gzip_bzimage();
    poke(&mut file, field::INIT_SIZE, &(40 * MIB as u32).to_le_bytes());
    let line = minivmm::boot::prepare_from_bytes(file.clone(), Some(vec![1; 9 << 20]), &guest_target());
    assert!(line.unwrap_err().to_string().contains("between the end of the kernel at 0x3800000"));
    let small = BootTarget { ram_bytes: 48 * MIB, ..guest_target() };
    let line = refusal(file, &small);
    assert!(
        line.contains("needs guest memory 0x1000000-0x3800000") && line.ends_with("give at least -m 56M"),
        "{line}"
    );
}

#[test]
fn a_kernel_without_64_bit_entry_is_entered_in_protected_mode() {
    let mut file = gzip_bzimage();
    poke(&mut file, field::XLOADFLAGS, &[0, 0]);
    let (image, ram, entry) = boot(file, None, &guest_target());
    assert_eq!((entry.mode, entry.rip), (EntryMode::Protected, LINKED_AT));
    assert_eq!(u64_at(&ram, entry.gdt_base + 0x10), 0x00cf_9b00_0000_ffff);
    assert_eq!(u32_at(&ram, entry.rsi + 0x202), 0x5372_6448);
    assert!(image.summary().contains("32-bit entry"), "{}", image.summary());
}

#[test]
fn a_32_bit_kernel_unpacks_itself_even_if_the_host_could() {
    let mut inner = Elf::kernel().build();
    inner[4] = 1;
    let packed = lz4_flex::block::compress(&inner);
    let stream = [&[0x02, 0x21, 0x4c, 0x18], &(packed.len() as u32).to_le_bytes()[..], &packed].concat();
    let mut file = bzimage(&with_size(&stream, inner.len() as u32));
    poke(&mut file, field::XLOADFLAGS, &[0, 0]);
    let (_, _, entry) = boot(file, None, &target());
    assert_eq!((entry.mode, entry.rip), (EntryMode::Protected, LINKED_AT));
}

#[test]
fn a_kernel_from_before_payload_fields_unpacks_itself() {
    let mut file = gzip_bzimage();
    poke(&mut file, field::VERSION, &0x0207u16.to_le_bytes());
    let (_, _, entry) = boot(file, None, &target());
    assert_eq!((entry.mode, entry.rip), (EntryMode::Protected, MIB));
}

#[test]
fn a_kernel_without_payload_runs_as_it_is() {
    let mut file = gzip_bzimage();
    poke(&mut file, field::PAYLOAD_LENGTH, &[0; 4]);
    let (image, ram, entry) = boot(file.clone(), None, &target());
    assert_eq!(image.summary(), "6.16.9-test (bzImage), not compressed, 64-bit entry 0x1000200");
    assert_eq!(bytes_at(&ram, entry.rip - 0x200, body(&file).len()), body(&file));
}
