//! A level-triggered wire, shared by wired-OR.
//!
//! `machine` creates one [`GsiPin`] for each interrupt input and hands an [`IrqLine`] to each device on it.
//! The sink is called only when the OR of all lines changes, in order, with the pin's lock held: a sink must
//! not call back into a line. Lock order: device state, then the pin.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

/// The interrupt controller's input side: the accelerator's PIC and IOAPIC.
pub trait GsiSink: Debug + Send + Sync {
    /// Drives global system interrupt `gsi` to `level`. Called on changes only.
    fn set_gsi(&self, gsi: u32, level: bool);
}

/// One interrupt input: remembers which of its lines are asserted.
#[derive(Debug, Clone)]
pub struct GsiPin {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    sink: Option<(u32, Arc<dyn GsiSink>)>,
    /// One entry for each line; the pin's level is their OR.
    levels: Mutex<Vec<bool>>,
}

impl GsiPin {
    /// The input number `gsi` of `sink`.
    pub fn new(gsi: u32, sink: Arc<dyn GsiSink>) -> Self {
        Self { shared: Arc::new(Shared { sink: Some((gsi, sink)), levels: Mutex::default() }) }
    }

    /// A new wire to this input, low.
    pub fn line(&self) -> IrqLine {
        let mut levels = self.shared.levels.lock().unwrap_or_else(PoisonError::into_inner);
        levels.push(false);
        IrqLine { shared: self.shared.clone(), index: levels.len() - 1 }
    }

    /// The input's level: the OR of its lines.
    pub fn level(&self) -> bool {
        self.shared.levels.lock().unwrap_or_else(PoisonError::into_inner).contains(&true)
    }
}

/// A device's end of an interrupt wire. Clones drive the same wire.
#[derive(Debug, Clone)]
pub struct IrqLine {
    shared: Arc<Shared>,
    index: usize,
}

impl IrqLine {
    /// A wire that leads nowhere, for tests: its level can still be read.
    pub fn detached() -> Self {
        GsiPin { shared: Arc::new(Shared { sink: None, levels: Mutex::default() }) }.line()
    }

    /// Drives the wire. Reaches the interrupt controller only when the OR of all wires on the pin changes.
    pub fn set_level(&self, level: bool) {
        let mut levels = self.shared.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let before = levels.contains(&true);
        if let Some(own) = levels.get_mut(self.index) {
            *own = level;
        }
        let after = levels.contains(&true);
        if before != after
            && let Some((gsi, sink)) = &self.shared.sink
        {
            sink.set_gsi(*gsi, after);
        }
    }

    /// What this wire drives now.
    pub fn level(&self) -> bool {
        let levels = self.shared.levels.lock().unwrap_or_else(PoisonError::into_inner);
        levels.get(self.index).copied().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Recorder(Mutex<Vec<(u32, bool)>>);

    impl GsiSink for Recorder {
        fn set_gsi(&self, gsi: u32, level: bool) {
            self.0.lock().unwrap().push((gsi, level));
        }
    }

    #[test]
    fn a_shared_pin_is_the_or_of_its_lines_and_reports_changes_only() {
        let sink = Arc::new(Recorder::default());
        let pin = GsiPin::new(20, sink.clone());
        let (a, b) = (pin.line(), pin.line());
        a.set_level(true);
        b.set_level(true);
        a.set_level(false);
        assert!(pin.level() && !a.level());
        b.set_level(false);
        b.set_level(false);
        assert_eq!(*sink.0.lock().unwrap(), [(20, true), (20, false)]);
    }
}
