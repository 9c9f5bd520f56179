//! The end of a run whose way out hangs.
//!
//! Armed by [`super::Machine::run`] once the run is to end. Parking vCPUs, closing files and answering monitors take
//! milliseconds; should one of them wait for ever (a deadlock of ours, a disk that does not answer), nobody in CI is there
//! to kill the process. Then the terminal is restored, sockets' names are removed, `-result` says what is known, and the
//! process ends with the status of an internal error.

use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use super::exit_code::EndReason;
use super::report;
use crate::failures::Failures;
use crate::sys::{Notices, terminal, unix_path};

/// How long the way out may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// While it lives, the way out is watched.
#[derive(Debug)]
pub struct LastResort {
    _out: Option<Sender<()>>,
}

/// What is to be done when the time is over.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How long the way out may take.
    pub patience: Duration,
    /// `-result`.
    pub result: Option<PathBuf>,
    /// Where it is told.
    pub notices: Notices,
    /// Ends the process with this status.
    pub exit: fn(i32),
}

impl LastResort {
    /// Watches the way out that `reason` led to. Without a thread to do it there is no last resort.
    pub fn arm(plan: Plan, reason: &EndReason, failures: &Failures) -> Self {
        let (out, is_out) = mpsc::channel();
        let reason = EndReason::Internal(format!("the machine does not stop; the run was to end, {reason}"));
        let body = move || {
            if is_out.recv_timeout(plan.patience) == Err(RecvTimeoutError::Timeout) {
                end(&plan, &reason);
            }
        };
        Self { _out: failures.spawn("last-resort", body).is_ok().then_some(out) }
    }
}

fn end(plan: &Plan, reason: &EndReason) {
    terminal::restore();
    unix_path::remove_all();
    if let Some(path) = &plan.result
        && let Err(error) = report::write_bare(path, reason)
    {
        plan.notices.say(&format!("-result {}: {error}", path.display()));
    }
    plan.notices.say(&format!("{}: {reason}", reason.name()));
    (plan.exit)(reason.status().into());
}
