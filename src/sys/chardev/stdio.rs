//! `stdio`: the user's terminal, or whatever standard input and output are.
//!
//! For a person, a terminal is in raw mode from [`CharDevice::start`] until this is dropped, and Ctrl-A is
//! minivmm's, also from a pipe. For a program ([`Use::Program`], `-qmp stdio`) nothing is changed or taken out. The end of the input ends nothing: the guest just hears no more.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::descriptor::Descriptor;
use super::escape::{HELP, Key, NO_MONITOR};
use super::input::{Input, InputEvents};
use super::output::Output;
use super::{CharContext, CharDevice, CharError, CharReceiver};
use crate::sys::Notices;
use crate::sys::terminal::RawTerminal;

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A person, or a script that acts like one.
    Person,
    /// A program that speaks a protocol.
    Program,
}

/// What Ctrl-A c does.
type Switch = Arc<OnceLock<Box<dyn Fn() + Send + Sync>>>;

/// Standard input and output as a character device.
pub struct Stdio {
    used_by: Use,
    switch: Switch,
    output: Arc<Output>,
    input: Arc<Input>,
    terminal: OwnedFd,
    raw: Mutex<Option<RawTerminal>>,
    notices: Notices,
}

impl std::fmt::Debug for Stdio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stdio").field("used_by", &self.used_by).finish_non_exhaustive()
    }
}

struct Keys {
    switch: Switch,
    output: Arc<Output>,
    quit: Arc<dyn Fn() + Send + Sync>,
}

impl InputEvents for Keys {
    fn key(&self, key: Key) {
        match key {
            Key::Quit => (self.quit)(),
            Key::Help => self.output.write(HELP.as_bytes()),
            Key::Monitor => match self.switch.get() {
                Some(switch) => switch(),
                None => self.output.write(NO_MONITOR.as_bytes()),
            },
            Key::Pass(_) | Key::Nothing | Key::Break => {}
        }
    }

    fn ended(&self, _next_at_once: bool) {}
}

impl Stdio {
    /// On standard input and output.
    ///
    /// # Errors
    /// [`CharError::Stdio`] if one of them is closed.
    pub fn open(used_by: Use, context: &CharContext) -> Result<Arc<Self>, CharError> {
        Self::on(std::io::stdin().as_fd(), std::io::stdout().as_fd(), used_by, context)
    }

    /// On these two descriptors, which others may share.
    ///
    /// # Errors
    /// [`CharError::Stdio`] if one of them cannot be used.
    pub fn on(
        input: BorrowedFd<'_>,
        output: BorrowedFd<'_>,
        used_by: Use,
        context: &CharContext,
    ) -> Result<Arc<Self>, CharError> {
        let option = context.option;
        let failed =
            |which| move |error: rustix::io::Errno| CharError::Stdio { option, which, error: error.into() };
        let terminal = rustix::io::fcntl_dupfd_cloexec(input, 0).map_err(failed("input"))?;
        let from = Descriptor::shared(input, false).map_err(failed("input"))?;
        let to = Descriptor::shared(output, true).map_err(failed("output"))?;
        let output = Output::new(context, "standard output".into(), Some(to))?;
        let switch = Switch::default();
        let keys = Keys { switch: switch.clone(), output: output.clone(), quit: context.quit.clone() };
        let input = Input::new(&context.events, used_by == Use::Person, Box::new(keys));
        input.attach(Arc::new(from));
        let notices = context.notices.clone();
        Ok(Arc::new(Self { used_by, switch, output, input, terminal, raw: Mutex::new(None), notices }))
    }

    /// What Ctrl-A c does, from the loop thread. Without it, one line says that there is nothing to switch to.
    pub fn on_monitor_key(&self, switch: Box<dyn Fn() + Send + Sync>) {
        self.switch.get_or_init(|| switch);
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
        let mut guard = self.raw.lock().unwrap_or_else(PoisonError::into_inner);
        if self.used_by == Use::Person && guard.is_none() {
            match RawTerminal::enter(&self.terminal) {
                Ok(raw) => *guard = raw,
                Err(error) => self.notices.say(&format!("cannot set the terminal to raw mode: {error}")),
            }
        }
        drop(guard);
        self.input.start(receiver);
    }

    fn is_terminal(&self) -> bool {
        self.used_by == Use::Person && rustix::termios::isatty(&self.terminal)
    }
}
