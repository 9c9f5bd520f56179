//! From the user's files to a [`BootImage`]: the one place that knows every kind of kernel.
//!
//! Called by `machine` before anything is created; [`prepare_from_bytes`] is the same without files, for tests and
//! fuzzing.

use std::path::PathBuf;
use std::sync::Arc;

use super::bzimage::{BzImage, Unpacked};
use super::cmdline::CmdlineError;
use super::detect::{self, KernelKind, Multiboot, detect};
use super::error::{BootError, InitrdError, KernelError};
use super::files::{FileError, printable, read_bounded};
use super::image::{BootImage, Piece};
use super::linux::{self, LinuxKernel};
use super::{elf, initrd, low_memory, multiboot, multiboot2, pvh};
use crate::accel::EntryState;
use crate::cli::KernelUnpack;
use crate::machine::pc::LOW_RAM_END;

/// Largest kernel file: beyond a distribution's vmlinux with its debug information.
const MAX_KERNEL_FILE: u64 = 1 << 30;

/// What to boot and the machine it will find.
#[derive(Debug, Clone)]
pub struct BootConfig {
    /// `-kernel`.
    pub kernel: PathBuf,
    /// `-initrd`.
    pub initrd: Option<PathBuf>,
    /// What the kernel is told.
    pub target: BootTarget,
}

/// What the kernel is told about itself and its machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootTarget {
    /// `-append`: the kernel's command line.
    pub cmdline: String,
    /// `-machine kernel-unpack=`.
    pub unpack: KernelUnpack,
    /// `-m`, in bytes.
    pub ram_bytes: u64,
    /// Guest physical address of the ACPI RSDP; 0 on a machine without ACPI tables.
    pub rsdp: u64,
}

impl BootTarget {
    /// Where RAM below 4 GiB ends.
    pub(super) fn low_ram_end(&self) -> u64 {
        self.ram_bytes.min(LOW_RAM_END)
    }
}

/// Reads, checks and unpacks everything; touches no guest.
///
/// # Errors
/// [`BootError`]: one line that names the option, the file, what is wrong and what to do.
pub fn prepare(config: &BootConfig) -> Result<BootImage, BootError> {
    let names = Names {
        kernel: printable(&config.kernel),
        initrd: config.initrd.as_deref().map(printable).unwrap_or_default(),
    };
    let files = || {
        let kernel = read_bounded(&config.kernel, MAX_KERNEL_FILE).map_err(kernel_file_error)?;
        let initrd = match &config.initrd {
            // A file beyond RAM is not worth reading; the exact room is known only after the kernel.
            Some(path) => Some(
                read_bounded(path, config.target.low_ram_end())
                    .map_err(|e| initrd_file_error(e, &config.target))?,
            ),
            None => None,
        };
        Ok((kernel, initrd))
    };
    files().and_then(|(kernel, initrd)| assemble(kernel, initrd, &config.target)).map_err(|f| names.error(f))
}

/// [`prepare`] for files that are in memory already.
///
/// # Errors
/// [`BootError`], which calls the files "(memory)".
pub fn prepare_from_bytes(
    kernel: Vec<u8>,
    initrd: Option<Vec<u8>>,
    target: &BootTarget,
) -> Result<BootImage, BootError> {
    let names = Names { kernel: "(memory)".into(), initrd: "(memory)".into() };
    assemble(kernel, initrd, target).map_err(|f| names.error(f))
}

/// What is wrong, before the file's name is joined to it.
#[derive(Debug)]
pub(super) enum Fault {
    Kernel(KernelError),
    Initrd(InitrdError),
    Cmdline(CmdlineError),
}

impl From<KernelError> for Fault {
    fn from(why: KernelError) -> Self {
        Self::Kernel(why)
    }
}

impl From<InitrdError> for Fault {
    fn from(why: InitrdError) -> Self {
        Self::Initrd(why)
    }
}

impl From<CmdlineError> for Fault {
    fn from(why: CmdlineError) -> Self {
        Self::Cmdline(why)
    }
}

struct Names {
    kernel: String,
    initrd: String,
}

impl Names {
    fn error(self, fault: Fault) -> BootError {
        match fault {
            Fault::Kernel(why) => BootError::Kernel { file: self.kernel, why },
            Fault::Initrd(why) => BootError::Initrd { file: self.initrd, why },
            Fault::Cmdline(why) => BootError::Cmdline(why),
        }
    }
}

/// An initrd that has no place yet.
#[derive(Debug)]
pub(super) struct Initrd(Vec<u8>);

impl Initrd {
    /// Puts it right behind the kernel, below `limit`.
    ///
    /// # Errors
    /// [`InitrdError::DoesNotFit`].
    pub(super) fn place_low(self, kernel_end: u64, limit: u64) -> Result<Piece, InitrdError> {
        Ok(Piece::new(initrd::place_low(self.0.len() as u64, kernel_end, limit)?, self.0))
    }

