//! One CPU runs at a time: the turn goes round in the order in which CPUs asked for it.
//!
//! Used by `vcpu.rs`. With one CPU all of it is free. A CPU holds the turn while it executes and while its device
//! handlers run, and gives it up to sleep, when its slice is over, or when it executes PAUSE.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Turns {
    state: Mutex<State>,
    /// One for each CPU, so that handing over wakes one thread only.
    granted: Vec<Condvar>,
    /// Length of the queue, to be looked at without the lock.
    waiting: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    holder: Option<usize>,
    queue: VecDeque<usize>,
}

impl Turns {
    pub fn new(cpus: u32) -> Self {
        let granted = (0..cpus).map(|_| Condvar::new()).collect();
        Self { state: Mutex::default(), granted, waiting: AtomicUsize::new(0) }
    }

    fn alone(&self) -> bool {
        self.granted.len() == 1
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another CPU waits for the turn.
    pub fn wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) != 0
    }

    /// Waits for the turn of `cpu`, which must not hold it.
    pub fn take(&self, cpu: usize) {
        if self.alone() {
            return;
        }
        let mut state = self.lock();
        if state.holder.is_none() {
            state.holder = Some(cpu);
            return;
        }
        self.enqueue(&mut state, cpu);
        self.wait(state, cpu);
    }

    /// The holder gives the turn up.
    pub fn release(&self) {
        if !self.alone() {
            self.pass(&mut self.lock());
        }
    }

    /// Gives the turn up if `cpu` holds it.
    pub fn let_go(&self, cpu: usize) {
        let mut state = self.lock();
        if state.holder == Some(cpu) {
            self.pass(&mut state);
        }
    }

    /// The holder lets the others run first, if any waits.
    pub fn give_way(&self, cpu: usize) {
        if !self.wanted() {
            return;
        }
        let mut state = self.lock();
        self.enqueue(&mut state, cpu);
        self.pass(&mut state);
        self.wait(state, cpu);
    }

    fn enqueue(&self, state: &mut State, cpu: usize) {
        state.queue.push_back(cpu);
        self.waiting.store(state.queue.len(), Ordering::Relaxed);
    }

    fn pass(&self, state: &mut State) {
        state.holder = state.queue.pop_front();
        self.waiting.store(state.queue.len(), Ordering::Relaxed);
        if let Some(next) = state.holder {
            self.granted[next].notify_one();
        }
    }

    fn wait(&self, state: MutexGuard<'_, State>, cpu: usize) {
        let waited = self.granted[cpu].wait_while(state, |s| s.holder != Some(cpu));
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn only_one_holds_the_turn_and_all_get_it() {
        const CPUS: u32 = 3;
        const ROUNDS: u32 = 200;
        let turns = Arc::new(Turns::new(CPUS));
        let (inside, total) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let threads: Vec<_> = (0..CPUS as usize)
            .map(|cpu| {
                let (turns, inside, total) = (turns.clone(), inside.clone(), total.clone());
                std::thread::spawn(move || {
                    turns.take(cpu);
                    for _ in 0..ROUNDS {
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        total.fetch_add(1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        turns.give_way(cpu);
                    }
                    turns.release();
                })
            })
            .collect();
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(total.load(Ordering::SeqCst), CPUS * ROUNDS);
        assert!(!turns.wanted());
    }

    #[test]
    fn a_cpu_alone_never_waits() {
        let turns = Turns::new(1);
        turns.take(0);
        turns.give_way(0);
        turns.take(0);
        turns.release();
    }
}
