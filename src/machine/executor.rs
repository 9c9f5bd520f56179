//! The event loop as an accelerator's CPU thread runs it.
//!
//! Made by the assembly and offered to the accelerator (`accel::Executor`); a thin layer over `event`, with a timer
//! descriptor for waits that end by themselves.

use std::sync::Arc;
use std::time::Duration;

use crate::accel::Executor;
use crate::event::{EventError, EventHandle, HostTimer};
use crate::time::{Clock, MonotonicClock};

/// The machine's event loop.
#[derive(Debug)]
pub struct LoopExecutor {
    events: EventHandle,
    /// Its wake-up is all it does: the wait is over when any handler has run.
    alarm: Arc<HostTimer>,
}

impl LoopExecutor {
    /// On the loop that `events` belongs to.
    ///
    /// # Errors
    /// [`EventError::Watch`] when the host is out of descriptors.
    pub fn new(events: &EventHandle, clock: &MonotonicClock) -> Result<Self, EventError> {
        Ok(Self { events: events.clone(), alarm: HostTimer::new(events, clock)? })
    }
}

impl Executor for LoopExecutor {
    fn take_over(&self) {
        self.events.take_over();
    }

    fn give_back(&self) {
        self.events.give_back();
    }

    fn work(&self, limit: Option<Duration>) {
        if let Some(limit) = limit.filter(|limit| !limit.is_zero()) {
            let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
            self.alarm.wake_at(self.alarm.now_ns().saturating_add(limit));
        }
        self.events.work(limit.is_none_or(|limit| !limit.is_zero()));
    }

    fn wake(&self) {
        self.events.wake();
    }
}
