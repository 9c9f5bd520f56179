//! A watched descriptor whose readers and writers say separately what they wait for.
//!
//! For engines with a receiving and a sending half: each changes its part of the interest from its own thread,
//! and a change that changes nothing costs no system call.
//!
//! Lock order: `interest` is taken alone.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::{EventError, EventHandle, FdHandler, Interest, Registration, Source};

/// An interest and the registration that carries it. Made idle; [`Self::start`] begins to watch.
#[derive(Debug, Default)]
pub struct Watch {
    registration: OnceLock<Registration>,
    interest: Mutex<Interest>,
}

impl Watch {
    /// Watches `source` with the present interest, once.
    ///
    /// # Errors
    /// As [`EventHandle::watch`].
    pub fn start(
        &self,
        events: &EventHandle,
        source: Arc<dyn Source>,
        handler: Arc<dyn FdHandler>,
    ) -> Result<(), EventError> {
        let interest = self.interest.lock().unwrap_or_else(PoisonError::into_inner);
        let registration = events.watch(source, *interest, handler)?;
        self.registration.get_or_init(|| registration);
        Ok(())
    }

    /// Changes what is waited for.
    pub fn want(&self, change: impl FnOnce(&mut Interest)) {
        let mut interest = self.interest.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *interest;
        change(&mut interest);
        if *interest != before
            && let Some(registration) = self.registration.get()
        {
            registration.set_interest(*interest);
        }
    }
}
