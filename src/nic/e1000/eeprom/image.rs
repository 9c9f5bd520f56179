//! What an EEPROM holds: its words, their checksum, what the part loads from them, and the file they are kept in.
//!
//! Made by the board (fresh, or read from a file), handed to [`super::Eeprom`] and, when the guest has programmed it, back
//! to the board's [`Store`]. Section 5.6 of the manual gives each word's use. Knows no pins.

use std::fmt::Debug;

use crate::nic::e1000::Model;
use crate::nic::e1000::spec::ctrl;

/// Words of a 93C46.
pub const SMALL: usize = 64;
/// Words of a 93C66.
pub const LARGE: usize = 256;
/// The checksum covers these words, and the last of them mends it (5.6.35).
const CHECKED: usize = 64;
/// Sum of the checked words, modulo 65536.
const CHECKSUM: u16 = 0xbaba;
/// The word that makes it so.
pub(super) const CHECKSUM_WORD: usize = CHECKED - 1;

/// Initialization Control 1 (5.6.8).
const INIT_CONTROL_1: usize = 0x0a;
/// Its bits 15:14 are 01 in an image that the part loads.
const SIGNATURE: u16 = 0b01 << 14;
/// Load the subsystem ids.
const LOAD_SUBSYSTEM: u16 = 1 << 1;
/// Initialization Control 2 (5.6.12).
const INIT_CONTROL_2: usize = 0x0f;
/// Its bits 13:12: pause in both directions; the rest as vendors write it.
const PAUSE_BOTH: u16 = 0x3040;
/// LED defaults (5.6.20).
const LEDS: usize = 0x2f;
/// What LEDCTL starts with without an image.
const LEDS_DEFAULT: u16 = 0x0602;
/// Subsystem and subsystem vendor without an image.
const SUBSYSTEM_DEFAULT: (u16, u16) = (0x1008, 0x8086);

/// Who keeps an EEPROM's contents beyond the run.
pub trait Store: Debug + Send + Sync {
    /// The guest has programmed at least one word anew; these are the contents now. Called in the thread that wrote EECD,
    /// in the order of programming, with no lock of the device held that another call of it would need.
    fn programmed(&self, image: &Image);
}

/// Why bytes are no EEPROM image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Neither size of chip.
    #[error("an EEPROM image has 128 bytes (64 words) or 512 bytes (256 words), not {0}")]
    Length(usize),
}

/// The words of a 93C46 or a 93C66.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image(Vec<u16>);

impl Image {
    /// What a board's vendor would have written, into a 93C46.
    pub fn fresh(model: Model, mac: [u8; 6]) -> Self {
        let mut words = vec![0xffff; SMALL];
        for (at, word) in [
            (0x03, 0x0000),
            (INIT_CONTROL_1, 0x4c0b),
            (0x0b, 0x001e),
            (0x0c, 0x8086),
            (0x0d, model.device_id()),
            (0x0e, 0x8086),
            (INIT_CONTROL_2, PAUSE_BOTH),
            (0x14, 0x0000),
            (0x20, 0x0000),
            (0x24, 0x0000),
            (LEDS, LEDS_DEFAULT),
        ] {
            words[at] = word;
        }
        let mut image = Self(words);
        image.set_mac(mac);
        image
    }

