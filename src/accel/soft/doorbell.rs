//! Waking one CPU: somebody has something for it, or wants it back.
//!
//! Rung by any thread: interrupts from devices, IPIs from other CPUs, kicks. The CPU looks at [`Doorbell::rung`]
//! between blocks (one plain load) and sleeps in [`Doorbell::sleep`] while it is halted: on a condition variable, or in
//! the event loop, if it runs that. Nothing rung is lost:
//! `rung` is stored before `asleep` is read, and the sleeper does it the other way round.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::accel::{Executor, Kicker};

/// One CPU's doorbell.
#[derive(Debug, Default)]
pub(super) struct Doorbell {
    rung: AtomicBool,
    kicked: AtomicBool,
    asleep: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
    /// Where the CPU sleeps, if not here.
    executor: OnceLock<Arc<dyn Executor>>,
}

impl Doorbell {
    /// The CPU is to look at its events again, soon.
    pub fn ring(&self) {
        self.rung.store(true, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) {
            if let Some(executor) = self.executor.get() {
                return executor.wake();
            }
            // With the lock the sleeper is either before its last look at `rung` or in the wait.
            let _lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.wake.notify_one();
        }
    }

    /// Whether somebody rang since [`Self::answer`].
    #[inline(always)]
    pub fn rung(&self) -> &AtomicBool {
        &self.rung
    }

    /// To be called before looking at what there is to do.
    pub fn answer(&self) {
        self.rung.store(false, Ordering::SeqCst);
    }

    /// Whether it was a kick; takes it.
    pub fn take_kick(&self) -> bool {
        self.kicked.load(Ordering::SeqCst) && self.kicked.swap(false, Ordering::SeqCst)
    }

    /// The CPU sleeps in this loop from now on. Once, before it first sleeps.
    pub fn sleep_in(&self, executor: Arc<dyn Executor>) {
        self.executor.get_or_init(|| executor);
    }

    /// The loop in which the CPU sleeps, if it does.
    pub fn executor(&self) -> Option<&dyn Executor> {
        self.executor.get().map(|executor| &**executor)
    }

    /// Sleeps until somebody rings, at most `limit` if there is one. May come back early.
    pub fn sleep(&self, limit: Option<Duration>) {
        if let Some(executor) = self.executor() {
            self.asleep.store(true, Ordering::SeqCst);
            if !self.rung.load(Ordering::SeqCst) {
                executor.work(limit);
            }
            return self.asleep.store(false, Ordering::SeqCst);
        }
        let until = limit.map(|limit| Instant::now() + limit);
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.asleep.store(true, Ordering::SeqCst);
        while !self.rung.load(Ordering::SeqCst) {
            let Some(until) = until else {
                lock = self.wake.wait(lock).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            lock = self.wake.wait_timeout(lock, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}

impl Kicker for Doorbell {
    fn kick(&self) {
        self.kicked.store(true, Ordering::SeqCst);
        self.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_before_the_sleep_is_not_lost() {
        let bell = Doorbell::default();
        bell.ring();
        bell.sleep(None);
        bell.answer();
        assert!(!bell.rung().load(Ordering::Relaxed) && !bell.take_kick());
    }

    #[test]
    fn a_sleeper_wakes_by_time_and_by_a_kick() {
        let bell = Arc::new(Doorbell::default());
        let start = Instant::now();
        bell.sleep(Some(Duration::from_millis(2)));
        assert!(start.elapsed() >= Duration::from_millis(2));
        let other = bell.clone();
        let kicker = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(5));
            other.kick();
        });
        bell.sleep(None);
        assert!(bell.rung().load(Ordering::Relaxed) && bell.take_kick() && !bell.take_kick());
        kicker.join().unwrap();
    }
}
