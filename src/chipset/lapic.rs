//! The local APIC of one CPU, in xAPIC mode.
//!
//! Pure: time comes in with every call, in nanoseconds. `accel/soft` carries messages between APICs and asks
//! [`LocalApic::pending`] before each block; with KVM the kernel has its own. Facts: Intel SDM volume 3,
//! chapter 11.

/// Timer input clock in Hz: one tick for each nanosecond before the divider (CPUID leaf 0x15 says so too).
pub const APIC_TIMER_HZ: u64 = 1_000_000_000;

const SOFT_ENABLE: u32 = 1 << 8;
const LVT_MASKED: u32 = 1 << 16;
const TIMER_PERIODIC: u32 = 1 << 17;
const TIMER_DEADLINE: u32 = 2 << 17;
const ESR_ILLEGAL_VECTOR: u32 = 1 << 6;

/// What the machine does after a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApicEffect {
    /// Nothing.
    None,
    /// A level-triggered interrupt ended: tell the I/O APIC.
    EndOfInterrupt(u8),
    /// Send this interrupt command (ICR low, destination).
    Command(u32, u8),
}

/// 256 vectors, one bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Vectors([u32; 8]);

impl Vectors {
    fn set(&mut self, vector: u8, on: bool) {
        let (word, bit) = (usize::from(vector >> 5), 1 << (vector & 31));
        self.0[word] = if on { self.0[word] | bit } else { self.0[word] & !bit };
    }

    fn has(&self, vector: u8) -> bool {
        self.0[usize::from(vector >> 5)] & 1 << (vector & 31) != 0
    }

    fn highest(&self) -> Option<u8> {
        let word = self.0.iter().rposition(|w| *w != 0)?;
        Some((word as u32 * 32 + self.0[word].ilog2()) as u8)
    }
}

/// LVT entries, in register order from 0x320.
const TIMER: usize = 0;
const LINT0: usize = 3;
const LINT1: usize = 4;
const ERROR: usize = 5;

/// One local APIC.
#[derive(Debug, Clone)]
pub struct LocalApic {
    id: u8,
    task_priority: u8,
    logical_dest: u32,
    dest_format: u32,
    spurious: u32,
    in_service: Vectors,
    trigger_mode: Vectors,
    requests: Vectors,
    errors: u32,
    errors_shown: u32,
    command: [u32; 2],
    lvt: [u32; 6],
    initial_count: u32,
    divide: u32,
    timer_start: u64,
    /// Absolute time of the next timer interrupt.
    timer_due: Option<u64>,
}

impl LocalApic {
    /// As after power-on.
    pub fn new(id: u8) -> Self {
        Self {
            id,
            task_priority: 0,
            logical_dest: 0,
            dest_format: u32::MAX,
            spurious: 0xff,
            in_service: Vectors::default(),
            trigger_mode: Vectors::default(),
            requests: Vectors::default(),
            errors: 0,
            errors_shown: 0,
            command: [0; 2],
            lvt: [LVT_MASKED; 6],
            initial_count: 0,
            divide: 0,
            timer_start: 0,
            timer_due: None,
        }
    }

    /// As firmware leaves the boot CPU's: on, the 8259s' interrupts on LINT0, NMI on LINT1 (virtual wire mode,
    /// MultiProcessor Specification 1.4, section 3.6.2.2).
    pub fn virtual_wire(id: u8) -> Self {
        let mut apic = Self { spurious: SOFT_ENABLE | 0xff, ..Self::new(id) };
        apic.lvt[LINT0] = 0x700;
        apic.lvt[LINT1] = 0x400;
        apic
    }

    /// Reads the 32-bit register at `offset` in the page.
    pub fn read(&mut self, offset: u64, now: u64) -> u32 {
        let index = (offset >> 4 & 7) as usize;
        match offset {
            0x020 => u32::from(self.id) << 24,
            0x030 => 0x0005_0014,
            0x080 => self.task_priority.into(),
            0x0a0 => self.priority().into(),
            0x0d0 => self.logical_dest,
            0x0e0 => self.dest_format,
            0x0f0 => self.spurious,
            0x100..=0x17f => self.in_service.0[index],
            0x180..=0x1ff => self.trigger_mode.0[index],
            0x200..=0x27f => self.requests.0[index],
            0x280 => self.errors_shown,
            0x300 => self.command[0],
            0x310 => self.command[1],
            0x320..=0x37f => self.lvt.get((offset - 0x320) as usize >> 4).copied().unwrap_or(0),
            0x380 => self.initial_count,
            0x390 => self.current_count(now),
            0x3e0 => self.divide,
            _ => 0,
        }
    }

