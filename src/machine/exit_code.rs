//! Why a run ended, and the process exit status that says so.
//!
//! Made by [`super::lifecycle`]; printed by `main` as the last line on standard error and written to
//! `-result`. The statuses are part of the interface (docs/exit-status.md).

use std::fmt;
use std::time::Duration;

use crate::monitor::Cause;

/// Why the run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndReason {
    /// The machine could not be set up: one line for the user.
    Setup(String),
    /// The guest powered off.
    PowerOff,
    /// The guest powered off after `minivmm.run=COMMAND` ended with this status.
    CommandExit(u8),
    /// The guest asked for a reset and `-no-reboot` was given.
    Reset,
    /// isa-debug-exit was written; the status is 2n + 1.
    DebugExit(u8),
    /// The guest's kernel panicked: its own words, if they were seen on the console.
    Panic(String),
    /// This vCPU met a triple fault.
    TripleFault(u32),
    /// Every vCPU halted with interrupts off: nothing can wake the guest.
    Halted,
    /// `-d guest_errors=fatal`: the driver did something wrong.
    DriverFinding(String),
    /// `-timeout` passed.
    Timeout(Duration),
    /// The last text of `-expect` was seen on the console.
    Expected(String),
    /// A text of `-expect` was not seen: which, and what happened instead.
    NotSeen(String, Unseen),
    /// The user asked (Ctrl-A x).
    Quit,
    /// A signal ended the run.
    Signal(i32),
    /// We failed: what, where.
    Internal(String),
    /// One of these, and where the guest's CPUs were then, for people.
    At(Box<EndReason>, String),
}

/// Why a text of `-expect` can no longer be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unseen {
    /// Its time is over (`within=`).
    InTime(Duration),
    /// The run ended, for this reason, which alone would be a success.
    BeforeEnd(Box<EndReason>),
}

impl EndReason {
    /// The process exit status.
    pub fn status(&self) -> u8 {
        match self {
            Self::PowerOff | Self::Reset | Self::Quit | Self::Expected(_) => 0,
            Self::Setup(_) => 1,
            Self::CommandExit(status) | Self::DebugExit(status) => *status,
            Self::DriverFinding(_) => 122,
            Self::NotSeen(..) => 123,
            Self::Timeout(_) => 124,
            Self::Internal(_) => 125,
            Self::Panic(_) | Self::TripleFault(_) | Self::Halted => 126,
            Self::Signal(number) => u8::try_from(128 + number).unwrap_or(u8::MAX),
            Self::At(reason, _) => reason.status(),
        }
    }

    /// What QMP's SHUTDOWN event says of it.
    pub fn cause(&self) -> Cause {
        let (guest, reason) = match self {
            Self::PowerOff | Self::CommandExit(_) | Self::DebugExit(_) | Self::Halted => {
                (true, "guest-shutdown")
            }
            Self::Reset | Self::TripleFault(_) => (true, "guest-reset"),
            Self::Panic(_) => (true, "guest-panic"),
            Self::NotSeen(_, Unseen::BeforeEnd(end)) | Self::At(end, _) => return end.cause(),
            Self::Quit | Self::Expected(_) => (false, "host-qmp-quit"),
            Self::Signal(_) => (false, "host-signal"),
            Self::Setup(_)
            | Self::DriverFinding(_)
            | Self::NotSeen(_, Unseen::InTime(_))
            | Self::Timeout(_)
            | Self::Internal(_) => (false, "host-error"),
        };
        Cause { guest, reason }
    }

    /// One stable word for scripts.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Setup(_) => "setup-error",
            Self::PowerOff => "poweroff",
            Self::CommandExit(_) => "command-exit",
            Self::Reset => "reset",
            Self::DebugExit(_) => "debug-exit",
            Self::Panic(_) => "panic",
            Self::TripleFault(_) => "triple-fault",
            Self::Halted => "halted",
            Self::DriverFinding(_) => "driver-finding",
            Self::Timeout(_) => "timeout",
            Self::Expected(_) => "expected",
            Self::NotSeen(..) => "expect-failed",
            Self::Quit => "quit",
            Self::Signal(_) => "signal",
            Self::Internal(_) => "internal-error",
            Self::At(reason, _) => reason.name(),
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setup(line) => write!(f, "{line}"),
            Self::PowerOff => write!(f, "guest powered off"),
            Self::CommandExit(status) => write!(f, "command in the guest ended with status {status}"),
            Self::Reset => write!(f, "guest reset (-no-reboot)"),
            Self::DebugExit(status) => write!(f, "isa-debug-exit, status {status}"),
            Self::Panic(words) if words.is_empty() => write!(f, "guest panicked"),
            Self::Panic(words) => write!(f, "guest panicked: {words}"),
            Self::TripleFault(_) => write!(f, "guest triple-faulted"),
            Self::Halted => write!(f, "every CPU of the guest is halted with interrupts off"),
            Self::DriverFinding(what) => write!(f, "-d guest_errors=fatal: {what}"),
            Self::Timeout(after) => write!(f, "-timeout: {after:?} passed"),
            Self::Expected(text) => write!(f, "-expect: seen on the console: {text}"),
            Self::NotSeen(text, Unseen::InTime(time)) => {
                write!(f, "-expect: not seen on the console within {time:?}: {text}")
            }
            Self::NotSeen(text, Unseen::BeforeEnd(end)) => {
                write!(f, "-expect: not seen on the console: {text}; {end}")
            }
            Self::Quit => write!(f, "quit"),
            Self::Signal(number) => write!(f, "ended by signal {number}"),
            Self::Internal(what) => write!(f, "internal error: {what}"),
            Self::At(reason, place) => write!(f, "{reason}; {place}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_that_others_rely_on() {
        let cases = [
            (EndReason::PowerOff, 0),
            (EndReason::CommandExit(7), 7),
            (EndReason::DebugExit(33), 33),
            (EndReason::DriverFinding(String::new()), 122),
            (EndReason::Expected(String::new()), 0),
            (EndReason::NotSeen(String::new(), Unseen::InTime(Duration::from_secs(1))), 123),
            (EndReason::NotSeen(String::new(), Unseen::BeforeEnd(Box::new(EndReason::PowerOff))), 123),
            (EndReason::Timeout(Duration::from_secs(1)), 124),
            (EndReason::Internal(String::new()), 125),
            (EndReason::Panic(String::new()), 126),
            (EndReason::TripleFault(0), 126),
            (EndReason::At(Box::new(EndReason::Halted), String::new()), 126),
            (EndReason::Signal(15), 143),
        ];
        for (reason, status) in cases {
            assert_eq!(reason.status(), status, "{reason:?}");
        }
    }
}
