//! Time as devices see it: nothing but a [`Clock`] tells it.

mod clock;

pub use clock::{Clock, ManualClock, MonotonicClock, Sleeper};
