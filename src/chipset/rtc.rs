//! The CMOS real-time clock, MC146818A with the PC's century and memory-size bytes.
//!
//! Time is the host's wall clock plus what the guest set, so that the clock runs while nobody looks. The
//! update and alarm interrupts work (the kernel's wake-up alarms use them); the periodic one is only stored.
//! Year, month, day and time that no calendar has, which a guest may write, are brought into range. One lock;
//! the wire is driven under it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::calendar::{DateTime, SECONDS_PER_DAY};
use super::lanes;
use crate::bus::{Access, AccessError, BusDevice};
use crate::irq::IrqLine;
use crate::time::Clock;

/// Index and data port.
pub const RTC_LEN: u64 = 2;
/// CMOS register with the century, as ACPI announces it.
pub const CENTURY: u8 = 0x32;

const SECONDS: usize = 0;
const SECONDS_ALARM: usize = 1;
const MINUTES: usize = 2;
const MINUTES_ALARM: usize = 3;
const HOURS: usize = 4;
const HOURS_ALARM: usize = 5;
const WEEKDAY: usize = 6;
const DAY: usize = 7;
const MONTH: usize = 8;
const YEAR: usize = 9;
const A: usize = 10;
const B: usize = 11;
const C: usize = 12;
const D: usize = 13;

/// 32.768 kHz time base, 1.024 kHz periodic rate.
const A_RESET: u8 = 0x26;
const A_UPDATE_IN_PROGRESS: u8 = 1 << 7;
const B_24_HOURS: u8 = 1 << 1;
const B_BINARY: u8 = 1 << 2;
const B_UPDATE_INTERRUPT: u8 = 1 << 4;
const B_ALARM_INTERRUPT: u8 = 1 << 5;
const B_SET: u8 = 1 << 7;
const C_UPDATE: u8 = 1 << 4;
const C_ALARM: u8 = 1 << 5;
const C_INTERRUPT: u8 = 1 << 7;
const D_VALID: u8 = 1 << 7;
const HOUR_PM: u8 = 1 << 7;

const SECOND_NS: u32 = 1_000_000_000;
/// The registers stay stable for this long after UIP read 0 (data sheet: 244 us).
const UPDATE_WARNING_NS: u32 = 244_000;

/// The host's time since 1970-01-01 00:00 UTC.
pub type WallClock = Box<dyn Fn() -> Duration + Send + Sync>;

/// Bytes of RAM, for the memory-size registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CmosMemory {
    /// Below 4 GiB.
    pub low: u64,
    /// Above 4 GiB.
    pub high: u64,
}

/// The clock chip.
pub struct Rtc {
    irq: IrqLine,
    wall: WallClock,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

impl fmt::Debug for Rtc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rtc").field("state", &self.state).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    index: usize,
    cmos: [u8; 128],
    /// The guest's time less the host's, in seconds.
    offset: i64,
    /// The guest's time up to which update and alarm flags are set.
    seen: i64,
}

impl Rtc {
    /// A clock that shows `wall` and interrupts by `irq`; `clock` wakes it for alarms.
    pub fn new(irq: IrqLine, wall: WallClock, clock: Arc<dyn Clock>, memory: CmosMemory) -> Self {
        let seen = wall().as_secs() as i64;
        let state = State { index: 0, cmos: power_on(memory), offset: 0, seen };
        Self { irq, wall, clock, state: Mutex::new(state) }
    }

    /// RESET#: interrupts off; time, alarm and memory stay (data sheet, RESET).
    pub fn reset(&self) {
        self.enter(|s, _| {
            s.cmos[B] &= !(B_UPDATE_INTERRUPT | B_ALARM_INTERRUPT | B_SET | 0x48);
            s.cmos[C] = 0;
            s.index = 0;
        });
    }

    /// The wake-up asked of the clock is due.
    pub fn time_passed(&self) {
        self.enter(|_, _| ());
    }

    /// Brings flags up to date, runs `f`, then lets wire and wake-up follow.
    fn enter<T>(&self, f: impl FnOnce(&mut State, Duration) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let wall = (self.wall)();
        state.catch_up(wall);
        let armed_before = state.cmos[B] & (B_UPDATE_INTERRUPT | B_ALARM_INTERRUPT) != 0;
        let result = f(&mut state, wall);
        self.irq.set_level(state.interrupting());
        match state.next_event(wall) {
            Some(delay) => self.clock.wake_at(self.clock.now_ns().saturating_add(delay)),
            None if armed_before => self.clock.wake_at(u64::MAX),
            None => {}
        }
        result
    }
}

