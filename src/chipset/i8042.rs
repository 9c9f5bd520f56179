//! The keyboard controller without a keyboard: enough that a driver's probe ends well, and the two ways by
//! which it resets the CPU (IBM PS/2 Technical Reference, keyboard controller).
//!
//! Ours rather than vm-superio's, whose status register always reads 0 and which knows the reset pulse only:
//! Linux's probe would run into its time-outs. There is no mouse port.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{PowerEvent, PowerSink};
use crate::bus::{Access, AccessError, BusDevice};
use crate::irq::IrqLine;

/// The command port lies this far above the data port.
pub const I8042_COMMAND_OFFSET: u64 = 4;

const STATUS_OUTPUT_FULL: u8 = 1 << 0;
const STATUS_SYSTEM: u8 = 1 << 2;
const STATUS_COMMAND: u8 = 1 << 3;
const STATUS_UNLOCKED: u8 = 1 << 4;
const STATUS_TIMEOUT: u8 = 1 << 6;

const READ_CONTROL: u8 = 0x20;
const WRITE_CONTROL: u8 = 0x60;
const TEST_MOUSE_PORT: u8 = 0xa9;
const SELF_TEST: u8 = 0xaa;
const TEST_KEYBOARD_PORT: u8 = 0xab;
const DISABLE_KEYBOARD: u8 = 0xad;
const ENABLE_KEYBOARD: u8 = 0xae;
const READ_OUTPUT_PORT: u8 = 0xd0;
const WRITE_OUTPUT_PORT: u8 = 0xd1;
const WRITE_MOUSE_OUTPUT: u8 = 0xd3;
const PULSE: u8 = 0xf0;

const SELF_TEST_PASSED: u8 = 0x55;
const CLOCK_STUCK_LOW: u8 = 0x01;
const RESEND: u8 = 0xfe;

const CONTROL_INTERRUPT: u8 = 1 << 0;
const CONTROL_KEYBOARD_OFF: u8 = 1 << 4;
/// Output port bit 0: the CPU's reset line, low active; bit 1: A20, always on here.
const OUTPUT_RESET: u8 = 1 << 0;
const OUTPUT_PORT: u8 = 0x03;

/// The controller.
#[derive(Debug)]
pub struct I8042 {
    irq: IrqLine,
    power: Arc<dyn PowerSink>,
    state: Mutex<State>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    control: u8,
    /// A byte for the CPU, and whether it tells of a time-out.
    output: Option<(u8, bool)>,
    /// A command that waits for its parameter.
    pending: Option<u8>,
    last_was_command: bool,
    self_tested: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            control: CONTROL_KEYBOARD_OFF,
            output: None,
            pending: None,
            last_was_command: false,
            self_tested: false,
        }
    }
}

impl State {
    fn status(&self) -> u8 {
        let bit = |on: bool, bit: u8| if on { bit } else { 0 };
        STATUS_UNLOCKED
            | bit(self.output.is_some(), STATUS_OUTPUT_FULL)
            | bit(self.output.is_some_and(|o| o.1), STATUS_TIMEOUT)
            | bit(self.self_tested, STATUS_SYSTEM)
            | bit(self.last_was_command, STATUS_COMMAND)
    }

    fn answer(&mut self, byte: u8) {
        self.output = Some((byte, false));
    }

    /// True when the CPU is to be reset.
    fn command(&mut self, command: u8) -> bool {
        self.last_was_command = true;
        self.pending = None;
        match command {
            READ_CONTROL => self.answer(self.control),
            WRITE_CONTROL | WRITE_OUTPUT_PORT | WRITE_MOUSE_OUTPUT => self.pending = Some(command),
            TEST_MOUSE_PORT => self.answer(CLOCK_STUCK_LOW),
            SELF_TEST => {
                self.self_tested = true;
                self.answer(SELF_TEST_PASSED);
            }
            TEST_KEYBOARD_PORT => self.answer(0),
            DISABLE_KEYBOARD => self.control |= CONTROL_KEYBOARD_OFF,
            ENABLE_KEYBOARD => self.control &= !CONTROL_KEYBOARD_OFF,
            READ_OUTPUT_PORT => self.answer(OUTPUT_PORT),
            PULSE.. => return command & OUTPUT_RESET == 0,
            _ => {}
        }
        false
    }

    /// True when the CPU is to be reset.
    fn data(&mut self, byte: u8) -> bool {
        self.last_was_command = false;
        match self.pending.take() {
            Some(WRITE_CONTROL) => self.control = byte,
            Some(WRITE_OUTPUT_PORT) => return byte & OUTPUT_RESET == 0,
            Some(_) => self.answer(RESEND),
            // For a keyboard that is not there.
            None => self.output = Some((RESEND, true)),
        }
        false
    }
}

