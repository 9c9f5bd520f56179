//! The receive engine: descriptors, buffers, write-back (manual, sections 3.2.3 to 3.2.7).
//!
//! Entered with the receive token by `deliver` (a frame from the peer), by RDT writes that end a wait, and by
//! the loopback queue. A frame is placed whole or not at all: buffers first, then the descriptors, each with
//! its status byte last. A frame that has to be cut is taken over and placed segment by segment, across as
//! many RDT writes as that needs. Never calls the peer.

use std::sync::atomic::{Ordering, fence};

use super::E1000;
use super::engine::Round;
use super::interrupt::Delay;
use super::link::Path;
use super::regs::Regs;
use super::rx_filter::Verdict;
use super::rx_offload::{WireFrame, packet_checksum, verify};
use super::spec::{DESC_LEN, FCS_LEN, MIN_FRAME, cause, ctrl, rctl, reg, rsrpd_size, rxcsum, rxd};
use super::stats::{Cast, WireFrames};
use crate::memory::DmaHandle;
use crate::netport::segment::SegmentPlan;
use crate::netport::{Delivery, DropReason, Frame, MAX_FRAME, checksum};

/// Segments and looped-back frames that one entry places before it puts off the rest.
const BUDGET: usize = 512;

/// The engine's memory between entries.
#[derive(Debug, Default)]
pub struct RxEngine {
    /// A frame that is being cut.
    uncut: Option<Uncut>,
    /// A private copy of a frame that came in pieces or needs finishing.
    scratch: Vec<u8>,
    /// The header of the segment in hand.
    header: Vec<u8>,
    /// Descriptors of the frame in hand: where each is, and how many bytes it holds.
    filled: Vec<(u64, u16)>,
}

#[derive(Debug)]
struct Uncut {
    frame: Vec<u8>,
    plan: SegmentPlan,
    next: usize,
    source: Path,
}

/// What became of one wire frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placed {
    /// Stored.
    Stored,
    /// There are not enough descriptors; ask again when RDT moves.
    NoRoom,
    /// Gone.
    Gone(DropReason),
}

/// Everything that placing one frame needs from the registers, read in one go.
#[derive(Debug, Clone, Copy)]
struct Plan {
    epoch: u64,
    base: u64,
    /// Descriptors of the ring; zero for the ring without length.
    len: u32,
    head: u32,
    free: u32,
    buffer_len: usize,
    stored_len: usize,
    vlan: Option<u16>,
    keep_fcs: bool,
    inexact: bool,
    rxcsum: u32,
}

impl RxEngine {
    /// A frame from the peer.
    pub fn deliver(&mut self, nic: &E1000, frame: &Frame<'_>) -> Delivery {
        if frame.len() < 14 || frame.len() > MAX_FRAME {
            return Delivery::Dropped(DropReason::BadLength);
        }
        self.place_uncut(nic, &mut BUDGET.clone());
        if self.uncut.is_some() {
            nic.regs().wait_for_room();
            return Delivery::Full;
        }
        if frame.meta.gso.is_some() {
            return self.take_over(nic, frame);
        }
        let placed = if frame.body.is_empty() && frame.meta.csum.is_none() {
            let good = frame.meta.csum_valid;
            let whole = WireFrame { head: frame.head, payload: &[], checksums_good: good };
            place(nic, &mut self.filled, &whole, Path::Wire)
        } else {
            self.place_finished(nic, frame)
        };
        match placed {
            Placed::Stored => Delivery::Taken,
            Placed::NoRoom => Delivery::Full,
            Placed::Gone(why) => Delivery::Dropped(why),
        }
    }

