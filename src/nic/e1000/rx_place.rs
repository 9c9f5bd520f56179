//! Placing one wire frame: descriptors read, buffers filled, write-back (manual, sections 3.2.3 to 3.2.5).
//!
//! Called by the receive engine, which holds the token. A frame is placed whole or not at all: buffers first, then the
//! descriptors, each with its status byte last.

use super::hooks::Hooked;
use super::interrupt::{Delay, Watch};
use super::link::Path;
use super::observe::{Event, Ring, Slot};
use super::rx_filter::{Accepted, Flaw};
use super::rx_offload::{WireFrame, packet_checksum, verify};
use super::spec::{DESC_LEN, FCS_LEN, MIN_FRAME, cause, reg, rxcsum, rxd};
use super::write_back::{RxBurst, RxWriteBack};
use crate::netport::DropReason;

/// What became of one wire frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// Stored.
    Stored,
    /// There are not enough descriptors; ask again when RDT moves.
    NoRoom(Accepted),
    /// Gone.
    Gone(DropReason),
}

/// Everything that placing one frame needs from the registers, read in one go.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "named after registers")]
pub struct Plan {
    pub epoch: u64,
    pub base: u64,
    /// Descriptors of the ring; zero for the ring without length.
    pub len: u32,
    pub head: u32,
    pub free: u32,
    pub buffer_len: usize,
    pub stored_len: usize,
    pub vlan: Option<u16>,
    pub keep_fcs: bool,
    pub accepted: Accepted,
    pub rxcsum: u32,
    pub burst: u32,
}

/// The engine's room for what it writes.
#[derive(Debug, Default)]
pub struct Notes {
    /// Descriptors of the frame in hand: where each is, and how many bytes it holds.
    filled: Vec<(u64, u16)>,
    /// Descriptors of frames before it that have not been written back.
    pub burst: RxBurst,
}

/// Places one wire frame.
/// `known`: what the filters said when it arrived.
pub fn place<const H: bool>(
    nic: Hooked<'_, H>,
    notes: &mut Notes,
    frame: &WireFrame<'_>,
    source: Path,
    known: Option<Accepted>,
) -> Placed {
    let plan = match nic.regs().plan(frame, source, known) {
        Ok(plan) => plan,
        Err(placed) => return placed,
    };
    let fcs = if plan.keep_fcs { frame.fcs() } else { [0; FCS_LEN] };
    match scatter(nic, &plan, frame, &fcs, &mut notes.filled) {
        Scattered::Done => {}
        Scattered::TooFew => return nic.regs().no_room(frame, &plan),
        Scattered::Unreadable => return Placed::NoRoom(plan.accepted),
    }
    let Notes { filled, burst } = notes;
    let gathers = plan.burst > 1;
    if gathers || !burst.is_empty() {
        burst.follow(plan.epoch);
        write_back(&plan, frame, fcs, filled, |done| burst.push(done));
    } else {
        write_back(&plan, frame, fcs, filled, |done| done.write(nic));
    }
    let (delay, causes) = {
        let mut regs = nic.regs();
        let (delay, causes) = regs.stored(&plan, frame, filled.len() as u32);
        // While nobody can read the new RDH: what that reader does next would be heard of first.
        let head = regs.get(reg::RDH);
        nic.tell(|| Event::HeadMoved { ring: Ring::Rx, head, causes });
        (delay, causes)
    };
    let at_once = !gathers || causes & cause::RXT0 != 0;
    if at_once || burst.len() >= plan.burst {
        burst.write(nic);
    }
    if at_once {
        if burst.timer.stop() {
            nic.interrupts().watch(Watch::RxBurst, None);
        }
        nic.interrupts().received(delay, causes);
    } else {
        interrupt_later(nic, burst, delay, causes);
    }
    Placed::Stored
}

/// The delay runs, and at its end what is left is written back before RXT0 is raised (3.2.5.1).
fn interrupt_later<const H: bool>(nic: Hooked<'_, H>, burst: &mut RxBurst, delay: Delay, causes: u32) {
    let now = nic.regs().now();
    burst.timer.event(now, delay.timer, delay.absolute);
    nic.interrupts().watch(Watch::RxBurst, Some(burst.timer.deadline()));
    nic.interrupts().raise(causes);
}

/// How far [`scatter`] came. Unless it is done, no descriptor has been written.
enum Scattered {
    Done,
    /// Null buffers took descriptors that the frame needed.
    TooFew,
    /// The ring cannot be read: bus mastering off, or not memory.
    Unreadable,
}

