//! Why nothing was started: each error is one line that names the option, the file and what to do.
//!
//! Built by every part of `boot`, printed by `main` with exit status 1.

use super::cmdline::CmdlineError;
use super::decompress::Compression;
use crate::memory::MemoryError;

/// Why a kernel could not be made ready, or not be written to RAM.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The kernel file.
    #[error("-kernel {file}: {why}")]
    Kernel {
        /// The path as the user gave it, made printable.
        file: String,
        /// What is wrong.
        why: KernelError,
    },
    /// The initrd file.
    #[error("-initrd {file}: {why}")]
    Initrd {
        /// The path as the user gave it, made printable.
        file: String,
        /// What is wrong.
        why: InitrdError,
    },
    /// The command line.
    #[error("-append: {0}")]
    Cmdline(#[from] CmdlineError),
    /// The machine has less RAM than the kernel was prepared for.
    #[error("the kernel was prepared for a machine with more memory: {0}")]
    Ram(#[from] MemoryError),
}

/// What is wrong with a kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The host could not open or read it.
    #[error("cannot read it: {0}")]
    Io(#[from] std::io::Error),
    /// A directory, device or socket.
    #[error("this is a {0}, not a file with a kernel")]
    NotAFile(&'static str),
    /// More than a kernel can be.
    #[error("larger than {} MiB: not a kernel", .limit >> 20)]
    FileTooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// Something else than an x86 kernel: what it looks like, and what to do.
    #[error("this is {what}, not an x86-64 kernel (bzImage or ELF vmlinux){}", advice(.hint))]
    NotAKernel {
        /// What the content looks like.
        what: String,
        /// What to do, empty if nothing better than giving a kernel is known.
        hint: &'static str,
    },
    /// A kernel of a kind that is not supported.
    #[error("{0}")]
    Unsupported(String),
    /// The file ends too early.
    #[error("truncated: {what} reaches to byte {need}, but the file has {have}; copy or build it again")]
    Truncated {
        /// The part that is cut off.
        what: &'static str,
        /// Where this part ends, in bytes from the start of the file.
        need: u64,
        /// The file's length in bytes.
        have: u64,
    },
    /// Its parts contradict each other.
    #[error("damaged: {0}; copy or build it again")]
    Inconsistent(String),
    /// It wants memory that this machine does not have.
    #[error(
        "{what} needs guest memory {start:#x}-{end:#x}, but RAM for a kernel is {low:#x}-{high:#x}{}",
        more_memory(*.start, *.end, *.low)
    )]
    DoesNotFit {
        /// The part of the kernel.
        what: &'static str,
        /// First address.
        start: u64,
        /// One past the last.
        end: u64,
        /// Where a kernel may start.
        low: u64,
        /// Where RAM below 4 GiB ends.
        high: u64,
    },
    /// The compressed part cannot be unpacked on the host.
    #[error("its {format} payload is damaged: {why}; copy or build it again")]
    Payload {
        /// The compression.
        format: Compression,
        /// What the decompressor said.
        why: String,
    },
}

/// What is wrong with an initrd.
#[derive(Debug, thiserror::Error)]
pub enum InitrdError {
    /// The host could not open or read it.
    #[error("cannot read it: {0}")]
    Io(#[from] std::io::Error),
    /// A directory, device or socket.
    #[error("this is a {0}, not a file")]
    NotAFile(&'static str),
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// No room beside the kernel.
    #[error(
        "{size} bytes do not fit: {room} bytes are free between the end of the kernel at {low:#x} and {high:#x}; \
         give more memory with -m or use a smaller initrd"
    )]
    DoesNotFit {
        /// The initrd's length.
        size: u64,
        /// How much would fit.
        room: u64,
        /// Where the free room starts.
        low: u64,
        /// Where it ends: end of RAM or what the kernel can reach.
        high: u64,
    },
}

fn advice(text: &&'static str) -> String {
    if text.is_empty() { String::new() } else { format!("; {text}") }
}

fn more_memory(start: u64, end: u64, low: u64) -> String {
    let reachable = start >= low && end <= crate::machine::pc::LOW_RAM_END;
    if reachable { format!("; give at least -m {}M", end.div_ceil(1 << 20)) } else { String::new() }
}
