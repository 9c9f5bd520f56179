//! What signals mean: SIGINT, SIGTERM, SIGHUP and SIGQUIT end the run, SIGUSR1 writes `-result`.
//!
//! Watched by the assembly from before the first backend is opened. While it is at work, its thread may wait for ever (for
//! a client, a name server, a file that is a pipe), so the process then ends from here: what it has opened closes itself,
//! sockets' names are removed, and `-result` says why. From [`SignalEnds::begin`] on the life cycle ends in order.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};

use super::exit_code::EndReason;
use super::lifecycle::Lifecycle;
use super::report::{self, Reporter};
use crate::event::{EventError, EventHandle};
use crate::sys::signals::Signals;
use crate::sys::{Notices, terminal, unix_path};

/// Clones are the same.
#[derive(Debug, Clone)]
pub struct SignalEnds {
    life: Lifecycle,
    result: Option<PathBuf>,
    /// Once the machine is set up.
    reporter: Arc<OnceLock<Weak<Reporter>>>,
}

impl SignalEnds {
    /// For a machine that is being set up; `result` is `-result`.
    pub fn new(life: &Lifecycle, result: Option<PathBuf>) -> Self {
        Self { life: life.clone(), result, reporter: Arc::default() }
    }

    /// Takes the signals until the result is dropped.
    ///
    /// # Errors
    /// [`EventError`] when the host is out of descriptors.
    pub fn watch(&self, events: &EventHandle) -> Result<Signals, EventError> {
        let (ends, reports) = (self.clone(), self.clone());
        Signals::watch(events, move |signal| ends.end(signal), move || reports.report())
    }

    /// The machine is set up: ends go in order from now on.
    pub fn begin(&self, reporter: &Arc<Reporter>) {
        self.reporter.get_or_init(|| Arc::downgrade(reporter));
    }

    fn end(&self, signal: i32) {
        let reason = EndReason::Signal(signal);
        if self.reporter.get().is_some() {
            return self.life.end(reason);
        }
        terminal::restore();
        unix_path::remove_all();
        if let Some(path) = &self.result {
            // Nobody is left to be told of an error, and the status says the same.
            let _ = report::write_bare(path, &reason);
        }
        Notices::stderr().say(&format!("{}: {reason}", reason.name()));
        std::process::exit(reason.status().into());
    }

    fn report(&self) {
        if let Some(reporter) = self.reporter.get().and_then(Weak::upgrade) {
            reporter.write(None, None);
        }
    }
}
