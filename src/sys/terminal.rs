//! The user's terminal in raw mode while the guest has it, and always as it was afterwards.
//!
//! In raw mode every key, Ctrl-C included, goes to the guest (Ctrl-A x is the way out). Output processing
//! stays on, so that our own lines and the guest's end where they should. Restored when the guard is dropped,
//! before a panic's message is printed, and by [`restore`] for ways out that run no destructors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use rustix::termios::{OptionalActions, OutputModes, Termios, isatty, tcgetattr, tcgetpgrp, tcsetattr};

/// The terminal that is in raw mode now; there is one at most.
static RAW: Mutex<Option<Raw>> = Mutex::new(None);

struct Raw {
    terminal: OwnedFd,
    before: Termios,
    raw: Termios,
}

fn current() -> MutexGuard<'static, Option<Raw>> {
    RAW.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a terminal in raw mode.
#[derive(Debug)]
pub struct RawTerminal(());

impl RawTerminal {
    /// Switches `terminal` to raw mode. None, and nothing changed, if it is no terminal, if this process runs
    /// in its background, or if another guard exists.
    ///
    /// # Errors
    /// The host's, from the terminal.
    pub fn enter(terminal: impl AsFd) -> io::Result<Option<Self>> {
        let terminal = terminal.as_fd();
        let mut current = current();
        if current.is_some() || !isatty(terminal) || !in_foreground(terminal) {
            return Ok(None);
        }
        let before = tcgetattr(terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        raw.output_modes |= before.output_modes & (OutputModes::OPOST | OutputModes::ONLCR);
        let terminal = terminal.try_clone_to_owned()?;
        tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        *current = Some(Raw { terminal, before, raw });
        drop(current);
        restore_before_panic_messages();
        Ok(Some(Self(())))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
        *current() = None;
    }
}

/// Setting the mode of its terminal from the background stops a process (termios(3), SIGTTOU). A terminal
/// that is not the process's own has no background for it.
fn in_foreground(terminal: BorrowedFd<'_>) -> bool {
    tcgetpgrp(terminal).map_or(true, |group| group == rustix::process::getpgrp())
}

/// Puts the terminal back as it was found, if it is in raw mode. For any thread, at any time.
pub fn restore() {
    if let Some(raw) = &*current() {
        // A terminal that went away has no mode to restore.
        let _ = tcsetattr(&raw.terminal, OptionalActions::Now, &raw.before);
    }
}

/// Back to raw mode after the process was stopped and continued (the shell has changed the mode meanwhile).
pub fn continued() {
    if let Some(raw) = &*current()
        && in_foreground(raw.terminal.as_fd())
    {
        // As in `restore`.
        let _ = tcsetattr(&raw.terminal, OptionalActions::Now, &raw.raw);
    }
}

fn restore_before_panic_messages() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // Not if the panic struck in this file with the lock held: its message matters more.
            if RAW.try_lock().is_ok() {
                restore();
            }
            print(info);
        }));
    });
}
