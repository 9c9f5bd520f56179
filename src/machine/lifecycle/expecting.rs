//! What `-expect` waits for: what was seen of it, whether its time is over, and what that makes of an end.
//!
//! Part of [`super::Lifecycle`]'s state; the console's watcher tells it by [`super::Lifecycle::seen`]. Matches nothing itself.

use std::time::Instant;

use super::Next;
use crate::cli::Expectation;
use crate::machine::exit_code::{EndReason, Unseen};

/// What must be seen on the console before the run may end with success.
#[derive(Debug, Default)]
pub(super) struct Expecting {
    pub(super) wanted: Vec<Expectation>,
    /// When each of the first of them was seen.
    pub(super) seen: Vec<Instant>,
    /// When the guest was first started.
    pub(super) begin: Option<Instant>,
}

impl Expecting {
    pub(super) fn next(&self) -> Option<&Expectation> {
        self.wanted.get(self.seen.len())
    }

    /// When the next one's time is over.
    pub(super) fn deadline(&self) -> Option<Instant> {
        Some(self.seen.last().copied().or(self.begin)? + self.next()?.within?)
    }

    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|at| now >= at)
    }

    /// As long as something is expected, no end is a success.
    pub(super) fn judge(&self, next: Next) -> Next {
        match (next, self.next()) {
            (Next::End(reason), Some(expectation)) if reason.status() == 0 => {
                let text = expectation.pattern.text().to_owned();
                Next::End(EndReason::NotSeen(text, Unseen::BeforeEnd(Box::new(reason))))
            }
            (next, _) => next,
        }
    }
}
