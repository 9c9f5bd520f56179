//! Interrupts as wires and messages.
//!
//! A device holds an [`IrqLine`] (INTx: a level) or sends messages through a `DmaHandle` to an [`MsiSink`].
//! Devices never see PIC, IOAPIC, GSI routing or the accelerator; `machine` makes the connections.

mod line;

pub use line::{GsiPin, GsiSink, IrqLine};

use std::fmt::Debug;

/// Where message-signalled interrupts go: the accelerator's APIC.
pub trait MsiSink: Debug + Send + Sync {
    /// Delivers the message. Address and data as Intel SDM volume 3, section 11.11 lays them out; a message
    /// that addresses no APIC is dropped. Never blocks.
    fn send(&self, addr: u64, data: u32);
}
