//! The vCPU threads' side of a [`Lifecycle`]: joining, starting, resting, and jobs that are done on a CPU's own thread.
//!
//! Called by vCPU threads between two runs, and by whoever wants something of a CPU (debugger, monitor, main thread).
//! Decides nothing about the machine's end.

use std::collections::VecDeque;
use std::sync::{Arc, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::{Lifecycle, State};
use crate::accel::{Kicker, StartState, Vcpu};
use crate::machine::exit_code::EndReason;

/// How long a kicked vCPU may take before it is kicked again.
const KICK_AGAIN: Duration = Duration::from_millis(10);
/// How long a CPU may take to do a job of [`Lifecycle::with_cpu`].
const JOB_LIMIT: Duration = Duration::from_secs(5);

/// Something to be done with a CPU, on its own thread.
pub type Job = Box<dyn FnOnce(&mut dyn Vcpu) + Send>;

/// What is to be done with each CPU.
#[derive(Default)]
pub(super) struct Jobs(pub(super) Vec<VecDeque<Job>>);

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(VecDeque::len)).finish()
    }
}

/// What a vCPU thread does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Run the guest.
    Run,
    /// Save what time it is for this CPU, then [`Lifecycle::rest`].
    Rest,
    /// This generation is over.
    Over,
}

impl State {
    fn end_halted(&mut self) {
        self.cpu_ended(self.command_status.map_or(EndReason::Halted, EndReason::CommandExit));
    }
}

impl Lifecycle {
    /// Registers a vCPU by its kicker, on the thread that runs it.
    pub fn join_cpu(&self, kicker: Arc<dyn Kicker>) {
        let thread = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
        self.change(|s| {
            s.kickers.push((kicker, thread));
            s.jobs.0.push(VecDeque::new());
            s.cpus += 1;
        });
    }

    /// The host's threads that run the CPUs, in the order in which they joined.
    pub fn threads(&self) -> Vec<u32> {
        self.lock().kickers.iter().map(|&(_, thread)| thread).collect()
    }

    /// vCPU threads: waits for the next start after generation `seen`, and does jobs while that one is open still;
    /// `None` when the run is over.
    pub fn wait_start(&self, seen: u64, cpu: u32, perform: &mut dyn FnMut(Job)) -> Option<(u64, StartState)> {
        let mut state = self.lock();
        loop {
            if state.is_open(seen) {
                state = self.perform(state, cpu, perform);
            }
            // Behind the jobs: what changes while they are done wakes nobody who is not waiting yet.
            if state.over {
                return None;
            }
            if let Some(entry) = state.running
                && state.generation > seen
            {
                state.active += 1;
                let start = if cpu == 0 { StartState::Run(entry) } else { StartState::WaitForSipi };
                return Some((state.generation, start));
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// vCPU threads: does what is to be done with the CPU, then says what to do next in generation `own`.
    pub fn turn(&self, own: u64, cpu: u32, perform: &mut dyn FnMut(Job)) -> Turn {
        match &*self.perform(self.lock(), cpu, perform) {
            state if !state.is_open(own) => Turn::Over,
            state if state.rests(cpu) => Turn::Rest,
            _ => Turn::Run,
        }
    }

    /// vCPU threads: waits for the end of the pause, or of generation `own`, and does jobs meanwhile.
    pub fn rest(&self, own: u64, cpu: u32, perform: &mut dyn FnMut(Job)) {
        self.parked();
        let mut state = self.lock();
        loop {
            state = self.perform(state, cpu, perform);
            if !(state.rests(cpu) && state.is_open(own)) {
                break;
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.active += 1;
    }

    /// Does all jobs of `cpu`, without the lock.
    fn perform<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        cpu: u32,
        perform: &mut dyn FnMut(Job),
    ) -> MutexGuard<'a, State> {
        while let Some(job) = state.jobs.0.get_mut(cpu as usize).and_then(VecDeque::pop_front) {
            drop(state);
            perform(job);
            state = self.lock();
        }
        state
    }

    /// Does something with a CPU on its own thread, between two runs; a CPU that runs is interrupted for it. Not to be
    /// called from a vCPU's or the event loop's thread. `None` when there is no such CPU, or it does not answer.
    pub fn with_cpu<R: Send + 'static>(
        &self,
        cpu: u32,
        f: impl FnOnce(&mut dyn Vcpu) -> R + Send + 'static,
    ) -> Option<R> {
        self.with_cpu_within(JOB_LIMIT, cpu, f)
    }

    /// [`Self::with_cpu`] that waits so long only.
    pub fn with_cpu_within<R: Send + 'static>(
        &self,
        limit: Duration,
        cpu: u32,
        f: impl FnOnce(&mut dyn Vcpu) -> R + Send + 'static,
    ) -> Option<R> {
        let (done, result) = mpsc::channel();
        // Nobody waits any more when the time was up.
        let job: Job = Box::new(move |vcpu| done.send(f(vcpu)).unwrap_or_default());
        let kicker = {
            let mut state = self.lock();
            if state.over {
                return None;
            }
            state.jobs.0.get_mut(cpu as usize)?.push_back(job);
            state.kickers.get(cpu as usize)?.0.clone()
        };
        self.shared.changed.notify_all();
        let begin = Instant::now();
        while begin.elapsed() < limit {
            let rests = self.lock().rests(cpu);
            if !rests {
                kicker.kick();
            }
            match result.recv_timeout(KICK_AGAIN) {
                Ok(result) => return Some(result),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        None
    }

    /// Only the CPUs in `only` (one bit each) are to run when the machine next does; `u64::MAX` for all of them.
    pub fn hold_all_but(&self, only: u64) {
        self.change(|s| s.held = !only);
    }

    /// vCPU threads: this CPU stands still until the next start.
    pub fn parked(&self) {
        self.change(|s| s.active = s.active.saturating_sub(1));
    }

    /// vCPU threads: nothing can wake this CPU any more. The run ends when that holds for all: a kernel without
    /// ACPI halts so instead of powering off.
    pub fn halted(&self) {
        self.change(|s| {
            s.halted += 1;
            if s.halted >= s.cpus {
                s.end_halted();
            }
        });
    }

    /// So, for all of them at once.
    pub fn all_halted(&self) {
        self.change(State::end_halted);
    }

    /// Waits so long for the end of the run; whether it came.
    pub fn is_over_within(&self, time: Duration) -> bool {
        let wait = self.shared.changed.wait_timeout_while(self.lock(), time, |s| !s.over);
        wait.unwrap_or_else(PoisonError::into_inner).0.over
    }

    /// vCPU threads: a CPU cannot go on, for this reason.
    pub fn cpu_ended(&self, reason: EndReason) {
        self.change(|s| s.cpu_ended(reason));
    }

    /// Kicks until every CPU has seen that it is not to run.
    pub(super) fn wait_for_cpus(&self) {
        let kickers = self.lock().kickers.clone();
        let mut state = self.lock();
        while state.active > 0 {
            drop(state);
            kickers.iter().for_each(|(kicker, _)| kicker.kick());
            let wait = self.shared.changed.wait_timeout_while(self.lock(), KICK_AGAIN, |s| s.active > 0);
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
