//! A kernel ready to start: pieces of bytes with their guest addresses, and the boot CPU's registers.
//!
//! Made by `prepare`, kept by `machine`, which loads it at start and again at each reset. Holds the decompressed
//! kernel and the initrd, so that a reset opens no file.

use std::ops::Range;
use std::sync::Arc;

use super::error::BootError;
use crate::accel::EntryState;
use crate::memory::{GuestRam, MemoryError};

/// Bytes that belong at one guest physical address.
#[derive(Clone)]
pub(super) struct Piece {
    addr: u64,
    source: Source,
}

#[derive(Clone)]
enum Source {
    /// A window into a shared buffer.
    Buffer(Arc<Vec<u8>>, Range<usize>),
    /// What lies in RAM when the image is loaded: a table that only the finished machine knows.
    Ram(u64, usize),
}

impl Piece {
    /// A buffer of its own.
    pub(super) fn new(addr: u64, bytes: Vec<u8>) -> Self {
        let window = 0..bytes.len();
        Self { addr, source: Source::Buffer(Arc::new(bytes), window) }
    }

    /// A part of a shared buffer; a window outside it is empty.
    pub(super) fn window(addr: u64, buffer: &Arc<Vec<u8>>, window: Range<usize>) -> Self {
        Self { addr, source: Source::Buffer(Arc::clone(buffer), window) }
    }

    /// A copy of `len` bytes that will be in RAM at `from`.
    pub(super) fn copied(addr: u64, from: u64, len: usize) -> Self {
        Self { addr, source: Source::Ram(from, len) }
    }

    /// The same bytes elsewhere.
    pub(super) fn at(self, addr: u64) -> Self {
        Self { addr, ..self }
    }

    pub(super) fn addr(&self) -> u64 {
        self.addr
    }

    /// As far as they are known before the image is loaded.
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.source {
            Source::Buffer(buffer, window) => buffer.get(window.clone()).unwrap_or_default(),
            Source::Ram(..) => &[],
        }
    }

    fn load(&self, ram: &GuestRam) -> Result<(), MemoryError> {
        match self.source {
            Source::Buffer(..) => ram.write(self.addr, self.bytes()),
            Source::Ram(from, len) => {
                let mut bytes = vec![0; len];
                ram.read(from, &mut bytes)?;
                ram.write(self.addr, &bytes)
            }
        }
    }
}

impl std::fmt::Debug for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}+{:#x}", self.addr, self.bytes().len())
    }
}

/// A kernel, its initrd and everything it is told, checked and ready for RAM.
#[derive(Debug, Clone)]
pub struct BootImage {
    pub(super) pieces: Vec<Piece>,
    pub(super) entry: EntryState,
    pub(super) summary: String,
}

impl BootImage {
    /// Writes everything and returns how the boot CPU starts. `ram` must be all zero: parts that the kernel expects
    /// to be zero (.bss) are not written. Callable as often as the machine is reset.
    ///
    /// # Errors
    /// [`BootError::Ram`] when a piece lies outside `ram`; nothing is written then.
    pub fn load(&self, ram: &GuestRam) -> Result<EntryState, BootError> {
        for piece in &self.pieces {
            if !ram.contains(piece.addr(), piece.bytes().len()) {
                return Err(MemoryError::NotRam { addr: piece.addr(), len: piece.bytes().len() }.into());
            }
        }
        for piece in &self.pieces {
            piece.load(ram)?;
        }
        Ok(self.entry)
    }

    /// How the boot CPU starts.
    pub fn entry(&self) -> EntryState {
        self.entry
    }

    /// One line for the user: kind of kernel, how it was unpacked, where it is entered.
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// What [`Self::load`] writes: guest physical address and bytes, in the order of writing.
    pub fn pieces(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.pieces.iter().map(|p| (p.addr(), p.bytes()))
    }
}
