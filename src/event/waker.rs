//! Calls a function on the loop thread when any thread asks for it.
//!
//! For work that is asked for often: several wakes before the function runs cost one system call and one run,
//! and nothing is allocated. (For work that is asked for once, [`EventHandle::run`] is simpler.)

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::{EventError, EventHandle, FdHandler, Interest, Ready, Registration};

/// Wakes one function. Dropping it ends the watch.
pub struct Waker {
    inner: Arc<Inner>,
    _registration: Registration,
}

struct Inner {
    event: Arc<EventFd>,
    pending: AtomicBool,
    call: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waker").field("pending", &self.inner.pending).finish_non_exhaustive()
    }
}

impl Waker {
    /// A waker for `call`. What `call` owns lives as long as the waker: give it `Weak` references.
    ///
    /// # Errors
    /// [`EventError::Watch`] when the host is out of descriptors.
    pub fn new(events: &EventHandle, call: impl Fn() + Send + Sync + 'static) -> Result<Self, EventError> {
        let event = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(EventError::Watch)?);
        let inner =
            Arc::new(Inner { event: event.clone(), pending: AtomicBool::new(false), call: Box::new(call) });
        let registration = events.watch(event, Interest::READ, inner.clone())?;
        Ok(Self { inner, _registration: registration })
    }

    /// Has the function called soon. Changes made before this call are seen by it.
    pub fn wake(&self) {
        if !self.inner.pending.swap(true, Ordering::SeqCst) {
            // A nonblocking eventfd refuses a write only at 2^64 - 1, that is, when it is readable already.
            let _ = self.inner.event.write(1);
        }
    }
}

impl FdHandler for Inner {
    fn ready(&self, _ready: Ready) {
        // Nothing to read means a wake that was already served.
        let _ = self.event.read();
        self.pending.store(false, Ordering::SeqCst);
        (self.call)();
    }
}
