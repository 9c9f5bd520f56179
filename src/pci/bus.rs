//! Bus 0: 32 slots, configuration accesses by function, firmware's programming, reset.
//!
//! Built by `machine`; called by the two configuration mechanisms ([`super::ConfigPorts`], [`super::Ecam`]).
//! An absent function reads all-ones. The slot list has a leaf lock, dropped before a slot is called.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::allocator::{self, BarAllocation, NoRoom};
use super::bar::{BarDecoder, Claim};
use super::header::HeaderError;
use super::map::PciMap;
use super::slot::{Slot, Wires};
use super::spec;
use super::{Bdf, Function};
use crate::bus::{Bus, Mmio, Pio, Width};

/// Why a function cannot join the bus.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PciError {
    /// Slots are 0 to 31.
    #[error("there is no PCI slot {0}: slots are 0 to 31")]
    NoSuchSlot(u8),
    /// Two devices want one slot.
    #[error("PCI slot {0} is taken: give the device another addr=")]
    SlotTaken(u8),
    /// The function's own description is wrong.
    #[error("PCI slot {slot}: {source}")]
    Header {
        /// The slot.
        slot: u8,
        /// What was wrong.
        source: HeaderError,
    },
}

/// PCI bus 0.
#[derive(Debug)]
pub struct PciBus {
    map: PciMap,
    decoder: BarDecoder,
    slots: RwLock<Vec<Arc<Slot>>>,
    allocations: Mutex<Vec<BarAllocation>>,
}

impl PciBus {
    /// An empty bus whose BARs appear on `pio` and `mmio`.
    pub fn new(pio: Bus<Pio>, mmio: Bus<Mmio>, map: PciMap) -> Self {
        let decoder = BarDecoder::new(pio, mmio, map);
        Self { map, decoder, slots: RwLock::default(), allocations: Mutex::default() }
    }

    /// Puts `function` into `slot`. It decodes nothing before [`Self::program_bars`].
    ///
    /// # Errors
    /// [`PciError`].
    pub fn add(&self, slot: u8, function: Arc<dyn Function>, wires: Wires) -> Result<(), PciError> {
        self.add_with_rom(slot, function, wires, None)
    }

    /// [`Self::add`] for a function with an expansion ROM.
    ///
    /// # Errors
    /// [`PciError`], also for a ROM of more than [`MAX_ROM`] bytes.
    ///
    /// [`MAX_ROM`]: super::MAX_ROM
    pub fn add_with_rom(
        &self,
        slot: u8,
        function: Arc<dyn Function>,
        wires: Wires,
        rom: Option<Arc<[u8]>>,
    ) -> Result<(), PciError> {
        if slot >= spec::SLOTS {
            return Err(PciError::NoSuchSlot(slot));
        }
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        if slots.iter().any(|s| s.number == slot) {
            return Err(PciError::SlotTaken(slot));
        }
        let new =
            Slot::new(slot, function, wires, rom).map_err(|source| PciError::Header { slot, source })?;
        slots.push(Arc::new(new));
        Ok(())
    }

    /// Where BARs may be, and which interrupt a pin reaches.
    pub fn map(&self) -> PciMap {
        self.map
    }

    /// The slots that have a function, lowest first.
    pub fn used_slots(&self) -> Vec<u8> {
        let mut numbers: Vec<u8> = self.slots().iter().map(|slot| slot.number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Does what a BIOS does before a kernel starts: BARs, memory and I/O decoding, Interrupt Line. Bus
    /// mastering stays off: that is the driver's to turn on.
    ///
    /// # Errors
    /// [`NoRoom`]; nothing is changed then.
    pub fn program_bars(&self) -> Result<(), NoRoom> {
        let slots = self.slots();
        let bars = |s: &Arc<Slot>| s.bars().into_iter().map(|b| (s.number, b)).collect::<Vec<_>>();
        let requests: Vec<_> = slots.iter().flat_map(bars).collect();
        let placed = allocator::allocate(&requests, &self.map)?;
        for slot in &slots {
            let pin = slot.function.identity().interrupt_pin;
            let own = placed.iter().filter(|p| p.slot == slot.number);
            slot.program(&self.decoder, |header| {
                own.for_each(|p| header.program_bar(&p.bar, p.base));
                if pin != 0 {
                    header.program_interrupt_line((self.map.intx_gsi)(slot.number, pin) as u8);
                }
            });
        }
        *self.allocations.lock().unwrap_or_else(PoisonError::into_inner) = placed;
        Ok(())
    }

    /// RST# to every function, then firmware's programming again.
    ///
    /// # Errors
    /// [`NoRoom`], which cannot happen once [`Self::program_bars`] went well.
    pub fn reset(&self) -> Result<(), NoRoom> {
        self.reset_only();
        self.program_bars()
    }

    /// RST# to every function; programming them is left to the guest's firmware.
    pub fn reset_only(&self) {
        for slot in self.slots() {
            slot.reset(&self.decoder);
        }
    }

    /// Configuration read of `width` bytes at `offset` (0 to 4095; conventional functions end at 255).
    pub fn config_read(&self, bdf: Bdf, offset: u16, width: Width) -> u64 {
        self.slot(bdf).map_or(width.all_ones(), |slot| slot.read(offset, width))
    }

    /// Configuration write; lost where there is no function.
    pub fn config_write(&self, bdf: Bdf, offset: u16, width: Width, value: u64) {
        if let Some(slot) = self.slot(bdf) {
            slot.write(&self.decoder, offset, width, value);
        }
    }

    /// Where firmware put each BAR.
    pub fn allocations(&self) -> Vec<BarAllocation> {
        self.allocations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The BARs that are switched on now, with where they are and whether they decode there.
    pub fn claims(&self) -> Vec<Claim> {
        self.decoder.claims()
    }

    /// The functions with an interrupt pin: (slot, pin, global system interrupt), for the tables.
    pub fn interrupt_pins(&self) -> Vec<(u8, u8, u32)> {
        let pin = |s: &Arc<Slot>| (s.number, s.function.identity().interrupt_pin);
        let routed = |(slot, pin)| (pin != 0).then(|| (slot, pin, (self.map.intx_gsi)(slot, pin)));
        self.slots().iter().map(pin).filter_map(routed).collect()
    }

    fn slot(&self, bdf: Bdf) -> Option<Arc<Slot>> {
        if bdf.bus != 0 || bdf.function != 0 {
            return None;
        }
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.iter().find(|s| s.number == bdf.slot).cloned()
    }

    fn slots(&self) -> Vec<Arc<Slot>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
