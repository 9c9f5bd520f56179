//! Running, stopping, resetting and ending a machine.
//!
//! vCPU threads, chips, signal handlers and the timeout *request*; the main thread alone *decides*, in
//! [`Lifecycle::next`]. vCPU threads run while a generation is open and park between two of them, so that
//! resetting the machine happens with every CPU standing still. A machine that is paused keeps its generation:
//! its CPUs rest where they are, and a reset finds and leaves them resting.
//!
//! Lock order: `state` is taken alone and never held across a kick or a callback.

mod cpus;
mod expecting;
#[cfg(test)]
mod tests;
mod together;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::exit_code::{EndReason, Unseen};
use crate::accel::{EntryState, Kicker};
use crate::chipset::{PowerEvent, PowerSink};
use crate::cli::Expectation;
use crate::gdb::Stopped;
use crate::monitor::{Event, Events};
use cpus::Jobs;
use expecting::Expecting;

pub use cpus::{Job, Turn};

/// How long a guest that panicked may still print before the run ends.
const PANIC_GRACE: Duration = Duration::from_millis(800);

/// What the main thread does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Bring the machine up again from the start.
    Reset {
        /// The guest asked for it, not somebody outside.
        guest: bool,
    },
    /// Stop the machine for its debugger.
    Stop,
    /// End the run.
    End(EndReason),
}

/// Shared by everything that can start, stop or end the machine. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    events: Events,
}

#[derive(Debug, Default)]
struct State {
    /// Counts the times the machine was started.
    generation: u64,
    /// The boot CPU's entry while a generation is open.
    running: Option<EntryState>,
    /// CPUs rest.
    paused: bool,
    /// No more generations: threads return.
    over: bool,
    request: Option<PowerEvent>,
    end: Option<EndReason>,
    panic: Option<(Instant, String)>,
    command_status: Option<u8>,
    /// CPUs that rest although the machine is not paused, one bit each.
    held: u64,
    jobs: Jobs,
    /// The main thread is to stop the machine.
    stop_wanted: bool,
    /// Why, until somebody asks.
    stopped_by: Option<Stopped>,
    /// How to interrupt each CPU, and the host's thread that runs it.
    kickers: Vec<(Arc<dyn Kicker>, u32)>,
    expecting: Expecting,
    /// The reset button was pressed, not by the guest.
    reset_button: bool,
    /// vCPU threads inside a generation.
    active: usize,
    halted: usize,
    cpus: usize,
}

