//! The clock as a kernel reads, sets and arms it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::bus::Width;
use crate::time::ManualClock;

const MEMORY: CmosMemory = CmosMemory { low: 3 << 30, high: 2 << 30 };
/// 2026-11-20 12:34:56 UTC, a Friday.
const START: u64 = 1_795_178_096;

struct Setup {
    rtc: Rtc,
    irq: IrqLine,
    clock: ManualClock,
    wall_ns: Arc<AtomicU64>,
}

fn setup() -> Setup {
    let (irq, clock) = (IrqLine::detached(), ManualClock::default());
    let wall_ns = Arc::new(AtomicU64::new(START * u64::from(SECOND_NS)));
    let wall = wall_ns.clone();
    let now = Box::new(move || Duration::from_nanos(wall.load(Ordering::SeqCst)));
    let rtc = Rtc::new(irq.clone(), now, Arc::new(clock.clone()), MEMORY);
    Setup { rtc, irq, clock, wall_ns }
}

impl Setup {
    fn read(&self, index: usize) -> u8 {
        self.rtc.write(0, index as u64, &Access::plain(Width::Byte)).unwrap();
        self.rtc.read(1, &Access::plain(Width::Byte)).unwrap() as u8
    }

    fn write(&self, index: usize, value: u8) {
        self.rtc.write(0, index as u64 | 0x80, &Access::plain(Width::Byte)).unwrap();
        self.rtc.write(1, u64::from(value), &Access::plain(Width::Byte)).unwrap();
    }

    /// Both clocks go on; the wake-up comes when it is due.
    fn pass(&self, ns: u64) {
        self.wall_ns.fetch_add(ns, Ordering::SeqCst);
        self.clock.advance(ns);
        if self.clock.due() {
            self.rtc.time_passed();
        }
    }

    fn time(&self) -> [u8; 8] {
        [usize::from(CENTURY), YEAR, MONTH, DAY, WEEKDAY, HOURS, MINUTES, SECONDS].map(|i| self.read(i))
    }
}

#[test]
fn the_time_is_the_hosts_in_bcd_and_24_hours() {
    let s = setup();
    assert_eq!(s.time(), [0x20, 0x26, 0x11, 0x20, 0x06, 0x12, 0x34, 0x56]);
    s.pass(3_600_000_000_000 * 12);
    assert_eq!(s.time(), [0x20, 0x26, 0x11, 0x21, 0x07, 0x00, 0x34, 0x56]);
}

#[test]
fn binary_and_12_hour_modes_show_the_same_time() {
    let s = setup();
    s.write(B, B_BINARY | B_24_HOURS);
    assert_eq!(s.time(), [20, 26, 11, 20, 6, 12, 34, 56]);
    s.write(B, 0);
    assert_eq!(s.read(HOURS), 0x12 | HOUR_PM);
    s.pass(3_600_000_000_000 * 12);
    assert_eq!(s.read(HOURS), 0x12);
    s.pass(3_600_000_000_000);
    assert_eq!(s.read(HOURS), 0x01);
}

#[test]
fn a_probe_finds_a_valid_clock_that_is_not_updating() {
    let s = setup();
    assert_eq!((s.read(A), s.read(B), s.read(D)), (0x26, 0x02, 0x80));
    s.write(D, 0x3f);
    assert_eq!(s.read(D), 0x80);
    s.pass(u64::from(SECOND_NS - UPDATE_WARNING_NS));
    assert_eq!(s.read(A), 0x26 | A_UPDATE_IN_PROGRESS);
    s.pass(u64::from(UPDATE_WARNING_NS));
    assert_eq!((s.read(A), s.read(SECONDS)), (0x26, 0x57));
}

