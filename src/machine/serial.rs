//! Serial ports: each UART joined with its host side, and watched for what matters to the run.
//!
//! ttyS0 is the console: a kernel's panic is recognised there, and what `-expect` waits for. ttyS1 is the guest agent's: the end of
//! `minivmm.run=COMMAND` is recognised there, whatever is behind the port.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::board::{Board, Surroundings};
use super::error::SetupError;
use super::exit_code::EndReason;
use super::failure_folder::{FailureFolder, Record};
use super::lifecycle::Lifecycle;
use super::pc;
use super::watch::{CommandWatch, ExpectWatch, PanicWatch};
use crate::chipset::{SerialPort, SerialSink};
use crate::cli::{Chardev, Expectation};
use crate::event::EventHandle;
use crate::sys::Notices;
use crate::sys::chardev::{self, CharContext, CharDevice, CharReceiver, Stdio, Use};
use crate::time::MonotonicClock;

/// How the console's terminal is shared with a monitor.
#[derive(Debug, Clone, Copy)]
pub struct Mux {
    /// The monitor begins with the keyboard.
    pub monitor_first: bool,
}

/// What a port's output is searched for.
#[derive(Debug)]
enum Watch {
    Console(PanicWatch, ExpectWatch),
    Command(CommandWatch),
}

impl Watch {
    fn of(port: usize, expect: &[Expectation]) -> Self {
        if port == 0 {
            let patterns = expect.iter().map(|expectation| expectation.pattern.clone());
            Self::Console(PanicWatch::default(), ExpectWatch::new(patterns))
        } else {
            Self::Command(CommandWatch::default())
        }
    }

    fn feed(&mut self, byte: u8, life: &Lifecycle) {
        match self {
            Self::Console(panic, expect) => {
                (0..expect.feed(&[byte])).for_each(|_| life.seen());
                panic.feed(&[byte]).iter().for_each(|words| life.panicked(words));
            }
            Self::Command(watch) => {
                watch.feed(&[byte]).into_iter().for_each(|status| life.command_ended(status));
            }
        }
    }
}

/// The UART's side of the join.
#[derive(Debug)]
struct Output {
    host: Arc<dyn CharDevice>,
    watch: Mutex<Watch>,
    life: Lifecycle,
    /// For `-on-failure`.
    record: Option<Record>,
}

impl SerialSink for Output {
    fn transmit(&self, byte: u8) {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).feed(byte, &self.life);
        self.record.iter().for_each(|record| record.add(&[byte]));
        self.host.write(&[byte]);
    }

    fn receive_ready(&self) {
        self.host.input_ready();
    }
}

/// The host's side of the join.
struct Input(Weak<SerialPort>);

impl CharReceiver for Input {
    fn receive(&self, bytes: &[u8]) -> usize {
        self.0.upgrade().map_or(bytes.len(), |port| port.enqueue(bytes))
    }

    fn receive_break(&self) {
        if let Some(port) = self.0.upgrade() {
            // A break that finds the FIFO full is lost, as on a wire.
            port.enqueue_break();
        }
    }
}

/// What opening a character device needs, for the option that asks for it.
pub fn chardev_context(
    option: &'static str,
    events: &EventHandle,
    life: &Lifecycle,
    notices: &Notices,
) -> CharContext {
    let quitter = life.clone();
    CharContext {
        option,
        events: events.clone(),
        // The host's time: what the guest has said is shown while the machine is stopped, too.
        clock: MonotonicClock::new(),
        notices: notices.clone(),
        quit: Arc::new(move || quitter.end(EndReason::Quit)),
    }
}

/// What the command line says of the ports.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// `-serial`, in order.
    pub serials: &'a [Chardev],
    /// A port on the terminal shares it with a monitor.
    pub mux: Option<Mux>,
    /// `-expect`.
    pub expect: &'a [Expectation],
    /// `-on-failure`.
    pub folder: Option<&'a FailureFolder>,
}

/// Opens the host side of every port and puts the UARTs on the bus. A second port exists even if it is not asked for,
/// because the guest's agent reports there. The monitor's half of a shared terminal comes back.
///
/// # Errors
/// [`SetupError`] when a host file cannot be opened.
pub fn add(
    wanted: &Wanted<'_>,
    board: &mut Board,
    around: &Surroundings<'_>,
    life: &Lifecycle,
    notices: &Notices,
) -> Result<Option<Arc<dyn CharDevice>>, SetupError> {
    let context = chardev_context("-serial", around.events, life, notices);
    let mut monitor = None;
    for index in 0..pc::COM.len() {
        let place = wanted.serials.get(index).unwrap_or(&Chardev::Null);
        let host = match wanted.mux {
            Some(Mux { monitor_first }) if *place == Chardev::Stdio => {
                let (console, other) = chardev::share(Stdio::open(Use::Person, &context)?, monitor_first);
                monitor = Some(other);
                Some(console)
            }
            _ => chardev::open(place, &context)?,
        };
        if let Some(host) = host {
            let watch = Mutex::new(Watch::of(index, wanted.expect));
            let record = wanted.folder.map(|folder| folder.serial(index)).transpose()?;
            let sink = Output { host: host.clone(), watch, life: life.clone(), record };
            let port = Arc::new(SerialPort::new(around.inputs.line(pc::COM[index].1), Box::new(sink)));
            board.add_serial(around.buses, index, port.clone())?;
            host.start(Box::new(Input(Arc::downgrade(&port))));
        }
    }
    Ok(monitor)
}
