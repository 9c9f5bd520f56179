//! BAR0: decoding of accesses to the register file (manual, section 13.1).
//!
//! Called by [`super::E1000`]'s BAR handlers; only decodes and passes on. A quadword is two dwords, the low one
//! first. Narrower reads give the lanes of the dword that holds them; narrower writes are lost, since the part
//! does not take them (a merge would read first, and reading ICR destroys it).

use super::E1000;
use super::observe::Event;
use super::regs::table::{Effect, Found, TABLE, find};
use super::spec::{cause, mdic, reg};
use crate::bus::{AccessError, Width};

/// Tables with more elements are not registers to people.
const SMALL_TABLE: u32 = 16;

impl E1000 {
    /// A read of `width` at `offset` in BAR0.
    pub(super) fn mmio_read(&self, offset: u64, width: Width) -> Result<u64, AccessError> {
        let dword = u32::try_from(offset & !3).map_err(|_| AccessError::NoRegister)?;
        let lane = offset & 3;
        match width {
            Width::Qword if lane == 0 => {
                let low = u64::from(self.read_register(dword));
                Ok(u64::from(self.read_register(dword.wrapping_add(4))) << 32 | low)
            }
            Width::Byte | Width::Word | Width::Dword if lane + width.bytes() <= 4 => {
                if width != Width::Dword {
                    self.tell(|| Event::BadAccess { offset, width, write: false });
                }
                Ok(u64::from(self.read_register(dword)) >> (8 * lane) & width.all_ones())
            }
            _ => {
                self.tell(|| Event::BadAccess { offset, width, write: false });
                Err(AccessError::Misaligned)
            }
        }
    }

    /// A write of `width` at `offset` in BAR0.
    #[inline(always)]
    pub(super) fn mmio_write(&self, offset: u64, value: u64, width: Width) -> Result<(), AccessError> {
        let dword = u32::try_from(offset).map_err(|_| AccessError::NoRegister)?;
        if dword & 3 != 0 || matches!(width, Width::Byte | Width::Word) {
            self.tell(|| Event::BadAccess { offset, width, write: true });
        }
        match width {
            _ if dword & 3 != 0 => return Err(AccessError::Misaligned),
            Width::Byte | Width::Word => return Err(AccessError::Width),
            Width::Dword => self.write_register(dword, value as u32),
            Width::Qword => {
                self.write_register(dword, value as u32);
                self.write_register(dword.wrapping_add(4), (value >> 32) as u32);
            }
        }
        Ok(())
    }

    /// Reads the register at `offset`, a multiple of 4. Where there is none it reads 0, and never faults: drivers
    /// dump whole ranges.
    pub(super) fn read_register(&self, offset: u32) -> u32 {
        let Some(register) = find(offset) else {
            self.tell(|| Event::NoRegister { offset, written: None });
            return 0;
        };
        let interrupts = self.interrupts();
        let value = match register.row.effect {
            Effect::Icr => interrupts.read_icr(),
            Effect::Ics => interrupts.peek_icr(),
            Effect::Ims => interrupts.mask(),
            Effect::Itr => u32::from(interrupts.itr()),
            _ => self.regs().read(&register),
        };
        self.tell(|| Event::RegisterRead { register, value });
        value
    }

    /// Writes the register at `offset`, a multiple of 4; where there is none the write is lost.
    pub(super) fn write_register(&self, offset: u32, value: u32) {
        let Some(found) = find(offset) else {
            self.tell(|| Event::NoRegister { offset, written: Some(value) });
            return;
        };
        if self.is_observed() {
            return self.write_and_tell(found, value);
        }
        if !self.write_cause_set(&found, value) {
            let effects = self.regs().write(&found, value);
            self.perform(effects);
        }
    }

    #[cold]
    fn write_and_tell(&self, found: Found, value: u32) {
        self.tell_cause_set_write(&found, value);
        if self.write_cause_set(&found, value) {
            return;
        }
        let (effects, word) = {
            let mut regs = self.regs();
            let old = regs.peek(&found);
            let effects = regs.write(&found, value);
            // While nobody can see it: an engine that runs on another thread would be heard of first.
            self.tell_write(found, value, (old, regs.peek(&found)));
            (effects, regs.eeprom.take_noted())
        };
        if let Some((address, value, write)) = word {
            self.tell(|| Event::Eeprom { address, value, write });
        }
        self.perform(effects);
    }

    /// Name and value of every register, as a read would give it and without a read's side effects; of large tables
    /// nothing.
    pub fn registers(&self) -> Vec<(String, u32)> {
        // Two locks that are never held together.
        let interrupts = self.interrupts();
        let causes = (interrupts.peek_icr(), interrupts.mask(), u32::from(interrupts.itr()));
        let regs = self.regs();
        let rows = TABLE.iter().filter(|row| row.count <= SMALL_TABLE);
        let each = rows
            .flat_map(|row| (0..row.count).map(move |k| Found { row, offset: row.offset + k * row.stride }));
        let value = |found: &Found| match found.row.effect {
            Effect::Icr | Effect::Ics => causes.0,
            Effect::Ims => causes.1,
            Effect::Itr => causes.2,
            _ => regs.peek(found),
        };
        each.map(|found| (found.name(), value(&found))).collect()
    }

    fn tell_write(&self, register: Found, written: u32, (old, new): (u32, u32)) {
        self.tell(|| Event::RegisterWrite { register, written, old, new });
        if register.offset == reg::MDIC {
            let (number, register) = (written >> 21 & 0x1f, written >> 16 & 0x1f);
            let (write, ok) = (written >> 26 & 3 == mdic::OP_WRITE, new & mdic::ERROR == 0);
            self.tell(|| Event::Phy { number, register, value: new as u16, write, ok });
        }
    }

    #[inline(always)]
    fn write_cause_set(&self, found: &Found, value: u32) -> bool {
        let interrupts = self.interrupts();
        match found.row.effect {
            Effect::Icr => interrupts.acknowledge(value),
            Effect::Ics => interrupts.raise(value),
            Effect::Ims => interrupts.unmask(value),
            Effect::Imc => interrupts.mask_off(value),
            Effect::Itr => interrupts.set_itr(value as u16),
            _ => return false,
        }
        true
    }

    fn tell_cause_set_write(&self, found: &Found, written: u32) {
        let interrupts = self.interrupts();
        let (old, new) = match found.row.effect {
            Effect::Icr => (interrupts.peek_icr(), interrupts.peek_icr() & !written),
            Effect::Ics => (interrupts.peek_icr(), interrupts.peek_icr() | written & cause::ALL),
            Effect::Ims => (interrupts.mask(), interrupts.mask() | written & cause::ALL),
            Effect::Imc => (interrupts.mask(), interrupts.mask() & !written),
            Effect::Itr => (interrupts.itr().into(), written & 0xffff),
            _ => return,
        };
        self.tell(|| Event::RegisterWrite { register: *found, written, old, new });
    }
}
