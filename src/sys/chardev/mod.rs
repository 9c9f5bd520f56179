//! What is behind a serial line on the host: the terminal, a file, a socket, nothing.
//!
//! `machine` opens one [`CharDevice`] for each `-serial`, gives the UART's output to [`CharDevice::write`] and
//! the host's input to a [`CharReceiver`].
//!
//! **Output** is collected for at most two milliseconds or to the end of a line, then written without
//! blocking. While the host does not take it (a stopped terminal, a full pipe), it waits in a buffer of
//! 64 KiB; when that is full, each further write holds the guest's CPU back for up to 100 ms. So a slow reader
//! slows the guest, no byte is lost, and nothing waits for ever. Only a socket without a client loses what is
//! written, as a cable with nobody at the end does.
//!
//! **Input** that the guest has no room for is kept, and no more is read until [`CharDevice::input_ready`].

mod descriptor;
mod escape;
mod input;
mod output;
mod stdio;
mod unix;

use std::fmt::{self, Debug};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cli::Serial;
use crate::event::{EventError, EventHandle};
use crate::sys::Notices;
use crate::time::MonotonicClock;
use descriptor::Descriptor;
use output::Output;
pub use stdio::Stdio;
pub use unix::UnixChar;

/// Why a serial line's host side could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum CharError {
    /// `-serial file:`.
    #[error("-serial file:{path}: {error}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The host's answer.
        error: std::io::Error,
    },
    /// `-serial unix:`.
    #[error("-serial unix:{path}: {what}: {error}", path = .path.display())]
    Unix {
        /// The socket.
        path: PathBuf,
        /// "cannot listen", "cannot connect".
        what: &'static str,
        /// The host's answer.
        error: std::io::Error,
    },
    /// `-serial stdio` without standard input or output.
    #[error("-serial stdio: standard {which}: {error}")]
    Stdio {
        /// "input" or "output".
        which: &'static str,
        /// The host's answer.
        error: std::io::Error,
    },
    /// The event loop could not watch it.
    #[error("-serial: {0}")]
    Event(#[from] EventError),
}

/// The host's end of a serial line. All methods may be called from any thread.
pub trait CharDevice: Debug + Send + Sync {
    /// The guest sent these bytes. Returns within microseconds as long as the host reads, within 100 ms if not.
    fn write(&self, bytes: &[u8]);

    /// The receiver took less than it was offered, and has room again. Spurious calls are allowed.
    fn input_ready(&self);

    /// Names who takes the input, once, and begins to read. Give it a `Weak` reference: the line's owner
    /// usually owns this device.
    fn start(&self, receiver: Box<dyn CharReceiver>);
}

/// The guest's end of a serial line, as far as input goes.
pub trait CharReceiver: Send + Sync {
    /// Input for the guest: takes what fits and returns how many bytes that were. When it is less than
    /// offered, [`CharDevice::input_ready`] follows once there is room.
    fn receive(&self, bytes: &[u8]) -> usize;

    /// A break on the line (Linux: the SysRq key). One that cannot be taken now is lost.
    fn receive_break(&self);
}

/// What opening needs.
#[derive(Clone)]
pub struct CharContext {
    /// Waits for the files.
    pub events: EventHandle,
    /// Collects output.
    pub clock: MonotonicClock,
    /// Remarks for the user.
    pub notices: Notices,
    /// The user pressed Ctrl-A x. Called on the loop thread.
    pub quit: Arc<dyn Fn() + Send + Sync>,
}

impl Debug for CharContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CharContext").field("events", &self.events).finish_non_exhaustive()
    }
}

/// Opens the host's side of a serial port; None for [`Serial::None`], which is no port.
///
/// # Errors
/// [`CharError`], one line that names the option.
pub fn open(serial: &Serial, context: &CharContext) -> Result<Option<Arc<dyn CharDevice>>, CharError> {
    Ok(match serial {
        Serial::None => None,
        Serial::Null => Some(Arc::new(NullChar)),
        Serial::Stdio => Some(Stdio::open(context)?),
        Serial::File(path) => {
            let file = File::create(path).map_err(|error| CharError::File { path: path.clone(), error })?;
            let name = format!("-serial file:{}", path.display());
            Some(Arc::new(FileChar(Output::new(context, name, Some(Descriptor::file(file.into())))?)))
        }
        Serial::Unix { path, server, wait } => Some(UnixChar::open(path, *server, *wait, context)?),
    })
}

/// `-serial null`.
#[derive(Debug)]
struct NullChar;

impl CharDevice for NullChar {
    fn write(&self, _bytes: &[u8]) {}

    fn input_ready(&self) {}

    fn start(&self, _receiver: Box<dyn CharReceiver>) {}
}

/// `-serial file:PATH`.
#[derive(Debug)]
struct FileChar(Arc<Output>);

impl CharDevice for FileChar {
    fn write(&self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    fn input_ready(&self) {}

    fn start(&self, _receiver: Box<dyn CharReceiver>) {}
}

#[cfg(test)]
mod tests;
