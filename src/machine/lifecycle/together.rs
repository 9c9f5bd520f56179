//! Asking all CPUs at one moment.
//!
//! Called by whoever must know that no CPU runs while another answers. Changes nothing of a [`Lifecycle`].

use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::time::Duration;

use super::Lifecycle;
use super::cpus::Job;
use crate::accel::Vcpu;

/// How long one may wait for the others, standing still.
const PATIENCE: Duration = Duration::from_millis(200);

/// A place where all wait for all, or give up together.
#[derive(Debug)]
struct Meeting {
    all: usize,
    /// How many are here; none if one has given up.
    here: Mutex<Option<usize>>,
    changed: Condvar,
}

impl Meeting {
    fn new(all: usize) -> Self {
        Self { all, here: Mutex::new(Some(0)), changed: Condvar::new() }
    }

    /// Waits until all are here. `false` when that took too long for one of them: then it is so for every one.
    fn join(&self) -> bool {
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        *here = here.map(|count| count + 1);
        self.changed.notify_all();
        let waits = |here: &mut Option<usize>| here.is_some_and(|count| count < self.all);
        let wait = self.changed.wait_timeout_while(here, PATIENCE, waits);
        let mut here = wait.unwrap_or_else(PoisonError::into_inner).0;
        if waits(&mut here) {
            *here = None;
            self.changed.notify_all();
        }
        here.is_some()
    }
}

impl Lifecycle {
    /// Whether `ask` holds for every CPU, each asked on its own thread while none of them runs. `false` also when the
    /// machine is stopped, or a CPU does not come. Not to be called from a vCPU's or the event loop's thread.
    pub fn ask_all(&self, ask: impl Fn(&mut dyn Vcpu) -> bool + Send + Sync + 'static) -> bool {
        let (done, answers) = mpsc::channel();
        let kickers = {
            let mut state = self.lock();
            if state.over || state.paused || state.running.is_none() || state.held != 0 {
                return false;
            }
            let (begin, end) = (Arc::new(Meeting::new(state.cpus)), Arc::new(Meeting::new(state.cpus)));
            let ask = Arc::new(ask);
            for jobs in &mut state.jobs.0 {
                let (begin, end, ask, done) = (begin.clone(), end.clone(), ask.clone(), done.clone());
                let job: Job = Box::new(move |vcpu| {
                    let answer = begin.join() && ask(vcpu);
                    // Nobody runs on before the last has answered.
                    let together = end.join();
                    done.send(answer && together).unwrap_or_default();
                });
                jobs.push_back(job);
            }
            state.kickers.clone()
        };
        drop(done);
        self.shared.changed.notify_all();
        kickers.iter().for_each(|(kicker, _)| kicker.kick());
        // Each job ends in time, or is dropped with its queue.
        let mut count = 0;
        while let Ok(answer) = answers.recv_timeout(4 * PATIENCE) {
            count += usize::from(answer);
            if !answer || count == kickers.len() {
                break;
            }
        }
        count == kickers.len()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn all_meet_or_none_does() {
        let meeting = Meeting::new(3);
        let joined = thread::scope(|threads| {
            let each = [(); 3].map(|()| threads.spawn(|| meeting.join()));
            each.map(|thread| thread.join().unwrap())
        });
        assert_eq!(joined, [true; 3]);
        // The third comes when the others have given up.
        let meeting = Meeting::new(3);
        let joined = thread::scope(|threads| {
            let each = [(); 2].map(|()| threads.spawn(|| meeting.join()));
            each.map(|thread| thread.join().unwrap())
        });
        assert_eq!((joined, meeting.join()), ([false; 2], false));
    }
}