    /// Puts it as high as possible between the kernel's end and `limit`.
    ///
    /// # Errors
    /// [`InitrdError::DoesNotFit`].
    pub(super) fn place(self, kernel_end: u64, limit: u64) -> Result<Piece, InitrdError> {
        Ok(Piece::new(initrd::place(self.0.len() as u64, kernel_end, limit)?, self.0))
    }
}

fn assemble(kernel: Vec<u8>, initrd: Option<Vec<u8>>, target: &BootTarget) -> Result<BootImage, Fault> {
    if initrd.as_ref().is_some_and(Vec::is_empty) {
        return Err(InitrdError::Empty.into());
    }
    let initrd = initrd.map(Initrd);
    let ((mut pieces, entry), summary) = match detect(&kernel)? {
        KernelKind::BzImage => bzimage(kernel, initrd, target)?,
        KernelKind::Elf => elf_kernel(kernel, initrd, target)?,
        KernelKind::MultibootFlat(Multiboot::One(at)) => {
            (multiboot::flat(kernel, at, initrd, target)?, "multiboot 1 kernel".into())
        }
        KernelKind::MultibootFlat(Multiboot::Two(at)) => {
            (multiboot2::flat(kernel, at, initrd, target)?, "multiboot 2 kernel".into())
        }
    };
    pieces.extend(low_memory::bios_area());
    Ok(BootImage { pieces, entry, summary })
}

type Ready = ((Vec<Piece>, EntryState), String);

fn bzimage(file: Vec<u8>, initrd: Option<Initrd>, target: &BootTarget) -> Result<Ready, Fault> {
    let image = BzImage::parse(file)?;
    let Unpacked { kernel, how } = image.unpack(target.unpack, target.low_ram_end())?;
    let release = image.release().unwrap_or_else(|| "kernel of unknown release".into());
    let bits = if kernel.long { 64 } else { 32 };
    let summary = format!("{release} (bzImage), {how}, {bits}-bit entry {:#x}", kernel.entry);
    Ok((linux::finish(kernel, initrd, target)?, summary))
}

/// By the PVH note or the multiboot header if there is one, since they name a protocol; the ELF header alone only says
/// where code starts.
fn elf_kernel(mut file: Vec<u8>, initrd: Option<Initrd>, target: &BootTarget) -> Result<Ready, Fault> {
    let elf = elf::parse(&file)?;
    let header = detect::multiboot(&file);
    match header.filter(|_| elf.pvh_entry.is_none()) {
        Some(Multiboot::One(at)) => {
            return Ok((multiboot::elf(file, at, elf, initrd, target)?, "multiboot 1 kernel (ELF)".into()));
        }
        Some(Multiboot::Two(at)) => {
            return Ok((multiboot2::elf(file, at, elf, initrd, target)?, "multiboot 2 kernel (ELF)".into()));
        }
        None => {}
    }
    let end = elf.end();
    file.truncate(elf.file_end());
    file.shrink_to_fit();
    let pieces = elf.place(&Arc::new(file), target.low_ram_end())?;
    let entry = elf.entry;
    match elf.pvh_entry {
        Some(entry) => {
            let ready = pvh::finish(pieces, (entry, end), initrd, target)?;
            Ok((ready, format!("ELF kernel, PVH entry {entry:#x}")))
        }
        None if !elf.long => Err(KernelError::NotAKernel {
            what: "a 32-bit ELF file without PVH note or multiboot header".into(),
            hint: "give the bzImage of a 32-bit Linux",
        }
        .into()),
        None => {
            let header = linux::vmlinux_header();
            let kernel = LinuxKernel { header, end, entry, long: true, pieces };
            let ready = linux::finish(kernel, initrd, target)?;
            Ok((ready, format!("ELF kernel, Linux 64-bit entry {entry:#x}")))
        }
    }
}

fn kernel_file_error(error: FileError) -> Fault {
    Fault::Kernel(match error {
        FileError::Io(e) => KernelError::Io(e),
        FileError::NotAFile(kind) => KernelError::NotAFile(kind),
        FileError::TooLarge(_) => KernelError::FileTooLarge { limit: MAX_KERNEL_FILE },
    })
}

fn initrd_file_error(error: FileError, target: &BootTarget) -> Fault {
    let high = target.low_ram_end();
    Fault::Initrd(match error {
        FileError::Io(e) => InitrdError::Io(e),
        FileError::NotAFile(kind) => InitrdError::NotAFile(kind),
        FileError::TooLarge(size) => InitrdError::DoesNotFit { size, room: high, low: 0, high },
    })
}
