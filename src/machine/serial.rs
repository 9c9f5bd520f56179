//! Serial ports: each UART joined with its host side, and watched for what matters to the run.
//!
//! ttyS0 is the console: a kernel's panic is recognised there. ttyS1 is the guest agent's: the end of
//! `minivmm.run=COMMAND` is recognised there, whatever is behind the port.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::board::{Board, Surroundings};
use super::error::SetupError;
use super::exit_code::EndReason;
use super::lifecycle::Lifecycle;
use super::pc;
use super::watch::{CommandWatch, PanicWatch};
use crate::chipset::{SerialPort, SerialSink};
use crate::cli::Serial;
use crate::sys::Notices;
use crate::sys::chardev::{self, CharContext, CharDevice, CharReceiver};

/// What a port's output is searched for.
#[derive(Debug)]
enum Watch {
    Panic(PanicWatch),
    Command(CommandWatch),
}

impl Watch {
    fn of(port: usize) -> Self {
        if port == 0 { Self::Panic(PanicWatch::default()) } else { Self::Command(CommandWatch::default()) }
    }

    fn feed(&mut self, byte: u8, life: &Lifecycle) {
        match self {
            Self::Panic(watch) => watch.feed(&[byte]).iter().for_each(|words| life.panicked(words)),
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
}

impl SerialSink for Output {
    fn transmit(&self, byte: u8) {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).feed(byte, &self.life);
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

/// Opens the host side of every port and puts the UARTs on the bus. `serials` is `-serial` in order; a second
/// port exists even if it is not asked for, because the guest's agent reports there.
///
/// # Errors
/// [`SetupError`] when a host file cannot be opened.
pub fn add(
    serials: &[Serial],
    board: &mut Board,
    around: &Surroundings<'_>,
    life: &Lifecycle,
    notices: &Notices,
) -> Result<(), SetupError> {
    let quitter = life.clone();
    let context = CharContext {
        events: around.events.clone(),
        clock: around.clock.clone(),
        notices: notices.clone(),
        quit: Arc::new(move || quitter.end(EndReason::Quit)),
    };
    for index in 0..pc::COM.len() {
        let wanted = serials.get(index).unwrap_or(&Serial::Null);
        if let Some(host) = chardev::open(wanted, &context)? {
            let watch = Mutex::new(Watch::of(index));
            let sink = Output { host: host.clone(), watch, life: life.clone() };
            let port = Arc::new(SerialPort::new(around.inputs.line(pc::COM[index].1), Box::new(sink)));
            board.add_serial(around.buses, index, port.clone())?;
            host.start(Box::new(Input(Arc::downgrade(&port))));
        }
    }
    Ok(())
}
