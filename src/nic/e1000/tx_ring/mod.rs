//! The transmit engine: fetch, send, write-back (manual, sections 3.3 and 3.4).
//!
//! Entered with the transmit token by doorbells, by the peer's "ready" and by time. Each descriptor is read
//! once; a packet's descriptors are written back (DD) and TDH moves when the peer has taken the packet. A
//! peer that is full stops the ring; nothing is dropped. Holds no register lock while it calls the peer.

mod report;
mod send;
mod view;

use super::hooks::Hooked;
use super::interrupt::Watch;
use super::observe::{Event, Fcs, Ring, Slot};
use super::spec::{DESC_LEN, txd};
use super::stats::WireFrames;
use super::tx_context::Contexts;
use super::tx_frame::{Data, Descriptor, Packet, Report, decode};
use super::write_back::TxBurst;
use crate::fault::CardFault;
use crate::memory::DmaError;
use crate::token::Round;
use send::Outgoing;
use view::View;

/// Descriptors and cut segments that one entry handles at least before it puts off the rest; a lap of the ring
/// if that is longer.
const BUDGET: u32 = 256;

/// The engine's memory between entries.
#[derive(Debug, Default)]
pub struct TxEngine {
    epoch: u64,
    resets: u64,
    /// The next descriptor to read.
    next: u32,
    contexts: Contexts,
    packet: Packet,
    last: Option<Data>,
    /// Status bytes to write when the packet is done: address and value.
    write_backs: Vec<(u64, u8)>,
    /// Whether all that are in `write_backs` let the interrupt wait (IDE).
    may_wait: bool,
    /// What TXDCTL.WTHRESH keeps from being written.
    burst: TxBurst,
    /// What a fault keeps from being written until `late_until`.
    late: Vec<(u64, u8)>,
    late_until: u64,
    /// A fault has stopped the transmitter until it is reset.
    hung: bool,
    outgoing: Option<Outgoing>,
    /// Wire frames that have left of the packet in hand.
    sent: Vec<WireFrames>,
    buffer: Vec<u8>,
    segment: Vec<u8>,
    /// For observers: who made the FCS of the packet in hand.
    fcs: Fcs,
}

/// Why fetching stopped.
#[derive(Debug, PartialEq, Eq)]
enum Fetched {
    /// A packet is complete.
    Packet,
    /// The ring is empty up to TDT.
    Tail,
    /// The budget is used up.
    Budget,
    /// The ring cannot be read: bus mastering off, or not memory.
    Fault,
}

impl TxEngine {
    /// Works until the ring is empty, the peer is full, or the budget is used up.
    pub fn run<const H: bool>(&mut self, nic: Hooked<'_, H>) -> Round {
        let mut budget = None;
        loop {
            let view = nic.regs().tx_view();
            self.follow(&view);
            if view.flush {
                self.flush_burst(nic, &view);
            }
            if !self.late.is_empty() {
                self.write_late(nic, &view);
            }
            if self.hangs(nic, &view) {
                return Round::Settled;
            }
            if let Some(until) = view.paused_until {
                nic.interrupts().watch(Watch::Pause, Some(until));
            }
            if !view.running || !nic.dma().enabled() {
                return Round::Settled;
            }
            let budget = budget.get_or_insert_with(|| view.len.max(BUDGET));
            if self.outgoing.is_some() {
                match self.push_outgoing(nic, &view, budget) {
                    Pushed::Done => self.complete(nic, &view),
                    Pushed::Full => return Round::Settled,
                    Pushed::Later => return Round::More,
                }
                continue;
            }
            match self.fetch(nic, &view, budget) {
                Fetched::Packet => match self.send(nic, &view) {
                    Pushed::Done => self.complete(nic, &view),
                    Pushed::Full => return Round::Settled,
                    Pushed::Later => {}
                },
                Fetched::Tail => {
                    self.give_back_partial(nic, &view);
                    return Round::Settled;
                }
                Fetched::Budget => {
                    self.give_back_partial(nic, &view);
                    return Round::More;
                }
                Fetched::Fault => return Round::Settled,
            }
            if view.zero_ring {
                return Round::Settled;
            }
        }
    }

