//! One function on the bus: its header, and the wires that the header switches.
//!
//! Locks: the header's, for one register access; then the claims' (see [`super::bar`]), under which the
//! header is read again and its demands are carried out, so that of two racing writers the last state wins.
//! Order: claims, header; claims, bus; claims, wires. The device is called with none of them held.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bar::{BarDecoder, Behind};
use super::header::{Controls, Header, HeaderError};
use super::spec;
use super::{BarKind, BarSpec, Function, IntxLine, Msi};
use crate::bus::Width;
use crate::memory::DmaHandle;

/// What connects a function to the machine. The device holds clones.
#[derive(Debug, Clone)]
pub struct Wires {
    /// Its way to guest memory, switched by Command.BME.
    pub dma: DmaHandle,
    /// Its interrupt pin.
    pub intx: Option<IntxLine>,
    /// Its MSI output, for a function with that capability.
    pub msi: Option<Msi>,
}

impl Wires {
    /// A function without interrupts.
    pub fn dma_only(dma: DmaHandle) -> Self {
        Self { dma, intx: None, msi: None }
    }
}

#[derive(Debug)]
struct State {
    header: Header,
    /// Master aborts up to here were cleared by software.
    aborts_seen: u64,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) number: u8,
    pub(super) function: Arc<dyn Function>,
    wires: Wires,
    rom: Option<Arc<[u8]>>,
    state: Mutex<State>,
}

impl Slot {
    pub(super) fn new(
        number: u8,
        function: Arc<dyn Function>,
        wires: Wires,
        rom: Option<Arc<[u8]>>,
    ) -> Result<Self, HeaderError> {
        let bars = bars(&*function, rom.as_deref());
        let mut header = Header::new(&function.identity(), &bars, &function.capabilities())?;
        for register in function.config_registers() {
            header.define_register(&register);
        }
        if !function.has_intx_disable() {
            header.without_intx_disable();
        }
        if function.pme().is_some() {
            header.leave_pme_to_the_device();
        }
        let state = Mutex::new(State { header, aborts_seen: wires.dma.aborts() });
        Ok(Self { number, function, wires, rom, state })
    }

    /// The BARs, that of the expansion ROM last.
    pub(super) fn bars(&self) -> Vec<BarSpec> {
        bars(&*self.function, self.rom.as_deref())
    }

    /// Configuration read.
    pub(super) fn read(&self, offset: u16, width: Width) -> u64 {
        let state = self.state();
        let pending =
            self.function.has_intx_disable() && self.wires.intx.as_ref().is_some_and(IntxLine::pending);
        let aborted = self.wires.dma.aborts() != state.aborts_seen;
        let status = if pending { spec::STATUS_INTERRUPT } else { 0 }
            | if aborted { spec::STATUS_MASTER_ABORT } else { 0 };
        let pmcsr = self.function.pme().map_or(0, |pme| {
            let enabled = if pme.enabled() { spec::PMCSR_PME_ENABLE } else { 0 };
            enabled | if pme.status() { spec::PMCSR_PME_STATUS } else { 0 }
        });
        state.header.read(offset, width, status, pmcsr)
    }

    /// Configuration write and everything that follows from it.
    pub(super) fn write(&self, decoder: &BarDecoder, offset: u16, width: Width, value: u64) {
        let aborts = self.wires.dma.aborts();
        self.change(decoder, |state| {
            state.header.write(offset, width, value);
            if clears_master_abort(offset, width, value) {
                state.aborts_seen = aborts;
            }
            if let Some(pme) = self.function.pme()
                && let Some(byte) = state.header.pme_byte(offset, width, value)
            {
                pme.set_enabled(byte & (spec::PMCSR_PME_ENABLE >> 8) as u8 != 0);
                if byte & (spec::PMCSR_PME_STATUS >> 8) as u8 != 0 {
                    pme.clear();
                }
            }
        });
        self.function.config_written(offset, width, value);
    }

    /// RST#: header, wires, then the device.
    pub(super) fn reset(&self, decoder: &BarDecoder) {
        self.change(decoder, |state| {
            state.header.reset();
            state.aborts_seen = self.wires.dma.aborts();
        });
        self.function.bus_reset();
    }

    /// Firmware's writes to the header.
    pub(super) fn program(&self, decoder: &BarDecoder, f: impl FnOnce(&mut Header)) {
        self.change(decoder, |state| f(&mut state.header));
    }

    fn change(&self, decoder: &BarDecoder, f: impl FnOnce(&mut State)) {
        let (before, after) = {
            let mut state = self.state();
            let before = state.header.controls();
            f(&mut state);
            (before, state.header.controls())
        };
        if before == after {
            return;
        }
        let bus_master_switched = self.apply(decoder);
        if before.power != after.power {
            self.function.power_state_changed(after.power);
        }
        if let Some(on) = bus_master_switched {
            self.function.bus_master_changed(on);
        }
    }

    /// Makes the header's demands true; the new state of bus mastering if that changed.
    fn apply(&self, decoder: &BarDecoder) -> Option<bool> {
        let mut claims = decoder.lock();
        let now: Controls = self.state().header.controls();
        let behind = Behind { function: &self.function, rom: &self.rom };
        decoder.set_claims(&mut claims, self.number, &behind, &now.decoded);
        if let Some(intx) = &self.wires.intx {
            intx.set_disabled(now.intx_disabled);
        }
        if let Some(msi) = &self.wires.msi {
            msi.set(now.msi);
        }
        let was = self.wires.dma.enabled();
        self.wires.dma.set_enabled(now.bus_master);
        (was != now.bus_master).then_some(now.bus_master)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A ROM's BAR has the next power of two, and at least the least that there is.
fn bars(function: &dyn Function, rom: Option<&[u8]>) -> Vec<BarSpec> {
    let size = |rom: &[u8]| (rom.len() as u64).next_power_of_two().max(2 << 10);
    let rom = rom.map(|rom| BarSpec { index: BarSpec::ROM, kind: BarKind::Rom, size: size(rom) });
    function.bars().into_iter().chain(rom).collect()
}

fn clears_master_abort(offset: u16, width: Width, value: u64) -> bool {
    let high_byte = u64::from(spec::STATUS) + 1;
    let lane = high_byte.wrapping_sub(u64::from(offset));
    lane < width.bytes() && value >> (8 * lane) & u64::from(spec::STATUS_MASTER_ABORT >> 8) != 0
}