impl State {
    fn now(&self, wall: Duration) -> i64 {
        (wall.as_secs() as i64).wrapping_add(self.offset)
    }

    fn setting(&self) -> bool {
        self.cmos[B] & B_SET != 0
    }

    fn catch_up(&mut self, wall: Duration) {
        let now = self.now(wall);
        if now > self.seen && !self.setting() {
            self.cmos[C] |= C_UPDATE;
            if self.next_alarm(self.seen).is_some_and(|at| at <= now) {
                self.cmos[C] |= C_ALARM;
            }
        }
        self.seen = now;
    }

    fn interrupting(&self) -> bool {
        self.cmos[B] & self.cmos[C] & (C_UPDATE | C_ALARM) != 0
    }

    /// Nanoseconds to the next enabled event; none while one is pending.
    fn next_event(&self, wall: Duration) -> Option<u64> {
        if self.interrupting() || self.setting() {
            return None;
        }
        let now = self.now(wall);
        let at = if self.cmos[B] & B_UPDATE_INTERRUPT != 0 {
            now + 1
        } else if self.cmos[B] & B_ALARM_INTERRUPT != 0 {
            self.next_alarm(now)?
        } else {
            return None;
        };
        Some((at - now) as u64 * u64::from(SECOND_NS) - u64::from(wall.subsec_nanos()))
    }

    /// The first second after `from` that the alarm registers name, if they name any. Skips whole hours and
    /// minutes, so it takes at most about 24 + 60 + 60 steps.
    fn next_alarm(&self, from: i64) -> Option<i64> {
        let possible = [(HOURS_ALARM, 24), (MINUTES_ALARM, 60), (SECONDS_ALARM, 60)];
        if !possible.iter().all(|&(register, end)| (0..end).any(|v| self.alarm_is(register, v))) {
            return None;
        }
        let mut at = from + 1;
        loop {
            let of_day = at.rem_euclid(SECONDS_PER_DAY);
            if !self.alarm_is(HOURS_ALARM, of_day / 3600) {
                at += 3600 - of_day % 3600;
            } else if !self.alarm_is(MINUTES_ALARM, of_day / 60 % 60) {
                at += 60 - of_day % 60;
            } else if !self.alarm_is(SECONDS_ALARM, of_day % 60) {
                at += 1;
            } else {
                return Some(at);
            }
        }
    }

    /// Whether an alarm register names `value`; from 0xc0 on it names every value.
    fn alarm_is(&self, register: usize, value: i64) -> bool {
        let raw = self.cmos[register];
        let named = if register == HOURS_ALARM { self.hour(raw) } else { self.number(raw) };
        raw >= 0xc0 || named == value
    }

    fn twelve_hours(&self) -> bool {
        self.cmos[B] & B_24_HOURS == 0
    }

    /// A register's value as the data mode writes it.
    fn number(&self, raw: u8) -> i64 {
        let (high, low) = (raw >> 4, raw & 15);
        i64::from(if self.cmos[B] & B_BINARY != 0 { raw } else { 10 * high.min(9) + low.min(9) })
    }

    fn raw(&self, number: i64) -> u8 {
        let n = number as u8;
        if self.cmos[B] & B_BINARY != 0 { n } else { ((n / 10 % 10) << 4) | (n % 10) }
    }

    fn hour(&self, raw: u8) -> i64 {
        if !self.twelve_hours() {
            return self.number(raw);
        }
        self.number(raw & !HOUR_PM) % 12 + if raw & HOUR_PM != 0 { 12 } else { 0 }
    }

    fn raw_hour(&self, hour: i64) -> u8 {
        if !self.twelve_hours() {
            return self.raw(hour);
        }
        let of_half = if hour % 12 == 0 { 12 } else { hour % 12 };
        self.raw(of_half) | if hour >= 12 { HOUR_PM } else { 0 }
    }

    /// The time registers show `seconds` since 1970.
    fn show(&mut self, seconds: i64) {
        let t = DateTime::from_unix(seconds);
        self.cmos[SECONDS] = self.raw(t.second);
        self.cmos[MINUTES] = self.raw(t.minute);
        self.cmos[HOURS] = self.raw_hour(t.hour);
        self.cmos[WEEKDAY] = self.raw(t.weekday + 1);
        self.cmos[DAY] = self.raw(t.day);
        self.cmos[MONTH] = self.raw(t.month);
        self.cmos[YEAR] = self.raw(t.year.rem_euclid(100));
        self.cmos[usize::from(CENTURY)] = self.raw(t.year.div_euclid(100));
    }