#[test]
fn a_time_that_was_set_runs_on() {
    let s = setup();
    s.write(B, B_SET | B_24_HOURS);
    for (index, value) in
        [(YEAR, 0x24), (MONTH, 0x02), (DAY, 0x28), (HOURS, 0x23), (MINUTES, 0x59), (SECONDS, 0x59)]
    {
        s.write(index, value);
    }
    s.pass(10_000_000_000);
    assert_eq!(s.read(SECONDS), 0x59, "held while SET");
    s.write(B, B_24_HOURS);
    s.pass(1_000_000_000);
    assert_eq!(s.time(), [0x20, 0x24, 0x02, 0x29, 0x05, 0x00, 0x00, 0x00]);
    s.write(HOURS, 0x07);
    assert_eq!(s.read(HOURS), 0x07, "also without SET");
}

#[test]
fn impossible_times_are_brought_into_range() {
    let s = setup();
    for value in [0xff, 0x00, 0x7f, 0x99] {
        for b in [B_SET, B_SET | B_BINARY, B_SET | B_24_HOURS, 0] {
            s.write(B, b);
            for index in [SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR, usize::from(CENTURY), 1, 3, 5] {
                s.write(index, value);
            }
            s.write(B, b & !B_SET | B_ALARM_INTERRUPT | B_BINARY);
            let [.., month, day, _, _, minute, second] = s.time();
            assert!((1..=12).contains(&month) && (1..=31).contains(&day) && minute < 60 && second < 60);
        }
    }
}

#[test]
fn the_update_interrupt_comes_every_second_and_reading_c_ends_it() {
    let s = setup();
    s.pass(300_000_000);
    s.write(B, B_24_HOURS | B_UPDATE_INTERRUPT);
    s.pass(699_999_999);
    assert!(!s.irq.level());
    s.pass(1);
    assert!(s.irq.level());
    assert_eq!(s.read(C), C_INTERRUPT | C_UPDATE);
    assert!(!s.irq.level());
    s.pass(1_000_000_000);
    assert!(s.irq.level());
    s.rtc.reset();
    assert!(!s.irq.level() && s.clock.armed().is_none());
}

#[test]
fn the_alarm_interrupt_comes_at_its_time_and_not_before() {
    let s = setup();
    for (index, value) in [(SECONDS_ALARM, 0x00), (MINUTES_ALARM, 0x30), (HOURS_ALARM, 0x13)] {
        s.write(index, value);
    }
    s.write(B, B_24_HOURS | B_ALARM_INTERRUPT);
    let wait = 55 * 60 + 4;
    assert_eq!(s.clock.armed(), Some(wait * 1_000_000_000));
    s.pass((wait - 1) * 1_000_000_000);
    assert_eq!(s.read(C) & C_ALARM, 0);
    s.pass(1_000_000_000);
    assert!(s.irq.level());
    assert_eq!(s.read(C), C_INTERRUPT | C_ALARM | C_UPDATE);
    assert_eq!(s.clock.armed(), Some((wait + 86_400) * 1_000_000_000), "again tomorrow");
}

#[test]
fn alarm_bytes_from_c0_on_match_anything() {
    let s = setup();
    for index in [SECONDS_ALARM, MINUTES_ALARM, HOURS_ALARM] {
        s.write(index, 0xff);
    }
    s.write(B, B_24_HOURS | B_ALARM_INTERRUPT);
    assert_eq!(s.clock.armed(), Some(1_000_000_000));
    s.write(SECONDS_ALARM, 0x99);
    assert_eq!(s.clock.armed(), None, "no second is the 99th");
}

#[test]
fn memory_sizes_are_where_a_bios_keeps_them() {
    let s = setup();
    let word = |at: usize| u16::from_le_bytes([s.read(at), s.read(at + 1)]);
    assert_eq!((word(0x15), word(0x17), word(0x30)), (640, 0xffff, 0xffff));
    assert_eq!(u64::from(word(0x34)) << 16, (3 << 30) - (16 << 20));
    assert_eq!((u64::from(word(0x5b)) << 16, s.read(0x5d)), (2 << 30, 0));
    s.write(0x40, 0x5a);
    s.rtc.reset();
    assert_eq!(s.read(0x40), 0x5a, "memory outlives a reset");
}

#[test]
fn the_index_port_is_write_only() {
    let s = setup();
    assert_eq!(s.rtc.read(0, &Access::plain(Width::Byte)), Ok(0xff));
}
