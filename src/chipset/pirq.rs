//! The PCI interrupt router of Intel's south bridges: four wires, each to an ISA interrupt that firmware chooses (Intel
//! 82371SB datasheet, section 2.2.7), and each to an IOAPIC input of its own, as later bridges have it (ICH9 datasheet,
//! section 5.8).
//!
//! Its inputs are [`GsiSink`]'s numbers 0 to 3. Driven by PCI devices, programmed by the ISA bridge. One lock, held while
//! the outputs are driven.

use std::sync::{Arc, Mutex, PoisonError};

use crate::irq::{GsiSink, IrqLine};

/// PIRQA to PIRQD.
pub const PIRQS: usize = 4;

/// Bit 7 of a route: to no ISA interrupt.
const OFF: u8 = 1 << 7;
/// The ISA interrupts that a route may name.
const ROUTABLE: u16 = 0b1101_1110_1111_1000;
const ISA_INTERRUPTS: usize = 16;

/// The router.
#[derive(Debug)]
pub struct PirqRouter {
    /// One wire for each (PIRQ, ISA interrupt), so that PIRQs which share an interrupt are ORed.
    isa: Vec<IrqLine>,
    ioapic: [IrqLine; PIRQS],
    state: Mutex<State>,
}

#[derive(Debug, Clone)]
struct State {
    levels: [bool; PIRQS],
    routes: [u8; PIRQS],
}

impl PirqRouter {
    /// A router without routes. `isa` gives a new wire to an ISA interrupt.
    pub fn new(isa: impl Fn(u32) -> IrqLine, ioapic: [IrqLine; PIRQS]) -> Arc<Self> {
        let wires = (0..PIRQS).flat_map(|_| 0..ISA_INTERRUPTS as u32).map(isa).collect();
        let state = State { levels: [false; PIRQS], routes: [OFF; PIRQS] };
        Arc::new(Self { isa: wires, ioapic, state: Mutex::new(state) })
    }

    /// Programs the route of PIRQ `n`: bits 3:0 an ISA interrupt, bit 7 none. Interrupts that are not to be had for PCI
    /// count as none.
    pub fn set_route(&self, n: usize, route: u8) {
        self.enter(|state| {
            if let Some(entry) = state.routes.get_mut(n) {
                *entry = route;
            }
        });
    }

    fn enter(&self, f: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.clone();
        f(&mut state);
        for n in 0..PIRQS {
            let (level, route) = (state.levels[n], state.routes[n]);
            if (level, route) == (before.levels[n], before.routes[n]) {
                continue;
            }
            self.ioapic[n].set_level(level);
            let open = route & OFF == 0 && ROUTABLE >> (route & 0xf) & 1 != 0;
            for (irq, wire) in self.isa[n * ISA_INTERRUPTS..][..ISA_INTERRUPTS].iter().enumerate() {
                wire.set_level(level && open && irq == usize::from(route & 0xf));
            }
        }
    }
}

impl GsiSink for PirqRouter {
    fn set_gsi(&self, pirq: u32, level: bool) {
        self.enter(|state| {
            if let Some(entry) = state.levels.get_mut(pirq as usize) {
                *entry = level;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::irq::GsiPin;

    #[test]
    fn a_route_leads_to_its_isa_interrupt_and_the_ioapic_hears_it_always() {
        let sink = Arc::new(Nobody);
        let pins: Vec<GsiPin> = (0..20).map(|gsi| GsiPin::new(gsi, sink.clone())).collect();
        let router =
            PirqRouter::new(|irq| pins[irq as usize].line(), [16, 17, 18, 19].map(|n: usize| pins[n].line()));
        let high = || (0..20).filter(|&n| pins[n].level()).collect::<Vec<_>>();
        router.set_gsi(1, true);
        assert_eq!(high(), [17], "no route yet");
        router.set_route(1, 10);
        assert_eq!(high(), [10, 17]);
        router.set_route(0, 10);
        router.set_gsi(0, true);
        router.set_gsi(1, false);
        assert_eq!(high(), [10, 16], "shared");
        router.set_route(0, 8);
        assert_eq!(high(), [16], "the RTC's is not to be had");
        router.set_route(0, OFF | 11);
        assert_eq!(high(), [16]);
        router.set_route(9, 11);
        router.set_gsi(9, true);
        assert_eq!(high(), [16]);
    }

    #[derive(Debug)]
    struct Nobody;

    impl GsiSink for Nobody {
        fn set_gsi(&self, _: u32, _: bool) {}
    }
}
