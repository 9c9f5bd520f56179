//! A 16550A UART, pure: registers and FIFOs, no line, no lock, no file (TL16C550C data sheet, chapter 8).
//!
//! [`super::serial_port`] puts it on the bus. Ours rather than vm-superio's `Serial`, because that one drives
//! an edge-only trigger, drops every pending cause when IIR is read, has no FCR (FIFO enable, clear, trigger
//! level), no modem-status interrupt and no line errors; Linux's 8250 driver probes all of these.
//!
//! Transmission takes no time: the transmitter is always empty, and writing THR raises "THR empty" at once.
//! The receive time-out is immediate too: data below the trigger level is reported as time-out. The interrupt
//! is not gated by MCR.OUT2, so that small kernels that never set it work here as they do on other emulators.

use std::collections::VecDeque;

const RBR_THR: u8 = 0;
const IER: u8 = 1;
const IIR_FCR: u8 = 2;
const LCR: u8 = 3;
const MCR: u8 = 4;
const LSR: u8 = 5;
const MSR: u8 = 6;

const IER_RECEIVED: u8 = 1 << 0;
const IER_THR_EMPTY: u8 = 1 << 1;
const IER_LINE_STATUS: u8 = 1 << 2;
const IER_MODEM_STATUS: u8 = 1 << 3;
const IER_BITS: u8 = 0x0f;

const IIR_NONE: u8 = 0x01;
const IIR_MODEM_STATUS: u8 = 0x00;
const IIR_THR_EMPTY: u8 = 0x02;
const IIR_RECEIVED: u8 = 0x04;
const IIR_LINE_STATUS: u8 = 0x06;
const IIR_TIMEOUT: u8 = 0x0c;
const IIR_FIFO: u8 = 0xc0;

const FCR_ENABLE: u8 = 1 << 0;
const FCR_CLEAR_RECEIVE: u8 = 1 << 1;

const LCR_DLAB: u8 = 1 << 7;

const MCR_LOOPBACK: u8 = 1 << 4;
const MCR_BITS: u8 = 0x1f;

const LSR_DATA_READY: u8 = 1 << 0;
const LSR_OVERRUN: u8 = 1 << 1;
const LSR_BREAK: u8 = 1 << 4;
const LSR_TRANSMITTER_EMPTY: u8 = 0x60;
const LSR_FIFO_ERROR: u8 = 1 << 7;
const LSR_ERRORS: u8 = 0x1e;

const MSR_RING: u8 = 1 << 6;
/// DCD, DSR and CTS: somebody is at the other end.
const MSR_CONNECTED: u8 = 0xb0;

const FIFO_LEN: usize = 16;

/// A received character with the line errors that came with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Received {
    byte: u8,
    errors: u8,
}

/// The chip's registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uart16550 {
    ier: u8,
    fcr: u8,
    lcr: u8,
    mcr: u8,
    scratch: u8,
    divisor: [u8; 2],
    /// THR became empty and IIR has not told yet.
    thr_empty_pending: bool,
    overrun: bool,
    /// The head's errors were read from LSR already.
    head_errors_seen: bool,
    modem_deltas: u8,
    fifo: VecDeque<Received>,
}

impl Default for Uart16550 {
    fn default() -> Self {
        Self {
            ier: 0,
            fcr: 0,
            lcr: 0,
            mcr: 0,
            scratch: 0,
            divisor: [12, 0],
            thr_empty_pending: false,
            overrun: false,
            head_errors_seen: false,
            modem_deltas: 0,
            fifo: VecDeque::with_capacity(FIFO_LEN),
        }
    }
}

impl Uart16550 {
    /// Reads register `offset` (0 to 7) with its side effects.
    pub fn read(&mut self, offset: u8) -> u8 {
        match offset {
            RBR_THR | IER if self.lcr & LCR_DLAB != 0 => self.divisor[usize::from(offset)],
            RBR_THR => self.take_received(),
            IER => self.ier,
            IIR_FCR => self.read_iir(),
            LCR => self.lcr,
            MCR => self.mcr,
            LSR => self.read_lsr(),
            MSR => self.modem_lines() | std::mem::take(&mut self.modem_deltas),
            _ => self.scratch,
        }
    }

