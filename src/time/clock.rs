//! The clock trait, the host's clock, and a clock that tests turn by hand.
//!
//! A device keeps its own deadlines, looks at them at every entry, and asks for a wake-up only for the
//! earliest one and only if none is armed sooner (design: no timer system call per frame). The wake-up itself
//! arrives as a call of the device's own "time passed" method from the executor.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

/// Now, and a wake-up at a time. One handle belongs to one device.
pub trait Clock: Debug + Send + Sync {
    /// Nanoseconds since the machine started; never goes back.
    fn now_ns(&self) -> u64;

    /// Asks to be woken at `deadline_ns` or soon after, never before. Replaces an earlier request of this
    /// handle; `u64::MAX` cancels it. Callable from any thread; the wake-up never runs inside this call.
    fn wake_at(&self, deadline_ns: u64);
}

/// The host's monotonic clock, without wake-ups: the time of a machine, or of what serves it on the host.
///
/// Clones are the same clock. A machine's clock stands still while the machine is stopped ([`Self::pause`]);
/// nobody pauses the others.
#[derive(Debug, Clone)]
pub struct MonotonicClock {
    shared: Arc<MonotonicState>,
}

#[derive(Debug)]
struct MonotonicState {
    start: Instant,
    /// Running: how many nanoseconds the clock is behind `start`. Paused: [`PAUSED`] and what it reads. For a
    /// moment in between: [`STOPPING`].
    state: AtomicU64,
    /// Who has armed timers of the host for times of this clock.
    sleepers: Mutex<Vec<Weak<dyn Sleeper>>>,
}

/// Marks a state as paused; times stay far below it.
const PAUSED: u64 = 1 << 63;
/// Readers wait: the time at which the clock stops is being read.
const STOPPING: u64 = u64::MAX;

/// Somebody who translates times of a clock into times of the host.
pub trait Sleeper: Debug + Send + Sync {
    /// The clock goes on, later than the host's by more than before. No wake-up came meanwhile.
    fn resumed(&self);
}

impl MonotonicClock {
    /// A clock that reads 0 now.
    pub fn new() -> Self {
        let (state, sleepers) = (AtomicU64::new(0), Mutex::default());
        Self { shared: Arc::new(MonotonicState { start: Instant::now(), state, sleepers }) }
    }

    /// Nanoseconds since [`Self::new`], less those in which it stood still.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        let shared = &*self.shared;
        loop {
            let state = shared.state.load(Ordering::Acquire);
            if state & PAUSED != 0 {
                if state != STOPPING {
                    return state & !PAUSED;
                }
                std::hint::spin_loop();
                continue;
            }
            let now = self.age_ns().saturating_sub(state);
            // Unchanged: it ran from the first look to the second, so the time in between is right.
            if shared.state.load(Ordering::Acquire) == state {
                return now;
            }
        }
    }

    /// Nanoseconds since [`Self::new`], standing still or not.
    #[inline]
    pub fn age_ns(&self) -> u64 {
        u64::try_from(self.shared.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// How many nanoseconds the clock is behind the host's; None while it stands still.
    pub fn behind(&self) -> Option<u64> {
        Some(self.shared.state.load(Ordering::Acquire)).filter(|state| state & PAUSED == 0)
    }

    /// Time stands still from now on. No effect if it does already.
    pub fn pause(&self) {
        let Some(behind) = self.behind() else { return };
        let state = &self.shared.state;
        // Whoever has read a later time than the one at which the clock stops would see it go back.
        if state.compare_exchange(behind, STOPPING, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            let now = self.age_ns().saturating_sub(behind);
            state.store(now | PAUSED, Ordering::SeqCst);
        }
    }

    /// Time goes on where it stood. No effect if it does not stand.
    pub fn resume(&self) {
        let state = self.shared.state.load(Ordering::Acquire);
        if state & PAUSED == 0 || state == STOPPING {
            return;
        }
        let behind = self.age_ns().saturating_sub(state & !PAUSED);
        self.shared.state.store(behind, Ordering::Release);
        let sleepers: Vec<_> = {
            let mut sleepers = self.sleepers();
            sleepers.retain(|sleeper| sleeper.strong_count() > 0);
            sleepers.iter().filter_map(Weak::upgrade).collect()
        };
        sleepers.iter().for_each(|sleeper| sleeper.resumed());
    }

    /// `sleeper` hears of every [`Self::resume`] as long as it lives.
    pub fn add_sleeper(&self, sleeper: Weak<dyn Sleeper>) {
        self.sleepers().push(sleeper);
    }

    fn sleepers(&self) -> MutexGuard<'_, Vec<Weak<dyn Sleeper>>> {
        self.shared.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[derive(Debug, Default)]
    struct Counter(AtomicU64);

    impl Sleeper for Counter {
        fn resumed(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_paused_clock_stands_still_and_goes_on_from_there() {
        let clock = MonotonicClock::new();
        let sleeper = Arc::new(Counter::default());
        let weak: Weak<dyn Sleeper> = Arc::downgrade(&sleeper) as _;
        clock.add_sleeper(weak);
        clock.pause();
        let stands = clock.now_ns();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!((clock.now_ns(), clock.clone().behind()), (stands, None));
        clock.pause();
        clock.resume();
        clock.resume();
        assert_eq!(sleeper.0.load(Ordering::SeqCst), 1);
        let behind = clock.behind().unwrap();
        assert!(behind >= 20_000_000, "{behind}");
        let now = clock.now_ns();
        assert!((stands..stands + 15_000_000).contains(&now), "{now} after {stands}");
        std::thread::sleep(Duration::from_millis(2));
        assert!(clock.now_ns() >= now + 2_000_000);
    }

    #[test]
    fn no_reader_sees_it_go_back() {
        let clock = MonotonicClock::new();
        let other = clock.clone();
        let toggler = std::thread::spawn(move || {
            for _ in 0..2000 {
                other.pause();
                other.resume();
            }
        });
        let mut last = 0;
        while !toggler.is_finished() {
            let now = clock.now_ns();
            assert!(now >= last, "{now} after {last}");
            last = now;
        }
        toggler.join().unwrap();
    }
}
