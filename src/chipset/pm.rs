//! ACPI fixed hardware: PM1a event and control registers, the PM timer (ACPI 6.5, sections 4.8.3.1 to
//! 4.8.3.3).
//!
//! The machine is always in ACPI mode: SCI_EN reads 1 and there is no SMI command port. The sleep type is the
//! `\_S5` package's; the power button is the fixed one. One lock; the SCI wire is driven under it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::lanes;
use super::{PowerEvent, PowerSink};
use crate::bus::{Access, AccessError, BusDevice};
use crate::irq::IrqLine;
use crate::time::Clock;

/// Ports that the block takes.
pub const PM_LEN: u64 = 12;
/// Offset of the control block.
pub const PM1_CONTROL: u64 = 4;
/// Offset of the timer.
pub const PM_TIMER: u64 = 8;
/// SLP_TYP of S5, soft off.
pub const SLEEP_TYPE_S5: u8 = 5;
/// QEMU's: kernels that read no ACPI tables write it (2000h to port 604h). It is no other state's here.
const SLEEP_TYPE_QEMU_S5: u8 = 0;

const TIMER_HZ: u128 = 3_579_545;

const STATUS_TIMER: u16 = 1 << 0;
const STATUS_POWER_BUTTON: u16 = 1 << 8;
const STATUS_BITS: u16 = 0x8721;
/// Timer, global lock, power button, RTC.
const ENABLE_BITS: u16 = 0x0521;
const CONTROL_SCI_ENABLE: u16 = 1 << 0;
const CONTROL_SLEEP_ENABLE: u16 = 1 << 13;
/// BM_RLD and SLP_TYP keep what is written.
const CONTROL_BITS: u16 = 0x1c02;

/// The PM register block.
#[derive(Debug)]
pub struct PmBlock {
    sci: IrqLine,
    clock: Arc<dyn Clock>,
    power: Arc<dyn PowerSink>,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    status: u16,
    enable: u16,
    control: u16,
    /// How often the timer's top bit had changed when TMR_STS was last brought up to date.
    carries_seen: u64,
}

impl PmBlock {
    /// A block that interrupts by `sci`, counts by `clock`, and switches the machine off through `power`.
    pub fn new(sci: IrqLine, clock: Arc<dyn Clock>, power: Arc<dyn PowerSink>) -> Self {
        Self { sci, clock, power, state: Mutex::default() }
    }

    /// Somebody pressed the power button: the guest's kernel may shut down.
    pub fn press_power_button(&self) {
        self.enter(|s| s.status |= STATUS_POWER_BUTTON);
    }

    /// The wake-up asked of the clock is due.
    pub fn time_passed(&self) {
        self.enter(|_| ());
    }

    /// To the state after power-on.
    pub fn reset(&self) {
        let carries_seen = self.ticks() >> 31;
        self.enter(|s| *s = State { carries_seen, ..State::default() });
    }

    /// Timer ticks since the machine started; the register shows the low 32 bits.
    fn ticks(&self) -> u64 {
        (u128::from(self.clock.now_ns()) * TIMER_HZ / 1_000_000_000) as u64
    }

    fn enter<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        let mut state: MutexGuard<'_, State> = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let carries = self.ticks() >> 31;
        if carries > state.carries_seen {
            state.status |= STATUS_TIMER;
            state.carries_seen = carries;
        }
        let enabled_before = state.enable & STATUS_TIMER;
        let result = f(&mut state);
        if state.enable & STATUS_TIMER != 0 {
            self.clock.wake_at(carry_time(state.carries_seen + 1));
        } else if enabled_before != 0 {
            self.clock.wake_at(u64::MAX);
        }
        self.sci.set_level(state.status & state.enable != 0);
        result
    }

    fn read_byte(&self, offset: u64) -> u8 {
        let ticks = self.ticks() as u32;
        self.enter(|s| match offset {
            0 | 1 => s.status.to_le_bytes()[offset as usize],
            2 | 3 => s.enable.to_le_bytes()[offset as usize - 2],
            4 | 5 => (s.control | CONTROL_SCI_ENABLE).to_le_bytes()[offset as usize - 4],
            PM_TIMER..PM_LEN => ticks.to_le_bytes()[(offset - PM_TIMER) as usize],
            _ => 0,
        })
    }

    fn write_byte(&self, offset: u64, byte: u8) {
        let (high, word) = (offset & 1 != 0, u16::from(byte) << (8 * (offset & 1)));
        let keep: u16 = if high { 0x00ff } else { 0xff00 };
        let sleep = self.enter(|s| match offset {
            0 | 1 => {
                s.status &= !(word & STATUS_BITS);
                None
            }
            2 | 3 => {
                s.enable = s.enable & keep | word & ENABLE_BITS;
                None
            }
            4 | 5 => {
                s.control = s.control & keep | word & CONTROL_BITS;
                (word & CONTROL_SLEEP_ENABLE != 0).then_some((s.control >> 10) as u8 & 7)
            }
            _ => None,
        });
        if matches!(sleep, Some(SLEEP_TYPE_S5 | SLEEP_TYPE_QEMU_S5)) {
            self.power.request(PowerEvent::PowerOff);
        }
    }
}

