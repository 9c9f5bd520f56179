//! The host's monotonic clock with wake-ups: what devices get as their [`Clock`] on a running machine.
//!
//! One timer descriptor for each device. A request that is later than what is armed costs no system call: the
//! timer fires at the armed time, finds the request still ahead, and arms it then. Expiry is exact to the
//! kernel's high-resolution timers (no timer slack on timerfd) and never early.
//!
//! Lock order: `state` is taken alone; the callback runs without it.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use super::{EventError, EventHandle, FdHandler, Interest, Ready, Registration};
use crate::time::{Clock, MonotonicClock, Sleeper};

/// A device's clock. Made before the device; [`Self::on_wake`] then says whom to call.
pub struct HostTimer {
    clock: MonotonicClock,
    /// What CLOCK_MONOTONIC read when `clock` was made, in nanoseconds, rounded up: never early.
    epoch_ns: u64,
    timer: Arc<OwnedFd>,
    state: Mutex<State>,
    callback: OnceLock<Box<dyn Fn() + Send + Sync>>,
    registration: OnceLock<Registration>,
}

/// Times in nanoseconds of `clock`; `u64::MAX` is never.
#[derive(Debug, Clone, Copy)]
struct State {
    /// What the device asked for.
    wanted: u64,
    /// What the kernel will wake us for; at most `wanted`.
    armed: u64,
}

impl fmt::Debug for HostTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostTimer").field("state", &*self.lock()).finish_non_exhaustive()
    }
}

impl HostTimer {
    /// A clock that agrees with `clock`, woken by `events`.
    ///
    /// # Errors
    /// [`EventError::Watch`] when the host is out of descriptors.
    pub fn new(events: &EventHandle, clock: &MonotonicClock) -> Result<Arc<Self>, EventError> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, flags).map_err(|e| EventError::Watch(e.into()))?;
        let before = clock.age_ns();
        let host = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let this = Arc::new(Self {
            clock: clock.clone(),
            epoch_ns: to_ns(host).saturating_sub(before),
            timer: Arc::new(timer),
            state: Mutex::new(State { wanted: u64::MAX, armed: u64::MAX }),
            callback: OnceLock::new(),
            registration: OnceLock::new(),
        });
        let watch = events.watch(this.timer.clone(), Interest::READ, Arc::new(Arc::downgrade(&this)))?;
        this.registration.get_or_init(|| watch);
        let sleeper: Arc<dyn Sleeper> = this.clone();
        clock.add_sleeper(Arc::downgrade(&sleeper));
        Ok(this)
    }

    /// Names the device's "time passed" method, once. Called on the loop thread; give it a `Weak` reference,
    /// since the device owns this clock.
    pub fn on_wake(&self, callback: impl Fn() + Send + Sync + 'static) {
        self.callback.get_or_init(|| Box::new(callback));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Arms the kernel's timer for what is wanted. While the clock stands still, [`Sleeper::resumed`] does.
    fn arm(&self, state: &mut State) {
        let Some(behind) = self.clock.behind() else { return };
        state.armed = state.wanted;
        let at = self.epoch_ns.saturating_add(behind).saturating_add(state.wanted);
        let expiry = Itimerspec { it_interval: from_ns(0), it_value: from_ns(at) };
        // Cannot fail: the descriptor is a timer and the time is normal.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &expiry);
    }

    /// The kernel's timer fired: takes the request if its time has come, else arms it.
    fn take_due(&self) -> bool {
        let mut state = self.lock();
        state.armed = u64::MAX;
        if state.wanted == u64::MAX {
            return false;
        }
        if self.clock.now_ns() < state.wanted {
            self.arm(&mut state);
            return false;
        }
        state.wanted = u64::MAX;
        true
    }
}

impl Clock for HostTimer {
    fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    fn wake_at(&self, deadline_ns: u64) {
        let mut state = self.lock();
        state.wanted = deadline_ns;
        if deadline_ns < state.armed {
            self.arm(&mut state);
        }
    }
}

impl Sleeper for HostTimer {
    fn resumed(&self) {
        let mut state = self.lock();
        if state.wanted != u64::MAX {
            self.arm(&mut state);
        }
    }
}

