//! The interrupt controllers and timers of a software machine, joined: who hears what.
//!
//! Called by [`super::vm`] with its lock held. Pure: time comes in, and a set of CPUs that must look again comes
//! out ([`Wake`]). Global system interrupts 0 to 15 reach both the 8259s and the I/O APIC's input of the same
//! number, as KVM's default routing has it; 16 to 23 the I/O APIC only.

use crate::chipset::ioapic::{ApicMessage, IoApic, PINS};
use crate::chipset::lapic::{ApicEffect, LocalApic};
use crate::chipset::pic::PicPair;
use crate::chipset::pit::Pit;

/// CPUs that must look at their interrupts again, one bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use]
pub struct Wake(pub u64);

impl Wake {
    fn cpu(id: usize) -> Self {
        Self(1 << id)
    }
}

impl std::ops::BitOrAssign for Wake {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// What one CPU is to do before its next instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// INIT: reset, then wait for SIPI.
    Init,
    /// SIPI: start in real mode at this page number.
    Startup(u8),
    /// Non-maskable interrupt.
    Nmi,
    /// Maskable interrupt with this vector; acknowledged.
    Interrupt(u8),
}

#[derive(Debug, Clone, Default)]
struct Signals {
    init: bool,
    startup: Option<u8>,
    nmi: bool,
}

/// All of them.
#[derive(Debug, Clone)]
pub struct Chips {
    pic: PicPair,
    pit: Pit,
    ioapic: IoApic,
    lapics: Vec<LocalApic>,
    signals: Vec<Signals>,
}

impl Chips {
    /// As after power-on, for `cpus` CPUs (at most 64).
    pub fn new(cpus: u32) -> Self {
        let lapics = (0..cpus as u8).map(LocalApic::new).collect();
        Self {
            pic: PicPair::default(),
            pit: Pit::default(),
            ioapic: IoApic::new(cpus as u8),
            lapics,
            signals: vec![Signals::default(); cpus as usize],
        }
    }

    /// The local APIC of CPU `id` as that CPU finds it when it starts: the boot CPU's as firmware leaves it.
    pub fn reset_lapic(&mut self, id: usize, boot: bool) {
        let new = if boot { LocalApic::virtual_wire } else { LocalApic::new };
        self.lapics[id] = new(id as u8);
    }

    /// Drives a global system interrupt.
    pub fn set_gsi(&mut self, gsi: u32, level: bool) -> Wake {
        let mut wake = Wake::default();
        if gsi < 16 {
            self.pic.set_input(gsi as u8, level);
            wake = self.wake_for_pic();
        }
        if (gsi as usize) < PINS
            && let Some(message) = self.ioapic.set_input(gsi as usize, level)
        {
            wake |= self.send(message);
        }
        wake
    }

    fn wake_for_pic(&self) -> Wake {
        if self.pic.output() { Wake::cpu(0) } else { Wake::default() }
    }

    /// Carries a message to the APICs it addresses.
    pub fn send(&mut self, message: ApicMessage) -> Wake {
        const LOWEST_PRIORITY: u8 = 1;
        let mut wake = Wake::default();
        for id in 0..self.lapics.len() {
            if self.lapics[id].is_addressed(message.dest, message.logical) {
                wake |= self.deliver(id, message.delivery, message.vector, message.level);
                if message.delivery == LOWEST_PRIORITY {
                    break;
                }
            }
        }
        wake
    }

    fn deliver(&mut self, id: usize, delivery: u8, vector: u8, level: bool) -> Wake {
        match delivery {
            0 | 1 => self.lapics[id].accept(vector, level),
            4 => self.signals[id].nmi = true,
            5 => self.signals[id] = Signals { init: true, ..Signals::default() },
            6 => self.signals[id].startup = Some(vector),
            // ExtINT by message: the 8259s answer when asked; SMI does not exist here.
            _ => {}
        }
        Wake::cpu(id)
    }