    /// Writes the 32-bit register at `offset` in the page.
    pub fn write(&mut self, offset: u64, value: u32, now: u64) -> ApicEffect {
        match offset {
            0x020 => self.id = (value >> 24) as u8,
            0x080 => self.task_priority = value as u8,
            0x0b0 => return self.end_of_interrupt(),
            0x0d0 => self.logical_dest = value & 0xff00_0000,
            0x0e0 => self.dest_format = value | 0x0fff_ffff,
            0x0f0 => self.write_spurious(value),
            0x280 => self.errors_shown = std::mem::take(&mut self.errors),
            0x300 => {
                self.command[0] = value & !(1 << 12);
                return ApicEffect::Command(self.command[0], (self.command[1] >> 24) as u8);
            }
            0x310 => self.command[1] = value & 0xff00_0000,
            0x320..=0x37f => self.write_lvt((offset - 0x320) as usize >> 4, value),
            0x380 => self.start_timer(value, now),
            0x3e0 => {
                self.divide = value & 0xb;
                self.rearm(now);
            }
            _ => {}
        }
        ApicEffect::None
    }

    fn write_spurious(&mut self, value: u32) {
        self.spurious = value & 0x3ff;
        if value & SOFT_ENABLE == 0 {
            self.lvt.iter_mut().for_each(|l| *l |= LVT_MASKED);
        }
    }

    fn write_lvt(&mut self, index: usize, value: u32) {
        const WRITABLE: [u32; 6] = [0x7_00ff, 0x1_07ff, 0x1_07ff, 0x1_a7ff, 0x1_a7ff, 0x1_00ff];
        let (Some(entry), Some(mask)) = (self.lvt.get_mut(index), WRITABLE.get(index)) else { return };
        let changed_mode = index == TIMER && (*entry ^ value) & (TIMER_PERIODIC | TIMER_DEADLINE) != 0;
        *entry = value & mask;
        if self.spurious & SOFT_ENABLE == 0 {
            *entry |= LVT_MASKED;
        }
        if changed_mode {
            self.timer_due = None;
        }
    }

    // ---- interrupts

    /// Processor priority: the higher of the task's and of the interrupt in service.
    fn priority(&self) -> u8 {
        let service = self.in_service.highest().unwrap_or(0) & 0xf0;
        if self.task_priority & 0xf0 >= service { self.task_priority } else { service }
    }

    /// CR8 is the upper half of TPR (SDM volume 3, section 11.8.6).
    pub fn set_cr8(&mut self, cr8: u8) {
        self.task_priority = cr8 << 4;
    }

    /// The value of CR8.
    pub fn cr8(&self) -> u8 {
        self.task_priority >> 4
    }

    /// Takes a fixed interrupt. Vectors below 16 are errors; a switched-off APIC takes none.
    pub fn accept(&mut self, vector: u8, level: bool) {
        if self.spurious & SOFT_ENABLE == 0 {
            return;
        }
        if vector < 16 {
            self.errors |= ESR_ILLEGAL_VECTOR;
            let entry = self.lvt[ERROR];
            if entry & LVT_MASKED == 0 && entry as u8 >= 16 {
                self.requests.set(entry as u8, true);
            }
            return;
        }
        self.requests.set(vector, true);
        self.trigger_mode.set(vector, level);
    }

    /// The vector that should interrupt the CPU now.
    pub fn pending(&self) -> Option<u8> {
        self.requests.highest().filter(|v| v & 0xf0 > self.priority() & 0xf0)
    }

    /// The CPU takes the pending interrupt.
    pub fn acknowledge(&mut self) -> Option<u8> {
        let vector = self.pending()?;
        self.requests.set(vector, false);
        self.in_service.set(vector, true);
        Some(vector)
    }

    fn end_of_interrupt(&mut self) -> ApicEffect {
        let Some(vector) = self.in_service.highest() else { return ApicEffect::None };
        self.in_service.set(vector, false);
        if self.trigger_mode.has(vector) { ApicEffect::EndOfInterrupt(vector) } else { ApicEffect::None }
    }

    /// Whether a message for `dest` is for this APIC.
    pub fn is_addressed(&self, dest: u8, logical: bool) -> bool {
        if dest == 0xff {
            return true;
        }
        if !logical {
            return dest == self.id;
        }
        let own = (self.logical_dest >> 24) as u8;
        if self.dest_format >> 28 == 0xf {
            own & dest != 0
        } else {
            own >> 4 == dest >> 4 && own & dest & 15 != 0
        }
    }

    /// Whether the 8259's output reaches the CPU: through LINT0 as ExtINT, or because the APIC is off.
    pub fn passes_pic(&self) -> bool {
        let lint0 = self.lvt[LINT0];
        self.spurious & SOFT_ENABLE == 0 || lint0 & (LVT_MASKED | 0x700) == 0x700
    }

    // ---- timer

    fn divisor(&self) -> u64 {
        match self.divide & 3 | self.divide >> 1 & 4 {
            7 => 1,
            shift => 2 << shift,
        }
    }

    fn start_timer(&mut self, count: u32, now: u64) {
        if self.lvt[TIMER] & TIMER_DEADLINE != 0 {
            return;
        }
        self.initial_count = count;
        self.rearm(now);
    }

    fn rearm(&mut self, now: u64) {
        self.timer_start = now;
        let length = u64::from(self.initial_count) * self.divisor();
        self.timer_due = (length != 0 && self.lvt[TIMER] & TIMER_DEADLINE == 0).then(|| now + length);
    }

