//! The way from the host's file to the guest: read, keep what finds no room, go on when there is some.
//!
//! Entered by the loop thread (the file is readable) and by vCPU threads (the guest has read).

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use super::CharReceiver;
use super::descriptor::{Descriptor, not_now};
use super::escape::{Escape, Key};
use crate::event::{Entered, EventError, EventHandle, FdHandler, Interest, Ready, Registration, Token};

/// Bytes read at a time: more than a UART holds, little enough to keep.
const CHUNK: usize = 256;
/// Chunks read for one wake-up, so that other files get their turn.
const BUDGET: usize = 16;

/// What else input can mean.
pub trait InputEvents: Send + Sync {
    /// A key after Ctrl-A (never [`Key::Pass`], [`Key::Nothing`] or [`Key::Break`]).
    fn key(&self, key: Key);

    /// The file has ended or broken; it is not read any more. `next_at_once`: what the receiver said to that.
    fn ended(&self, next_at_once: bool);
}

/// One line's input.
pub struct Input {
    events: EventHandle,
    this: Weak<Self>,
    keys: bool,
    on_event: Box<dyn InputEvents>,
    receiver: OnceLock<Box<dyn CharReceiver>>,
    /// The file to read once the present one has ended.
    next: Mutex<Option<Arc<Descriptor>>>,
    state: Token<State>,
}

#[derive(Default)]
struct State {
    file: Option<Arc<Descriptor>>,
    /// None for a file that is always ready.
    watch: Option<Registration>,
    interest: Interest,
    kept: VecDeque<u8>,
    escape: Escape,
}

/// Why reading stopped.
enum Stop {
    /// Nothing to read, or nobody to read it.
    Idle,
    NoRoom,
    Budget,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl Input {
    /// Input without a file yet; `keys`: Ctrl-A means something.
    pub fn new(events: &EventHandle, keys: bool, on_event: Box<dyn InputEvents>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            events: events.clone(),
            this: this.clone(),
            keys,
            on_event,
            receiver: OnceLock::new(),
            next: Mutex::new(None),
            state: Token::new(State::default()),
        })
    }

    /// Reads this file once the present one has ended.
    pub fn attach(&self, file: Arc<Descriptor>) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        self.go_on();
    }

    /// Names the receiver and begins.
    pub fn start(&self, receiver: Box<dyn CharReceiver>) {
        self.receiver.get_or_init(|| receiver);
        self.go_on();
    }

    /// Gives the receiver what it has room for.
    pub fn go_on(&self) {
        if self.state.enter(|state| self.pump(state)) == Entered::Again {
            self.go_on_later();
        }
    }

    fn go_on_later(&self) {
        let this = self.this.clone();
        self.events.run(move || {
            if let Some(input) = this.upgrade() {
                input.go_on();
            }
        });
    }

    fn pump(&self, state: &mut State) {
        let Some(receiver) = self.receiver.get() else { return };
        let stop = self.read_and_give(state, &**receiver);
        if let Some(watch) = &state.watch {
            let wanted = if matches!(stop, Stop::NoRoom) { Interest::NONE } else { Interest::READ };
            if std::mem::replace(&mut state.interest, wanted) != wanted {
                watch.set_interest(wanted);
            }
        } else if matches!(stop, Stop::Budget) {
            self.go_on_later();
        }
    }

    fn read_and_give(&self, state: &mut State, receiver: &dyn CharReceiver) -> Stop {
        for _ in 0..BUDGET {
            if !give(&mut state.kept, receiver) {
                return Stop::NoRoom;
            }
            let Some(file) = self.file(state, receiver) else { return Stop::Idle };
            let mut chunk = [0; CHUNK];
            match file.read(&mut chunk) {
                Ok(n) if n > 0 => self.sort(&chunk[..n], state, receiver),
                Err(error) if not_now(error) => return Stop::Idle,
                Ok(_) | Err(_) => {
                    (state.file, state.watch) = (None, None);
                    self.on_event.ended(receiver.closed());
                }
            }
        }
        if give(&mut state.kept, receiver) { Stop::Budget } else { Stop::NoRoom }
    }

    /// The file to read; a new one is watched from here on.
    fn file(&self, state: &mut State, receiver: &dyn CharReceiver) -> Option<Arc<Descriptor>> {
        if state.file.is_none() {
            let next = self.next.lock().unwrap_or_else(PoisonError::into_inner).take()?;
            match self.events.watch(next.clone(), Interest::NONE, Arc::new(self.this.clone())) {
                Ok(watch) => (state.watch, state.interest) = (Some(watch), Interest::NONE),
                Err(EventError::NotPollable) => {}
                Err(_) => {
                    self.on_event.ended(receiver.closed());
                    return None;
                }
            }
            state.file = Some(next);
            receiver.opened();
        }
        state.file.clone()
    }

    /// Keeps the guest's bytes and acts on the others.
    fn sort(&self, bytes: &[u8], state: &mut State, receiver: &dyn CharReceiver) {
        if !self.keys {
            return state.kept.extend(bytes);
        }
        for &byte in bytes {
            match state.escape.feed(byte) {
                Key::Pass(byte) => state.kept.push_back(byte),
                Key::Nothing => {}
                Key::Break => receiver.receive_break(),
                Key::Monitor => {
                    // What was typed before goes to who had the keyboard then, as far as there is room.
                    give(&mut state.kept, receiver);
                    self.on_event.key(Key::Monitor);
                }
                key => self.on_event.key(key),
            }
        }
    }
}

/// Offers what is kept; true when all of it is taken.
fn give(kept: &mut VecDeque<u8>, receiver: &dyn CharReceiver) -> bool {
    let bytes = kept.make_contiguous();
    if !bytes.is_empty() {
        let taken = receiver.receive(bytes).min(bytes.len());
        kept.drain(..taken);
    }
    kept.is_empty()
}

impl FdHandler for Input {
    fn ready(&self, _ready: Ready) {
        self.go_on();
    }
}
