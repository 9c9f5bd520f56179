//! Running, stopping, resetting and ending a machine.
//!
//! vCPU threads, chips, signal handlers and the timeout *request*; the main thread alone *decides*, in
//! [`Lifecycle::next`]. vCPU threads run while a generation is open and park between two of them, so that
//! resetting the machine happens with every CPU standing still. A machine that is paused keeps its generation:
//! its CPUs rest where they are, and a reset finds and leaves them resting.
//!
//! Lock order: `state` is taken alone and never held across a kick or a callback.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::exit_code::{EndReason, Unseen};
use crate::accel::{EntryState, Kicker, StartState, Vcpu};
use crate::chipset::{PowerEvent, PowerSink};
use crate::cli::Expectation;
use crate::gdb::Stopped;
use crate::monitor::{Event, Events};

/// How long a kicked vCPU may take before it is kicked again.
const KICK_AGAIN: Duration = Duration::from_millis(10);
/// How long a guest that panicked may still print before the run ends.
const PANIC_GRACE: Duration = Duration::from_millis(800);

/// How long a CPU may take to do a job of [`Lifecycle::with_cpu`].
const JOB_LIMIT: Duration = Duration::from_secs(5);

/// Something to be done with a CPU, on its own thread.
pub type Job = Box<dyn FnOnce(&mut dyn Vcpu) + Send>;

/// What is to be done with each CPU.
#[derive(Default)]
struct Jobs(Vec<VecDeque<Job>>);

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(VecDeque::len)).finish()
    }
}

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

/// What must be seen on the console before the run may end with success.
#[derive(Debug, Default)]
struct Expecting {
    wanted: Vec<Expectation>,
    /// When each of the first of them was seen.
    seen: Vec<Instant>,
    /// When the guest was first started.
    begin: Option<Instant>,
}

impl Expecting {
    fn next(&self) -> Option<&Expectation> {
        self.wanted.get(self.seen.len())
    }

    /// When the next one's time is over.
    fn deadline(&self) -> Option<Instant> {
        Some(self.seen.last().copied().or(self.begin)? + self.next()?.within?)
    }

