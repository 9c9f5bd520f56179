//! The faults of a network card, by name. Plain data: what each does is the card's business.

/// What can go wrong. The comment says what the event is that a schedule counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardFault {
    /// The interrupt is asserted: it is not; the next cause tries again.
    InterruptLost = 0,
    /// The interrupt is deasserted: it comes once more, without a cause, until ICR is read.
    InterruptSpurious = 1,
    /// The interrupt is asserted: INTA# stays so for a time, whatever the driver does.
    InterruptStorm = 2,
    /// Descriptors are written back with DD: that comes a time later, and TXDW with it.
    LateDone = 3,
    /// The transmitter is about to work: it stops until it is reset.
    TxHang = 4,
    /// A frame came that a filter takes: it finds no room and is lost, with RXO.
    RxOverrun = 5,
    /// A frame is read from memory to be sent: that fails, and it does not go out.
    DmaError = 6,
    /// The EEPROM's checksum word is read: it is wrong.
    EepromChecksum = 7,
    /// An EEPROM word is read: one bit of it is wrong.
    EepromBit = 8,
    /// MDIC is written: READY never comes.
    MdicTimeout = 9,
    /// BAR0 is accessed: the card is gone from now on, reads give ones.
    Removal = 10,
}

impl CardFault {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::InterruptLost,
        Self::InterruptSpurious,
        Self::InterruptStorm,
        Self::LateDone,
        Self::TxHang,
        Self::RxOverrun,
        Self::DmaError,
        Self::EepromChecksum,
        Self::EepromBit,
        Self::MdicTimeout,
        Self::Removal,
    ];

    /// As the user writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::InterruptLost => "irq-lost",
            Self::InterruptSpurious => "irq-spurious",
            Self::InterruptStorm => "irq-storm",
            Self::LateDone => "late-dd",
            Self::TxHang => "tx-hang",
            Self::RxOverrun => "rx-overrun",
            Self::DmaError => "dma-error",
            Self::EepromChecksum => "eeprom-checksum",
            Self::EepromBit => "eeprom-bit",
            Self::MdicTimeout => "mdic-timeout",
            Self::Removal => "removal",
        }
    }

    /// What happens, in words.
    pub fn effect(self) -> &'static str {
        match self {
            Self::InterruptLost => "the interrupt does not come",
            Self::InterruptSpurious => "the interrupt comes again without a cause",
            Self::InterruptStorm => "INTA# stays asserted",
            Self::LateDone => "DD and TXDW come late",
            Self::TxHang => "the transmitter stops",
            Self::RxOverrun => "the frame finds no room",
            Self::DmaError => "the frame cannot be read",
            Self::EepromChecksum => "the word read is off by one",
            Self::EepromBit => "one bit of the word read is wrong",
            Self::MdicTimeout => "READY never comes",
            Self::Removal => "the card is gone",
        }
    }

    /// Its bit in a set of faults.
    pub fn bit(self) -> u32 {
        1 << self as u32
    }
}
