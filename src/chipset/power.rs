//! How a chip asks for the end or a restart of the machine.

use std::fmt::Debug;

/// What the guest asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerEvent {
    /// Power off (ACPI S5).
    PowerOff,
    /// Reset (i8042 pulse, ACPI reset register, port 0xcf9).
    Reset,
    /// isa-debug-exit: ends the emulator with this exit status (2n + 1).
    DebugExit(u8),
    /// The guest's kernel reported a panic (pvpanic).
    Panicked,
}

/// Where the request goes: the machine's life cycle. Returns at once; the machine stops a moment later.
pub trait PowerSink: Debug + Send + Sync {
    /// Asks for `event`. The first request wins until it has been carried out.
    fn request(&self, event: PowerEvent);
}

/// A sink that remembers, for tests of the chips.
#[cfg(test)]
#[derive(Debug, Default)]
pub(super) struct RecordedPower(std::sync::Mutex<Vec<PowerEvent>>);

#[cfg(test)]
impl RecordedPower {
    pub(super) fn events(&self) -> Vec<PowerEvent> {
        self.0.lock().unwrap().clone()
    }
}

#[cfg(test)]
impl PowerSink for RecordedPower {
    fn request(&self, event: PowerEvent) {
        self.0.lock().unwrap().push(event);
    }
}