    /// Reads an image: words in little-endian order, as `ethtool -e DEV raw on` prints them.
    ///
    /// # Errors
    /// [`ImageError`] when it is no chip's size. A wrong checksum is no error: a board may have one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ImageError> {
        let words: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
        match bytes.len() {
            len if len == 2 * SMALL || len == 2 * LARGE => Ok(Self(words)),
            len => Err(ImageError::Length(len)),
        }
    }

    /// The image as [`Self::from_bytes`] reads it.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// The words: 64 or 256.
    pub fn words(&self) -> &[u16] {
        &self.0
    }

    /// The station address of words 0 to 2.
    pub fn mac(&self) -> [u8; 6] {
        let mut mac = [0; 6];
        for (pair, word) in mac.as_chunks_mut::<2>().0.iter_mut().zip(&self.0) {
            *pair = word.to_le_bytes();
        }
        mac
    }

    /// Gives the board another station address, and the checksum that goes with it.
    pub fn set_mac(&mut self, mac: [u8; 6]) {
        for (word, pair) in self.0.iter_mut().zip(mac.as_chunks::<2>().0) {
            *word = u16::from_le_bytes(*pair);
        }
        self.0[CHECKSUM_WORD] =
            self.0[..CHECKSUM_WORD].iter().fold(CHECKSUM, |left, w| left.wrapping_sub(*w));
    }

    /// Whether drivers will accept it.
    pub fn checksum_is_good(&self) -> bool {
        self.0[..CHECKED].iter().fold(0u16, |sum, w| sum.wrapping_add(*w)) == CHECKSUM
    }

    /// Word 0x0d. A note to people: the part that is built in decides about the device id.
    pub fn device_id(&self) -> u16 {
        self.0[0x0d]
    }

    /// Whether the part loads anything from it (5.6.8).
    pub fn is_signed(&self) -> bool {
        self.0[INIT_CONTROL_1] & 0b11 << 14 == SIGNATURE
    }

    /// Subsystem id and subsystem vendor id.
    pub fn subsystem(&self) -> (u16, u16) {
        let loaded = self.is_signed() && self.0[INIT_CONTROL_1] & LOAD_SUBSYSTEM != 0;
        if loaded { (self.0[0x0b], self.0[0x0c]) } else { SUBSYSTEM_DEFAULT }
    }

    /// What LEDCTL starts with.
    pub fn ledctl(&self) -> u32 {
        let leds = u32::from(if self.is_signed() { self.0[LEDS] } else { LEDS_DEFAULT });
        0x0700_8300 | (leds & 0xcf00) << 8 | (leds & 0xcf)
    }

    /// The bits of CTRL that [`Self::ctrl`] decides.
    pub const CTRL_BITS: u32 = ctrl::FD | ctrl::ILOS | ctrl::FRCSPD;

    /// What CTRL starts with, as far as the image says.
    pub fn ctrl(&self) -> u32 {
        if !self.is_signed() {
            return ctrl::FD | ctrl::FRCSPD;
        }
        let word = self.0[INIT_CONTROL_1];
        let bits = [(10, ctrl::FD), (4, ctrl::ILOS), (11, ctrl::FRCSPD)];
        bits.iter().filter(|b| word >> b.0 & 1 != 0).fold(0, |sum, b| sum | b.1)
    }

    /// What WUC starts with: APME and APMPME. The 82544 keeps APME in another word.
    pub fn wuc(&self, model: Model) -> u32 {
        if !self.is_signed() {
            return 0;
        }
        let (word, bit) = if model == Model::I82544Gc { (INIT_CONTROL_2, 2) } else { (0x24, 10) };
        let apme = u32::from(self.0[word] >> bit & 1);
        let apmpme = u32::from(self.0[INIT_CONTROL_2] >> 15);
        apme | apmpme << 3
    }

    /// A word; addresses beyond the last begin anew.
    pub(super) fn word(&self, address: usize) -> u16 {
        self.0[address % self.0.len()]
    }

    /// Programs a word; says whether that changed it.
    pub(super) fn program(&mut self, address: usize, value: u16) -> bool {
        let at = address % self.0.len();
        std::mem::replace(&mut self.0[at], value) != value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_there_and_back() {
        let image = Image::fresh(Model::I82540Em, [2, 0, 0, 1, 2, 3]);
        assert_eq!(Image::from_bytes(&image.to_bytes()), Ok(image.clone()));
        assert_eq!(image.to_bytes()[..6], [2, 0, 0, 1, 2, 3]);
        assert!(Image::from_bytes(&[0xff; 512]).is_ok());
        for len in [0, 127, 129, 256, 511, 513] {
            assert_eq!(Image::from_bytes(&vec![0; len]), Err(ImageError::Length(len)));
        }
    }

    #[test]
    fn a_new_address_keeps_the_checksum_good_and_a_flipped_bit_does_not() {
        let mut image = Image::fresh(Model::I82545Em, [2; 6]);
        image.set_mac([4, 5, 6, 7, 8, 9]);
        assert!(image.checksum_is_good());
        assert_eq!(image.mac(), [4, 5, 6, 7, 8, 9]);
        image.program(0x30, 0x1234);
        assert!(!image.checksum_is_good());
    }

    #[test]
    fn an_unsigned_image_loads_nothing() {
        let mut image = Image::fresh(Model::I82540Em, [2; 6]);
        assert_eq!((image.subsystem(), image.ledctl()), ((0x001e, 0x8086), 0x0706_8302));
        image.program(0x24, 0x0400);
        assert_eq!((image.wuc(Model::I82540Em), image.wuc(Model::I82544Gc)), (1, 0));
        image.program(INIT_CONTROL_1, 0x8c0b);
        assert_eq!((image.subsystem(), image.wuc(Model::I82540Em)), (SUBSYSTEM_DEFAULT, 0));
    }
}
