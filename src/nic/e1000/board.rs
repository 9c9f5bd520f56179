//! Which part sits on a board, and what the board is like: what the command line chooses.
//!
//! `machine` fills a [`Config`] in for [`super::E1000::new`]; the device's parts ask [`Model`] in what they differ.
//! Holds no state and opens nothing.

use super::eeprom;
use super::observe::Observer;
use crate::pci::Msi;
use std::sync::Arc;

/// Which member of the family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Model {
    /// 8086:100e.
    #[default]
    I82540Em,
    /// 8086:100f.
    I82545Em,
    /// 8086:100c.
    I82544Gc,
}

impl Model {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::I82540Em, Self::I82545Em, Self::I82544Gc];

    /// What users call it (QEMU's names).
    pub fn name(self) -> &'static str {
        match self {
            Self::I82540Em => "e1000",
            Self::I82545Em => "e1000-82545em",
            Self::I82544Gc => "e1000-82544gc",
        }
    }

    /// PCI device id.
    pub fn device_id(self) -> u16 {
        match self {
            Self::I82540Em => 0x100e,
            Self::I82545Em => 0x100f,
            Self::I82544Gc => 0x100c,
        }
    }

    /// The PHY's second id register, with the revision in its low four bits.
    pub(super) fn phy_id2(self) -> u16 {
        match self {
            Self::I82544Gc => 0x0c30,
            Self::I82540Em | Self::I82545Em => 0x0c20,
        }
    }

    /// Whether software asks for the EEPROM with EECD.REQ.
    pub(super) fn eeprom_handshake(self) -> bool {
        self != Self::I82544Gc
    }

    /// Whether BAR0 is a 64-bit one.
    pub(super) fn wide_bar(self) -> bool {
        self == Self::I82545Em
    }
}

/// What becomes of a frame from the wire when the driver has given no descriptor for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The peer keeps it and waits: nothing is lost, as with an endlessly patient wire.
    #[default]
    Wait,
    /// It waits in the receive FIFO of PBA.RXA KiB, and is lost and counted when that is full.
    Drop,
}

/// What a board with this part is like.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which part.
    pub model: Model,
    /// Station address in the EEPROM: unicast, not zero. Ignored if `eeprom` is given.
    pub mac: [u8; 6],
    /// Nanoseconds from the start of autonegotiation to link up; zero: inside the register write.
    pub link_delay_ns: u64,
    /// No allowances for drivers that work on emulators only.
    pub strict: bool,
    /// What happens without receive descriptors.
    pub overflow: Overflow,
    /// The EEPROM's contents, if not those of a fresh board.
    pub eeprom: Option<eeprom::Image>,
    /// Who is told when the guest has programmed the EEPROM.
    pub eeprom_store: Option<Arc<dyn eeprom::Store>>,
    /// The function's MSI output; without one it has no MSI capability.
    pub msi: Option<Msi>,
    /// Who is told what happens in the device.
    pub observer: Option<Arc<dyn Observer>>,
}

impl Config {
    /// A fresh 82540EM board with this station address; link up at once.
    pub fn new(mac: [u8; 6]) -> Self {
        Self {
            model: Model::default(),
            mac,
            link_delay_ns: 0,
            strict: false,
            overflow: Overflow::default(),
            eeprom: None,
            eeprom_store: None,
            msi: None,
            observer: None,
        }
    }
}
