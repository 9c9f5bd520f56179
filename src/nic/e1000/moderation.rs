//! Delays between an event and its interrupt: RDTR and RADV, TIDV and TADV (manual, sections 3.2.7, 3.4.3), and
//! the throttle ITR (13.4.18).
//!
//! Plain arithmetic on deadlines; `interrupt.rs` owns the timers and asks the clock for wake-ups.

use super::spec::{DELAY_TICK_NS, ITR_TICK_NS};

/// No deadline.
pub const NEVER: u64 = u64::MAX;

/// A restartable countdown with an absolute bound: RDTR with RADV, or TIDV with TADV.
#[derive(Debug, Clone, Copy)]
pub struct DelayTimer {
    restarted: u64,
    absolute: u64,
}

impl Default for DelayTimer {
    fn default() -> Self {
        Self { restarted: NEVER, absolute: NEVER }
    }
}

impl DelayTimer {
    /// An event at `now`: the countdown of `delay` ticks starts again; the bound of `absolute` ticks (zero:
    /// none) runs from the first event.
    pub fn event(&mut self, now: u64, delay: u16, absolute: u16) {
        self.restarted = now.saturating_add(u64::from(delay) * DELAY_TICK_NS);
        if absolute != 0 && self.absolute == NEVER {
            self.absolute = now.saturating_add(u64::from(absolute) * DELAY_TICK_NS);
        }
    }

    /// When the interrupt is due; [`NEVER`] while nothing waits.
    pub fn deadline(&self) -> u64 {
        self.restarted.min(self.absolute)
    }

    /// Stops the countdown; says whether it was running.
    pub fn stop(&mut self) -> bool {
        let running = self.deadline() != NEVER;
        *self = Self::default();
        running
    }
}

/// The smallest distance between two assertions.
#[derive(Debug, Clone, Copy, Default)]
pub struct Throttle {
    interval: u16,
    not_before: u64,
}

impl Throttle {
    /// ITR as written, in units of 256 ns; zero is off.
    pub fn set_interval(&mut self, interval: u16) {
        // A running gap shrinks with the new interval but never grows: it began under the old one.
        let gap = u64::from(interval) * ITR_TICK_NS;
        let old = u64::from(self.interval) * ITR_TICK_NS;
        if gap < old {
            self.not_before = self.not_before.saturating_sub(old - gap);
        }
        self.interval = interval;
    }

    /// ITR as written.
    pub fn interval(&self) -> u16 {
        self.interval
    }

    /// Whether the time of assertions matters at all.
    pub fn is_off(&self) -> bool {
        self.interval == 0
    }

    /// The earliest time of the next assertion.
    pub fn not_before(&self) -> u64 {
        self.not_before
    }

    /// The line was asserted at `now`.
    pub fn asserted(&mut self, now: u64) {
        self.not_before = now.saturating_add(u64::from(self.interval) * ITR_TICK_NS);
    }
}
