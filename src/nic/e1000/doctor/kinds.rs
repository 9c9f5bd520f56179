//! The kinds of findings: each declared once. `docs/driver-doctor.md` lists them from here.

use std::fmt;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Legal but doubtful.
    Note,
    /// The real part does not do what the driver expects, or its relatives do not.
    Warning,
    /// The real part uses the wrong memory, hangs, or loses what it was given.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// A kind of finding.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Stable name.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What the driver did.
    pub what: &'static str,
    /// What the real part does then.
    pub hardware: &'static str,
    /// Section of the manual.
    pub section: &'static str,
}

macro_rules! kinds {
    ($($name:ident = $id:literal, $severity:ident, $section:literal, $what:literal, $hardware:literal;)*) => {
        $(pub(super) static $name: Kind = Kind {
            id: $id, severity: Severity::$severity, what: $what, hardware: $hardware, section: $section,
        };)*
        /// All kinds, in the order of their ids.
        pub static KINDS: &[&Kind] = &[$(&$name),*];
    };
}

kinds! {
    BUS_MASTER_OFF = "E1000-DMA-001", Warning, "4.1.2",
        "receiver or transmitter is used while PCI Command.BME (bus master) is clear",
        "no descriptor is fetched and no frame moves; nothing reports it";
    TX_RING_NOT_MEMORY = "E1000-DMA-002", Error, "3.4",
        "the transmit ring (TDBAL, TDBAH) is not in memory",
        "master abort while fetching descriptors; the transmitter stops until reset";
    RX_RING_NOT_MEMORY = "E1000-DMA-003", Error, "3.2.6",
        "the receive ring (RDBAL, RDBAH) is not in memory",
        "master abort while fetching descriptors; the receiver stops until reset";
    TX_BUFFER_NOT_MEMORY = "E1000-DMA-004", Error, "3.3.3",
        "a transmit descriptor's buffer is not in memory",
        "master abort while reading the frame; the transmitter hangs";
    RX_BUFFER_NOT_MEMORY = "E1000-DMA-005", Error, "3.2.3",
        "a receive descriptor's buffer is not in memory",
        "master abort while storing the frame; it is lost, or written into another device";
    CROSSES_64K = "E1000-DMA-006", Warning, "specification update, erratum 23",
        "82545: a ring or a receive buffer lies across a multiple of 64 KiB",
        "the DMA engine may wrap inside the 64 KiB: other memory is read or overwritten";

    EEPROM_NO_REQUEST = "E1000-EEP-001", Error, "5.3.1",
        "EECD.CS is raised without EECD.REQ and GNT",
        "the pins do not reach the EEPROM on the 82540 and later: all words read as ones";
    EEPROM_HELD = "E1000-EEP-002", Warning, "13.4.3",
        "EECD.REQ is still set when the receiver or transmitter is switched on",
        "the MAC cannot load from its EEPROM (EE_RST, wake-up) while software holds it";
    EEPROM_SELECTED = "E1000-EEP-003", Warning, "5.3.1",
        "EECD.CS is still set when EECD.REQ is cleared, or when the receiver or transmitter is switched on",
        "the EEPROM takes the next access for the rest of this one: wrong words are read, or loaded by the MAC";

    IRQ_TOO_EARLY = "E1000-INT-001", Warning, "13.4.20",
        "interrupts of a ring are unmasked (IMS) before the ring has a length",
        "the first frame or a cause left over interrupts before anybody can handle it";
    IRQ_NOT_ACKNOWLEDGED = "E1000-INT-002", Warning, "13.4.17",
        "interrupts come again and again and ICR is neither read nor written",
        "causes stay set: INTA# stays asserted (a storm), or by MSI no new message is sent";
    ICR_READ_TWICE = "E1000-INT-003", Warning, "13.4.17",
        "ICR is read twice for one interrupt, and the second value is used",
        "the first read clears all causes; the second value is 0, and frames stay in the ring";
    ICR_POLLED = "E1000-INT-004", Note, "13.4.17",
        "ICR is polled with all causes masked",
        "works; each read clears causes that other code may wait for";
    RESET_UNMASKED = "E1000-INT-005", Note, "14.3",
        "CTRL.RST is written while interrupts are unmasked (IMS)",
        "a cause that comes meanwhile interrupts a driver whose device is being reset; Intel masks them by IMC first";

    LINK_NOT_SET_UP = "E1000-LNK-001", Warning, "13.4.1",
        "frames are queued while CTRL.SLU is clear",
        "the link never comes up, so nothing is sent";
    PHY_HELD_IN_RESET = "E1000-LNK-002", Warning, "13.4.1",
        "CTRL.PHY_RST is left set",
        "the bit does not clear itself; the PHY stays in reset and there is no link";

    PHY_WRONG_ADDRESS = "E1000-PHY-001", Warning, "13.4.7",
        "a PHY register is written at an address other than 1",
        "nobody answers: MDIC.ERROR is set and the value is lost";
    MDIC_NOT_AWAITED = "E1000-PHY-002", Warning, "13.4.7",
        "MDIC is written again without a look at MDIC.READY",
        "the first cycle takes some 60 us; the second write breaks it";

    NARROW_ACCESS = "E1000-REG-001", Warning, "13.1",
        "a register is accessed with 8 or 16 bits, or misaligned",
        "registers take 32-bit accesses only; a narrow write is lost or spoils its neighbours";
    WRITE_TO_READ_ONLY = "E1000-REG-002", Warning, "13.1",
        "a read-only register is written",
        "the write is ignored";
    READ_OF_WRITE_ONLY = "E1000-REG-003", Warning, "13.4.21",
        "a write-only register is read",
        "the value means nothing";
    NO_SUCH_REGISTER = "E1000-REG-004", Note, "13.3",
        "an offset without a register is accessed",
        "reads give an undefined value; register dumps do this";
    COUNTER_HIGH_FIRST = "E1000-REG-005", Warning, "13.7.31",
        "the high half of a 64-bit counter is read before the low half",
        "reading the high half clears both: the low half is lost";
    RESERVED_BITS = "E1000-REG-006", Warning, "13.4.22",
        "reserved bits of RCTL or TCTL are written as 1",
        "undefined; other steppings give them a meaning";
    TOO_SOON_AFTER_RESET = "E1000-REG-007", Warning, "14.3",
        "registers are used within 1 ms of CTRL.RST",
        "the EEPROM is still being loaded and overwrites what is written (RAL, RAH, CTRL, ...)";
    RESET_WHILE_RUNNING = "E1000-REG-008", Warning, "14.3",
        "CTRL.RST is written while receiver or transmitter is on",
        "DMA may be cut in the middle of a transaction";
    PBA_OUT_OF_RANGE = "E1000-REG-009", Warning, "13.4.16",
        "PBA gives the receiver less than 8 KiB or more than 56 KiB of 64",
        "one of the FIFOs is too small for a frame";
    PBA_WITHOUT_RESET = "E1000-REG-010", Warning, "13.4.16",
        "PBA is changed without a reset before the receiver is switched on",
        "the FIFO keeps its old division until CTRL.RST";

    RX_LENGTH = "E1000-RX-001", Error, "13.4.27",
        "RDLEN is zero, or not a multiple of 128 bytes",
        "the low 7 bits are dropped: the ring is shorter than the driver thinks, or has no descriptor at all";
    RX_BASE = "E1000-RX-002", Error, "13.4.25",
        "the receive ring's base is zero, or not aligned to 16 bytes",
        "the low 4 bits are dropped: descriptors are read from, and written to, other memory";
    RX_TAIL_OUTSIDE = "E1000-RX-003", Error, "13.4.29",
        "RDT or RDH lies outside the ring",
        "descriptors are fetched from behind the ring, and frames go wherever those say";
    RX_TAIL_IS_LENGTH = "E1000-RX-004", Warning, "13.4.29",
        "RDT is the ring's length: one more than its last descriptor",
        "the head wraps and never meets the tail; some parts use memory behind the ring";
    RX_TAIL_MEETS_HEAD = "E1000-RX-005", Warning, "3.2.6",
        "RDT is moved onto RDH: all N descriptors are given at once",
        "RDT equal to RDH means that there are none; at most N - 1 can be given. The receiver stops";
    RX_TAIL_PASSES_HEAD = "E1000-RX-006", Error, "3.2.6",
        "RDT is moved past RDH: descriptors that the device still owns are given again",
        "most of the ring counts as empty or frames are stored into buffers in use";
    RX_STALE_STATUS = "E1000-RX-007", Error, "3.2.3.2",
        "descriptors are given back with DD still set, and the driver then takes old frames for new ones",
        "the device never clears DD: a driver that polls it reads frames of the last lap again";
    RX_MOVED_WHILE_ON = "E1000-RX-008", Warning, "14.4",
        "RDBAL, RDBAH, RDLEN or RDH is written while the receiver is on and has descriptors",
        "descriptors that are cached already belong to the old ring; what is fetched next is undefined";
    RX_NEVER_GIVEN = "E1000-RX-009", Warning, "14.4",
        "the receiver is on, frames arrive, and no descriptor has ever been given (RDT equals RDH)",
        "frames fill the FIFO and are lost (RNBC, MPC, RXO)";
    RX_NULL_BUFFER = "E1000-RX-010", Note, "3.2.3",
        "a receive descriptor has buffer address 0",
        "the descriptor is passed over; the frame goes on in the next one";
    RX_BUFFERS_OVERLAP = "E1000-RX-011", Error, "13.4.22",
        "two receive buffers lie closer together than the size that RCTL.BSIZE gives them",
        "a long frame runs over the end of one buffer into the next";
    RX_BUFFER_TWICE = "E1000-RX-012", Error, "3.2.6",
        "the same buffer is in two descriptors that the device owns",
        "the second frame overwrites the first before the driver has read it";
    RX_VLAN_TABLE_EMPTY = "E1000-RX-013", Warning, "13.5.4",
        "RCTL.VFE is set with an empty VFTA and a tagged frame came",
        "every tagged frame is dropped";
    RX_NO_BROADCAST = "E1000-RX-014", Warning, "13.4.22",
        "a broadcast frame was filtered: RCTL.BAM is clear",
        "ARP and DHCP requests are lost";
    RX_TOO_LONG = "E1000-RX-015", Note, "13.4.22",
        "a frame of more than 1522 bytes came while RCTL.LPE is clear",
        "it is dropped and counted in ROC";
    RX_ADDRESS = "E1000-RX-016", Warning, "13.5.3",
        "RA[0] is made valid with a zero or multicast address",
        "the station does not hear its own address";
    RX_BUFFER_SIZE_RESERVED = "E1000-RX-017", Warning, "13.4.22",
        "RCTL.BSEX is set with BSIZE 00, which is reserved",
        "the buffer size is undefined";
    RX_DELAY_TIMER = "E1000-RX-018", Note, "3.2.7.1",
        "RDTR delays receive interrupts",
        "works; Intel advises ITR instead, since some parts lose interrupts with RDTR";
    RX_NOT_REFILLED = "E1000-RX-019", Note, "3.2.6",
        "all receive descriptors are used up, frames wait, and RDT has not moved for a second",
        "frames fill the FIFO and are lost (RNBC, MPC, RXO)";
    RX_CHANGED = "E1000-RX-020", Warning, "3.2.6",
        "a receive descriptor was changed between its fetch and its write-back (seen on strict=on only)",
        "the device writes to the old buffer, or over what was changed";
    RX_ABSOLUTE_DELAY = "E1000-RX-021", Note, "13.4.31",
        "RADV is shorter than the time that ITR keeps interrupts apart",
        "works; RADV has no effect";
    RX_NEVER_ON = "E1000-RX-022", Note, "14.4",
        "frames arrive and descriptors have been given, but RCTL.EN has not been set since reset",
        "nothing is received";

    TX_LENGTH = "E1000-TX-001", Error, "13.4.38",
        "TDLEN is zero, or not a multiple of 128 bytes",
        "the low 7 bits are dropped: the ring is shorter than the driver thinks, or has no descriptor at all";
    TX_BASE = "E1000-TX-002", Error, "13.4.36",
        "the transmit ring's base is zero, or not aligned to 16 bytes",
        "the low 4 bits are dropped: descriptors are read from other memory";
    TX_TAIL_OUTSIDE = "E1000-TX-003", Error, "13.4.40",
        "TDT or TDH lies outside the ring",
        "descriptors are fetched from behind the ring; the transmitter sends garbage or hangs";
    TX_TAIL_PASSES_HEAD = "E1000-TX-004", Error, "3.4",
        "TDT is moved onto or past TDH: descriptors that the device still owns are queued again",
        "a full ring looks empty; frames are lost";
    TX_MOVED_WHILE_ON = "E1000-TX-005", Warning, "14.5",
        "TDBAL, TDBAH, TDLEN or TDH is written while the transmitter is on",
        "descriptors that are cached already belong to the old ring; what is fetched next is undefined";
    TX_NULL_BUFFER = "E1000-TX-006", Error, "3.3.3",
        "a transmit descriptor with a length has buffer address 0",
        "page 0 of memory goes out on the wire";
    TX_ZERO_DESCRIPTOR = "E1000-TX-007", Error, "3.3.3",
        "a transmit descriptor is all zero: never written, descriptors are not 16 bytes apart, or TDLEN is longer than the \
         driver's ring",
        "it belongs to a packet that never ends";
    TX_ZERO_LENGTH = "E1000-TX-008", Warning, "3.3.3",
        "a descriptor in the middle of a packet has length 0",
        "some parts hang";
    TX_NO_EOP = "E1000-TX-009", Error, "3.3.3.1",
        "EOP is not set for a whole ring, or for more bytes than the FIFO holds",
        "the FIFO fills with a packet that never ends; the transmitter hangs";
    TX_TOO_LONG = "E1000-TX-010", Error, "3.3.3",
        "a frame is longer than 16288 bytes, or than the transmit FIFO that PBA leaves, less 80 bytes",
        "it does not fit the FIFO; the transmitter hangs";
    TX_RUNT = "E1000-TX-011", Warning, "13.4.33",
        "a frame is shorter than the wire allows: below 17 bytes, or below 60 without TCTL.PSP",
        "a runt goes out, which every receiver drops";
    TX_NO_FCS = "E1000-TX-012", Warning, "3.3.3.1",
        "IFCS is clear and the frame does not end with its FCS",
        "every receiver drops the frame as damaged";
    TX_NO_CONTEXT = "E1000-TX-013", Warning, "3.3.5",
        "a checksum is asked for (TXSM, IXSM) and no context was loaded since reset",
        "the checksum goes to an undefined place";
    TX_CONTEXT_OFFSETS = "E1000-TX-014", Error, "3.3.6",
        "a checksum's offset (of a context, or CSO) lies outside the packet or before the bytes it covers",
        "the checksum overwrites something else, or the transmitter hangs";
    TX_SEGMENT_PARAMETERS = "E1000-TX-015", Error, "3.3.6",
        "a segmentation context has MSS 0, or a header of 0 or more than 240 bytes",
        "the transmitter hangs";
    TX_PAYLOAD_LENGTH = "E1000-TX-016", Error, "3.3.6",
        "a segmentation context's PAYLEN is not the packet's payload",
        "the transmitter waits for bytes that never come, and hangs";
    TX_SEGMENT_NO_CONTEXT = "E1000-TX-017", Warning, "3.5",
        "TSE is set and no segmentation context was loaded since reset",
        "undefined";
    TX_SEGMENT_MIXED = "E1000-TX-018", Warning, "3.3.7",
        "descriptors of one packet disagree about TSE",
        "undefined";
    TX_TAG_NOT_INSERTED = "E1000-TX-019", Warning, "3.3.3.1",
        "VLE is set while CTRL.VME is clear",
        "no tag is inserted";
    TX_NO_REPORT = "E1000-TX-020", Warning, "3.3.3.1",
        "no descriptor of a whole ring has RS",
        "DD is never written: a driver that waits for it stops when its ring is full";
    TX_HEAD_POLLED = "E1000-TX-021", Warning, "13.4.39",
        "TDH is read to find out what has been sent",
        "TDH moves when descriptors are fetched, before their buffers are read: buffers are freed too early";
    TX_CHANGED = "E1000-TX-022", Warning, "3.4",
        "a descriptor was changed between its fetch and its write-back (seen on strict=on only)",
        "the device may have prefetched either version";
    TX_BAD_SUM = "E1000-TX-023", Warning, "3.5",
        "a frame leaves with a wrong TCP or UDP checksum, which the device was asked to insert",
        "the same: the checksum field did not hold the sum of the pseudo-header, or the context names the wrong bytes. \
         Every receiver drops it";
    TX_EMPTY = "E1000-TX-024", Note, "3.3.3",
        "a packet has one descriptor, of length 0",
        "nothing goes out, and the descriptor is reported as done";
    TX_NEVER_ON = "E1000-TX-025", Note, "14.5",
        "TDT is moved for more than a second while TCTL.EN is clear",
        "nothing is sent before TCTL.EN is set";
}
