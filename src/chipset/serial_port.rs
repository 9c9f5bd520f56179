//! A 16550A on the bus: its interrupt wire, its output, its input.
//!
//! Wired by `machine`, fed by whoever reads the host's side. One lock for the chip; the wire is driven under
//! it, the sink is called without it.

use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::lanes;
use super::uart16550::Uart16550;
use crate::bus::{Access, AccessError, BusDevice};
use crate::irq::IrqLine;

/// Ports that a UART takes.
pub const SERIAL_PORT_LEN: u64 = 8;

/// The host's side of a serial port. Called by vCPU threads: must return within microseconds.
pub trait SerialSink: Debug + Send + Sync {
    /// The guest sent `byte`.
    fn transmit(&self, byte: u8);

    /// [`SerialPort::enqueue`] took less than it was offered, and there is room again.
    fn receive_ready(&self);
}

/// A serial port.
#[derive(Debug)]
pub struct SerialPort {
    irq: IrqLine,
    sink: Box<dyn SerialSink>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    uart: Uart16550,
    /// Somebody has more input and waits for room.
    input_waits: bool,
}

impl SerialPort {
    /// A port that drives `irq` as a level and sends to `sink`.
    pub fn new(irq: IrqLine, sink: Box<dyn SerialSink>) -> Self {
        Self { irq, sink, state: Mutex::default() }
    }

    /// Input for the guest: takes what fits and returns how many bytes that were. When it is less than
    /// offered, [`SerialSink::receive_ready`] follows as soon as the guest has read.
    pub fn enqueue(&self, bytes: &[u8]) -> usize {
        let mut state = self.state();
        let taken = state.uart.receive(bytes);
        state.input_waits = taken < bytes.len();
        self.irq.set_level(state.uart.interrupt());
        taken
    }

    /// A break on the line. False when the guest has not read what came before: try again later.
    pub fn enqueue_break(&self) -> bool {
        let mut state = self.state();
        let taken = state.uart.receive_break();
        self.irq.set_level(state.uart.interrupt());
        taken
    }

    /// To the state after power-on; input that waits may come.
    pub fn reset(&self) {
        self.enter(|uart| *uart = Uart16550::default());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `f` on the chip, then lets wire and input follow.
    fn enter<T>(&self, f: impl FnOnce(&mut Uart16550) -> T) -> T {
        let (result, ready) = {
            let mut state = self.state();
            let result = f(&mut state.uart);
            self.irq.set_level(state.uart.interrupt());
            let ready = state.input_waits && state.uart.is_drained() && state.uart.room() > 0;
            state.input_waits &= !ready;
            (result, ready)
        };
        if ready {
            self.sink.receive_ready();
        }
        result
    }
}

impl BusDevice for SerialPort {
    fn read(&self, offset: u64, access: &Access<'_>) -> Result<u64, AccessError> {
        Ok(lanes::read(offset, access, |at| self.enter(|uart| uart.read(at as u8))))
    }

    fn write(&self, offset: u64, value: u64, access: &Access<'_>) -> Result<(), AccessError> {
        lanes::write(offset, value, access, |at, byte| {
            if let Some(sent) = self.enter(|uart| uart.write(at as u8, byte)) {
                self.sink.transmit(sent);
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Width;
    use std::sync::Arc;

    #[derive(Debug, Default, Clone)]
    struct Recorder(Arc<Mutex<(Vec<u8>, usize)>>);

    impl SerialSink for Recorder {
        fn transmit(&self, byte: u8) {
            self.0.lock().unwrap().0.push(byte);
        }

        fn receive_ready(&self) {
            self.0.lock().unwrap().1 += 1;
        }
    }

    fn port() -> (SerialPort, IrqLine, Recorder) {
        let (irq, sink) = (IrqLine::detached(), Recorder::default());
        (SerialPort::new(irq.clone(), Box::new(sink.clone())), irq, sink)
    }

    const BYTE: Access<'static> = Access { cpu: 0, width: Width::Byte, origin: &crate::bus::NoOrigin };

    #[test]
    fn what_the_guest_writes_reaches_the_sink() {
        let (port, _, sink) = port();
        port.write(0, u64::from(b'h'), &BYTE).unwrap();
        port.write(0, u64::from(b'i'), &BYTE).unwrap();
        assert_eq!(sink.0.lock().unwrap().0, b"hi");
    }

    #[test]
    fn the_wire_follows_the_chip_as_a_level() {
        let (port, irq, _) = port();
        port.write(1, 1, &BYTE).unwrap();
        assert_eq!(port.enqueue(b"x"), 1);
        assert!(irq.level());
        assert_eq!(port.read(0, &BYTE), Ok(u64::from(b'x')));
        assert!(!irq.level());
    }

    #[test]
    fn input_that_did_not_fit_is_asked_for_once_the_guest_has_read() {
        let (port, _, sink) = port();
        port.write(2, 1, &BYTE).unwrap();
        assert_eq!(port.enqueue(&[1; 20]), 16);
        for _ in 0..15 {
            port.read(0, &BYTE).unwrap();
        }
        assert_eq!(sink.0.lock().unwrap().1, 0);
        port.read(0, &BYTE).unwrap();
        port.read(0, &BYTE).unwrap();
        assert_eq!(sink.0.lock().unwrap().1, 1);
        assert_eq!(port.enqueue(&[2; 4]), 4);
    }

    #[test]
    fn reset_lowers_the_wire_and_asks_for_waiting_input() {
        let (port, irq, sink) = port();
        port.write(1, 1, &BYTE).unwrap();
        assert_eq!(port.enqueue(b"two"), 1);
        port.reset();
        assert!(!irq.level());
        assert_eq!(sink.0.lock().unwrap().1, 1);
    }

    #[test]
    fn a_word_access_is_two_bytes() {
        let (port, _, sink) = port();
        port.write(0, 0x0141, &Access::plain(Width::Word)).unwrap();
        assert_eq!(sink.0.lock().unwrap().0, b"A");
        assert_eq!(port.read(1, &BYTE), Ok(1));
        assert_eq!(port.read(4, &Access::plain(Width::Dword)), Ok(0x00b0_6000));
    }
}
