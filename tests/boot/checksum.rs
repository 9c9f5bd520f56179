//! The CRC-32 that Linux's build appended until 6.15: held where it must hold, and only there.

use crate::builder::{boot, field, gzip_bzimage, poke, refusal, target};

/// The built kernel as of `release`, with the checksum in its last four bytes.
fn summed(release: &[u8]) -> Vec<u8> {
    let mut file = gzip_bzimage();
    poke(&mut file, 0x400, release);
    let sum_at = file.len() - 4;
    let sum = !crc32fast::hash(&file[..sum_at]);
    poke(&mut file, sum_at, &sum.to_le_bytes());
    file
}

#[test]
fn an_intact_kernel_boots() {
    boot(summed(b"6.12.9-test"), None, &target());
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let intact = summed(b"6.12.9-test");
    for at in (0x480..intact.len()).step_by(97) {
        let mut file = intact.clone();
        file[at] ^= 0x10;
        let line = refusal(file, &target());
        assert!(line.contains("CRC-32"), "{at:#x}: {line}");
    }
}

#[test]
fn kernels_from_6_15_on_carry_none() {
    let mut file = summed(b"6.15.0-test");
    let last = file.len() - 1;
    file[last] ^= 1;
    boot(file, None, &target());
}

#[test]
fn signing_breaks_it_and_is_no_damage() {
    const PE_AT: usize = 0x40;
    let mut file = summed(b"6.12.9-test");
    poke(&mut file, 0, b"MZ");
    poke(&mut file, 0x3c, &(PE_AT as u32).to_le_bytes());
    poke(&mut file, PE_AT, b"PE\0\0");
    assert!(refusal(file.clone(), &target()).contains("CRC-32"), "not signed: damaged");
    poke(&mut file, PE_AT + 24 + 112 + 4 * 8 + 4, &1500u32.to_le_bytes());
    boot(file, None, &target());
}

#[test]
fn a_kernel_without_length_is_not_summed() {
    let mut file = summed(b"6.12.9-test");
    poke(&mut file, field::SYSSIZE, &0u32.to_le_bytes());
    boot(file, None, &target());
}
