//! Why a machine could not be set up: one line for the user, exit status 1.

use super::eeprom_file::EepromError;
use crate::accel::AccelError;
use crate::boot::BootError;
use crate::bus::BusError;
use crate::chipset::FwCfgError;
use crate::event::EventError;
use crate::memory::MemoryError;
use crate::netdev::NetworkError;
use crate::pci::{NoRoom, PciError};
use crate::sys::chardev::CharError;

/// Why a machine could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The kernel, initrd or command line.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The accelerator.
    #[error(transparent)]
    Accel(#[from] AccelError),
    /// Guest RAM.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Two devices at one address.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// A PCI slot.
    #[error(transparent)]
    Pci(#[from] PciError),
    /// BARs.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// `-fw_cfg`.
    #[error(transparent)]
    FwCfg(#[from] FwCfgError),
    /// The event loop or one of its timers.
    #[error(transparent)]
    Event(#[from] EventError),
    /// A network backend, or a cable.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A serial port's host side.
    #[error(transparent)]
    Serial(#[from] CharError),
    /// A monitor's thread.
    #[error("cannot start a monitor's thread: {0}")]
    Thread(std::io::Error),
    /// The machine cannot begin at rest.
    #[error("-S: {0}")]
    Stopped(String),
    /// More devices than slots.
    #[error("all PCI slots are taken: remove a -device")]
    NoSlot,
    /// `-fault` in a card.
    #[error("-fault: {0}")]
    Fault(String),
    /// `-trace`.
    #[error(transparent)]
    Trace(#[from] crate::trace::TraceError),
    /// `-d symbols=`.
    #[error("-d symbols=: {0}")]
    Symbols(#[from] crate::trace::SymbolError),
    /// `-bios` and `romfile=`.
    #[error(transparent)]
    Rom(#[from] crate::boot::bios::RomError),
    /// `eeprom=`.
    #[error("-device: {0}")]
    Eeprom(#[from] EepromError),
    /// A file of the user's.
    #[error("{option} {path}: {source}")]
    File {
        /// The option that named it.
        option: &'static str,
        /// The path.
        path: String,
        /// The host's error.
        source: std::io::Error,
    },
}
