//! The way from the guest to the host's file: collect, write without blocking, hold back.
//!
//! Written to by vCPU threads (on the way, if the host takes it) and by the loop thread (two milliseconds
//! later, or when a full file has room again).
//!
//! Lock order: `state`, then the timer's or the registration's own; `room` waits on `state`.

use std::fmt::Display;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::descriptor::{Descriptor, not_now};
use super::{CharContext, CharError};
use crate::event::{EventHandle, FdHandler, HostTimer, Interest, Ready, Registration};
use crate::sys::Notices;
use crate::time::Clock;

/// Bytes that wait before writers are held back.
const LIMIT: usize = 64 << 10;
/// Bytes that are written at once, without waiting for more.
const ENOUGH: usize = 1024;
/// How long output is collected, in nanoseconds.
const COLLECT_NS: u64 = 2_000_000;
/// How long one write is held back at most.
const HOLD_BACK: Duration = Duration::from_millis(100);
/// How long the last bytes may take at the end without any progress.
const STUCK_MS: u32 = 2000;
/// How long the last bytes may take at the end altogether.
const LAST_BYTES: Duration = Duration::from_secs(10);

/// One line's output.
#[derive(Debug)]
pub struct Output {
    name: String,
    notices: Notices,
    events: EventHandle,
    timer: Arc<HostTimer>,
    this: Weak<Self>,
    state: Mutex<State>,
    room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    file: Option<Arc<Descriptor>>,
    /// Present while the file is full.
    blocked: Option<Registration>,
}

impl Output {
    /// Output to `file`; without one, bytes are dropped until [`Self::attach`]. `name` is for remarks.
    pub fn new(
        context: &CharContext,
        name: String,
        file: Option<Descriptor>,
    ) -> Result<Arc<Self>, CharError> {
        let timer = HostTimer::new(&context.events, &context.clock)?;
        let output = Arc::new_cyclic(|this: &Weak<Self>| Self {
            name,
            notices: context.notices.clone(),
            events: context.events.clone(),
            timer,
            this: this.clone(),
            state: Mutex::new(State { file: file.map(Arc::new), ..State::default() }),
            room: Condvar::new(),
        });
        let weak = Arc::downgrade(&output);
        output.timer.on_wake(move || {
            if let Some(output) = weak.upgrade() {
                output.flush(&mut output.lock());
            }
        });
        Ok(output)
    }

    /// From now on to this file; what waited for another is dropped.
    pub fn attach(&self, file: Arc<Descriptor>) {
        self.change(Some(file));
    }

    /// From now on to nowhere.
    pub fn detach(&self) {
        self.change(None);
    }

    fn change(&self, file: Option<Arc<Descriptor>>) {
        *self.lock() = State { file, ..State::default() };
        self.room.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes all bytes; see the module's rule for how long that takes.
    pub fn write(&self, bytes: &[u8]) {
        let mut state = self.lock();
        if state.waiting.len() >= LIMIT {
            let full = |state: &mut State| state.waiting.len() >= LIMIT && !self.events.stopping();
            let held = self.room.wait_timeout_while(state, HOLD_BACK, full);
            state = held.unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.file.is_none() {
            return;
        }
        state.waiting.extend_from_slice(bytes);
        if state.blocked.is_some() {
            return;
        }
        if bytes.contains(&b'\n') || state.waiting.len() >= ENOUGH {
            self.flush(&mut state);
        } else if state.waiting.len() == bytes.len() {
            self.timer.wake_at(self.timer.now_ns() + COLLECT_NS);
        }
    }

    /// Writes what the file takes now; has the loop thread go on with the rest.
    fn flush(&self, state: &mut State) {
        let before = state.waiting.len();
        let Some(file) = state.file.clone() else { return };
        let outcome = write_some(&file, &mut state.waiting);
        if before >= LIMIT && state.waiting.len() < LIMIT {
            self.room.notify_all();
        }
        match outcome {
            Ok(()) if state.waiting.is_empty() => state.blocked = None,
            Ok(()) => self.block(state, file),
            Err(error) => self.lost(state, error),
        }
    }

    fn block(&self, state: &mut State, file: Arc<Descriptor>) {
        if state.blocked.is_some() {
            return;
        }
        match self.events.watch(file, Interest::WRITE, Arc::new(self.this.clone())) {
            Ok(registration) => state.blocked = Some(registration),
            // Regular files are always ready and never get here.
            Err(error) => self.lost(state, error),
        }
    }

    /// The reader is gone for good, or the disk is full: nothing more is written to this file.
    fn lost(&self, state: &mut State, why: impl Display) {
        let was = std::mem::take(state);
        self.room.notify_all();
        if was.file.is_some_and(|file| file.is_socket()) {
            // A client that goes is what clients do.
            return;
        }
        self.notices.say(&format!("{}: {why}; its output is dropped from here on", self.name));
    }
}

/// Writes until the file is full or nothing is left.
fn write_some(file: &Descriptor, waiting: &mut Vec<u8>) -> rustix::io::Result<()> {
    while !waiting.is_empty() {
        match file.write(waiting) {
            Ok(n) => drop(waiting.drain(..n)),
            Err(error) if not_now(error) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl FdHandler for Output {
    fn ready(&self, _ready: Ready) {
        self.flush(&mut self.lock());
    }
}

impl Drop for Output {
    /// The last bytes are often the ones that matter. A reader that takes none of them for two seconds has
    /// stopped reading.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = state.file.clone() else { return };
        let begin = Instant::now();
        while write_some(&file, &mut state.waiting).is_ok()
            && !state.waiting.is_empty()
            && begin.elapsed() < LAST_BYTES
            && file.wait_writable(STUCK_MS)
        {}
    }
}
