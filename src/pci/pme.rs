//! PME: power management events of a function (PCI Power Management 1.2, section 3.2.4).
//!
//! PME_En and PME_Status stand in PMCSR and, in some devices, in a register of their own: one state for both. Nothing in
//! this machine listens to PME#, so software finds out by looking.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The two bits. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Pme(Arc<State>);

#[derive(Debug, Default)]
struct State {
    enabled: AtomicBool,
    status: AtomicBool,
}

impl Pme {
    /// PME_En.
    pub fn enabled(&self) -> bool {
        self.0.enabled.load(Ordering::SeqCst)
    }

    /// Software writes PME_En.
    pub fn set_enabled(&self, on: bool) {
        self.0.enabled.store(on, Ordering::SeqCst);
    }

    /// PME_Status.
    pub fn status(&self) -> bool {
        self.0.status.load(Ordering::SeqCst)
    }

    /// The device has an event.
    pub fn set_status(&self) {
        self.0.status.store(true, Ordering::SeqCst);
    }

    /// Software writes 1 to PME_Status.
    pub fn clear(&self) {
        self.0.status.store(false, Ordering::SeqCst);
    }
}
