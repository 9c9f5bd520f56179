//! Entering an engine from several threads without waiting.
//!
//! An engine that moves data between a descriptor and a device is entered by the loop thread (the descriptor
//! is ready) and by vCPU threads (the device has room again), and its call of the device may come back on the
//! same stack. [`Token`] makes all of these safe: who finds it taken leaves word and goes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, TryLockError};

/// How often the holder of a token serves others who came meanwhile, before it asks to be called again: a
/// guest that keeps knocking must not hold the event loop.
const MAX_ROUNDS: usize = 4;

/// State that one thread at a time works on, and nobody waits for.
#[derive(Debug, Default)]
pub struct Token<T> {
    state: Mutex<T>,
    kicked: AtomicBool,
}

/// How [`Token::enter`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// All work that was asked for is done, or another thread has been told to do it.
    Done,
    /// There is word of more work; the caller arranges another call.
    Again,
}

impl<T> Token<T> {
    pub fn new(state: T) -> Self {
        Self { state: Mutex::new(state), kicked: AtomicBool::new(false) }
    }

    /// Runs `work` now, or has the present holder run its own work once more. Work must look at the state to
    /// know what to do, since it may be run for somebody else.
    pub fn enter(&self, mut work: impl FnMut(&mut T)) -> Entered {
        self.kicked.store(true, Ordering::SeqCst);
        for _ in 0..MAX_ROUNDS {
            let mut state = match self.state.try_lock() {
                Ok(state) => state,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return Entered::Done,
            };
            self.kicked.store(false, Ordering::SeqCst);
            work(&mut state);
            drop(state);
            // Looked at after the lock is free: whoever came before found it taken and left word.
            if !self.kicked.load(Ordering::SeqCst) {
                return Entered::Done;
            }
        }
        Entered::Again
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
        assert_eq!((outcome, inner), (Entered::Done, Some(Entered::Done)));
        token.enter(|n| assert_eq!(*n, 2));
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
