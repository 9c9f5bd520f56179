//! What the device tells whoever listens: typed events, and the moment that each belongs to.
//!
//! [`Config::observer`](super::Config) names the listener: the tracer, the driver doctor, coverage, or several
//! ([`Observers`]). The device emits and goes on; it reads nothing back, and without a listener each place costs one
//! branch. Events come with device locks held (ring tokens, the cause set's lock), so an observer must not call the
//! device, must not wait, and may be called by several threads at once.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use super::regs::table::Found;
use crate::bus::{Access, Width};
use crate::fault::CardFault;
use crate::netport::DropReason;

/// When and by whom.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moment {
    /// The device's clock, in nanoseconds.
    pub now_ns: u64,
    /// The guest instruction behind the event; none for what the wire, a timer or the monitor caused.
    pub origin: Option<Instruction>,
    /// Command.BME: whether the device may reach memory.
    pub bus_master: bool,
}

/// A guest instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Number of the vCPU.
    pub cpu: u32,
    /// Its address, if the accelerator can tell.
    pub rip: Option<u64>,
}

/// Which ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ring {
    /// Transmit.
    Tx,
    /// Receive.
    Rx,
}

/// A descriptor of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Its index.
    pub index: u32,
    /// Its bus address.
    pub address: u64,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Transmitted: the peer has it.
    Sent,
    /// Transmitted into the receiver (loopback).
    LoopedBack,
    /// The peer is full; it is kept and offered again.
    PeerFull,
    /// The driver's own FCS is wrong: everybody on the wire drops it.
    BadFcs,
    /// Nothing can be made of the request (no context, no header, no segment size).
    BadRequest,
    /// Longer than the transmit FIFO.
    TooLong,
    /// A buffer is not memory.
    Unreadable,
    /// Received: in memory, let in by this filter.
    Stored(Filter),
    /// Let in by this filter; no descriptors, so it waits.
    NoDescriptors(Filter),
    /// Not received.
    Dropped(DropReason, Refusal),
}

/// Which receive filter let a frame in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Filter {
    /// RCTL.BAM.
    Broadcast,
    /// RAL and RAH of this number.
    Station(u8),
    /// RCTL.UPE.
    UnicastPromiscuous,
    /// RCTL.MPE.
    MulticastPromiscuous,
    /// The hash table MTA.
    Hash,
}

/// Why a frame was not received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// Receiver off, link down or asleep.
    Off,
    /// No filter takes the address.
    Address,
    /// The VLAN filter, with an empty VFTA?
    Vlan {
        /// All of VFTA is zero.
        table_empty: bool,
    },
    /// A PAUSE frame, which ends in the MAC.
    FlowControl,
    /// A bad FCS, or a length that is not received.
    Flawed,
    /// Longer than RCTL.LPE allows.
    TooLong,
    /// Descriptors or FIFO ran out.
    Overrun,
}

/// Why a frame has the FCS that it has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fcs {
    /// The device appends it (IFCS).
    #[default]
    Appended,
    /// The driver brought it, and it is good.
    Brought,
    /// IFCS is clear and the last four bytes are no FCS of the rest.
    Missing,
}

/// A frame that was transmitted, or was to be.
#[derive(Debug, Clone, Copy)]
pub struct SentFrame<'a> {
    /// The first bytes, at least the headers; all of them if `rest` is zero.
    pub head: &'a [u8],
    /// How many more bytes there are, in guest memory.
    pub rest: usize,
    /// Segment size, if the peer cuts it.
    pub mss: Option<u16>,
    /// The peer computes the transport checksum.
    pub checksum_left: bool,
    /// Who made its FCS.
    pub fcs: Fcs,
    /// What became of it.
    pub disposition: Disposition,
}

