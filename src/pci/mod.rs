//! PCI: configuration space, BARs, interrupts. A device implements [`Function`]; the rest is here.
//!
//! The way of a configuration access: [`ConfigPorts`] or [`Ecam`] -> [`PciBus`] -> `slot` -> `header` (pure
//! registers) -> what they switch: `bar` (ranges on the buses), the function's `DmaHandle`, [`IntxLine`], [`Msi`].
//! One bus, function 0 only, no bridges to other buses.

mod allocator;
mod bar;
mod bdf;
mod bus;
mod capability;
mod config_ports;
mod config_space;
mod ecam;
mod function;
mod header;
mod host_bridge;
mod i440fx;
mod intx;
mod isa_bridge;
mod map;
mod msi;
mod piix3;
mod pme;
mod slot;
pub mod spec;

pub use allocator::{BarAllocation, NoRoom};
pub use bar::Claim;
pub use bdf::Bdf;
pub use bus::{PciBus, PciError};
pub use capability::Capability;
pub use config_ports::{CONFIG_PORTS_BASE, CONFIG_PORTS_LEN, ConfigPorts};
pub use ecam::Ecam;
pub use function::{BarKind, BarSpec, ConfigRegister, Function, Identity, PowerState};
pub use header::{HeaderError, MAX_ROM};
pub use host_bridge::HostBridge;
pub use i440fx::{I440Fx, PamPiece};
pub use intx::IntxLine;
pub use isa_bridge::IsaBridge;
pub use map::{PciMap, Window};
pub use msi::{Msi, MsiMessage};
pub use piix3::Piix3;
pub use pme::Pme;
pub use slot::Wires;
