//! How a kernel gets into an empty machine: files are read, checked and decompressed first, then written to
//! guest RAM as one list of pieces, with the registers of the boot CPU.
//!
//! `machine` calls [`prepare`] before it creates anything, and [`BootImage::load`] at each start and reset. Files
//! come from strangers: whatever is wrong with one ends in one line, never in a panic, a hang or a write outside
//! RAM. Nothing here touches an accelerator, a device or the network. `docs/boot.md` tells the user's side.

pub mod acpi;
pub mod bios;
mod bytes;
mod bzimage;
mod cmdline;
mod decompress;
mod detect;
mod elf;
mod error;
mod files;
mod firmware;
mod image;
mod initrd;
mod linux;
mod low_memory;
mod memory_map;
pub mod mptable;
mod multiboot;
mod multiboot2;
mod prepare;
mod pvh;

pub use cmdline::CmdlineError;
pub use decompress::Compression;
pub use error::{BootError, InitrdError, KernelError};
pub use image::BootImage;
pub use memory_map::{MemoryKind, MemoryRange, memory_map};
pub use prepare::{BootConfig, BootTarget, prepare, prepare_from_bytes};
