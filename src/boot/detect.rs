//! What a file given by `-kernel` is, judged by its content alone.
//!
//! Called first by `prepare`. Knows the kernels that boot here, and names what people give by mistake.

use super::bytes::{array_at, u16_at, u32_at};
use super::decompress::Compression;
use super::error::KernelError;

/// A kind of kernel that can be booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KernelKind {
    /// Linux bzImage (setup header).
    BzImage,
    /// ELF for x86, 64-bit or 32-bit.
    Elf,
    /// No ELF, but a multiboot header, at this offset in the file, that says where everything goes.
    MultibootFlat(Multiboot),
}

const EM_386: u16 = 3;
pub(super) const ELFCLASS32: u8 = 1;
const ELFCLASS64: u8 = 2;
const ELFDATA2LSB: u8 = 1;

/// Recognizes a kernel.
///
/// # Errors
/// [`KernelError::NotAKernel`] and [`KernelError::Unsupported`], which say what the file looks like.
pub(super) fn detect(data: &[u8]) -> Result<KernelKind, KernelError> {
    if u16_at(data, 0x1fe) == Some(0xaa55) && array_at(data, 0x202) == Some(*b"HdrS") {
        return Ok(KernelKind::BzImage);
    }
    if data.starts_with(b"\x7fELF") {
        return elf(data);
    }
    if let Some(header) = multiboot(data) {
        return Ok(KernelKind::MultibootFlat(header));
    }
    let (what, hint) = name(data);
    Err(KernelError::NotAKernel { what, hint })
}

/// A multiboot header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Multiboot {
    /// Version 1, at this offset in the file.
    One(usize),
    /// Version 2, at this offset in the file.
    Two(usize),
}

/// Finds a multiboot header: version 1 in the first 8 KiB, version 2 in the first 32 KiB, checksum right
/// (Multiboot 0.6.96 section 3.1, Multiboot2 2.0 section 3.1).
pub(super) fn multiboot(data: &[u8]) -> Option<Multiboot> {
    const MAGIC1: u32 = 0x1bad_b002;
    const MAGIC2: u32 = 0xe852_50d6;
    let sums_to_zero = |at: usize, words: usize| {
        let sum = (0..words).try_fold(0u32, |sum, n| Some(sum.wrapping_add(u32_at(data, at + 4 * n)?)));
        sum == Some(0)
    };
    let find = |mut places: std::iter::StepBy<std::ops::Range<usize>>, magic, words| {
        places.find(|&at| u32_at(data, at) == Some(magic) && sums_to_zero(at, words))
    };
    let first = find((0..8192).step_by(4), MAGIC1, 3).map(Multiboot::One);
    first.or_else(|| find((0..32768).step_by(8), MAGIC2, 4).map(Multiboot::Two))
}

fn elf(data: &[u8]) -> Result<KernelKind, KernelError> {
    let not = |what: String, hint| Err(KernelError::NotAKernel { what, hint });
    let machine = u16_at(data, 18).unwrap_or(0);
    if data.get(5) != Some(&ELFDATA2LSB) {
        return not("an ELF file for a big-endian processor".into(), "");
    }
    match (data.get(4), machine) {
        (Some(&ELFCLASS32), EM_386) | (Some(&ELFCLASS64), linux_loader::elf::EM_X86_64) => {
            Ok(KernelKind::Elf)
        }
        _ => not(format!("an ELF file for {}", processor(machine)), ""),
    }
}

fn processor(machine: u16) -> String {
    match machine {
        linux_loader::elf::EM_AARCH64 => "ARM64".into(),
        linux_loader::elf::EM_ARM => "ARM".into(),
        linux_loader::elf::EM_RISCV => "RISC-V".into(),
        linux_loader::elf::EM_X86_64 => "x32 (64-bit code with 32-bit addresses)".into(),
        other => format!("another processor (e_machine {other})"),
    }
}

