//! `-serial stdio`: the user's terminal, or whatever standard input and output are.
//!
//! A terminal is in raw mode from [`CharDevice::start`] until this is dropped. Ctrl-A is minivmm's, also from
//! a pipe. The end of the input ends nothing: the guest just hears no more.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use super::descriptor::Descriptor;
use super::escape::{HELP, Key, NO_MONITOR};
use super::input::{Input, InputEvents};
use super::output::Output;
use super::{CharContext, CharDevice, CharError, CharReceiver};
use crate::sys::Notices;
use crate::sys::terminal::RawTerminal;

/// Standard input and output as a serial line's host side.
#[derive(Debug)]
pub struct Stdio {
    output: Arc<Output>,
    input: Arc<Input>,
    terminal: OwnedFd,
    raw: Mutex<Option<RawTerminal>>,
    notices: Notices,
}

struct Keys {
    output: Arc<Output>,
    quit: Arc<dyn Fn() + Send + Sync>,
}

impl InputEvents for Keys {
    fn key(&self, key: Key) {
        match key {
            Key::Quit => (self.quit)(),
            Key::Help => self.output.write(HELP.as_bytes()),
            Key::Monitor => self.output.write(NO_MONITOR.as_bytes()),
            Key::Pass(_) | Key::Nothing | Key::Break => {}
        }
    }

    fn ended(&self) {}
}

impl Stdio {
    /// On standard input and output.
    ///
    /// # Errors
    /// [`CharError::Stdio`] if one of them is closed.
    pub fn open(context: &CharContext) -> Result<Arc<Self>, CharError> {
        Self::on(std::io::stdin().as_fd(), std::io::stdout().as_fd(), context)
    }

    /// On these two descriptors, which others may share.
    ///
    /// # Errors
    /// [`CharError::Stdio`] if one of them cannot be used.
    pub fn on(
        input: BorrowedFd<'_>,
        output: BorrowedFd<'_>,
        context: &CharContext,
    ) -> Result<Arc<Self>, CharError> {
        let failed = |which| move |error: rustix::io::Errno| CharError::Stdio { which, error: error.into() };
        let terminal = rustix::io::fcntl_dupfd_cloexec(input, 0).map_err(failed("input"))?;
        let from = Descriptor::shared(input, false).map_err(failed("input"))?;
        let to = Descriptor::shared(output, true).map_err(failed("output"))?;
        let output = Output::new(context, "standard output".into(), Some(to))?;
        let keys = Keys { output: output.clone(), quit: context.quit.clone() };
        let input = Input::new(&context.events, true, Box::new(keys));
        input.attach(Arc::new(from));
        let notices = context.notices.clone();
        Ok(Arc::new(Self { output, input, terminal, raw: Mutex::new(None), notices }))
    }
}

impl CharDevice for Stdio {
    fn write(&self, bytes: &[u8]) {
        self.output.write(bytes);
    }

    fn input_ready(&self) {
        self.input.go_on();
    }

    fn start(&self, receiver: Box<dyn CharReceiver>) {
        match RawTerminal::enter(&self.terminal) {
            Ok(raw) => *self.raw.lock().unwrap_or_else(PoisonError::into_inner) = raw,
            Err(error) => self.notices.say(&format!("cannot set the terminal to raw mode: {error}")),
        }
        self.input.start(receiver);
    }
}
