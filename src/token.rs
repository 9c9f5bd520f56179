//! Entering an engine from several threads without waiting.
//!
//! An engine that moves data between a descriptor and a device, or along a ring, is entered by the loop thread (the
//! descriptor is ready) and by vCPU threads (a doorbell; the device has room again), and its call of the other side may
//! come back on the same stack. [`Token`] makes all of these safe: who finds it taken leaves word and goes. The holder
//! looks for word after it has let go, so that none is lost. Used by backends, character devices and NICs; knows none
//! of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// How often the holder of a token serves others who came meanwhile, before it asks to be called again: a
/// guest that keeps knocking must not hold the event loop.
const MAX_ROUNDS: usize = 4;

/// State that one thread at a time works on, and nobody waits for.
#[derive(Debug, Default)]
pub struct Token<T> {
    state: Mutex<T>,
    kicked: AtomicBool,
}

/// What a round of work came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// Nothing left that could be done now.
    Settled,
    /// The round's budget is used up; there is more.
    More,
}

/// How an entry ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// All work that was asked for is done.
    Done,
    /// Somebody else is inside, and will look again.
    Elsewhere,
    /// There is word of more work, but this caller has done its share; it arranges another call.
    Again,
}

impl<T> Token<T> {
    /// A token that nobody holds.
    pub fn new(state: T) -> Self {
        Self { state: Mutex::new(state), kicked: AtomicBool::new(false) }
    }

    /// Runs `work` now, or has the present holder run its own work once more. Work must look at the state to
    /// know what to do, since it may be run for somebody else.
    pub fn enter(&self, mut work: impl FnMut(&mut T)) -> Entered {
        let round = |state: &mut T| {
            work(state);
            Round::Settled
        };
        self.enter_rounds(round, || ())
    }

    /// As [`Self::enter`], with work that says whether there is more. `between` runs after each round, with the
    /// token free.
    pub fn enter_rounds(&self, mut work: impl FnMut(&mut T) -> Round, mut between: impl FnMut()) -> Entered {
        self.kicked.store(true, Ordering::SeqCst);
        for _ in 0..MAX_ROUNDS {
            let Some(mut state) = self.try_hold() else { return Entered::Elsewhere };
            self.kicked.store(false, Ordering::SeqCst);
            let round = work(&mut state);
            drop(state);
            between();
            // Looked at after the lock is free: whoever came before found it taken and left word.
            if round == Round::More {
                self.kicked.store(true, Ordering::SeqCst);
            } else if !self.kicked.load(Ordering::SeqCst) {
                return Entered::Done;
            }
        }
        Entered::Again
    }

    /// Waits for the token and does `work`; says whether somebody left word meanwhile. Only for work that cannot be
    /// left to somebody else, where whoever holds the token never waits for anything but leaf locks.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> (R, bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut state);
        drop(state);
        (result, self.kicked.load(Ordering::SeqCst))
    }

    /// Waits until nobody is inside; says whether somebody left word meanwhile.
    pub fn wait_idle(&self) -> bool {
        self.with(|_| ()).1
    }

    fn try_hold(&self) -> Option<MutexGuard<'_, T>> {
        match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn a_call_from_inside_is_served_by_the_holder_afterwards() {
        let token = Token::new(0);
        let mut inner = None;
        let outcome = token.enter(|n| {
            *n += 1;
            if *n == 1 {
                inner = Some(token.enter(|_| unreachable!("the token is taken")));
            }
        });
        assert_eq!((outcome, inner), (Entered::Done, Some(Entered::Elsewhere)));
        assert_eq!(token.with(|n| *n), (2, false));
    }

    #[test]
    fn endless_knocking_ends_in_again() {
        let token = Token::new(0);
        let outcome = token.enter(|n| {
            *n += 1;
            token.enter(|_| unreachable!("the token is taken"));
        });
        assert_eq!(outcome, Entered::Again);
    }

    #[test]
    fn endless_work_is_put_off_and_remembered() {
        let token = Token::new(0);
        let mut between = 0;
        let work = |n: &mut usize| {
            *n += 1;
            Round::More
        };
        assert_eq!(token.enter_rounds(work, || between += 1), Entered::Again);
        assert_eq!((token.with(|n| *n), between), ((MAX_ROUNDS, true), MAX_ROUNDS));
        assert!(token.wait_idle(), "word of more work is still there");
    }

    #[test]
    fn no_word_is_lost_between_threads() {
        let (token, pending, served) = (Token::new(()), AtomicUsize::new(0), AtomicUsize::new(0));
        let serve = || {
            served.fetch_add(pending.swap(0, Ordering::SeqCst), Ordering::SeqCst);
        };
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        pending.fetch_add(1, Ordering::SeqCst);
                        while token.enter(|()| serve()) == Entered::Again {}
                    }
                });
            }
        });
        assert_eq!(served.load(Ordering::SeqCst), 40_000);
    }
}