/// What a file that is no kernel of ours looks like, and what to do about it.
fn name(data: &[u8]) -> (String, &'static str) {
    if data.is_empty() {
        return ("an empty file".into(), "");
    }
    if let Some(format) = Compression::detect(data) {
        return (
            format!("a file compressed with {format}"),
            "unpack it first if it holds a kernel, give it by -initrd if it is an initrd",
        );
    }
    let known = SIGNATURES.iter().find(|s| data.get(s.0..).is_some_and(|rest| rest.starts_with(s.1)));
    if let Some(&(_, _, what, hint)) = known {
        return (what.into(), hint);
    }
    if u16_at(data, 0x1fe) == Some(0xaa55) {
        return ("a boot sector or disk image".into(), "give the kernel inside it");
    }
    if data.iter().all(|b| matches!(b, b'\t' | b'\n' | b'\r' | b' '..=b'~')) {
        return ("a text file".into(), "");
    }
    let first: Vec<String> = data.iter().take(8).map(|b| format!("{b:02x}")).collect();
    (format!("an unknown kind of file (first bytes {})", first.join(" ")), "")
}

/// Offset, bytes, name, hint; the first that matches wins.
const SIGNATURES: &[(usize, &[u8], &str, &str)] = &[
    (0x38, b"ARM\x64", "an ARM64 Linux Image", ""),
    (0x38, b"RSC\x05", "a RISC-V Linux Image", ""),
    (0x24, &[0x18, 0x28, 0x6f, 0x01], "an ARM Linux zImage", ""),
    (0, b"MZ", "an EFI program without a Linux setup header", "give the bzImage that it was made from"),
    (0, &[0x27, 0x05, 0x19, 0x56], "a U-Boot uImage", ""),
    (0, &[0xd0, 0x0d, 0xfe, 0xed], "a device tree or FIT image", ""),
    (0, b"070701", "a cpio archive (an initrd)", "give it by -initrd and the kernel by -kernel"),
    (0, b"070702", "a cpio archive (an initrd)", "give it by -initrd and the kernel by -kernel"),
    (0, b"070707", "a cpio archive (an initrd)", "give it by -initrd and the kernel by -kernel"),
    (0, &[0xc7, 0x71], "a cpio archive (an initrd)", "give it by -initrd and the kernel by -kernel"),
    (0, &[0x04, 0x22, 0x4d, 0x18], "a file compressed with LZ4", "unpack it first"),
    (0, b"!<arch>\n", "an archive (a Debian package or static library)", "give the kernel inside it"),
    (0, &[0xed, 0xab, 0xee, 0xdb], "an RPM package", "give the kernel inside it"),
    (0, b"QFI\xfb", "a qcow2 disk image", "give the kernel inside it"),
    (0, b"hsqs", "a squashfs image", "give the kernel inside it"),
    (0x8001, b"CD001", "a CD image", "give the kernel inside it"),
    (0x438, &[0x53, 0xef], "an ext file system image", "give the kernel inside it"),
    (0, b"#!", "a script", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_signature_is_named() {
        for &(at, bytes, what, _) in SIGNATURES {
            let mut file = vec![0x90; at + bytes.len() + 8];
            file[at..at + bytes.len()].copy_from_slice(bytes);
            let line = detect(&file).unwrap_err().to_string();
            assert!(line.contains(what), "{line}");
        }
    }

    #[test]
    fn compressed_text_and_unknown_files_are_named() {
        let line = |data: &[u8]| detect(data).unwrap_err().to_string();
        assert!(line(b"").contains("an empty file"));
        assert!(line(b"hello\n").contains("a text file"));
        assert!(line(&[0x1f, 0x8b, 8, 0]).contains("compressed with gzip"));
        assert!(line(&[1, 2, 3]).contains("first bytes 01 02 03"));
    }

    #[test]
    fn multiboot_headers_need_their_checksum() {
        let header = |words: &[u32]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
        assert_eq!(
            multiboot(&header(&[7, 0x1bad_b002, 3, 0u32.wrapping_sub(0x1bad_b005)])),
            Some(Multiboot::One(4))
        );
        assert_eq!(multiboot(&header(&[0x1bad_b002, 3, 3])), None);
        assert_eq!(
            multiboot(&header(&[0xe852_50d6, 0, 16, 0u32.wrapping_sub(0xe852_50e6)])),
            Some(Multiboot::Two(0))
        );
    }
}