    /// Writes register `offset` (0 to 7). A byte comes back when one leaves on the wire.
    pub fn write(&mut self, offset: u8, value: u8) -> Option<u8> {
        match offset {
            RBR_THR | IER if self.lcr & LCR_DLAB != 0 => self.divisor[usize::from(offset)] = value,
            RBR_THR => return self.transmit(value),
            IER => self.write_ier(value & IER_BITS),
            IIR_FCR => self.write_fcr(value),
            LCR => self.lcr = value,
            MCR => self.write_mcr(value & MCR_BITS),
            LSR | MSR => {}
            _ => self.scratch = value,
        }
        None
    }

    /// The level of the interrupt output.
    pub fn interrupt(&self) -> bool {
        self.cause() != IIR_NONE
    }

    /// Characters that arrive on the wire: as many as there is room for, none in loopback. Returns how many.
    pub fn receive(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room());
        self.fifo.extend(bytes[..taken].iter().map(|&byte| Received { byte, errors: 0 }));
        taken
    }

    /// A break condition arrives (Linux: SysRq). False when there is no room.
    pub fn receive_break(&mut self) -> bool {
        let room = self.room() > 0;
        if room {
            self.fifo.push_back(Received { byte: 0, errors: LSR_BREAK });
        }
        room
    }

    /// How many characters [`Self::receive`] would take.
    pub fn room(&self) -> usize {
        if self.loopback() { 0 } else { self.capacity().saturating_sub(self.fifo.len()) }
    }

    /// Whether no received character waits.
    pub fn is_drained(&self) -> bool {
        self.fifo.is_empty()
    }

    fn capacity(&self) -> usize {
        if self.fcr & FCR_ENABLE != 0 { FIFO_LEN } else { 1 }
    }

    fn loopback(&self) -> bool {
        self.mcr & MCR_LOOPBACK != 0
    }

    fn take_received(&mut self) -> u8 {
        self.head_errors_seen = false;
        self.fifo.pop_front().map_or(0, |r| r.byte)
    }

    fn transmit(&mut self, byte: u8) -> Option<u8> {
        self.thr_empty_pending = true;
        if !self.loopback() {
            return Some(byte);
        }
        if self.fifo.len() < self.capacity() {
            self.fifo.push_back(Received { byte, errors: 0 });
        } else {
            self.overrun = true;
        }
        None
    }

    /// Enabling the interrupt while THR is empty raises it (Linux tests for chips that fail to).
    fn write_ier(&mut self, value: u8) {
        if value & !self.ier & IER_THR_EMPTY != 0 {
            self.thr_empty_pending = true;
        }
        self.ier = value;
    }

    fn write_fcr(&mut self, value: u8) {
        let toggled = (value ^ self.fcr) & FCR_ENABLE != 0;
        let enabled = value & FCR_ENABLE != 0;
        if toggled || enabled && value & FCR_CLEAR_RECEIVE != 0 {
            self.fifo.clear();
            self.head_errors_seen = false;
        }
        // The other bits only count together with the enable bit.
        self.fcr = if enabled { value & 0xc9 } else { 0 };
    }

    fn write_mcr(&mut self, value: u8) {
        let before = self.modem_lines();
        self.mcr = value;
        let after = self.modem_lines();
        let changed = (before ^ after) & !MSR_RING | before & !after & MSR_RING;
        self.modem_deltas |= changed >> 4;
    }

    /// In loopback the outputs DTR, RTS, OUT1 and OUT2 come back as DSR, CTS, RI and DCD.
    fn modem_lines(&self) -> u8 {
        if !self.loopback() {
            return MSR_CONNECTED;
        }
        let bit = |from: u8, to: u8| (self.mcr >> from & 1) << to;
        bit(0, 5) | bit(1, 4) | bit(2, 6) | bit(3, 7)
    }

    fn head_errors(&self) -> u8 {
        let head = self.fifo.front().filter(|_| !self.head_errors_seen).map_or(0, |r| r.errors);
        head | if self.overrun { LSR_OVERRUN } else { 0 }
    }

    fn read_lsr(&mut self) -> u8 {
        let ready = if self.fifo.is_empty() { 0 } else { LSR_DATA_READY };
        let any_error = self.fcr & FCR_ENABLE != 0 && self.fifo.iter().any(|r| r.errors != 0);
        let fifo_error = if any_error { LSR_FIFO_ERROR } else { 0 };
        let lsr = LSR_TRANSMITTER_EMPTY | ready | fifo_error | self.head_errors();
        self.overrun = false;
        self.head_errors_seen = true;
        lsr
    }

    fn read_iir(&mut self) -> u8 {
        let cause = self.cause();
        if cause == IIR_THR_EMPTY {
            self.thr_empty_pending = false;
        }
        cause | if self.fcr & FCR_ENABLE != 0 { IIR_FIFO } else { 0 }
    }

    /// The highest pending cause, as IIR bits 3:0.
    fn cause(&self) -> u8 {
        let on = |bit| self.ier & bit != 0;
        if on(IER_LINE_STATUS) && self.head_errors() & LSR_ERRORS != 0 {
            IIR_LINE_STATUS
        } else if on(IER_RECEIVED) && self.fifo.len() >= self.trigger_level() {
            IIR_RECEIVED
        } else if on(IER_RECEIVED) && !self.fifo.is_empty() {
            IIR_TIMEOUT
        } else if on(IER_THR_EMPTY) && self.thr_empty_pending {
            IIR_THR_EMPTY
        } else if on(IER_MODEM_STATUS) && self.modem_deltas != 0 {
            IIR_MODEM_STATUS
        } else {
            IIR_NONE
        }
    }

    fn trigger_level(&self) -> usize {
        match self.fcr & (FCR_ENABLE | 0xc0) {
            0x41 => 4,
            0x81 => 8,
            0xc1 => 14,
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fifo_uart() -> Uart16550 {
        let mut uart = Uart16550::default();
        uart.write(IIR_FCR, FCR_ENABLE);
        uart
    }

    #[test]
    fn a_written_byte_leaves_at_once_and_the_transmitter_is_empty() {
        let mut uart = Uart16550::default();
        assert_eq!(uart.write(RBR_THR, b'x'), Some(b'x'));
        assert_eq!(uart.read(LSR), 0x60);
        assert!(!uart.interrupt());
    }

    #[test]
    fn linux_sees_a_16550a() {
        let mut uart = Uart16550::default();
        uart.write(IER, 0);
        assert_eq!(uart.read(IER) & 0xf, 0);
        uart.write(IER, 0xff);
        assert_eq!(uart.read(IER), 0xf, "no XScale bits");
        uart.write(IER, 0);
        uart.write(MCR, MCR_LOOPBACK | 0x0a);
        assert_eq!(uart.read(MSR) & 0xf0, 0x90);
        uart.write(MCR, 0);
        uart.write(IIR_FCR, 0);
        assert_eq!(uart.read(IIR_FCR), 0x01);
        uart.write(IIR_FCR, FCR_ENABLE);
        assert_eq!(uart.read(IIR_FCR), 0xc1);
        uart.write(LCR, 0xbf);
        assert_ne!(uart.read(IIR_FCR), 0, "no EFR, so not a 16650");
        uart.write(LCR, 0xe0);
        assert_eq!(uart.read(IIR_FCR) & MCR_LOOPBACK, 0, "not a National Super I/O");
        uart.write(LCR, 0);
        uart.write(IIR_FCR, FCR_ENABLE | 0x20);
        assert_eq!(uart.read(IIR_FCR) >> 5, 6, "no 64-byte mode, so not a 16750");
        uart.write(LCR, LCR_DLAB);
        uart.write(RBR_THR, 0x34);
        uart.write(IER, 0x12);
        assert_eq!((uart.read(RBR_THR), uart.read(IER)), (0x34, 0x12));
        uart.write(LCR, 3);
        assert_eq!((uart.read(LCR), uart.read(IER)), (3, 0));
        uart.write(7, 0xa5);
        assert_eq!(uart.read(7), 0xa5);
    }

    #[test]
    fn thr_empty_is_raised_by_enabling_and_again_by_every_write_and_told_once() {
        let mut uart = fifo_uart();
        uart.write(IER, IER_THR_EMPTY);
        assert_eq!(uart.read(IIR_FCR) & 0xf, IIR_THR_EMPTY);
        assert!(!uart.interrupt());
        uart.write(IER, IER_THR_EMPTY);
        assert!(!uart.interrupt(), "rewriting the same value is no edge");
        uart.write(RBR_THR, 0);
        assert!(uart.interrupt());
        uart.write(IER, 0);
        assert!(!uart.interrupt());
        uart.write(IER, IER_THR_EMPTY);
        assert!(uart.interrupt());
    }

    #[test]
    fn received_data_holds_the_line_until_it_is_read() {
        let mut uart = fifo_uart();
        uart.write(IER, IER_RECEIVED);
        assert_eq!(uart.receive(b"ab"), 2);
        assert_eq!(uart.read(IIR_FCR) & 0xf, IIR_RECEIVED);
        assert!(uart.interrupt(), "IIR does not clear it");
        assert_eq!((uart.read(LSR) & 1, uart.read(RBR_THR), uart.read(RBR_THR)), (1, b'a', b'b'));
        assert!(!uart.interrupt() && uart.read(LSR) & 1 == 0);
        assert_eq!(uart.read(RBR_THR), 0);
    }

    #[test]
    fn below_the_trigger_level_a_time_out_is_reported() {
        for (bits, level) in [(0x00, 1), (0x40, 4), (0x80, 8), (0xc0, 14)] {
            let mut uart = Uart16550::default();
            uart.write(IIR_FCR, FCR_ENABLE | bits);
            uart.write(IER, IER_RECEIVED);
            for n in 1..=FIFO_LEN {
                assert_eq!(uart.receive(b"x"), 1);
                let want = if n < level { IIR_TIMEOUT } else { IIR_RECEIVED };
                assert_eq!(uart.read(IIR_FCR), IIR_FIFO | want, "{n} of {level}");
            }
            assert_eq!(uart.receive(b"x"), 0);
        }
    }

    #[test]
    fn the_fifo_takes_16_and_the_plain_register_1() {
        let mut uart = Uart16550::default();
        assert_eq!(uart.receive(&[7; 20]), 1);
        uart.write(IIR_FCR, FCR_ENABLE);
        assert!(uart.is_drained(), "switching the FIFO on empties it");
        assert_eq!(uart.receive(&[7; 20]), 16);
        uart.write(IIR_FCR, FCR_ENABLE | FCR_CLEAR_RECEIVE);
        assert_eq!(uart.room(), 16);
    }

    #[test]
    fn causes_come_in_the_data_sheets_order() {
        let mut uart = fifo_uart();
        uart.write(IER, IER_BITS);
        uart.write(MCR, MCR_LOOPBACK);
        uart.write(MCR, 0);
        assert!(uart.receive_break());
        let mut order = vec![uart.read(IIR_FCR) & 0xf];
        assert_eq!(uart.read(LSR), 0x60 | LSR_DATA_READY | LSR_BREAK | LSR_FIFO_ERROR);
        order.push(uart.read(IIR_FCR) & 0xf);
        uart.read(RBR_THR);
        order.extend([uart.read(IIR_FCR) & 0xf, uart.read(IIR_FCR) & 0xf]);
        uart.read(MSR);
        order.push(uart.read(IIR_FCR) & 0xf);
        assert_eq!(order, [IIR_LINE_STATUS, IIR_RECEIVED, IIR_THR_EMPTY, IIR_MODEM_STATUS, IIR_NONE]);
    }

    #[test]
    fn loopback_returns_bytes_and_keeps_the_wire_quiet() {
        let mut uart = Uart16550::default();
        uart.write(MCR, MCR_LOOPBACK);
        assert_eq!(uart.write(RBR_THR, b'l'), None);
        assert_eq!(uart.receive(b"outside"), 0);
        assert_eq!(uart.write(RBR_THR, b'm'), None);
        assert_eq!(uart.read(LSR) & LSR_OVERRUN, LSR_OVERRUN, "one character of room without the FIFO");
        assert_eq!((uart.read(RBR_THR), uart.read(LSR)), (b'l', 0x60));
    }

    #[test]
    fn modem_deltas_clear_on_read() {
        let mut uart = Uart16550::default();
        assert_eq!(uart.read(MSR), MSR_CONNECTED);
        uart.write(MCR, MCR_LOOPBACK | 0x04);
        assert_eq!(uart.read(MSR), MSR_RING | 0x0b);
        uart.write(MCR, MCR_LOOPBACK);
        assert_eq!((uart.read(MSR), uart.read(MSR)), (0x04, 0), "RI counts when it ends");
    }
}
