//! `-bios`: a machine that starts with firmware, and what such a machine has beside the chips of `board`.
//!
//! Made by the assembly before the board, which asks it for its bridges. The guest switches the map through the host
//! bridge: PAM -> [`FirmwareArea`] -> the accelerator.

use std::sync::Arc;

use super::error::SetupError;
use super::exit_code::EndReason;
use super::exits::Buses;
use super::lifecycle::Lifecycle;
use crate::accel::Vm;
use crate::bus::{Access, AccessError, BusDevice};
use crate::memory::{AREA_BASE, AREA_END, FirmwareArea, GuestRam};
use crate::pci::{I440Fx, PamPiece};

/// The firmware's image and its place in the guest's memory.
#[derive(Debug, Clone)]
pub struct Firmware {
    area: Arc<FirmwareArea>,
    vm: Arc<dyn Vm>,
    life: Lifecycle,
}

impl Firmware {
    /// Puts `image` below 4 GiB and below 1 MiB.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(
        image: &[u8],
        ram: &GuestRam,
        vm: &Arc<dyn Vm>,
        buses: &Buses,
        life: &Lifecycle,
    ) -> Result<Self, SetupError> {
        let area = Arc::new(FirmwareArea::new(image, ram.clone())?);
        vm.map_firmware(&area)?;
        let window = Arc::new(Window(area.clone()));
        buses.mmio.insert("firmware", AREA_BASE, AREA_END - AREA_BASE, window)?;
        Ok(Self { area, vm: vm.clone(), life: life.clone() })
    }

    /// The host bridge, which switches the map.
    pub fn host_bridge(&self) -> I440Fx {
        let this = self.clone();
        I440Fx::new(move |pieces| this.remap(pieces))
    }

    fn remap(&self, pieces: &[PamPiece]) {
        let set = |piece: &PamPiece| self.area.set_piece(piece.number, piece.read, piece.write);
        if pieces.iter().filter(|piece| set(piece)).count() == 0 {
            return;
        }
        if let Err(error) = self.vm.map_firmware(&self.area) {
            self.life.end(EndReason::Internal(error.to_string()));
        }
    }
}

/// Accesses to the area that are not to memory.
#[derive(Debug)]
struct Window(Arc<FirmwareArea>);

impl BusDevice for Window {
    fn read(&self, _: u64, _: &Access<'_>) -> Result<u64, AccessError> {
        Err(AccessError::NoResponse)
    }

    fn write(&self, offset: u64, value: u64, access: &Access<'_>) -> Result<(), AccessError> {
        self.0.write(AREA_BASE + offset, &value.to_le_bytes()[..access.width.bytes() as usize]);
        Ok(())
    }
}