impl Lifecycle {
    /// A life that has not begun; what happens in it is told to `events`.
    pub fn new(events: Events) -> Self {
        Self { shared: Arc::new(Shared { events, ..Shared::default() }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, f: impl FnOnce(&mut State)) {
        f(&mut self.lock());
        self.shared.changed.notify_all();
    }

    /// Asks for the end of the run. The first reason wins.
    pub fn end(&self, reason: EndReason) {
        self.change(|s| {
            s.end.get_or_insert(reason);
        });
    }

    /// The guest's kernel panicked, `words` being its own: the run ends with the guest's own reset or
    /// power-off, or after a short grace.
    pub fn panicked(&self, words: &str) {
        let first = self.lock().panic.is_none();
        self.change(|s| {
            s.panic.get_or_insert_with(|| (Instant::now(), words.to_owned()));
        });
        if first {
            self.shared.events.raise(&Event::GuestPanicked);
        }
    }

    /// Names what must be seen on the console ([`Self::seen`]) for success. Before the start.
    pub fn expect(&self, wanted: &[Expectation]) {
        self.lock().expecting.wanted = wanted.to_vec();
    }

    /// The next thing that was expected was seen on the console; with the last one the run ends.
    pub fn seen(&self) {
        self.change(|s| {
            let Some(expectation) = s.expecting.next() else { return };
            let text = expectation.pattern.text().to_owned();
            s.expecting.seen.push(Instant::now());
            if s.expecting.next().is_none() {
                s.end.get_or_insert(EndReason::Expected(text));
            }
        });
    }

    /// What was expected, and when it was seen.
    pub fn expectations(&self) -> Vec<(Expectation, Option<Instant>)> {
        let state = self.lock();
        let seen = state.expecting.seen.iter().copied().map(Some).chain(std::iter::repeat(None));
        state.expecting.wanted.iter().cloned().zip(seen).collect()
    }

    /// When the guest's first instruction ran.
    pub fn begin(&self) -> Option<Instant> {
        self.lock().expecting.begin
    }

    /// Whether [`Self::panicked`] was called.
    pub fn has_panicked(&self) -> bool {
        self.lock().panic.is_some()
    }

    /// Whether the run is over.
    pub fn is_over(&self) -> bool {
        self.lock().over
    }

    /// Somebody outside the machine presses the reset button.
    pub fn press_reset(&self) {
        self.lock().reset_button = true;
        self.request(PowerEvent::Reset);
    }

    /// `minivmm.run=COMMAND` ended with this status: the status of the run once the guest powers off.
    pub fn command_ended(&self, status: u8) {
        self.change(|s| s.command_status = Some(status));
    }

    /// Any thread: every CPU is to rest soon, and the machine to be stopped then, because of `why`. A CPU that calls this
    /// while it handles an access comes to rest right behind that instruction. The first reason stands until it is asked
    /// for.
    pub fn stop_soon(&self, why: Stopped) {
        self.change(|s| {
            s.paused = true;
            s.stop_wanted = true;
            s.stopped_by.get_or_insert(why);
        });
        let kickers = self.lock().kickers.clone();
        kickers.iter().for_each(|(kicker, _)| kicker.kick());
    }

    /// Why the machine was stopped, once.
    pub fn take_stop(&self) -> Option<Stopped> {
        self.lock().stopped_by.take()
    }

    /// Brings every CPU to rest, or lets a machine begin at rest. Returns when none runs; whether it was this
    /// call that paused the machine.
    pub fn pause(&self) -> bool {
        let before = {
            let mut state = self.lock();
            state.stop_wanted = false;
            std::mem::replace(&mut state.paused, true)
        };
        self.wait_for_cpus();
        !before
    }

    /// Ends [`Self::pause`].
    pub fn resume(&self) {
        self.change(|s| s.paused = false);
    }

    /// Main thread: starts every CPU, the boot CPU at `entry`.
    pub fn start(&self, entry: EntryState) {
        self.change(|s| {
            s.generation += 1;
            s.expecting.begin.get_or_insert_with(Instant::now);
            s.running = Some(entry);
            s.request = None;
            s.halted = 0;
        });
    }

    /// Main thread: waits until somebody asks for something and decides what it means. `deadline` is
    /// `-timeout` with its length.
    pub fn next(&self, no_reboot: bool, deadline: Option<(Instant, Duration)>) -> Next {
        let mut state = self.lock();
        loop {
            if let Some(next) = decide(&mut state, no_reboot) {
                return state.expecting.judge(next);
            }
            let now = Instant::now();
            if let Some((at, length)) = deadline
                && now >= at
            {
                return Next::End(EndReason::Timeout(length));
            }
            if state.expecting.is_late(now)
                && let Some(Expectation { pattern, within: Some(time) }) = state.expecting.next()
            {
                return Next::End(EndReason::NotSeen(pattern.text().to_owned(), Unseen::InTime(*time)));
            }
            let panic_over = state.panic.as_ref().map(|(at, _)| *at + PANIC_GRACE);
            let seen_by = state.expecting.deadline();
            let wake = deadline.map(|d| d.0).into_iter().chain(panic_over).chain(seen_by).min();
            state = match wake {
                Some(at) => {
                    let wait = self.shared.changed.wait_timeout(state, at.saturating_duration_since(now));
                    wait.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Main thread: brings every CPU to a stand. Returns when all are parked.
    pub fn stop(&self) {
        self.change(|s| s.running = None);
        self.wait_for_cpus();
    }

    /// Main thread: no further start; vCPU threads return.
    pub fn finish(&self) {
        self.change(|s| {
            s.over = true;
            // Who waits for one hears that it will not be done.
            s.jobs.0.iter_mut().for_each(std::collections::VecDeque::clear);
        });
    }
}

impl State {
    fn is_open(&self, generation: u64) -> bool {
        self.running.is_some() && self.generation == generation
    }

    /// The first reason wins, and so does what the guest has asked for: it goes on until the main thread has heard of that.
    fn cpu_ended(&mut self, reason: EndReason) {
        if self.request.is_none() {
            self.end.get_or_insert(reason);
        }
    }

    fn rests(&self, cpu: u32) -> bool {
        self.paused || self.held >> cpu & 1 != 0
    }
}

fn decide(state: &mut State, no_reboot: bool) -> Option<Next> {
    if let Some(reason) = state.end.take() {
        return Some(Next::End(reason));
    }
    let panic_is_over = state.panic.as_ref().is_some_and(|(at, _)| at.elapsed() >= PANIC_GRACE);
    let request = state.request.take();
    if (panic_is_over || request.is_some())
        && let Some((_, words)) = state.panic.take()
    {
        return Some(Next::End(EndReason::Panic(words)));
    }
    let Some(request) = request else {
        return std::mem::take(&mut state.stop_wanted).then_some(Next::Stop);
    };
    Some(match request {
        PowerEvent::PowerOff => {
            Next::End(state.command_status.map_or(EndReason::PowerOff, EndReason::CommandExit))
        }
        PowerEvent::DebugExit(status) => Next::End(EndReason::DebugExit(status)),
        PowerEvent::Panicked => Next::End(EndReason::Panic(String::new())),
        PowerEvent::Reset if no_reboot => Next::End(EndReason::Reset),
        PowerEvent::Reset => {
            // Until the next start, so that nothing a CPU still does on its way to rest counts.
            state.request = Some(PowerEvent::Reset);
            Next::Reset { guest: !std::mem::take(&mut state.reset_button) }
        }
    })
}

impl PowerSink for Lifecycle {
    fn request(&self, event: PowerEvent) {
        if event == PowerEvent::Panicked {
            return self.panicked("");
        }
        self.change(|s| {
            s.request.get_or_insert(event);
        });
    }
}
