//! The token of an engine: who holds it runs the ring; who finds it taken leaves a note and goes.
//!
//! Used for the transmit and the receive engine. The holder looks for the note before and after it lets go,
//! so that no kick is lost and no vCPU waits for another's work. Tokens are never nested with each other
//! by a blocking call, and a token is never asked for with the register lock held.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// How often a holder starts again for notes that others leave, before it puts the rest off.
const ROUNDS: usize = 4;

/// What a round of work came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// Nothing left that could be done now.
    Settled,
    /// The budget is used up; there is more.
    More,
}

/// What became of an [`Engine::enter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// All done.
    Settled,
    /// Somebody else is inside, and will look again.
    Elsewhere,
    /// There is more, but this caller has done its share: enter again later.
    Unfinished,
}

/// An engine behind its token.
#[derive(Debug, Default)]
pub struct Engine<T> {
    token: Mutex<T>,
    kicked: AtomicBool,
}

impl<T> Engine<T> {
    /// Does `work` until it is settled, or leaves it to whoever is inside. `between` runs after each round, with
    /// the token free.
    pub fn enter(&self, mut work: impl FnMut(&mut T) -> Round, mut between: impl FnMut()) -> Entered {
        self.kicked.store(true, Ordering::SeqCst);
        for _ in 0..ROUNDS {
            let Some(mut inside) = self.try_hold() else { return Entered::Elsewhere };
            self.kicked.store(false, Ordering::SeqCst);
            let round = work(&mut inside);
            drop(inside);
            between();
            if round == Round::More {
                self.kicked.store(true, Ordering::SeqCst);
            } else if !self.kicked.load(Ordering::SeqCst) {
                return Entered::Settled;
            }
        }
        Entered::Unfinished
    }

    /// Waits for the token and does `work`; says whether somebody left a note meanwhile. Only for work that
    /// cannot be left to somebody else; whoever holds the token never waits for anything but leaf locks.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> (R, bool) {
        let mut inside = self.hold();
        let result = work(&mut inside);
        drop(inside);
        (result, self.kicked.load(Ordering::SeqCst))
    }

    /// Waits until nobody is inside; says whether somebody left a note meanwhile.
    pub fn wait_idle(&self) -> bool {
        self.with(|_| ()).1
    }

    fn hold(&self) -> MutexGuard<'_, T> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_hold(&self) -> Option<MutexGuard<'_, T>> {
        match self.token.try_lock() {
            Ok(inside) => Some(inside),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn a_note_left_while_somebody_is_inside_is_worked_off() {
        let engine = Engine::<u32>::default();
        let mut first = true;
        let entered = engine.enter(
            |n| {
                *n += 1;
                if std::mem::take(&mut first) {
                    assert_eq!(engine.enter(|_| unreachable!(), || ()), Entered::Elsewhere);
                }
                Round::Settled
            },
            || (),
        );
        assert_eq!(entered, Entered::Settled);
        assert_eq!(engine.with(|n| *n).0, 2);
    }

    #[test]
    fn endless_work_is_put_off() {
        let engine = Engine::<u32>::default();
        let entered = engine.enter(
            |n| {
                *n += 1;
                Round::More
            },
            || (),
        );
        assert_eq!(entered, Entered::Unfinished);
        assert_eq!(engine.with(|n| *n), (ROUNDS as u32, true));
    }

    #[test]
    fn no_kick_is_lost_between_threads() {
        let (engine, wanted, done) =
            (Arc::new(Engine::<()>::default()), Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (engine, wanted, done) = (engine.clone(), wanted.clone(), done.clone());
                std::thread::spawn(move || {
                    for _ in 0..20_000 {
                        wanted.fetch_add(1, Ordering::SeqCst);
                        let copy = |_: &mut ()| {
                            done.store(wanted.load(Ordering::SeqCst), Ordering::SeqCst);
                            Round::Settled
                        };
                        while engine.enter(copy, || ()) == Entered::Unfinished {}
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(done.load(Ordering::SeqCst), 40_000);
    }
}
