//! A function's message-signalled interrupt: what its MSI capability says now, and the way out.
//!
//! The header writes the state, the device asks and sends. The message leaves through the function's
//! `DmaHandle`, because it is a memory write of a bus master (PCI Local Bus 3.0, section 6.8). One leaf lock.

use std::sync::{Arc, Mutex, PoisonError};

use crate::memory::{DmaError, DmaHandle};

/// The MSI capability's registers in effect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MsiMessage {
    /// Message Control bit 0. While set, the function must not drive INTx.
    pub enabled: bool,
    /// Message Address.
    pub address: u64,
    /// Message Data.
    pub data: u16,
}

/// A function's MSI output. Clones are the same output.
#[derive(Debug, Clone)]
pub struct Msi {
    message: Arc<Mutex<MsiMessage>>,
    dma: DmaHandle,
}

impl Msi {
    /// An output, disabled, that sends through `dma`.
    pub fn new(dma: DmaHandle) -> Self {
        Self { message: Arc::default(), dma }
    }

    /// Whether software chose MSI; otherwise the device drives its INTx pin.
    pub fn enabled(&self) -> bool {
        self.message().enabled
    }

    /// Sends the message, or nothing while MSI is disabled.
    ///
    /// # Errors
    /// [`DmaError::BusMasterOff`]; the interrupt is lost, as on hardware.
    pub fn send(&self) -> Result<(), DmaError> {
        let message = self.message();
        if !message.enabled {
            return Ok(());
        }
        self.dma.send_msi(message.address, u32::from(message.data))
    }

    /// The header's side: the capability was written.
    pub(super) fn set(&self, message: MsiMessage) {
        *self.message.lock().unwrap_or_else(PoisonError::into_inner) = message;
    }

    fn message(&self) -> MsiMessage {
        *self.message.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