    fn current_count(&self, now: u64) -> u32 {
        match self.timer_due {
            Some(due) if self.lvt[TIMER] & TIMER_DEADLINE == 0 => {
                (due.saturating_sub(now) / self.divisor()).min(u32::MAX.into()) as u32
            }
            _ => 0,
        }
    }

    /// IA32_TSC_DEADLINE, as an absolute time; `None` disarms. Ignored outside TSC-deadline mode.
    pub fn set_deadline(&mut self, due: Option<u64>) {
        if self.lvt[TIMER] & TIMER_DEADLINE != 0 {
            self.timer_due = due;
        }
    }

    /// Whether the timer is in TSC-deadline mode with a deadline set.
    pub fn deadline_armed(&self) -> bool {
        self.lvt[TIMER] & TIMER_DEADLINE != 0 && self.timer_due.is_some()
    }

    /// When the timer interrupts next.
    pub fn next_timer(&self) -> Option<u64> {
        self.timer_due
    }

    /// Lets the timer fire if it is due. Periods missed meanwhile merge into one interrupt.
    pub fn run_timer(&mut self, now: u64) {
        let Some(due) = self.timer_due.filter(|t| *t <= now) else { return };
        let entry = self.lvt[TIMER];
        self.timer_due = None;
        if entry & TIMER_PERIODIC != 0 {
            let period = (u64::from(self.initial_count) * self.divisor()).max(1);
            self.timer_due = Some(due + ((now - due) / period + 1) * period);
        }
        if entry & LVT_MASKED == 0 {
            self.accept(entry as u8, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enabled() -> LocalApic {
        let mut apic = LocalApic::new(3);
        apic.write(0xf0, 0x1ff, 0);
        apic
    }

    #[test]
    fn higher_vectors_interrupt_lower_ones_until_eoi() {
        let mut apic = enabled();
        apic.accept(0x41, false);
        assert_eq!(apic.acknowledge(), Some(0x41));
        apic.accept(0x45, false);
        assert_eq!(apic.pending(), None, "same class");
        apic.accept(0x51, true);
        assert_eq!(apic.acknowledge(), Some(0x51));
        assert_eq!(apic.write(0xb0, 0, 0), ApicEffect::EndOfInterrupt(0x51));
        assert_eq!(apic.write(0xb0, 0, 0), ApicEffect::None);
        assert_eq!(apic.pending(), Some(0x45));
    }

    #[test]
    fn task_priority_holds_back_its_class_and_below() {
        let mut apic = enabled();
        apic.accept(0x41, false);
        apic.set_cr8(4);
        assert_eq!(apic.pending(), None);
        apic.set_cr8(3);
        assert_eq!(apic.pending(), Some(0x41));
        assert_eq!(apic.cr8(), 3);
    }

    #[test]
    fn a_periodic_timer_keeps_its_phase() {
        let mut apic = enabled();
        apic.write(0x3e0, 0xb, 0);
        apic.write(0x320, TIMER_PERIODIC | 0x30, 0);
        apic.write(0x380, 1000, 0);
        apic.run_timer(2500);
        assert_eq!(apic.acknowledge(), Some(0x30));
        assert_eq!(apic.next_timer(), Some(3000));
        assert_eq!(apic.read(0x390, 2600), 400);
    }

    #[test]
    fn the_divider_counts_as_the_sdm_says() {
        let mut apic = enabled();
        for (code, divisor) in [(0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (10, 128), (11, 1)] {
            apic.write(0x3e0, code, 0);
            apic.write(0x380, 100, 0);
            assert_eq!(apic.next_timer(), Some(100 * divisor), "{code}");
        }
    }

    #[test]
    fn deadline_mode_fires_once_at_its_time() {
        let mut apic = enabled();
        apic.write(0x320, TIMER_DEADLINE | 0x30, 0);
        apic.set_deadline(Some(500));
        apic.run_timer(499);
        assert_eq!(apic.pending(), None);
        apic.run_timer(500);
        assert_eq!((apic.pending(), apic.next_timer()), (Some(0x30), None));
    }

    #[test]
    fn logical_addresses_are_flat_or_clustered() {
        let mut apic = enabled();
        apic.write(0xd0, 0x12 << 24, 0);
        assert!(apic.is_addressed(0x02, true) && !apic.is_addressed(0x04, true));
        apic.write(0xe0, 0, 0);
        assert!(apic.is_addressed(0x13, true) && !apic.is_addressed(0x22, true));
        assert!(apic.is_addressed(3, false) && apic.is_addressed(0xff, true) && !apic.is_addressed(2, false));
    }

    #[test]
    fn a_switched_off_apic_lets_the_pic_through() {
        let mut apic = LocalApic::new(0);
        assert!(apic.passes_pic());
        apic.accept(0x40, false);
        assert_eq!(apic.pending(), None);
        apic.write(0xf0, 0x1ff, 0);
        assert!(!apic.passes_pic());
        apic.write(0x350, 0x700, 0);
        assert!(apic.passes_pic());
    }
}
