//! Reads a bzImage: its setup header, and either the kernel inside (unpacked here, entered directly) or the
//! protected-mode part with the kernel's own decompressor.
//!
//! Used by `prepare`. Documentation/arch/x86/boot.rst; field names are those of `struct setup_header`.

use std::sync::Arc;

use linux_loader::bootparam::{LOADED_HIGH, XLF_KERNEL_64, setup_header};
use vm_memory::ByteValued;

use super::bytes::{align_up, u8_at};
use super::decompress::{self, Compression};
use super::detect::{ELFCLASS32, detect};
use super::elf;
use super::error::KernelError;
use super::image::Piece;
use super::linux::LinuxKernel;
use crate::cli::KernelUnpack;
use crate::machine::pc::LOW_MIB_END;

const SECTOR: usize = 512;
/// Where the setup header starts in the file.
const HEADER_AT: usize = 0x1f1;
/// The 64-bit entry in the protected-mode part.
const ENTRY_64: u64 = 0x200;
/// Oldest protocol with a command line pointer and a kernel at 1 MiB (Linux 2.4).
const OLDEST: u16 = 0x0202;

/// Linux no longer appends a checksum from this release on.
const LAST_SUMMED: (u32, u32) = (6, 15);

/// "6.12.9-amd64" is (6, 12).
fn numbers(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Whether the PE header that EFI kernels carry names a signature (PE/COFF, data directory 4 of PE32+).
fn is_signed(file: &[u8]) -> bool {
    const PE_OFFSET_AT: usize = 0x3c;
    const CERTIFICATE_SIZE_AT: usize = 24 + 112 + 4 * 8 + 4;
    let word = |at: usize| file.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
    let pe = word(PE_OFFSET_AT).filter(|_| file.starts_with(b"MZ")).map(|at| at as usize);
    let is_pe = |at: &usize| file.get(*at..).is_some_and(|rest| rest.starts_with(b"PE\0\0"));
    pe.filter(is_pe).and_then(|at| word(at + CERTIFICATE_SIZE_AT)).is_some_and(|size| size != 0)
}

/// A bzImage whose header has been checked against the file.
#[derive(Debug)]
pub(super) struct BzImage {
    file: Arc<Vec<u8>>,
    header: setup_header,
    /// Where the protected-mode part starts in the file.
    body_at: usize,
    /// Its length.
    body_len: usize,
}

/// A kernel ready for `linux::finish`, and how it got there.
pub(super) struct Unpacked {
    pub(super) kernel: LinuxKernel,
    pub(super) how: String,
}

impl BzImage {
    /// Reads the header.
    ///
    /// # Errors
    /// [`KernelError`] when the file is truncated, contradicts itself or is too old.
    pub(super) fn parse(file: Vec<u8>) -> Result<Self, KernelError> {
        let sectors = usize::from(u8_at(&file, HEADER_AT).unwrap_or(0));
        let body_at = (if sectors == 0 { 4 } else { sectors } + 1) * SECTOR;
        truncated(&file, "the setup code", body_at as u64)?;
        let header = read_header(&file)?;
        let have = file.len() - body_at;
        let body_len = match u64::from(header.syssize) * 16 {
            0 => have,
            size => {
                // The size is in paragraphs: up to 15 bytes of the last one may be missing.
                truncated(&file, "the kernel", body_at as u64 + size - 15)?;
                have.min(size as usize)
            }
        };
        let image = Self { file: Arc::new(file), header, body_at, body_len };
        image.check_sum()?;
        Ok(image)
    }

    /// Linux before 6.15 appends a CRC-32 that makes the sum over the whole file zero (boot.rst, "The image
    /// checksum"); signing a kernel changes its PE header afterwards and breaks it. Where it must hold and does
    /// not, the file is damaged, and a damaged kernel may do anything but say so.
    fn check_sum(&self) -> Result<(), KernelError> {
        let summed = self.release().and_then(|r| numbers(&r)).is_some_and(|n| n < LAST_SUMMED);
        if !summed || self.header.version < 0x0208 || self.header.syssize == 0 || is_signed(&self.file) {
            return Ok(());
        }
        let whole = &self.file[..self.body_at + self.body_len];
        // The kernel's build omits the final complement.
        if !crc32fast::hash(whole) == 0 {
            return Ok(());
        }
        Err(KernelError::Inconsistent("its CRC-32 does not match its contents".into()))
    }

    /// The release in the setup code, e.g. "6.12.9", if it is there.
    pub(super) fn release(&self) -> Option<String> {
        let at = usize::from(self.header.kernel_version);
        let text = self.file.get(SECTOR + at..self.body_at).filter(|_| at != 0)?;
        let word: String =
            text.iter().take(64).map(|&b| b as char).take_while(|c| c.is_ascii_graphic()).collect();
        (!word.is_empty()).then_some(word)
    }

    /// Makes the kernel ready for a machine whose low RAM ends at `ram_end`.
    ///
    /// # Errors
    /// [`KernelError`].
    pub(super) fn unpack(&self, by: KernelUnpack, ram_end: u64) -> Result<Unpacked, KernelError> {
        let version = self.header.version;
        // Other kernels in Linux's clothes (memtest86+) have no payload: what is there runs as it is.
        if by == KernelUnpack::Host && version >= 0x0208 && self.header.payload_length != 0 {
            let (inner, format) = self.payload()?;
            // The kernel inside a 32-bit bzImage has no 64-bit entry; its own decompressor knows what to do.
            if inner.get(4) != Some(&ELFCLASS32) {
                detect(&inner)?;
                return self.direct(inner, format, ram_end);
            }
        }
        self.own_decompressor(ram_end)
    }

    fn body(&self) -> &[u8] {
        &self.file[self.body_at..self.body_at + self.body_len]
    }

    /// The kernel inside, unpacked.
    fn payload(&self) -> Result<(Vec<u8>, Compression), KernelError> {
        let (at, len) = (u64::from(self.header.payload_offset), u64::from(self.header.payload_length));
        truncated(&self.file, "the compressed kernel", self.body_at as u64 + at + len)?;
        let payload = self.body().get(at as usize..(at + len) as usize).ok_or_else(|| {
            KernelError::Inconsistent(format!("its payload ({at:#x}+{len:#x}) is larger than the kernel"))
        })?;
        let format = Compression::detect(payload).ok_or_else(|| {
            KernelError::Unsupported(
                "its payload is compressed in no way that Linux is known to use; \
                 try -machine kernel-unpack=guest, or copy or build it again"
                    .into(),
            )
        })?;
        let inner = decompress::unpack(payload, format)?;
        if inner.starts_with(b"\x7fELF") {
            return Ok((inner, format));
        }
        Err(KernelError::Payload { format, why: "it holds no ELF file".into() })
    }

    /// The kernel proper at the addresses it is linked for, so that its relocations are not needed.
    fn direct(&self, inner: Vec<u8>, format: Compression, ram_end: u64) -> Result<Unpacked, KernelError> {
        let elf = elf::parse(&inner)?;
        let pieces = elf.place(&Arc::new(inner), ram_end)?;
        let kernel =
            LinuxKernel { header: self.header, end: elf.end(), entry: elf.entry, long: true, pieces };
        Ok(Unpacked { kernel, how: format!("{format} unpacked by minivmm") })
    }

    /// The protected-mode part where the kernel prefers it.
    fn own_decompressor(&self, ram_end: u64) -> Result<Unpacked, KernelError> {
        let long = self.header.version >= 0x020c && self.header.xloadflags & XLF_KERNEL_64 != 0;
        if !long && self.header.code32_start == 0 {
            // Linux has always named the address here; iPXE (ipxe.lkrn) has nothing to enter but its setup code.
            return Err(KernelError::Unsupported(
                "it has no 32-bit or 64-bit entry: it starts in real mode and needs a BIOS, which there is none of"
                    .into(),
            ));
        }
        let load = self.load_address()?;
        let end = self.needed_end(load);
        elf::check_fits("the kernel and its decompressor", load, end, ram_end)?;
        if long && self.body_len as u64 <= ENTRY_64 {
            return Err(KernelError::Inconsistent("it is too short for its 64-bit entry".into()));
        }
        let mut header = self.header;
        header.code32_start = load as u32;
        let window = self.body_at..self.body_at + self.body_len;
        let pieces = vec![Piece::window(load, &self.file, window)];
        let entry = if long { load + ENTRY_64 } else { load };
        let how = if header.payload_length == 0 { "not compressed" } else { "unpacked by itself" };
        Ok(Unpacked { kernel: LinuxKernel { header, end, entry, long, pieces }, how: how.into() })
    }

    fn load_address(&self) -> Result<u64, KernelError> {
        let setup_header { version, relocatable_kernel, pref_address, kernel_alignment, .. } = self.header;
        if version < 0x020a || relocatable_kernel == 0 {
            return Ok(LOW_MIB_END);
        }
        if !kernel_alignment.is_power_of_two() {
            return Err(KernelError::Inconsistent(format!(
                "its alignment {kernel_alignment:#x} is no power of two"
            )));
        }
        align_up(pref_address.max(LOW_MIB_END), u64::from(kernel_alignment))
            .ok_or_else(|| KernelError::Inconsistent(format!("its preferred address is {pref_address:#x}")))
    }

    /// One past what the kernel uses before it reads the memory map. A kernel that cannot be relocated moves itself
    /// to its preferred address.
    fn needed_end(&self, load: u64) -> u64 {
        let setup_header { version, pref_address, init_size, .. } = self.header;
        let file_end = load.saturating_add(self.body_len as u64);
        if version < 0x020a {
            return file_end;
        }
        file_end.max(load.max(pref_address).saturating_add(u64::from(init_size)))
    }
}

fn truncated(file: &[u8], what: &'static str, need: u64) -> Result<(), KernelError> {
    let have = file.len() as u64;
    if need > have { Err(KernelError::Truncated { what, need, have }) } else { Ok(()) }
}

/// The header as far as the kernel has it: its end is in the jump over it. What follows stays zero.
fn read_header(file: &[u8]) -> Result<setup_header, KernelError> {
    let mut header = setup_header::default();
    let end = 0x202 + usize::from(u8_at(file, 0x201).unwrap_or(0));
    let bytes = header.as_mut_slice();
    let len = end.saturating_sub(HEADER_AT).min(bytes.len());
    let source = file.get(HEADER_AT..HEADER_AT + len);
    let need = (HEADER_AT + len) as u64;
    let cut = KernelError::Truncated { what: "the setup header", need, have: file.len() as u64 };
    bytes[..len].copy_from_slice(source.ok_or(cut)?);
    let version = header.version;
    if version < OLDEST {
        let (major, minor) = (version >> 8, version & 0xff);
        return Err(KernelError::Unsupported(format!(
            "it speaks boot protocol {major}.{minor:02}, older than Linux 2.4; at least 2.02 is needed"
        )));
    }
    if header.loadflags & LOADED_HIGH == 0 {
        return Err(KernelError::Unsupported(
            "this is a zImage, loaded below 1 MiB; build it as bzImage".into(),
        ));
    }
    Ok(header)
}
