//! The serial EEPROM: a 93C46 behind EECD's pins (manual, section 5.3), and EERD's read port.
//!
//! Called by the register file for EECD and EERD. Holds the words and the Microwire state machine; knows
//! nothing of what the words mean, except for the checksum and the addresses that the MAC loads from it.

use super::spec::eeprom::*;

/// Words of a 93C46.
pub const WORDS: usize = 64;
/// Address bits of a 93C46.
const ADDRESS_BITS: u32 = 6;
/// Sum of all words, modulo 65536 (manual, section 5.6.35).
const CHECKSUM: u16 = 0xbaba;

/// Word 0x0f, bits 13:12: pause in both directions.
const PAUSE_BOTH: u16 = 0x3040;

/// The device on the other end of SK, CS, DI and DO.
#[derive(Debug, Clone)]
pub struct Eeprom {
    words: [u16; WORDS],
    eecd: u32,
    /// Access to the pins needs EECD.REQ (82540 and later).
    handshake: bool,
    write_enabled: bool,
    wire: Wire,
    data_out: bool,
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

/// The contents that a board vendor would have written: section 4.4 of the reference gives each word's use.
pub fn default_image(mac: [u8; 6], device_id: u16) -> [u16; WORDS] {
    let mut words = [0xffff; WORDS];
    for (word, pair) in words.iter_mut().zip(mac.as_chunks::<2>().0) {
        *word = u16::from_le_bytes(*pair);
    }
    words[0x03] = 0x0000;
    words[0x0a] = 0x4c0b;
    words[0x0b] = 0x001e;
    words[0x0c] = 0x8086;
    words[0x0d] = device_id;
    words[0x0e] = 0x8086;
    words[0x0f] = PAUSE_BOTH;
    words[0x14] = 0x0000;
    words[0x20] = 0x0000;
    words[0x24] = 0x0000;
    words[0x2f] = 0x0602;
    words[WORDS - 1] = checksum_word(&words);
    words
}

/// What the last word must be for the others.
fn checksum_word(words: &[u16; WORDS]) -> u16 {
    words[..WORDS - 1].iter().fold(CHECKSUM, |left, w| left.wrapping_sub(*w))
}

impl Eeprom {
    /// A programmed EEPROM after power-up: writing disabled, output high.
    pub fn new(words: [u16; WORDS], handshake: bool) -> Self {
        let eecd = FWE_DISABLED | PRES;
        Self { words, eecd, handshake, write_enabled: false, wire: Wire::Idle, data_out: true }
    }

    /// The contents.
    pub fn words(&self) -> &[u16; WORDS] {
        &self.words
    }

    /// The station address of words 0 to 2.
    pub fn mac(&self) -> [u8; 6] {
        let mut mac = [0; 6];
        for (pair, word) in mac.as_chunks_mut::<2>().0.iter_mut().zip(self.words) {
            *pair = word.to_le_bytes();
        }
        mac
    }

    /// Device reset: the pins fall; contents and the chip's own write enable stay.
    pub fn reset_pins(&mut self) {
        self.write_eecd(FWE_DISABLED);
    }

    /// Reads EECD.
    pub fn read_eecd(&self) -> u32 {
        let granted = self.eecd & REQ != 0;
        let data_out = self.data_out || self.eecd & CS == 0;
        self.eecd | if granted { GNT } else { 0 } | if data_out { DO } else { 0 }
    }

    /// Writes EECD; the pins move.
    pub fn write_eecd(&mut self, value: u32) {
        let old = self.eecd;
        self.eecd = (value & (SK | CS | DI | REQ | FWE_MASK)) | PRES;
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
    pub fn read_by_eerd(&self, value: u32) -> u32 {
        let address = value & 0xff00;
        if value & EERD_START == 0 {
            return address;
        }
        let word = self.words.get((address >> 8) as usize).copied().unwrap_or(0xffff);
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
        if bits < 2 + ADDRESS_BITS {
            return Wire::Command { bits, value };
        }
        let address = usize::from(value) % WORDS;
        match (value >> ADDRESS_BITS, address >> (ADDRESS_BITS - 2)) {
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
        self.data_out = self.words[address % WORDS] >> (15 - bit) & 1 != 0;
        match bit + 1 {
            16 => Wire::Reading { address: (address + 1) % WORDS, bit: 0 },
            bit => Wire::Reading { address, bit },
        }
    }

    fn deselect(&mut self) {
        if let Wire::Programmed(program) = self.wire
            && self.write_enabled
        {
            match program.target {
                Target::One(address) => self.words[address] = program.value,
                Target::All => self.words.fill(program.value),
            }
        }
        self.wire = Wire::Idle;
        // Programming takes no time here: the output says "ready" at once.
        self.data_out = true;
    }
}