    /// An interrupt command of CPU `from` (SDM volume 3, section 11.6.1).
    fn command(&mut self, from: usize, command: u32, dest: u8) -> Wake {
        let (vector, delivery) = (command as u8, (command >> 8) as u8 & 7);
        let level_deassert = delivery == 5 && command & (1 << 14) == 0 && command & (1 << 15) != 0;
        if level_deassert {
            return Wake::default();
        }
        let logical = command & 1 << 11 != 0;
        let mut wake = Wake::default();
        for id in 0..self.lapics.len() {
            let meant = match command >> 18 & 3 {
                0 => self.lapics[id].is_addressed(dest, logical),
                1 => id == from,
                2 => true,
                _ => id != from,
            };
            if meant {
                wake |= self.deliver(id, delivery, vector, false);
            }
        }
        wake
    }

    /// The next thing CPU `id` must do, taken. `interruptible`: RFLAGS.IF and no shadow; `nmi_open`: no NMI is
    /// being handled.
    pub fn take_event(&mut self, id: usize, interruptible: bool, nmi_open: bool) -> Option<Event> {
        let signals = &mut self.signals[id];
        if std::mem::take(&mut signals.init) {
            self.lapics[id] = LocalApic::new(id as u8);
            return Some(Event::Init);
        }
        if let Some(page) = signals.startup.take() {
            return Some(Event::Startup(page));
        }
        if nmi_open && std::mem::take(&mut signals.nmi) {
            return Some(Event::Nmi);
        }
        if !interruptible {
            return None;
        }
        if let Some(vector) = self.lapics[id].acknowledge() {
            return Some(Event::Interrupt(vector));
        }
        self.pic_reaches(id).then(|| Event::Interrupt(self.pic.acknowledge()))
    }

    /// Whether a maskable interrupt waits for CPU `id`.
    pub fn has_interrupt(&self, id: usize) -> bool {
        self.lapics[id].pending().is_some() || self.pic_reaches(id)
    }

    /// Whether no CPU has an INIT, SIPI or NMI waiting: what wakes a CPU whatever its RFLAGS.IF.
    pub fn is_silent(&self) -> bool {
        self.signals.iter().all(|s| !s.init && !s.nmi && s.startup.is_none())
    }

    fn pic_reaches(&self, id: usize) -> bool {
        id == 0 && self.lapics[0].passes_pic() && self.pic.output()
    }

    /// CR8 of CPU `id`.
    pub fn cr8(&self, id: usize) -> u8 {
        self.lapics[id].cr8()
    }

    /// Sets CR8 of CPU `id`.
    pub fn set_cr8(&mut self, id: usize, value: u8) {
        self.lapics[id].set_cr8(value);
    }

    /// IA32_TSC_DEADLINE of CPU `id`, as an absolute time.
    pub fn set_deadline(&mut self, id: usize, due: Option<u64>) {
        self.lapics[id].set_deadline(due);
    }

    /// Whether a TSC deadline is set on CPU `id`.
    pub fn deadline_armed(&self, id: usize) -> bool {
        self.lapics[id].deadline_armed()
    }

    /// Reads the local APIC page of CPU `id`.
    pub fn lapic_read(&mut self, id: usize, offset: u64, now: u64) -> u32 {
        self.lapics[id].read(offset, now)
    }

    /// Writes the local APIC page of CPU `id`.
    pub fn lapic_write(&mut self, id: usize, offset: u64, value: u32, now: u64) -> Wake {
        let effect = self.lapics[id].write(offset, value, now);
        let mut wake = if self.has_interrupt(id) { Wake::cpu(id) } else { Wake::default() };
        match effect {
            ApicEffect::None => {}
            ApicEffect::EndOfInterrupt(vector) => {
                for message in self.ioapic.end_of_interrupt(vector) {
                    wake |= self.send(message);
                }
            }
            ApicEffect::Command(command, dest) => wake |= self.command(id, command, dest),
        }
        wake
    }

    /// Reads the I/O APIC page.
    pub fn ioapic_read(&self, offset: u64) -> u32 {
        self.ioapic.read(offset)
    }

    /// Writes the I/O APIC page.
    pub fn ioapic_write(&mut self, offset: u64, value: u32) -> Wake {
        self.ioapic.write(offset, value).map(|m| self.send(m)).unwrap_or_default()
    }

    /// Whether `port` belongs to these chips.
    pub fn owns_port(port: u16) -> bool {
        matches!(port, 0x20 | 0x21 | 0xa0 | 0xa1 | 0x4d0 | 0x4d1 | 0x40..=0x43 | 0x61)
    }

