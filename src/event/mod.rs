//! The event loop: one thread that waits for host files and timers and calls their handlers.
//!
//! `machine` starts one [`EventLoop`] and hands clones of its [`EventHandle`] to the network backends, the
//! serial lines, the signal handler and the devices' clocks. Nothing here knows what the files are.

mod event_loop;
mod host_timer;
mod waker;
mod watch;

pub use crate::token::{Entered, Token};
pub use event_loop::{EventError, EventHandle, EventLoop, FdHandler, Interest, Ready, Registration, Source};
pub use host_timer::HostTimer;
pub use waker::Waker;
pub use watch::Watch;
