//! The clock trait, the host's clock, and a clock that tests turn by hand.
//!
//! A device keeps its own deadlines, looks at them at every entry, and asks for a wake-up only for the
//! earliest one and only if none is armed sooner (design: no timer system call per frame). The wake-up itself
//! arrives as a call of the device's own "time passed" method from the executor.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Now, and a wake-up at a time. One handle belongs to one device.
pub trait Clock: Debug + Send + Sync {
    /// Nanoseconds since the machine started; never goes back.
    fn now_ns(&self) -> u64;

    /// Asks to be woken at `deadline_ns` or soon after, never before. Replaces an earlier request of this
    /// handle; `u64::MAX` cancels it. Callable from any thread; the wake-up never runs inside this call.
    fn wake_at(&self, deadline_ns: u64);
}

/// The host's monotonic clock, without wake-ups: for parts that only read time.
#[derive(Debug, Clone)]
pub struct MonotonicClock {
    start: Instant,
}

impl MonotonicClock {
    /// A clock that reads 0 now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// Nanoseconds since [`Self::new`].
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Default for MonotonicClock {
    fn default() -> Self {
        Self::new()
    }
}

/// A clock turned by hand: deterministic tests, fuzzing. Clones share the time.
#[derive(Debug, Clone, Default)]
pub struct ManualClock {
    shared: Arc<ManualState>,
}

#[derive(Debug)]
struct ManualState {
    now: AtomicU64,
    armed: AtomicU64,
}

impl Default for ManualState {
    fn default() -> Self {
        Self { now: AtomicU64::new(0), armed: AtomicU64::new(u64::MAX) }
    }
}

impl ManualClock {
    /// Turns the clock `ns` forward. The caller then calls the device's "time passed" if [`Self::due`].
    pub fn advance(&self, ns: u64) {
        self.shared.now.fetch_add(ns, Ordering::SeqCst);
    }

    /// The wake-up that was asked for, if any.
    pub fn armed(&self) -> Option<u64> {
        Some(self.shared.armed.load(Ordering::SeqCst)).filter(|&t| t != u64::MAX)
    }

    /// Whether the requested wake-up is due; taking it disarms it.
    pub fn due(&self) -> bool {
        let due = self.armed().is_some_and(|t| t <= self.now_ns());
        if due {
            self.shared.armed.store(u64::MAX, Ordering::SeqCst);
        }
        due
    }
}

impl Clock for ManualClock {
    fn now_ns(&self) -> u64 {
        self.shared.now.load(Ordering::SeqCst)
    }

    fn wake_at(&self, deadline_ns: u64) {
        self.shared.armed.store(deadline_ns, Ordering::SeqCst);
    }
}