impl I8042 {
    /// A controller that interrupts by `irq` (ISA 1) and tells `power` to reset.
    pub fn new(irq: IrqLine, power: Arc<dyn PowerSink>) -> Self {
        Self { irq, power, state: Mutex::default() }
    }

    /// To the state after power-on.
    pub fn reset(&self) {
        self.enter(|state| *state = State::default());
    }

    /// The port at 0x60.
    pub fn data_port(self: &Arc<Self>) -> Arc<dyn BusDevice> {
        Arc::new(Port { chip: self.clone(), command: false })
    }

    /// The port at 0x64.
    pub fn command_port(self: &Arc<Self>) -> Arc<dyn BusDevice> {
        Arc::new(Port { chip: self.clone(), command: true })
    }

    fn enter<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        let mut state: MutexGuard<'_, State> = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = f(&mut state);
        self.irq.set_level(state.output.is_some() && state.control & CONTROL_INTERRUPT != 0);
        result
    }
}

/// One of the controller's two ports. Between them lies a port that is not the controller's.
#[derive(Debug)]
struct Port {
    chip: Arc<I8042>,
    command: bool,
}

impl BusDevice for Port {
    fn read(&self, _: u64, _: &Access<'_>) -> Result<u64, AccessError> {
        let take = |s: &mut State| s.output.take().map_or(0, |o| o.0);
        Ok(u64::from(self.chip.enter(|s| if self.command { s.status() } else { take(s) })))
    }

    fn write(&self, _: u64, value: u64, _: &Access<'_>) -> Result<(), AccessError> {
        let byte = value as u8;
        if self.chip.enter(|s| if self.command { s.command(byte) } else { s.data(byte) }) {
            self.chip.power.request(PowerEvent::Reset);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Width;
    use crate::chipset::power::RecordedPower;

    struct Setup {
        chip: Arc<I8042>,
        data: Arc<dyn BusDevice>,
        command: Arc<dyn BusDevice>,
        irq: IrqLine,
        power: Arc<RecordedPower>,
    }

    fn setup() -> Setup {
        let (irq, power) = (IrqLine::detached(), Arc::new(RecordedPower::default()));
        let chip = Arc::new(I8042::new(irq.clone(), power.clone()));
        Setup { data: chip.data_port(), command: chip.command_port(), chip, irq, power }
    }

    impl Setup {
        fn status(&self) -> u64 {
            self.command.read(0, &Access::plain(Width::Byte)).unwrap()
        }
        fn answer(&self) -> u64 {
            self.data.read(0, &Access::plain(Width::Byte)).unwrap()
        }
        fn command(&self, byte: u8) {
            self.command.write(0, u64::from(byte), &Access::plain(Width::Byte)).unwrap();
        }
        fn data(&self, byte: u8) {
            self.data.write(0, u64::from(byte), &Access::plain(Width::Byte)).unwrap();
        }
    }

    #[test]
    fn pulsing_the_reset_line_resets_by_either_command() {
        let s = setup();
        s.command(0xfe);
        s.command(0xd1);
        s.data(0x02);
        s.command(0xff);
        s.command(0xd1);
        s.data(0x03);
        assert_eq!(s.power.events(), [PowerEvent::Reset, PowerEvent::Reset]);
    }

    #[test]
    fn a_probe_finds_a_working_controller_without_a_mouse_port() {
        let s = setup();
        assert_eq!(s.status() & 3, 0, "nothing to flush, ready for input");
        s.command(0xaa);
        assert_eq!((s.status() & 1, s.answer(), s.status() & 5), (1, 0x55, 4));
        s.command(0x20);
        assert_eq!(s.answer(), 0x10);
        s.command(0x60);
        s.data(0x61);
        s.command(0x20);
        assert_eq!(s.answer(), 0x61);
        s.command(0xab);
        assert_eq!(s.answer(), 0);
        s.command(0xd3);
        s.data(0x5a);
        assert_ne!(s.answer(), 0x5a);
        s.command(0xa9);
        assert_ne!(s.answer(), 0);
    }

    #[test]
    fn a_keyboard_command_times_out_by_interrupt() {
        let s = setup();
        s.command(0x60);
        s.data(0x01);
        s.data(0xf2);
        assert!(s.irq.level());
        assert_eq!((s.status() & 0x41, s.answer()), (0x41, 0xfe));
        assert!(!s.irq.level());
        s.data(0xf2);
        s.chip.reset();
        assert!(!s.irq.level() && s.status() & 1 == 0);
    }
}