    /// The time registers' time, brought into range.
    fn shown(&self) -> i64 {
        let year = 100 * self.number(self.cmos[usize::from(CENTURY)]) + self.number(self.cmos[YEAR]);
        DateTime {
            year,
            month: self.number(self.cmos[MONTH]).clamp(1, 12),
            day: self.number(self.cmos[DAY]).clamp(1, 31),
            hour: self.hour(self.cmos[HOURS]).min(23),
            minute: self.number(self.cmos[MINUTES]).min(59),
            second: self.number(self.cmos[SECONDS]).min(59),
            weekday: 0,
        }
        .to_unix()
    }

    fn set_time(&mut self, wall: Duration, seconds: i64) {
        self.offset = seconds - wall.as_secs() as i64;
        self.seen = seconds;
    }

    fn read(&mut self, wall: Duration) -> u8 {
        if is_time(self.index) && !self.setting() {
            self.show(self.now(wall));
        }
        match self.index {
            A => {
                let updating = !self.setting() && wall.subsec_nanos() >= SECOND_NS - UPDATE_WARNING_NS;
                self.cmos[A] | if updating { A_UPDATE_IN_PROGRESS } else { 0 }
            }
            C => {
                let flags = std::mem::take(&mut self.cmos[C]);
                let pending = flags & self.cmos[B] & (C_UPDATE | C_ALARM) != 0;
                flags | if pending { C_INTERRUPT } else { 0 }
            }
            D => D_VALID,
            index => self.cmos[index],
        }
    }

    fn write(&mut self, value: u8, wall: Duration) {
        match self.index {
            A => self.cmos[A] = value & !A_UPDATE_IN_PROGRESS,
            B => self.write_b(value, wall),
            C | D => {}
            index if is_time(index) && !self.setting() => {
                self.show(self.now(wall));
                self.cmos[index] = value;
                self.set_time(wall, self.shown());
            }
            index => self.cmos[index] = value,
        }
    }

    /// SET freezes the time registers for setting, and lets the clock run on from them when it is cleared.
    fn write_b(&mut self, value: u8, wall: Duration) {
        let was_setting = self.setting();
        if !was_setting {
            self.show(self.now(wall));
        }
        self.cmos[B] = if value & B_SET != 0 { value & !B_UPDATE_INTERRUPT } else { value };
        if was_setting && !self.setting() {
            self.set_time(wall, self.shown());
        }
    }
}

fn is_time(index: usize) -> bool {
    matches!(index, SECONDS | MINUTES | HOURS | WEEKDAY..=YEAR) || index == usize::from(CENTURY)
}

/// CMOS after power-on: equipment and memory sizes where a BIOS keeps them.
fn power_on(memory: CmosMemory) -> [u8; 128] {
    let mut cmos = [0; 128];
    (cmos[A], cmos[B]) = (A_RESET, B_24_HOURS);
    // Equipment: a floating-point unit.
    cmos[0x14] = 0x02;
    let mut put = |at: usize, len: usize, value: u64| {
        let most = (1 << (8 * len)) - 1;
        cmos[at..at + len].copy_from_slice(&value.min(most).to_le_bytes()[..len]);
    };
    put(0x15, 2, 640);
    let extended_kib = memory.low.saturating_sub(1 << 20) >> 10;
    put(0x17, 2, extended_kib);
    put(0x30, 2, extended_kib);
    put(0x34, 2, memory.low.saturating_sub(16 << 20) >> 16);
    put(0x5b, 3, memory.high >> 16);
    cmos
}

impl BusDevice for Rtc {
    fn read(&self, offset: u64, access: &Access<'_>) -> Result<u64, AccessError> {
        Ok(lanes::read(offset, access, |at| if at == 0 { 0xff } else { self.enter(State::read) }))
    }

    fn write(&self, offset: u64, value: u64, access: &Access<'_>) -> Result<(), AccessError> {
        lanes::write(offset, value, access, |at, byte| {
            self.enter(|s, wall| match at {
                // Bit 7 masks NMI, which nothing here raises.
                0 => s.index = usize::from(byte & 0x7f),
                _ => s.write(byte, wall),
            });
        });
        Ok(())
    }
}

#[cfg(test)]
#[path = "rtc_tests.rs"]
mod tests;
