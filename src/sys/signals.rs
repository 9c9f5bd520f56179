//! Signals that ask for the end: an orderly way out, as a closure on the loop thread.
//!
//! The second one of them ends the process at once (with the terminal restored and no socket's name left), so that a hanging way out can
//! always be cut short. SIGCONT puts the terminal back into raw mode.

use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use super::{terminal, unix_path};
use crate::event::{EventError, EventHandle, FdHandler, Interest, Ready, Registration};

/// Watches the signals until it is dropped; from then on they are ignored.
#[derive(Debug)]
pub struct Signals {
    _registration: Registration,
}

struct Handler {
    delivery: Mutex<Delivery>,
    on_end: Box<dyn Fn(i32) + Send + Sync>,
    on_report: Box<dyn Fn() + Send + Sync>,
}

struct Delivery {
    signals: SignalDelivery<UnixStream, SignalOnly>,
    ending: bool,
}

impl Signals {
    /// Calls `on_end` on the loop thread with the number of the first SIGINT, SIGTERM, SIGHUP or SIGQUIT, and
    /// `on_report` at each SIGUSR1.
    ///
    /// # Errors
    /// [`EventError::Watch`] when the host is out of descriptors.
    pub fn watch(
        events: &EventHandle,
        on_end: impl Fn(i32) + Send + Sync + 'static,
        on_report: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, EventError> {
        let (read, write) = UnixStream::pair().map_err(EventError::Watch)?;
        let watched = Arc::new(read.try_clone().map_err(EventError::Watch)?);
        let numbers = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGCONT, SIGUSR1];
        let signals =
            SignalDelivery::with_pipe(read, write, SignalOnly, numbers).map_err(EventError::Watch)?;
        let delivery = Mutex::new(Delivery { signals, ending: false });
        let handler =
            Arc::new(Handler { delivery, on_end: Box::new(on_end), on_report: Box::new(on_report) });
        Ok(Self { _registration: events.watch(watched, Interest::READ, handler)? })
    }
}

impl FdHandler for Handler {
    fn ready(&self, _ready: Ready) {
        let mut delivery = self.delivery.lock().unwrap_or_else(PoisonError::into_inner);
        let pending: Vec<i32> = delivery.signals.pending().collect();
        for signal in pending {
            if signal == SIGCONT {
                terminal::continued();
            } else if signal == SIGUSR1 {
                (self.on_report)();
            } else if std::mem::replace(&mut delivery.ending, true) {
                terminal::restore();
                unix_path::remove_all();
                end_now(signal);
            } else {
                (self.on_end)(signal);
            }
        }
    }
}

/// What the signal does to a process that does not handle it.
fn end_now(signal: i32) {
    if signal_hook::low_level::emulate_default_handler(signal).is_err() {
        signal_hook::low_level::exit(128 + signal);
    }
}
