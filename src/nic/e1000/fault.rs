//! What goes wrong in the card on request: the plans, and whether one strikes now.
//!
//! `machine` adds and removes plans while the guest runs ([`super::E1000::add_fault`]); the parts of the device ask
//! [`Faults::strikes`] where something can go wrong. Without a plan that costs one relaxed load. Never touches the
//! device by itself.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::observe::{self, Event, Moment, Observer};
use crate::fault::{CardFault, Chooser, Schedule};
use crate::time::Clock;

/// What a plan does when it strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// How long, in nanoseconds.
    pub time_ns: u64,
    /// Some number, for what is chosen by chance.
    pub chance: usize,
}

/// A plan as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultState {
    /// Its name.
    pub id: String,
    /// What goes wrong.
    pub fault: CardFault,
    /// Events that were hit.
    pub hit: u64,
    /// All events that there were.
    pub of: u64,
}

#[derive(Debug)]
struct Plan {
    id: String,
    fault: CardFault,
    time_ns: u64,
    chooser: Chooser,
}

/// Beside the bits of faults: there is an observer.
const OBSERVED: u32 = 1 << 31;

/// All plans for one card.
#[derive(Debug)]
pub struct Faults {
    /// Bits of the faults that have a plan, and [`OBSERVED`].
    planned: AtomicU32,
    gone: AtomicBool,
    plans: Mutex<Vec<Plan>>,
    clock: Arc<dyn Clock>,
    observer: Option<Arc<dyn Observer>>,
}

impl Faults {
    /// No plans.
    pub fn new(clock: Arc<dyn Clock>, observer: Option<Arc<dyn Observer>>) -> Arc<Self> {
        let planned = AtomicU32::new(if observer.is_some() { OBSERVED } else { 0 });
        Arc::new(Self { planned, gone: AtomicBool::new(false), plans: Mutex::default(), clock, observer })
    }

    /// Whether there is an observer, or a plan.
    #[inline]
    pub(super) fn hooked(&self) -> bool {
        self.planned.load(Ordering::Relaxed) != 0
    }

    fn plans(&self) -> MutexGuard<'_, Vec<Plan>> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a plan; `false` if the name is taken.
    pub(super) fn add(&self, id: &str, fault: CardFault, time_ns: u64, schedule: Schedule) -> bool {
        let mut plans = self.plans();
        if plans.iter().any(|plan| plan.id == id) {
            return false;
        }
        plans.push(Plan { id: id.to_owned(), fault, time_ns, chooser: Chooser::new(schedule) });
        self.planned.fetch_or(fault.bit(), Ordering::Relaxed);
        true
    }

    /// Ends a plan; `false` if there is none of this name.
    pub(super) fn remove(&self, id: &str) -> bool {
        let mut plans = self.plans();
        let before = plans.len();
        plans.retain(|plan| plan.id != id);
        let left = plans.iter().fold(0, |bits, plan| bits | plan.fault.bit());
        self.planned.store(left | self.planned.load(Ordering::Relaxed) & OBSERVED, Ordering::Relaxed);
        if left & CardFault::Removal.bit() == 0 {
            self.gone.store(false, Ordering::Relaxed);
        }
        plans.len() < before
    }

    /// All plans, oldest first.
    pub(super) fn states(&self) -> Vec<FaultState> {
        let state = |plan: &Plan| {
            let (hit, of) = plan.chooser.counts();
            FaultState { id: plan.id.clone(), fault: plan.fault, hit, of }
        };
        self.plans().iter().map(state).collect()
    }

    /// Whether some plan has this fault.
    #[inline]
    pub(super) fn planned(&self, fault: CardFault) -> bool {
        self.planned.load(Ordering::Relaxed) & fault.bit() != 0
    }

    /// Whether any of the faults that concern the interrupt output has a plan.
    #[inline]
    pub(super) fn interrupts_planned(&self) -> bool {
        let bits = CardFault::InterruptLost.bit()
            | CardFault::InterruptSpurious.bit()
            | CardFault::InterruptStorm.bit()
            | CardFault::Removal.bit();
        self.planned.load(Ordering::Relaxed) & bits != 0
    }

    /// The event of this fault has come: what happens, if it is hit. The observer is told.
    #[inline]
    pub(super) fn strikes(&self, fault: CardFault) -> Option<Hit> {
        if self.planned(fault) { self.ask(fault) } else { None }
    }

    #[cold]
    fn ask(&self, fault: CardFault) -> Option<Hit> {
        let struck = {
            let mut plans = self.plans();
            let of_it = plans.iter_mut().filter(|plan| plan.fault == fault);
            // Every plan sees every event.
            of_it.fold(None, |first, plan| {
                let struck = plan.chooser.strikes();
                let hit = struck.then(|| Hit { time_ns: plan.time_ns, chance: plan.chooser.below(1 << 16) });
                first.or(hit.map(|hit| (hit, plan.id.clone(), plan.chooser.counts(), plan.chooser.seed())))
            })
        };
        let (struck, plan, (hit, of), seed) = struck?;
        if let Some(observer) = &self.observer {
            let (now_ns, origin) = (self.clock.now_ns(), observe::origin());
            let event = Event::Fault { fault, plan: &plan, hit, of, seed };
            observer.event(&Moment { now_ns, origin, bus_master: true }, &event);
        }
        Some(struck)
    }

    /// Whether the card has been pulled out; BAR0 was accessed, if `accessed`.
    #[inline]
    pub(super) fn is_gone(&self, accessed: bool) -> bool {
        if !self.planned(CardFault::Removal) {
            return false;
        }
        if accessed && !self.gone.load(Ordering::Relaxed) && self.ask(CardFault::Removal).is_some() {
            self.gone.store(true, Ordering::Relaxed);
        }
        self.gone.load(Ordering::Relaxed)
    }
}
