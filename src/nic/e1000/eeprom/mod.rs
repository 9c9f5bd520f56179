//! The serial EEPROM: a 93C46 or 93C66 behind EECD's pins (manual, section 5.3), and EERD's read port.
//!
//! Called by the register file for EECD and EERD. Holds the [`Image`] and the Microwire state machine; what the words mean
//! is the image's business.

use std::sync::Arc;

use super::fault::Faults;
use super::spec::eeprom::*;
use crate::fault::CardFault;

mod image;

pub use image::{Image, ImageError, LARGE, SMALL, Store};

/// The device on the other end of SK, CS, DI and DO.
#[derive(Debug, Clone)]
pub struct Eeprom {
    image: Image,
    /// 6 for a 93C46, 8 for a 93C66.
    address_bits: u32,
    /// A word has changed since anybody asked.
    programmed: bool,
    eecd: u32,
    /// Access to the pins needs EECD.REQ (82540 and later).
    handshake: bool,
    write_enabled: bool,
    wire: Wire,
    data_out: bool,
    /// The last word that was read or programmed, for observers: address, value, whether it was programmed.
    noted: Option<(u32, u16, bool)>,
    /// The word that is leaving.
    latched: u16,
    faults: Arc<Faults>,
}

/// Where the serial protocol stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    /// Waiting for the start bit.
    Idle,
    /// Bits of opcode and address so far.
    Command { bits: u32, value: u16 },
    /// Data leaving, most significant bit first.
    Reading { address: usize, bit: u32 },
    /// Data arriving for a write (of one word, or of all).
    Writing { target: Target, bits: u32, value: u16 },
    /// A complete instruction; it takes effect when CS falls.
    Programmed(Program),
    /// Instruction done or unknown; the rest of the clocks is ignored.
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    One(usize),
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Program {
    target: Target,
    value: u16,
}

impl Eeprom {
    /// A programmed EEPROM after power-up: writing disabled, output high.
    pub fn new(image: Image, handshake: bool, faults: Arc<Faults>) -> Self {
        Self {
            address_bits: image.words().len().ilog2(),
            image,
            programmed: false,
            eecd: FWE_DISABLED,
            handshake,
            write_enabled: false,
            wire: Wire::Idle,
            data_out: true,
            noted: None,
            latched: 0,
            faults,
        }
    }

    /// The contents.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Whether the guest has changed the contents since the last call.
    pub fn take_programmed(&mut self) -> bool {
        std::mem::take(&mut self.programmed)
    }

    /// The last word that was read (address, value, false) or programmed (true) since the last call.
    pub fn take_noted(&mut self) -> Option<(u32, u16, bool)> {
        self.noted.take()
    }

    /// Device reset: the pins fall; contents and the chip's own write enable stay.
    pub fn reset_pins(&mut self) {
        self.write_eecd(FWE_DISABLED);
    }

    /// Reads EECD.
    pub fn read_eecd(&self) -> u32 {
        let granted = self.handshake && self.eecd & REQ != 0;
        let data_out = self.data_out || self.eecd & CS == 0;
        let large = self.image.words().len() == LARGE;
        let flags = [(granted, GNT), (data_out, DO), (large, SIZE)];
        flags.iter().filter(|f| f.0).fold(self.eecd | PRES, |sum, f| sum | f.1)
    }

    /// Writes EECD; the pins move.
    pub fn write_eecd(&mut self, value: u32) {
        let old = self.eecd;
        self.eecd = value & (SK | CS | DI | REQ | FWE_MASK);
        if self.handshake && self.eecd & REQ == 0 {
            self.eecd &= !CS;
        }
        let (was_selected, selected) = (old & CS != 0, self.eecd & CS != 0);
        match (was_selected, selected) {
            (false, true) => self.wire = Wire::Idle,
            (true, false) => self.deselect(),
            (true, true) if old & SK == 0 && self.eecd & SK != 0 => self.clock(self.eecd & DI != 0),
            _ => {}
        }
    }

    /// The value of EERD after `value` was written: reads complete at once.
    pub fn read_by_eerd(&mut self, value: u32) -> u32 {
        let address = value & 0xff00;
        if value & EERD_START == 0 {
            return address;
        }
        let word = if (address >> 8) < self.image.words().len() as u32 {
            self.read_word((address >> 8) as usize)
        } else {
            0xffff
        };
        self.noted = Some((address >> 8, word, false));
        u32::from(word) << 16 | address | EERD_DONE
    }

    fn clock(&mut self, data_in: bool) {
        self.wire = match self.wire {
            Wire::Idle if data_in => Wire::Command { bits: 0, value: 0 },
            Wire::Command { bits, value } => self.command_bit(bits + 1, value << 1 | u16::from(data_in)),
            Wire::Reading { address, bit } => self.read_bit(address, bit),
            Wire::Writing { target, bits, value } => {
                let value = value << 1 | u16::from(data_in);
                match bits + 1 {
                    16 => Wire::Programmed(Program { target, value }),
                    bits => Wire::Writing { target, bits, value },
                }
            }
            same => same,
        };
    }

    fn command_bit(&mut self, bits: u32, value: u16) -> Wire {
        if bits < 2 + self.address_bits {
            return Wire::Command { bits, value };
        }
        let address = usize::from(value) % self.image.words().len();
        match (value >> self.address_bits, address >> (self.address_bits - 2)) {
            (0b10, _) => {
                // The dummy zero that precedes the data.
                self.data_out = false;
                Wire::Reading { address, bit: 0 }
            }
            (0b01, _) => Wire::Writing { target: Target::One(address), bits: 0, value: 0 },
            (0b11, _) => Wire::Programmed(Program { target: Target::One(address), value: 0xffff }),
            (_, 0b01) => Wire::Writing { target: Target::All, bits: 0, value: 0 },
            (_, 0b10) => Wire::Programmed(Program { target: Target::All, value: 0xffff }),
            (_, enable) => {
                self.write_enabled = enable == 0b11;
                Wire::Done
            }
        }
    }

    fn read_bit(&mut self, address: usize, bit: u32) -> Wire {
        if bit == 0 {
            self.latched = self.read_word(address);
        }
        self.data_out = self.latched >> (15 - bit) & 1 != 0;
        match bit + 1 {
            16 => {
                self.noted = Some((address as u32, self.latched, false));
                Wire::Reading { address: address + 1, bit: 0 }
            }
            bit => Wire::Reading { address, bit },
        }
    }

    /// A word as the chip gives it.
    fn read_word(&self, address: usize) -> u16 {
        let mut word = self.image.word(address);
        if address % self.image.words().len() == image::CHECKSUM_WORD
            && self.faults.strikes(CardFault::EepromChecksum).is_some()
        {
            word = word.wrapping_add(1);
        }
        if let Some(hit) = self.faults.strikes(CardFault::EepromBit) {
            word ^= 1 << (hit.chance % 16);
        }
        word
    }

    fn deselect(&mut self) {
        if let Wire::Programmed(program) = self.wire
            && self.write_enabled
        {
            let words = match program.target {
                Target::One(address) => address..address + 1,
                Target::All => 0..self.image.words().len(),
            };
            for address in words {
                self.programmed |= self.image.program(address, program.value);
                self.noted = Some((address as u32, program.value, true));
            }
        }
        self.wire = Wire::Idle;
        // Programming takes no time here: the output says "ready" at once.
        self.data_out = true;
    }
}