    /// Forgets what a reset or a new ring has made void.
    #[inline]
    fn follow(&mut self, view: &View) {
        if self.resets != view.resets {
            self.contexts = Contexts::default();
        }
        if self.epoch != view.epoch || self.resets != view.resets || view.zero_ring {
            self.next = view.head;
            self.forget_packet();
            self.outgoing = None;
            self.burst = TxBurst::default();
            self.late.clear();
            self.hung = false;
        }
        (self.epoch, self.resets) = (view.epoch, view.resets);
    }

    #[inline]
    fn forget_packet(&mut self) {
        self.packet.clear();
        self.last = None;
        self.write_backs.clear();
        self.sent.clear();
        self.may_wait = true;
    }

    /// Reads descriptors until a packet is complete.
    fn fetch<const H: bool>(&mut self, nic: Hooked<'_, H>, view: &View, budget: &mut u32) -> Fetched {
        while self.next != view.tail {
            if *budget == 0 {
                return Fetched::Budget;
            }
            *budget -= 1;
            let at = view.base.wrapping_add(u64::from(self.next) * DESC_LEN);
            let mut raw = [0; DESC_LEN as usize];
            if nic.dma().read(at, &mut raw).is_err() {
                nic.tell(|| Event::DmaFailed {
                    ring: Ring::Tx,
                    descriptor: true,
                    address: at,
                    len: raw.len(),
                });
                return Fetched::Fault;
            }
            let slot = Slot { index: self.next, address: at };
            nic.tell(|| Event::Fetched { ring: Ring::Tx, slot, raw });
            self.next = if self.next + 1 >= view.len { 0 } else { self.next + 1 };
            let (descriptor, report) = decode(&raw);
            self.note_write_back(at, raw[12], report);
            match descriptor {
                Descriptor::Context(context) => self.contexts.store(context),
                Descriptor::Unknown => {}
                Descriptor::Data(data) => {
                    self.packet.push(&data);
                    self.last = Some(data);
                    if data.eop {
                        return Fetched::Packet;
                    }
                }
            }
            if view.zero_ring {
                return Fetched::Tail;
            }
        }
        Fetched::Tail
    }

    #[inline]
    fn note_write_back(&mut self, at: u64, status: u8, report: Report) {
        if report.status {
            self.write_backs.push((at + 12, status | txd::DD));
            self.may_wait &= report.delay;
        }
    }

    /// The ring ended inside a packet: what is there is copied, so that its descriptors can be given back.
    fn give_back_partial<const H: bool>(&mut self, nic: Hooked<'_, H>, view: &View) {
        if let Err(error) = self.packet.absorb(nic.dma()) {
            tell_unreadable(nic, error);
            nic.regs().counters.tx_errors += 1;
        }
        if self.next != view.head || !self.write_backs.is_empty() {
            self.report(nic, view);
        }
    }

    /// Whether a fault has stopped the transmitter, which has something to do.
    fn hangs<const H: bool>(&mut self, nic: Hooked<'_, H>, view: &View) -> bool {
        let planned = nic.planned(CardFault::TxHang);
        self.hung =
            planned && (self.hung || self.next != view.tail && nic.strikes(CardFault::TxHang).is_some());
        self.hung
    }

    /// The packet is done: its descriptors go back to the driver.
    fn complete<const H: bool>(&mut self, nic: Hooked<'_, H>, view: &View) {
        self.report(nic, view);
        self.forget_packet();
    }
}

/// What became of the bytes in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pushed {
    /// All gone (or given up).
    Done,
    /// The peer is full and will say when it is ready.
    Full,
    /// Kept in `outgoing`; to be continued at once or by a later entry.
    Later,
}

fn tell_unreadable<const H: bool>(nic: Hooked<'_, H>, error: DmaError) {
    if let DmaError::NotRam { addr, len } = error {
        nic.tell(|| Event::DmaFailed { ring: Ring::Tx, descriptor: false, address: addr, len });
    }
}
