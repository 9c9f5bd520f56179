//! The I/O APIC: 24 inputs to messages for the local APICs.
//!
//! Pure: `accel/soft` drives the inputs and carries the returned messages; with KVM the kernel has its own.
//! Facts: Intel 82093AA data sheet (1996), sections 3.1 and 3.2.

/// Number of inputs.
pub const PINS: usize = 24;

const MASKED: u64 = 1 << 16;
const LEVEL: u64 = 1 << 15;
const REMOTE_IRR: u64 = 1 << 14;
/// Delivery status (12) and remote IRR (14) are read-only.
const WRITABLE: u64 = 0xff00_0000_0001_afff;

/// An interrupt on its way to one or more local APICs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApicMessage {
    /// APIC id (physical) or logical address.
    pub dest: u8,
    /// Whether `dest` is a logical address.
    pub logical: bool,
    /// 0 fixed, 1 lowest priority, 2 SMI, 4 NMI, 5 INIT, 6 SIPI, 7 ExtINT.
    pub delivery: u8,
    /// Interrupt vector.
    pub vector: u8,
    /// Level-triggered: EOI goes back to the I/O APIC.
    pub level: bool,
}

impl ApicMessage {
    /// What a memory write to the interrupt window means (Intel SDM volume 3, section 11.11). `None` if the
    /// address is outside it.
    pub fn from_msi(addr: u64, data: u32) -> Option<Self> {
        (addr >> 20 == 0xfee).then_some(Self {
            dest: (addr >> 12) as u8,
            logical: addr & 4 != 0,
            delivery: (data >> 8) as u8 & 7,
            vector: data as u8,
            level: data & 1 << 15 != 0,
        })
    }
}

/// The chip.
#[derive(Debug, Clone)]
pub struct IoApic {
    id: u8,
    select: u8,
    table: [u64; PINS],
    levels: u32,
}

impl IoApic {
    /// All inputs masked.
    pub fn new(id: u8) -> Self {
        Self { id, select: 0, table: [MASKED; PINS], levels: 0 }
    }

    /// Drives input `pin`; returns the message to send, if any.
    pub fn set_input(&mut self, pin: usize, level: bool) -> Option<ApicMessage> {
        let bit = 1u32.checked_shl(pin as u32).filter(|_| pin < PINS)?;
        let rising = level && self.levels & bit == 0;
        self.levels = if level { self.levels | bit } else { self.levels & !bit };
        let edge = self.table[pin] & LEVEL == 0;
        if edge && !rising { None } else { self.fire(pin) }
    }

    /// A local APIC ended the interrupt `vector`; returns the messages of inputs that are still asserted.
    pub fn end_of_interrupt(&mut self, vector: u8) -> Vec<ApicMessage> {
        (0..PINS).filter_map(|pin| self.end(pin, vector)).collect()
    }

    fn end(&mut self, pin: usize, vector: u8) -> Option<ApicMessage> {
        let entry = self.table[pin];
        if entry as u8 != vector || entry & (LEVEL | REMOTE_IRR) != LEVEL | REMOTE_IRR {
            return None;
        }
        self.table[pin] &= !REMOTE_IRR;
        self.fire(pin)
    }

    fn fire(&mut self, pin: usize) -> Option<ApicMessage> {
        let entry = self.table[pin];
        let level = entry & LEVEL != 0;
        let asserted = self.levels & 1 << pin != 0;
        if entry & MASKED != 0 || !asserted || level && entry & REMOTE_IRR != 0 {
            return None;
        }
        if level {
            self.table[pin] |= REMOTE_IRR;
        }
        Some(ApicMessage {
            dest: (entry >> 56) as u8,
            logical: entry & 1 << 11 != 0,
            delivery: (entry >> 8) as u8 & 7,
            vector: entry as u8,
            level,
        })
    }

    /// Reads the register window at `offset` (0 IOREGSEL, 0x10 IOWIN).
    pub fn read(&self, offset: u64) -> u32 {
        match (offset, self.select) {
            (0x00, select) => select.into(),
            (0x10, 0 | 2) => u32::from(self.id) << 24,
            (0x10, 1) => 0x11 | (PINS as u32 - 1) << 16,
            (0x10, select @ 0x10..) => match self.table.get(usize::from(select - 0x10) / 2) {
                Some(entry) => (entry >> (32 * (select & 1))) as u32,
                None => 0,
            },
            _ => 0,
        }
    }

    /// Writes the register window; returns the message of an input that was waiting for it.
    pub fn write(&mut self, offset: u64, value: u32) -> Option<ApicMessage> {
        match (offset, self.select) {
            (0x00, _) => self.select = value as u8,
            (0x10, 0) => self.id = (value >> 24) as u8 & 15,
            (0x10, select @ 0x10..) => return self.write_entry(select - 0x10, value),
            (0x40, _) => return self.end_of_interrupt(value as u8).first().copied(),
            _ => {}
        }
        None
    }

    fn write_entry(&mut self, index: u8, value: u32) -> Option<ApicMessage> {
        let pin = usize::from(index / 2);
        let shift = 32 * (index & 1);
        let entry = self.table.get_mut(pin)?;
        let mask = 0xffff_ffff << shift & WRITABLE;
        *entry = *entry & !mask | u64::from(value) << shift & mask;
        if *entry & LEVEL == 0 {
            *entry &= !REMOTE_IRR;
            return None;
        }
        self.fire(pin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(apic: &mut IoApic, pin: u32, low: u32, dest: u32) {
        apic.write(0, 0x11 + 2 * pin);
        apic.write(0x10, dest << 24);
        apic.write(0, 0x10 + 2 * pin);
        apic.write(0x10, low);
    }

    #[test]
    fn an_edge_input_sends_one_message_for_each_rise() {
        let mut apic = IoApic::new(1);
        program(&mut apic, 4, 0x31, 2);
        let message = ApicMessage { dest: 2, logical: false, delivery: 0, vector: 0x31, level: false };
        assert_eq!(apic.set_input(4, true), Some(message));
        assert_eq!(apic.set_input(4, true), None);
        assert_eq!(apic.set_input(4, false), None);
        assert_eq!(apic.set_input(4, true), Some(message));
    }

    #[test]
    fn a_level_input_waits_for_eoi_and_asks_again_while_high() {
        let mut apic = IoApic::new(1);
        program(&mut apic, 10, 0x8041, 0);
        assert!(apic.set_input(10, true).is_some());
        assert_eq!(apic.set_input(10, true), None, "remote IRR");
        assert_eq!(apic.end_of_interrupt(0x40), []);
        assert_eq!(apic.end_of_interrupt(0x41).len(), 1);
        apic.set_input(10, false);
        assert_eq!(apic.end_of_interrupt(0x41), []);
    }

    #[test]
    fn unmasking_an_asserted_level_input_sends_it() {
        let mut apic = IoApic::new(1);
        program(&mut apic, 10, 0x1_8041, 0);
        assert_eq!(apic.set_input(10, true), None);
        apic.write(0, 0x10 + 20);
        assert!(apic.write(0x10, 0x8041).is_some());
        assert_eq!(apic.read(0x10) & 0x4000, 0x4000);
    }

    #[test]
    fn odd_selectors_and_pins_are_harmless() {
        let mut apic = IoApic::new(1);
        assert_eq!(apic.set_input(24, true), None);
        assert_eq!(apic.set_input(200, true), None);
        apic.write(0, 0xff);
        assert_eq!(apic.write(0x10, 5), None);
        assert_eq!(apic.read(0x10), 0);
    }
}