    /// Goes on with what waits: the frame that is being cut, then the loopback queue.
    pub fn run(&mut self, nic: &E1000) -> Round {
        let mut budget = BUDGET;
        self.place_uncut(nic, &mut budget);
        while let Some(frame) = nic.next_looped_back() {
            let whole = WireFrame { head: &frame, payload: &[], checksums_good: false };
            if place(nic, &mut self.filled, &whole, Path::Loopback) == Placed::NoRoom {
                nic.regs().overrun();
                nic.interrupts().raise(cause::RXO);
            }
            budget = budget.saturating_sub(1);
            if budget == 0 {
                return Round::More;
            }
        }
        if budget == 0 { Round::More } else { Round::Settled }
    }

    /// Forgets a frame that is being cut (reset, cable, receiver off).
    pub fn forget(&mut self) {
        self.uncut = None;
    }

    /// Copies the frame and finishes its checksum before it is placed.
    fn place_finished(&mut self, nic: &E1000, frame: &Frame<'_>) -> Placed {
        self.scratch.clear();
        frame.copy_to(&mut self.scratch);
        if let Some(request) = frame.meta.csum {
            let start = usize::from(request.start);
            let at = start + usize::from(request.offset);
            if at + 2 > self.scratch.len() {
                return Placed::Gone(DropReason::BadMeta);
            }
            // Offset 6 is UDP's checksum, where a zero would mean "none".
            let insert = if request.offset == 6 { checksum::insert_udp } else { checksum::insert };
            insert(&mut self.scratch, start, usize::MAX, at);
        }
        let good = frame.meta.csum.is_some() || frame.meta.csum_valid;
        let whole = WireFrame { head: &self.scratch, payload: &[], checksums_good: good };
        place(nic, &mut self.filled, &whole, Path::Wire)
    }

    /// Takes a frame over that has to be cut, if its first segment can be placed.
    fn take_over(&mut self, nic: &E1000, frame: &Frame<'_>) -> Delivery {
        match nic.regs().readiness() {
            Readiness::Off => return Delivery::Dropped(DropReason::LinkDown),
            Readiness::NoRoom => return Delivery::Full,
            Readiness::Room => {}
        }
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        frame.copy_to(&mut bytes);
        let Some(plan) = SegmentPlan::for_gso(&mut bytes, &frame.meta) else {
            return Delivery::Dropped(DropReason::BadMeta);
        };
        nic.regs().counters.rx_gso_frames += 1;
        self.uncut = Some(Uncut { frame: bytes, plan, next: 0, source: Path::Wire });
        self.place_uncut(nic, &mut BUDGET.clone());
        Delivery::Taken
    }

    /// Places segments until the frame is done, room runs out or the budget does.
    fn place_uncut(&mut self, nic: &E1000, budget: &mut usize) {
        let Some(uncut) = &mut self.uncut else { return };
        let count = uncut.plan.count(uncut.frame.len().saturating_sub(uncut.plan.header_len));
        while uncut.next < count {
            if *budget == 0 {
                nic.finish_later();
                return;
            }
            *budget -= 1;
            let payload = uncut.plan.cut(&uncut.frame, uncut.next, &mut self.header);
            let segment = WireFrame { head: &self.header, payload, checksums_good: true };
            match place(nic, &mut self.filled, &segment, uncut.source) {
                Placed::NoRoom => return,
                // Receiver or link went off: so does the rest.
                Placed::Gone(DropReason::LinkDown) => break,
                Placed::Stored | Placed::Gone(_) => uncut.next += 1,
            }
        }
        self.scratch = self.uncut.take().map(|u| u.frame).unwrap_or_default();
    }
}