/// Something happened in the device.
#[derive(Clone, Copy)]
#[allow(missing_docs, reason = "fields are named after what they hold")]
pub enum Event<'a> {
    /// A register was read; side effects are done.
    RegisterRead { register: Found, value: u32 },
    /// A register was written: what was asked for, what it read before and reads after. Effects follow.
    RegisterWrite { register: Found, written: u32, old: u32, new: u32 },
    /// An access to a place without a register; `written` is none for a read.
    NoRegister { offset: u32, written: Option<u32> },
    /// An access that the part does not take: narrow or misaligned. Narrow reads give the lanes of the dword.
    BadAccess { offset: u64, width: Width, write: bool },
    /// CTRL.RST, RST# or D3hot to D0. `registers`: all dwords of BAR0 as they are now.
    Reset { power_on: bool, registers: &'a [u32] },
    /// A descriptor was read.
    Fetched { ring: Ring, slot: Slot, raw: [u8; 16] },
    /// A descriptor's status is about to be written. `raw`: its bytes 8 to 15 (receive), or its status byte in byte 4
    /// (transmit). `found`: on a strict board, what lay there just before.
    WrittenBack { ring: Ring, slot: Slot, raw: [u8; 8], found: Option<[u8; 16]> },
    /// The head register moved; these causes go with it.
    HeadMoved { ring: Ring, head: u32, causes: u32 },
    /// A frame left, or could not.
    Sent(SentFrame<'a>),
    /// A frame arrived. `head` and `payload` are its bytes without padding and FCS.
    Arrived { head: &'a [u8], payload: &'a [u8], len: usize, disposition: Disposition },
    /// Memory of a ring or a buffer could not be reached.
    DmaFailed { ring: Ring, descriptor: bool, address: u64, len: usize },
    /// Causes became set in ICR. Both registers as they are now.
    Raised { causes: u32, icr: u32, ims: u32 },
    /// Causes were cleared by an ICR read or write.
    Acknowledged { causes: u32 },
    /// IMS changed.
    Masked { old: u32, new: u32 },
    /// INTA# went up (with a message, if MSI is enabled) or down.
    Line { asserted: bool },
    /// The link went up or down.
    Link { up: bool },
    /// A PHY register was accessed through MDIC; `ok`: somebody answered.
    Phy { number: u32, register: u32, value: u16, write: bool, ok: bool },
    /// An EEPROM word was read or programmed.
    Eeprom { address: u32, value: u16, write: bool },
    /// Something goes wrong on request: by which plan, how often it has struck and of how many events, its seed.
    Fault { fault: CardFault, plan: &'a str, hit: u64, of: u64, seed: u64 },
}

impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Event")
    }
}

/// Somebody who is told.
pub trait Observer: fmt::Debug + Send + Sync {
    /// `event` happened at `moment`.
    fn event(&self, moment: &Moment, event: &Event<'_>);
}

/// Several observers, told in order.
#[derive(Debug)]
pub struct Observers(pub Vec<Arc<dyn Observer>>);

impl Observer for Observers {
    fn event(&self, moment: &Moment, event: &Event<'_>) {
        self.0.iter().for_each(|observer| observer.event(moment, event));
    }
}

thread_local! {
    /// The instruction whose access is being handled on this thread.
    static ORIGIN: Cell<Option<Instruction>> = const { Cell::new(None) };
}

/// While it lives, events on this thread are caused by one guest instruction, or by none.
#[derive(Debug)]
pub(super) struct Caused(Option<Instruction>);

impl Caused {
    /// By the instruction behind `access`, whose address is asked for now.
    pub fn by(access: &Access<'_>) -> Self {
        let instruction = Instruction { cpu: access.cpu, rip: access.origin.rip() };
        Self(ORIGIN.replace(Some(instruction)))
    }

    /// By no instruction of this device's driver.
    pub fn by_wire() -> Self {
        Self(ORIGIN.replace(None))
    }
}

impl Drop for Caused {
    fn drop(&mut self) {
        ORIGIN.set(self.0);
    }
}

/// The instruction whose access is being handled on this thread, if an observer is there.
pub(super) fn origin() -> Option<Instruction> {
    ORIGIN.get()
}