impl FdHandler for HostTimer {
    fn ready(&self, _ready: Ready) {
        // Nothing to read means that the timer was armed anew since it fired: it will fire again.
        if rustix::io::read(&self.timer, &mut [0; 8]).is_ok()
            && self.take_due()
            && let Some(callback) = self.callback.get()
        {
            callback();
        }
    }
}

fn to_ns(time: Timespec) -> u64 {
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    seconds.unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(nanoseconds.unwrap_or(0))
}

fn from_ns(ns: u64) -> Timespec {
    // At most 2^64 / 10^9 seconds: fits.
    Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::event::EventLoop;

    const MS: u64 = 1_000_000;

    fn timer() -> (EventLoop, Arc<HostTimer>, mpsc::Receiver<u64>) {
        let (event_loop, events) = EventLoop::start().unwrap();
        let timer = HostTimer::new(&events, &MonotonicClock::new()).unwrap();
        let (sender, woken) = mpsc::channel();
        let weak = Arc::downgrade(&timer);
        timer.on_wake(move || sender.send(weak.upgrade().unwrap().now_ns()).unwrap());
        (event_loop, timer, woken)
    }

    #[test]
    fn wakes_once_and_never_early() {
        let (_loop, timer, woken) = timer();
        for _ in 0..20 {
            let deadline = timer.now_ns() + 2 * MS;
            timer.wake_at(deadline);
            assert!(woken.recv_timeout(Duration::from_secs(5)).unwrap() >= deadline);
        }
        assert!(woken.recv_timeout(Duration::from_millis(20)).is_err());
    }

    #[test]
    fn a_later_request_replaces_an_earlier_one_without_an_early_wake() {
        let (_loop, timer, woken) = timer();
        let deadline = timer.now_ns() + 60 * MS;
        timer.wake_at(deadline - 50 * MS);
        timer.wake_at(deadline);
        assert!(woken.recv_timeout(Duration::from_secs(5)).unwrap() >= deadline);
        assert!(woken.recv_timeout(Duration::from_millis(20)).is_err());
    }

    #[test]
    fn an_earlier_request_comes_first_and_the_past_at_once() {
        let (_loop, timer, woken) = timer();
        timer.wake_at(timer.now_ns() + 3600 * 1000 * MS);
        timer.wake_at(0);
        assert!(woken.recv_timeout(Duration::from_secs(5)).is_ok());
    }

    #[test]
    fn cancelled_is_silent() {
        let (_loop, timer, woken) = timer();
        timer.wake_at(timer.now_ns() + 10 * MS);
        timer.wake_at(u64::MAX);
        assert!(woken.recv_timeout(Duration::from_millis(40)).is_err());
        timer.wake_at(timer.now_ns() + MS);
        assert!(woken.recv_timeout(Duration::from_secs(5)).is_ok());
    }

    #[test]
    fn a_timer_of_a_paused_clock_waits_and_does_not_spin() {
        let (event_loop, events) = EventLoop::start().unwrap();
        let clock = MonotonicClock::new();
        let timer = HostTimer::new(&events, &clock).unwrap();
        let (sender, woken) = mpsc::channel();
        timer.on_wake(move || sender.send(()).unwrap());
        let deadline = clock.now_ns() + 20 * MS;
        timer.wake_at(deadline);
        clock.pause();
        let end = Instant::now() + Duration::from_secs(60);
        while timer.lock().armed != u64::MAX && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(woken.recv_timeout(Duration::from_millis(40)).is_err());
        assert_eq!(timer.lock().armed, u64::MAX, "it fired once and was not armed again");
        timer.wake_at(deadline + MS);
        assert!(woken.recv_timeout(Duration::from_millis(20)).is_err());
        clock.resume();
        assert!(woken.recv_timeout(Duration::from_secs(5)).is_ok());
        assert!(clock.now_ns() >= deadline + MS);
        drop(timer);
        event_loop.join();
    }

    #[test]
    fn a_dropped_timer_is_closed() {
        let (event_loop, timer, woken) = timer();
        timer.wake_at(timer.now_ns() + 10 * MS);
        let descriptor = Arc::downgrade(&timer.timer);
        drop(timer);
        assert!(woken.recv_timeout(Duration::from_millis(30)).is_err());
        event_loop.join();
        assert!(descriptor.upgrade().is_none());
    }
}