/// Copies the frame into as many buffers as it takes.
#[inline(always)]
fn scatter<const H: bool>(
    nic: Hooked<'_, H>,
    plan: &Plan,
    frame: &WireFrame<'_>,
    fcs: &[u8; 4],
    filled: &mut Vec<(u64, u16)>,
) -> Scattered {
    filled.clear();
    let mut bytes = Pieces::of(plan, frame, fcs);
    let mut index = plan.head;
    let mut left = plan.stored_len;
    while left > 0 {
        if filled.len() as u32 >= plan.free {
            return Scattered::TooFew;
        }
        let at = plan.base.wrapping_add(u64::from(index) * DESC_LEN);
        // Only the address matters; an observer sees the whole descriptor.
        let (mut raw, observed) = ([0; DESC_LEN as usize], nic.is_observed());
        if nic.dma().read(at, &mut raw[..if observed { 16 } else { 8 }]).is_err() {
            nic.tell(|| Event::DmaFailed { ring: Ring::Rx, descriptor: true, address: at, len: raw.len() });
            return Scattered::Unreadable;
        }
        nic.tell(|| Event::Fetched { ring: Ring::Rx, slot: Slot { index, address: at }, raw });
        let [a, b, c, d, e, f, g, h, ..] = raw;
        let address = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        // A null address holds nothing; the frame goes on in the next descriptor.
        let len = if address == 0 { 0 } else { left.min(plan.buffer_len) };
        bytes.write(nic, address, len);
        filled.push((at, len as u16));
        left -= len;
        index = if index + 1 >= plan.len { 0 } else { index + 1 };
    }
    Scattered::Done
}

/// The bytes to store, in order, in at most five pieces of private memory.
struct Pieces<'a> {
    pieces: [&'a [u8]; 5],
    at: usize,
}

impl<'a> Pieces<'a> {
    #[inline]
    fn of(plan: &Plan, frame: &WireFrame<'a>, fcs: &'a [u8; 4]) -> Self {
        let (addresses, rest) = match plan.vlan {
            Some(_) => (&frame.head[..12], frame.head.get(16..).unwrap_or_default()),
            None => (frame.head, &[][..]),
        };
        let fcs = if plan.keep_fcs { &fcs[..] } else { &[] };
        Self { pieces: [addresses, rest, frame.payload, frame.padding(), fcs], at: 0 }
    }

    /// Writes the next `len` bytes at `address`. What does not reach memory is lost, as on the bus; the handle
    /// counts the aborts.
    fn write<const H: bool>(&mut self, nic: Hooked<'_, H>, mut address: u64, mut len: usize) {
        while len > 0 && self.at < self.pieces.len() {
            let piece = self.pieces[self.at];
            let n = piece.len().min(len);
            // A master abort is not reported to the driver by this part.
            if n > 0 && nic.dma().write(address, &piece[..n]).is_err() {
                nic.tell(|| Event::DmaFailed { ring: Ring::Rx, descriptor: false, address, len: n });
            }
            address = address.wrapping_add(n as u64);
            len -= n;
            self.pieces[self.at] = &piece[n..];
            if n == piece.len() {
                self.at += 1;
            }
        }
    }
}

/// Makes the descriptors' write-backs, in order.
#[inline]
fn write_back(
    plan: &Plan,
    frame: &WireFrame<'_>,
    fcs: [u8; 4],
    filled: &[(u64, u16)],
    mut done: impl FnMut(RxWriteBack),
) {
    let verdicts = verify(frame, plan.rxcsum);
    let start = (plan.rxcsum & rxcsum::PCSS_MASK) as usize;
    let sum = packet_checksum(frame, start, plan.vlan.is_some(), plan.keep_fcs.then_some(fcs));
    let last = filled.len().saturating_sub(1);
    for (n, &(at, len)) in filled.iter().enumerate() {
        let mut status = rxd::DD;
        let mut body = [0; 8];
        body[..2].copy_from_slice(&len.to_le_bytes());
        if n == last {
            status |= rxd::EOP | verdicts.status;
            status |= if plan.vlan.is_some() { rxd::VP } else { 0 };
            status |= if plan.accepted.inexact { rxd::PIF } else { 0 };
            body[2..4].copy_from_slice(&sum.to_le_bytes());
            body[5] = verdicts.errors | plan.accepted.flaw.map_or(0, Flaw::errors);
            body[6..].copy_from_slice(&plan.vlan.unwrap_or(0).to_le_bytes());
        }
        let index = (at.wrapping_sub(plan.base) / DESC_LEN) as u32;
        done(RxWriteBack { slot: Slot { index, address: at }, body, status });
    }
}

const _: () = assert!(MIN_FRAME >= 16, "a padded frame holds a VLAN tag");