    /// Reads one of [`Self::owns_port`]'s ports.
    pub fn port_read(&mut self, port: u16, now: u64) -> u8 {
        match port {
            0x40..=0x43 | 0x61 => self.pit.read(port, now),
            _ => self.pic.read(port),
        }
    }

    /// Writes one of [`Self::owns_port`]'s ports.
    pub fn port_write(&mut self, port: u16, value: u8, now: u64) -> Wake {
        match port {
            0x40..=0x43 | 0x61 => self.pit.write(port, value, now),
            _ => self.pic.write(port, value),
        }
        self.wake_for_pic()
    }

    /// Lets every timer that is due fire.
    pub fn run_timers(&mut self, now: u64) -> Wake {
        let mut wake = Wake::default();
        if self.pit.take_edge(now) {
            wake |= self.set_gsi(0, true);
            wake |= self.set_gsi(0, false);
        }
        for (id, lapic) in self.lapics.iter_mut().enumerate() {
            if lapic.next_timer().is_some_and(|t| t <= now) {
                lapic.run_timer(now);
                wake |= Wake::cpu(id);
            }
        }
        wake
    }

    /// When the next timer fires that CPU `id` looks after: its own; and the PIT, which is CPU 0's.
    pub fn next_timer(&self, id: usize) -> Option<u64> {
        let pit = self.pit.next_edge().filter(|_| id == 0);
        self.lapics[id].next_timer().into_iter().chain(pit).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enable(chips: &mut Chips, id: usize) {
        let _ = chips.lapic_write(id, 0xf0, 0x1ff, 0);
    }

    #[test]
    fn a_gsi_reaches_the_cpu_that_the_ioapic_entry_names() {
        let mut chips = Chips::new(2);
        enable(&mut chips, 0);
        enable(&mut chips, 1);
        for (select, value) in [(0x10 + 21, 1 << 24), (0x10 + 20, 0x8041)] {
            let _ = chips.ioapic_write(0, select);
            let _ = chips.ioapic_write(0x10, value);
        }
        assert_eq!(chips.set_gsi(10, true), Wake(2));
        assert!(chips.has_interrupt(1) && !chips.has_interrupt(0) && chips.is_silent());
        assert_eq!(chips.take_event(1, true, true), Some(Event::Interrupt(0x41)));
        assert_eq!(chips.set_gsi(10, false), Wake(0));
        let _ = chips.lapic_write(1, 0xb0, 0, 0);
        assert!(!chips.has_interrupt(1), "the line was dropped before EOI");
    }

    #[test]
    fn init_and_sipi_reach_the_other_cpu() {
        let mut chips = Chips::new(2);
        let _ = chips.lapic_write(0, 0x310, 1 << 24, 0);
        assert_eq!(chips.lapic_write(0, 0x300, 0x4500, 0), Wake(2));
        assert!(!chips.is_silent());
        assert_eq!(chips.take_event(1, false, true), Some(Event::Init));
        let _ = chips.lapic_write(0, 0x300, 0x4699, 0);
        assert_eq!(chips.take_event(1, false, true), Some(Event::Startup(0x99)));
        assert_eq!(chips.take_event(0, true, true), None);
    }

    #[test]
    fn the_pit_interrupts_through_the_pic_on_cpu_0() {
        let mut chips = Chips::new(1);
        for (port, value) in [(0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0)] {
            let _ = chips.port_write(port, value, 0);
        }
        for (port, value) in [(0x43, 0x34), (0x40, 0), (0x40, 0x10)] {
            let _ = chips.port_write(port, value, 0);
        }
        let due = chips.next_timer(0).unwrap();
        let _ = chips.run_timers(due);
        assert_eq!(chips.take_event(0, true, true), Some(Event::Interrupt(0x20)));
    }

    #[test]
    fn a_broadcast_leaves_out_the_sender_when_asked() {
        let mut chips = Chips::new(3);
        (0..3).for_each(|id| enable(&mut chips, id));
        assert_eq!(chips.lapic_write(1, 0x300, 0xc00f0, 0).0 & 0b101, 0b101);
        assert!(chips.has_interrupt(0) && chips.has_interrupt(2) && !chips.has_interrupt(1));
    }
}