/// Places one wire frame.
fn place(nic: &E1000, filled: &mut Vec<(u64, u16)>, frame: &WireFrame<'_>, source: Path) -> Placed {
    let plan = match nic.regs().admit(frame, source) {
        Ok(plan) => plan,
        Err(placed) => return placed,
    };
    let fcs = if plan.keep_fcs { frame.fcs() } else { [0; FCS_LEN] };
    match scatter(nic.dma(), &plan, frame, &fcs, filled) {
        Scattered::Done => {}
        Scattered::TooFew => return nic.regs().no_room(&plan),
        Scattered::Unreadable => {
            nic.regs().wait_for_room();
            return Placed::NoRoom;
        }
    }
    write_back(nic.dma(), &plan, frame, fcs, filled);
    let (delay, causes) = nic.regs().stored(&plan, frame, filled.len() as u32);
    nic.interrupts().received(delay, causes);
    Placed::Stored
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
fn scatter(
    dma: &DmaHandle,
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
        let mut address = [0; 8];
        if dma.read(at, &mut address).is_err() {
            return Scattered::Unreadable;
        }
        let address = u64::from_le_bytes(address);
        // A null address holds nothing; the frame goes on in the next descriptor.
        let len = if address == 0 { 0 } else { left.min(plan.buffer_len) };
        bytes.write(dma, address, len);
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
    fn write(&mut self, dma: &DmaHandle, mut address: u64, mut len: usize) {
        while len > 0 && self.at < self.pieces.len() {
            let piece = self.pieces[self.at];
            let n = piece.len().min(len);
            if n > 0 {
                // A master abort is not reported to the driver by this part.
                let _ = dma.write(address, &piece[..n]);
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

/// Writes the descriptors back, each with DD last.
fn write_back(dma: &DmaHandle, plan: &Plan, frame: &WireFrame<'_>, fcs: [u8; 4], filled: &[(u64, u16)]) {
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
            status |= if plan.inexact { rxd::PIF } else { 0 };
            body[2..4].copy_from_slice(&sum.to_le_bytes());
            body[5] = verdicts.errors;
            body[6..].copy_from_slice(&plan.vlan.unwrap_or(0).to_le_bytes());
        }
        // Errors here mean that the ring is gone under our hands: nobody is left to tell.
        let _ = dma.write(at + 8, &body);
        fence(Ordering::Release);
        let _ = dma.write(at + 12, &[status]);
    }
}

/// Whether the receiver could take a frame now.
enum Readiness {
    Off,
    NoRoom,
    Room,
}

impl Regs {
    /// Somebody was told `Full`: RDT, RCTL, reset and link changes wake it.
    fn wait_for_room(&mut self) {
        self.rx_waiting = true;
        self.counters.rx_full += 1;
    }

    fn hears(&self, source: Path) -> bool {
        self.get(reg::RCTL) & rctl::EN != 0 && self.path() == source
    }

    fn readiness(&mut self) -> Readiness {
        if !self.hears(Path::Wire) {
            self.counters.rx_off += 1;
            Readiness::Off
        } else if self.rx_free().0 == 0 {
            self.wait_for_room();
            Readiness::NoRoom
        } else {
            Readiness::Room
        }
    }

    /// Descriptors that the driver has given, and the most that it can give.
    fn rx_free(&self) -> (u32, u32) {
        let len = self.get(reg::RDLEN) / DESC_LEN as u32;
        let (head, tail) = (self.get(reg::RDH), self.get(reg::RDT));
        if len == 0 {
            // Drivers written against an emulator post one descriptor in a ring without length.
            let usable = !self.strict && tail != 0 && self.rx_base() != 0;
            return (u32::from(usable), 1);
        }
        let free = match tail {
            _ if head >= len || tail > len => 0,
            tail if tail >= head => tail - head,
            tail => len - head + tail,
        };
        (free, if tail == len { len } else { len - 1 })
    }

    fn rx_base(&self) -> u64 {
        u64::from(self.get(reg::RDBAH)) << 32 | u64::from(self.get(reg::RDBAL))
    }

    fn buffer_len(&self) -> usize {
        let control = self.get(reg::RCTL);
        let code = control >> rctl::BSIZE_SHIFT & 3;
        match control & rctl::BSEX != 0 {
            true if code != 0 => 32768 >> code,
            _ => 2048 >> code,
        }
    }

    /// Decides about one frame: how to store it, or why not.
    fn admit(&mut self, frame: &WireFrame<'_>, source: Path) -> Result<Plan, Placed> {
        if !self.hears(source) {
            self.counters.rx_off += 1;
            return Err(Placed::Gone(DropReason::LinkDown));
        }
        let frames = WireFrames { len: frame.len(), count: 1, cast: Cast::of(frame.head) };
        let inexact = match self.judge(frame.head, frame.len()) {
            Verdict::Wanted { inexact } => inexact,
            Verdict::TooLong => return Err(self.filtered(frames, DropReason::BadLength)),
            Verdict::Filtered | Verdict::FlowControl => {
                return Err(self.filtered(frames, DropReason::Filtered));
            }
        };
        let control = self.get(reg::RCTL);
        let keep_fcs = control & rctl::SECRC == 0;
        let strip = self.get(reg::CTRL) & ctrl::VME != 0 && frame.head.len() >= 16;
        let vlan = if strip { self.vlan_tag(frame.head) } else { None };
        let stored_len =
            frame.len() + if keep_fcs { FCS_LEN } else { 0 } - if vlan.is_some() { 4 } else { 0 };
        let (free, most) = self.rx_free();
        let plan = Plan {
            epoch: self.rx_epoch,
            base: self.rx_base(),
            len: self.get(reg::RDLEN) / DESC_LEN as u32,
            head: if most == 1 && self.get(reg::RDLEN) == 0 { 0 } else { self.get(reg::RDH) },
            free,
            buffer_len: self.buffer_len(),
            stored_len,
            vlan,
            keep_fcs,
            inexact,
            rxcsum: self.get(reg::RXCSUM),
        };
        let needed = stored_len.div_ceil(plan.buffer_len) as u32;
        if needed > free { Err(self.no_room_for(needed, most)) } else { Ok(plan) }
    }

    fn filtered(&mut self, frames: WireFrames, why: DropReason) -> Placed {
        self.count_arrived(frames);
        self.counters.rx_filtered += 1;
        Placed::Gone(why)
    }

    /// Not enough descriptors: the frame waits, unless no ring of this size could ever hold it.
    fn no_room_for(&mut self, needed: u32, most: u32) -> Placed {
        if needed > most && most > 0 {
            self.count(reg::MPC, 1);
            return Placed::Gone(DropReason::BadLength);
        }
        self.wait_for_room();
        Placed::NoRoom
    }

    /// The descriptors that were promised held too little.
    fn no_room(&mut self, plan: &Plan) -> Placed {
        let (_, most) = self.rx_free();
        let needed = if plan.free >= most { most + 1 } else { most };
        self.no_room_for(needed, most)
    }

    /// A looped-back frame met no descriptors: the FIFO overflows, since nobody holds it back.
    fn overrun(&mut self) {
        self.count(reg::MPC, 1);
        self.count(reg::RNBC, 1);
    }

    /// The frame is in memory and its descriptors are written: moves RDH, counts, says what to interrupt with.
    fn stored(&mut self, plan: &Plan, frame: &WireFrame<'_>, used: u32) -> (Delay, u32) {
        self.count_received(WireFrames { len: frame.len(), count: 1, cast: Cast::of(frame.head) });
        let mut causes = 0;
        if plan.len == 0 {
            causes |= cause::RXO;
        } else if self.rx_epoch == plan.epoch {
            let before = self.rx_free().0;
            self.set(reg::RDH, (plan.head + used) % plan.len);
            let shift = 1 + (self.get(reg::RCTL) >> rctl::RDMTS_SHIFT & 3);
            let threshold = plan.len >> shift;
            if before > threshold && self.rx_free().0 <= threshold {
                causes |= cause::RXDMT0;
            }
        }
        let small = rsrpd_size(self.get(reg::RSRPD));
        if small != 0 && plan.stored_len <= small {
            causes |= cause::SRPD | cause::RXT0;
        }
        let delay = Delay { timer: self.get(reg::RDTR) as u16, absolute: self.get(reg::RADV) as u16 };
        (delay, causes)
    }
}

const _: () = assert!(MIN_FRAME >= 16, "a padded frame holds a VLAN tag");