/// When the timer's top bit changes for the `count`th time, in nanoseconds of the clock.
fn carry_time(count: u64) -> u64 {
    ((u128::from(count) << 31) * 1_000_000_000).div_ceil(TIMER_HZ) as u64
}

impl BusDevice for PmBlock {
    fn read(&self, offset: u64, access: &Access<'_>) -> Result<u64, AccessError> {
        if offset == PM_TIMER {
            return Ok(u64::from(self.ticks() as u32) & access.width.all_ones());
        }
        Ok(lanes::read(offset, access, |at| self.read_byte(at)))
    }

    fn write(&self, offset: u64, value: u64, access: &Access<'_>) -> Result<(), AccessError> {
        lanes::write(offset, value, access, |at, byte| self.write_byte(at, byte));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Width;
    use crate::chipset::power::RecordedPower;
    use crate::time::ManualClock;

    struct Setup {
        pm: PmBlock,
        clock: ManualClock,
        sci: IrqLine,
        power: Arc<RecordedPower>,
    }

    fn setup() -> Setup {
        let (sci, clock, power) =
            (IrqLine::detached(), ManualClock::default(), Arc::new(RecordedPower::default()));
        let pm = PmBlock::new(sci.clone(), Arc::new(clock.clone()), power.clone());
        Setup { pm, clock, sci, power }
    }

    impl Setup {
        fn read(&self, offset: u64, width: Width) -> u64 {
            self.pm.read(offset, &Access::plain(width)).unwrap()
        }
        fn write(&self, offset: u64, value: u64) {
            self.pm.write(offset, value, &Access::plain(Width::Word)).unwrap();
        }
    }

    #[test]
    fn writing_the_s5_type_with_sleep_enable_powers_off() {
        let s = setup();
        s.write(4, u64::from(SLEEP_TYPE_S5) << 10);
        s.write(4, 1 << 13 | 3 << 10);
        assert_eq!(s.power.events(), []);
        s.write(4, 1 << 13 | u64::from(SLEEP_TYPE_S5) << 10);
        assert_eq!(s.power.events(), [PowerEvent::PowerOff]);
        assert_eq!(s.read(4, Width::Word), 1 | u64::from(SLEEP_TYPE_S5) << 10, "SLP_EN reads 0, SCI_EN 1");
        s.write(4, 0x2000);
        assert_eq!(s.power.events(), [PowerEvent::PowerOff; 2], "as under QEMU");
    }

    #[test]
    fn the_timer_counts_at_its_frequency_and_wraps_at_32_bits() {
        let s = setup();
        s.clock.advance(1_000_000_000);
        assert_eq!(s.read(8, Width::Dword), 3_579_545);
        assert_eq!(s.read(8, Width::Byte), 3_579_545 & 0xff);
        assert_eq!(s.read(10, Width::Byte), 3_579_545 >> 16 & 0xff);
        s.clock.advance(1_200_000_000_000);
        assert_eq!(s.read(8, Width::Dword), (1_201 * 3_579_545_u64) & 0xffff_ffff);
    }

    #[test]
    fn the_timer_carry_interrupts_when_enabled() {
        let s = setup();
        s.write(2, 1);
        let at = s.clock.armed().unwrap();
        s.clock.advance(at - 1);
        s.pm.time_passed();
        assert!(!s.sci.level());
        s.clock.advance(1);
        assert!(s.clock.due());
        s.pm.time_passed();
        assert!(s.sci.level());
        assert_eq!(s.read(0, Width::Word), 1);
        s.write(0, 1);
        assert!(!s.sci.level());
        assert!(s.clock.armed().unwrap() > at);
        s.write(2, 0);
        assert_eq!(s.clock.armed(), None);
    }

    #[test]
    fn the_power_button_raises_the_sci_until_its_status_is_cleared() {
        let s = setup();
        s.pm.press_power_button();
        assert!(!s.sci.level(), "not enabled");
        s.write(2, 0x0100);
        assert!(s.sci.level());
        assert_eq!(s.read(0, Width::Dword), 0x0100_0100);
        s.write(0, 0x0020);
        assert!(s.sci.level());
        s.pm.write(1, 1, &Access::plain(Width::Byte)).unwrap();
        assert!(!s.sci.level());
    }

    #[test]
    fn only_existing_bits_stick_and_reset_clears_them() {
        let s = setup();
        s.write(2, 0xffff);
        s.write(4, 0x5fff);
        assert_eq!((s.read(2, Width::Word), s.read(4, Width::Word)), (0x0521, 0x1c03));
        s.pm.press_power_button();
        s.pm.reset();
        assert_eq!((s.read(0, Width::Dword), s.read(4, Width::Word)), (0, 1));
        assert!(!s.sci.level());
    }
}
