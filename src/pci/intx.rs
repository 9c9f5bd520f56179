//! A function's INTx output, behind Command bit 10 (INTx disable) and shown in Status bit 3.
//!
//! The device drives it as a level; the header gates it (PCI Local Bus 3.0, sections 6.2.2 and 6.2.3).

use std::sync::{Arc, Mutex, PoisonError};

use crate::irq::IrqLine;

/// A function's interrupt pin. Clones drive the same pin.
#[derive(Debug, Clone)]
pub struct IntxLine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    line: IrqLine,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    asserted: bool,
    disabled: bool,
}

impl IntxLine {
    /// The pin that drives `line`, low and enabled.
    pub fn new(line: IrqLine) -> Self {
        Self { shared: Arc::new(Shared { line, state: Mutex::default() }) }
    }

    /// The device's side: asserts or deasserts the interrupt.
    pub fn set_level(&self, level: bool) {
        self.change(|s| s.asserted = level);
    }

    /// The header's side: Command bit 10.
    pub fn set_disabled(&self, disabled: bool) {
        self.change(|s| s.disabled = disabled);
    }

    /// Status bit 3: an interrupt is pending in the device, whether or not it may leave.
    pub fn pending(&self) -> bool {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).asserted
    }

    /// The level on the wire.
    pub fn level(&self) -> bool {
        self.shared.line.level()
    }

    fn change(&self, f: impl FnOnce(&mut State)) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        f(&mut state);
        self.shared.line.set_level(state.asserted && !state.disabled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intx_disable_gates_the_wire_but_not_status() {
        let pin = IntxLine::new(IrqLine::detached());
        pin.set_level(true);
        pin.set_disabled(true);
        assert!(pin.pending() && !pin.level());
        pin.set_disabled(false);
        assert!(pin.level());
        pin.set_level(false);
        assert!(!pin.level() && !pin.pending());
    }
}
