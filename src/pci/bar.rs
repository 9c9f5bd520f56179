//! From enabled BARs to ranges on the buses.
//!
//! Every slot hands in what its header wants decoded ([`BarDecoder::set_claims`]); this file registers it,
//! removes what is gone, and keeps what cannot decode as waiting: outside the apertures (RAM, ECAM, the
//! interrupt controllers) or over another device. A waiting BAR is tried again at every change, so it comes
//! back when the one in its way moves. One lock over all claims; it is held while the buses' leaf locks are
//! taken and while the wires of [`super::slot`] are switched, never while a device is called.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::function::{BarKind, BarSpec, Function};
use super::header::DecodedBar;
use super::map::PciMap;
use crate::bus::{Access, AccessError, Bus, BusDevice, Mmio, Pio, RangeId};

/// A BAR on the bus.
#[derive(Debug)]
struct BarWindow {
    function: Arc<dyn Function>,
    index: u8,
}

/// An expansion ROM on the bus: ones behind its image, and deaf to writes.
#[derive(Debug)]
struct RomWindow(Arc<[u8]>);

impl BusDevice for RomWindow {
    fn read(&self, offset: u64, access: &Access<'_>) -> Result<u64, AccessError> {
        let byte =
            |i| usize::try_from(offset + i).ok().and_then(|at| self.0.get(at)).copied().unwrap_or(0xff);
        Ok((0..access.width.bytes()).fold(0, |sum, i| sum | u64::from(byte(i)) << (8 * i)))
    }

    fn write(&self, _: u64, _: u64, _: &Access<'_>) -> Result<(), AccessError> {
        Ok(())
    }
}

impl BusDevice for BarWindow {
    fn read(&self, offset: u64, access: &Access<'_>) -> Result<u64, AccessError> {
        self.function.bar_read(self.index, offset, access)
    }

    fn write(&self, offset: u64, value: u64, access: &Access<'_>) -> Result<(), AccessError> {
        self.function.bar_write(self.index, offset, value, access)
    }
}

/// A BAR that its header wants decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Slot of the function.
    pub slot: u8,
    /// Which BAR.
    pub bar: BarSpec,
    /// First address or port.
    pub base: u64,
    /// Whether it has the range; otherwise it waits.
    pub decodes: bool,
}

#[derive(Debug)]
struct Held {
    slot: u8,
    bar: DecodedBar,
    range: Option<RangeId>,
    window: Arc<dyn BusDevice>,
}

/// All claims of a bus, guarded together.
#[derive(Debug, Default)]
pub(super) struct Claims {
    held: Vec<Held>,
}

/// Who answers a slot's BARs.
#[derive(Debug)]
pub(super) struct Behind<'a> {
    pub(super) function: &'a Arc<dyn Function>,
    pub(super) rom: &'a Option<Arc<[u8]>>,
}

impl Behind<'_> {
    fn window(&self, bar: &BarSpec) -> Arc<dyn BusDevice> {
        match self.rom {
            Some(rom) if bar.kind == BarKind::Rom => Arc::new(RomWindow(rom.clone())),
            _ => Arc::new(BarWindow { function: self.function.clone(), index: bar.index }),
        }
    }
}

/// Registers BARs on the buses.
#[derive(Debug)]
pub(super) struct BarDecoder {
    pio: Bus<Pio>,
    mmio: Bus<Mmio>,
    map: PciMap,
    claims: Mutex<Claims>,
}

impl BarDecoder {
    pub(super) fn new(pio: Bus<Pio>, mmio: Bus<Mmio>, map: PciMap) -> Self {
        Self { pio, mmio, map, claims: Mutex::default() }
    }

    /// The lock under which a header's demands become true.
    pub(super) fn lock(&self) -> MutexGuard<'_, Claims> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the claims of `slot` by `wanted`.
    pub(super) fn set_claims(
        &self,
        claims: &mut Claims,
        slot: u8,
        behind: &Behind<'_>,
        wanted: &[DecodedBar],
    ) {
        let (stay, go): (Vec<_>, Vec<_>) =
            claims.held.drain(..).partition(|h| h.slot != slot || wanted.contains(&h.bar));
        claims.held = stay;
        for held in go {
            self.unregister(&held);
        }
        for &bar in wanted {
            if !claims.held.iter().any(|h| h.slot == slot && h.bar == bar) {
                let window = behind.window(&bar.spec);
                claims.held.push(Held { slot, bar, range: None, window });
            }
        }
        for held in claims.held.iter_mut().filter(|h| h.range.is_none()) {
            held.range = self.register(held);
        }
    }

    /// What is claimed now.
    pub(super) fn claims(&self) -> Vec<Claim> {
        let claim =
            |h: &Held| Claim { slot: h.slot, bar: h.bar.spec, base: h.bar.base, decodes: h.range.is_some() };
        self.lock().held.iter().map(claim).collect()
    }

    fn register(&self, held: &Held) -> Option<RangeId> {
        let DecodedBar { spec, base } = held.bar;
        if !self.map.may_decode(spec.kind, base, spec.size) {
            return None;
        }
        let bar = if spec.kind == BarKind::Rom { "ROM".to_owned() } else { format!("BAR{}", spec.index) };
        let name = format!("pci 00:{:02x}.0 {bar}", held.slot);
        let window = held.window.clone();
        // An overlap is the guest's doing, not an error of ours: the BAR waits.
        match spec.kind {
            BarKind::Io => self.pio.insert(&name, base, spec.size, window).ok(),
            BarKind::Mem32 | BarKind::Mem64 | BarKind::Rom => {
                self.mmio.insert(&name, base, spec.size, window).ok()
            }
        }
    }

    fn unregister(&self, held: &Held) {
        let Some(range) = held.range else { return };
        match held.bar.spec.kind {
            BarKind::Io => self.pio.remove(range),
            BarKind::Mem32 | BarKind::Mem64 | BarKind::Rom => self.mmio.remove(range),
        }
    }
}