    fn is_late(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|at| now >= at)
    }

    /// As long as something is expected, no end is a success.
    fn judge(&self, next: Next) -> Next {
        match (next, self.next()) {
            (Next::End(reason), Some(expectation)) if reason.status() == 0 => {
                let text = expectation.pattern.text().to_owned();
                Next::End(EndReason::NotSeen(text, Unseen::BeforeEnd(Box::new(reason))))
            }
            (next, _) => next,
        }
    }
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
            if state.over {
                return None;
            }
            if state.is_open(seen) {
                state = self.perform(state, cpu, perform);
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
        while begin.elapsed() < JOB_LIMIT {
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
                s.end.get_or_insert(s.command_status.map_or(EndReason::Halted, EndReason::CommandExit));
            }
        });
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

    /// Kicks until every CPU has seen that it is not to run.
    fn wait_for_cpus(&self) {
        let kickers = self.lock().kickers.clone();
        let mut state = self.lock();
        while state.active > 0 {
            drop(state);
            kickers.iter().for_each(|(kicker, _)| kicker.kick());
            let wait = self.shared.changed.wait_timeout_while(self.lock(), KICK_AGAIN, |s| s.active > 0);
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Main thread: no further start; vCPU threads return.
    pub fn finish(&self) {
        self.change(|s| {
            s.over = true;
            // Who waits for one hears that it will not be done.
            s.jobs.0.iter_mut().for_each(VecDeque::clear);
        });
    }
}

impl State {
    fn is_open(&self, generation: u64) -> bool {
        self.running.is_some() && self.generation == generation
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
        PowerEvent::Reset => Next::Reset { guest: !std::mem::take(&mut state.reset_button) },
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

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(events: &[PowerEvent], no_reboot: bool) -> Next {
        let life = Lifecycle::default();
        events.iter().for_each(|e| life.request(*e));
        life.next(no_reboot, None)
    }

    #[test]
    fn the_first_request_wins() {
        assert_eq!(asked(&[PowerEvent::Reset, PowerEvent::PowerOff], false), Next::Reset { guest: true });
        assert_eq!(asked(&[PowerEvent::Reset], true), Next::End(EndReason::Reset));
        assert_eq!(asked(&[PowerEvent::DebugExit(3)], true), Next::End(EndReason::DebugExit(3)));
    }

    #[test]
    fn who_pressed_the_reset_button_is_known_once() {
        let life = Lifecycle::default();
        life.press_reset();
        assert_eq!(life.next(false, None), Next::Reset { guest: false });
        life.request(PowerEvent::Reset);
        assert_eq!(life.next(false, None), Next::Reset { guest: true });
    }

    #[test]
    fn a_reset_after_a_panic_ends_the_run_as_a_panic() {
        let life = Lifecycle::default();
        life.panicked("VFS: no root");
        life.request(PowerEvent::Reset);
        assert_eq!(life.next(false, None), Next::End(EndReason::Panic("VFS: no root".into())));
    }

    #[test]
    fn a_panic_alone_ends_the_run_within_a_second() {
        let life = Lifecycle::default();
        life.request(PowerEvent::Panicked);
        let start = Instant::now();
        assert_eq!(life.next(false, None), Next::End(EndReason::Panic(String::new())));
        assert!(start.elapsed() < Duration::from_secs(1));
    }

    fn expecting(texts: &[(&str, Option<Duration>)]) -> Lifecycle {
        let life = Lifecycle::default();
        let expectation =
            |&(text, within): &(&str, _)| Expectation { pattern: text.parse().unwrap(), within };
        life.expect(&texts.iter().map(expectation).collect::<Vec<_>>());
        life.start(ENTRY);
        life
    }

    #[test]
    fn the_run_succeeds_once_everything_was_seen() {
        let life = expecting(&[("a", None), ("b", None)]);
        life.seen();
        assert!(life.lock().end.is_none());
        life.seen();
        life.request(PowerEvent::PowerOff);
        assert_eq!(life.next(false, None), Next::End(EndReason::Expected("b".into())));
        life.seen();
    }

    #[test]
    fn no_other_end_is_a_success_then() {
        let before = |end| EndReason::NotSeen("a".into(), Unseen::BeforeEnd(Box::new(end)));
        let life = expecting(&[("a", None)]);
        life.request(PowerEvent::PowerOff);
        assert_eq!(life.next(false, None), Next::End(before(EndReason::PowerOff)));
        life.command_ended(0);
        life.request(PowerEvent::PowerOff);
        assert_eq!(life.next(false, None), Next::End(before(EndReason::CommandExit(0))));
        life.command_ended(3);
        life.request(PowerEvent::PowerOff);
        assert_eq!(life.next(false, None), Next::End(EndReason::CommandExit(3)), "that says more");
        life.end(EndReason::Quit);
        assert_eq!(life.next(false, None), Next::End(before(EndReason::Quit)));
    }

    #[test]
    fn each_has_its_own_time() {
        let ms = Duration::from_millis;
        let life = expecting(&[("a", Some(ms(60_000))), ("b", Some(ms(20)))]);
        let begin = Instant::now();
        life.seen();
        assert_eq!(life.next(false, None), Next::End(EndReason::NotSeen("b".into(), Unseen::InTime(ms(20)))));
        assert!(begin.elapsed() >= ms(20), "counted from when the one before was seen");
        let seen: Vec<bool> = life.expectations().iter().map(|(_, at)| at.is_some()).collect();
        assert_eq!(seen, [true, false]);
    }

    #[test]
    fn power_off_after_a_command_carries_its_status() {
        let life = Lifecycle::default();
        life.command_ended(3);
        life.request(PowerEvent::PowerOff);
        assert_eq!(life.next(false, None), Next::End(EndReason::CommandExit(3)));
    }

    #[test]
    fn halting_every_cpu_ends_the_run_and_keeps_a_commands_status() {
        let life = Lifecycle::default();
        life.halted();
        assert_eq!(life.next(false, None), Next::End(EndReason::Halted));
        life.command_ended(4);
        life.halted();
        assert_eq!(life.next(false, None), Next::End(EndReason::CommandExit(4)));
    }

    #[derive(Debug, Default)]
    struct Kicked(std::sync::atomic::AtomicBool);

    impl Kicker for Kicked {
        fn kick(&self) {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }

    const ENTRY: EntryState = EntryState {
        mode: crate::accel::EntryMode::Protected,
        rip: 0,
        rsp: 0,
        rsi: 0,
        rbx: 0,
        rax: 0,
        gdt_base: 0,
        gdt_limit: 0,
    };

    /// A thread that does as a vCPU's does; counts its generations and the times it rested.
    fn cpu(life: &Lifecycle, index: u32) -> std::thread::JoinHandle<(u64, u64)> {
        let (life, kicked) = (life.clone(), Arc::new(Kicked::default()));
        life.join_cpu(kicked.clone());
        std::thread::spawn(move || {
            let (mut generation, mut rested) = (0, 0);
            while let Some((own, _)) = life.wait_start(generation, index, &mut |_| ()) {
                generation = own;
                loop {
                    match life.turn(own, index, &mut |_| ()) {
                        Turn::Over => break,
                        Turn::Rest => {
                            rested += 1;
                            life.rest(own, index, &mut |_| ());
                        }
                        Turn::Run => {
                            while !kicked.0.swap(false, std::sync::atomic::Ordering::SeqCst) {
                                std::thread::sleep(Duration::from_micros(50));
                            }
                        }
                    }
                }
                life.parked();
            }
            (generation, rested)
        })
    }

    #[test]
    fn a_pause_keeps_the_generation_and_a_reset_keeps_the_pause() {
        let life = Lifecycle::default();
        let cpus = [cpu(&life, 0), cpu(&life, 1)];
        let turn = |own| life.turn(own, 0, &mut |_| ());
        assert!(life.pause(), "before the start");
        life.start(ENTRY);
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(turn(1), Turn::Rest);
        life.resume();
        assert_eq!(turn(1), Turn::Run);
        assert!(life.pause());
        assert_eq!((life.pause(), life.lock().active), (false, 0));
        life.stop();
        assert_eq!(turn(1), Turn::Over);
        life.start(ENTRY);
        assert_eq!((turn(1), turn(2)), (Turn::Over, Turn::Rest));
        life.resume();
        assert_eq!(turn(2), Turn::Run);
        while life.lock().active < 2 {
            std::thread::sleep(Duration::from_millis(1));
        }
        life.stop();
        life.finish();
        for cpu in cpus {
            let (generation, rested) = cpu.join().unwrap();
            assert!(generation == 2 && rested >= 1, "{generation} {rested}");
        }
    }

    #[test]
    fn the_timeout_ends_the_run() {
        let life = Lifecycle::default();
        let length = Duration::from_millis(5);
        let next = life.next(false, Some((Instant::now() + length, length)));
        assert_eq!(next, Next::End(EndReason::Timeout(length)));
    }
}
