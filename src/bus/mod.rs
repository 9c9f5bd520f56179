//! The buses: port I/O and memory-mapped I/O, from an address to the device that answers it.
//!
//! `machine` registers devices, PCI moves its BARs here, `accel` exits arrive here. The device reports what
//! was wrong with an access ([`AccessError`]); the bus decides what the guest sees: all-ones for reads,
//! nothing for writes. No guest access can panic here.

mod access;
mod address_space;

pub use access::{Access, AccessError, NoOrigin, Origin, Width};
pub use address_space::{Bus, BusDevice, BusError, Mmio, Pio, RangeId};
