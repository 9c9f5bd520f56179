//! What is behind a serial line or a monitor on the host: the terminal, a file, a socket, nothing.
//!
//! `machine` opens one [`CharDevice`] for each `-serial`, `-monitor` and `-qmp`, gives the output of the UART or
//! the monitor to [`CharDevice::write`] and the host's input to a [`CharReceiver`].
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
mod mux;
mod output;
mod socket;
mod stdio;

use std::fmt::{self, Debug};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cli::Chardev;
use crate::event::{EventError, EventHandle};
use crate::sys::Notices;
use crate::time::MonotonicClock;
use descriptor::Descriptor;
pub use mux::share;
use output::Output;
pub use socket::{Place, SocketChar};
pub use stdio::{Stdio, Use};

/// Why a character device could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum CharError {
    /// `file:`.
    #[error("{option} file:{path}: {error}", path = .path.display())]
    File {
        /// The option that named it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// The host's answer.
        error: std::io::Error,
    },
    /// `unix:` or `tcp:`.
    #[error("{name}: {what}: {error}{advice}")]
    Socket {
        /// The option and the socket.
        name: String,
        /// "cannot listen", "cannot connect".
        what: &'static str,
        /// The host's answer.
        error: std::io::Error,
        /// What to do, behind a semicolon; or nothing.
        advice: &'static str,
    },
    /// `stdio` without standard input or output.
    #[error("{option} stdio: standard {which}: {error}")]
    Stdio {
        /// The option that named it.
        option: &'static str,
        /// "input" or "output".
        which: &'static str,
        /// The host's answer.
        error: std::io::Error,
    },
    /// The event loop could not watch it.
    #[error("cannot open a serial line or a monitor: {0}")]
    Event(#[from] EventError),
}

/// The host's end of a serial line or a monitor. All methods may be called from any thread.
pub trait CharDevice: Debug + Send + Sync {
    /// The guest sent these bytes. Returns within microseconds as long as the host reads, within 100 ms if not.
    fn write(&self, bytes: &[u8]);

    /// The receiver took less than it was offered, and has room again. Spurious calls are allowed.
    fn input_ready(&self);

    /// Names who takes the input, once, and begins to read. Give it a `Weak` reference: the line's owner
    /// usually owns this device.
    fn start(&self, receiver: Box<dyn CharReceiver>);

    /// Whether clients come and go; if not, [`CharReceiver::closed`] means the end of the input only.
    fn has_clients(&self) -> bool {
        false
    }

    /// The receiver is done with a client of which [`CharReceiver::closed`] said that the next one must wait.
    fn next_client(&self) {}

    /// Whether there is a person at a terminal, who wants an echo.
    fn is_terminal(&self) -> bool {
        false
    }
}

/// Who takes the input of a [`CharDevice`]: the guest's end of a serial line, or a monitor.
pub trait CharReceiver: Send + Sync {
    /// Input for the guest: takes what fits and returns how many bytes that were. When it is less than
    /// offered, [`CharDevice::input_ready`] follows once there is room.
    fn receive(&self, bytes: &[u8]) -> usize;

    /// A break on the line (Linux: the SysRq key). One that cannot be taken now is lost.
    fn receive_break(&self);

    /// A client is there, or the keyboard was switched here. Comes before its input.
    fn opened(&self) {}

    /// The client has gone, or the keyboard was switched away. Comes after its input. Whether the next client may
    /// come at once; if not, [`CharDevice::next_client`] says when, and answers still reach the one who may have
    /// stopped sending only.
    fn closed(&self) -> bool {
        true
    }
}

/// What opening needs.
#[derive(Clone)]
pub struct CharContext {
    /// The option that asked for the device, for messages.
    pub option: &'static str,
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

/// Opens the device; None for [`Chardev::None`], which is none.
///
/// # Errors
/// [`CharError`], one line that names the option.
pub fn open(wanted: &Chardev, context: &CharContext) -> Result<Option<Arc<dyn CharDevice>>, CharError> {
    Ok(match wanted {
        Chardev::None => None,
        Chardev::Null => Some(Arc::new(NullChar)),
        Chardev::Stdio => Some(Stdio::open(Use::Person, context)?),
        Chardev::File(path) => {
            let file = File::create(path).map_err(|error| CharError::File {
                option: context.option,
                path: path.clone(),
                error,
            })?;
            let name = format!("{} file:{}", context.option, path.display());
            Some(Arc::new(FileChar(Output::new(context, name, Some(Descriptor::file(file.into())))?)))
        }
        Chardev::Unix { path, server, wait } => {
            Some(SocketChar::open(Place::Unix(path), *server, *wait, context)?)
        }
        Chardev::Tcp { host, port, server, wait } => {
            Some(SocketChar::open(Place::Tcp(host, *port), *server, *wait, context)?)
        }
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
