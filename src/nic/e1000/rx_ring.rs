//! The receive engine: what arrives, what waits, and the ring's registers (manual, sections 3.2.3 to 3.2.7).
//!
//! Entered with the receive token by `deliver` (a frame from the peer), by RDT writes that end a wait, and by
//! the loopback queue. Without descriptors the peer is told to wait or, on a board that is to behave like a wire, frames
//! go into the FIFO and are lost when that is full. A frame that has to be cut is taken over and placed segment by segment,
//! across as many RDT writes as that needs. Never calls the peer.

use super::Overflow;
use super::hooks::Hooked;
use super::interrupt::Delay;
use super::link::Path;
use super::observe::{Disposition, Event, Refusal};
use super::regs::Regs;
use super::rx_fifo::{Fifo, Waiting};
use super::rx_filter::{Accepted, Verdict};
use super::rx_offload::{Tail, WireFrame};
use super::rx_place::{Notes, Placed, Plan, place};
use super::spec::{DESC_LEN, FCS_LEN, MAX_STANDARD, cause, ctrl, rctl, reg, rsrpd_size};
use super::stats::{Cast, WireFrames};
use super::write_back::threshold;
use crate::fault::CardFault;
use crate::netport::segment::SegmentPlan;
use crate::netport::{Delivery, DropReason, Frame, MAX_FRAME, checksum};
use crate::token::Round;

/// Segments and looped-back frames that one entry places before it puts off the rest.
const BUDGET: usize = 512;

/// The engine's memory between entries.
#[derive(Debug, Default)]
pub struct RxEngine {
    /// Accepted frames that wait for descriptors, on a board that does not let the peer wait.
    fifo: Fifo,
    /// A frame that is being cut.
    uncut: Option<Uncut>,
    /// A private copy of a frame that came in pieces or needs finishing.
    scratch: Vec<u8>,
    /// The header of the segment in hand.
    header: Vec<u8>,
    notes: Notes,
}

#[derive(Debug)]
struct Uncut {
    frame: Vec<u8>,
    plan: SegmentPlan,
    next: usize,
}

impl RxEngine {
    /// A frame from the peer.
    pub fn deliver<const H: bool>(&mut self, nic: Hooked<'_, H>, frame: &Frame<'_>) -> Delivery {
        if frame.len() < 14 || frame.len() > MAX_FRAME {
            return Delivery::Dropped(DropReason::BadLength);
        }
        self.place_uncut(nic, &mut BUDGET.clone());
        if self.uncut.is_some() {
            return nic.regs().wait_for_room();
        }
        if frame.meta.gso.is_some() {
            return self.take_over(nic, frame);
        }
        let placed = if frame.body.is_empty() && frame.meta.csum.is_none() {
            self.arrive(nic, &WireFrame::whole(frame.head, frame.meta.csum_valid), Path::Wire)
        } else {
            self.arrive_finished(nic, frame)
        };
        match placed {
            Placed::Stored => Delivery::Taken,
            Placed::NoRoom(_) => nic.regs().wait_for_room(),
            Placed::Gone(why) => Delivery::Dropped(why),
        }
    }

    /// Goes on with what waits: the FIFO, the frame that is being cut, the loopback queue.
    pub fn run<const H: bool>(&mut self, nic: Hooked<'_, H>) -> Round {
        let mut budget = BUDGET;
        self.drain_fifo(nic, &mut budget);
        self.place_uncut(nic, &mut budget);
        while let Some(looped) = nic.next_looped_back() {
            let tail = looped.fcs.map_or(Tail::Unpadded, Tail::Own);
            let frame = WireFrame { head: &looped.bytes, payload: &[], checksums_good: false, tail };
            if let Placed::NoRoom(_) = self.arrive(nic, &frame, Path::Loopback) {
                // Nobody holds it back.
                lose(nic, &frame);
            }
            budget = budget.saturating_sub(1);
            if budget == 0 {
                return Round::More;
            }
        }
        if budget == 0 { Round::More } else { Round::Settled }
    }

    /// Forgets what waits (reset, receiver off).
    pub fn forget(&mut self) {
        self.uncut = None;
        self.fifo.clear();
        self.notes.burst.clear();
    }

    /// Writes back the descriptors that have gathered. Says whether an interrupt was delayed for them.
    pub fn write_burst<const H: bool>(&mut self, nic: Hooked<'_, H>) -> bool {
        let epoch = nic.regs().rx_epoch;
        let burst = &mut self.notes.burst;
        burst.follow(epoch);
        burst.write(nic);
        burst.timer.stop()
    }

    /// One wire frame: into memory, or into the FIFO.
    fn arrive<const H: bool>(&mut self, nic: Hooked<'_, H>, frame: &WireFrame<'_>, source: Path) -> Placed {
        if !self.fifo.is_empty() {
            self.drain_fifo(nic, &mut BUDGET.clone());
        }
        let placed = if nic.planned(CardFault::RxOverrun) {
            self.arrive_at_a_fault(nic, frame, source)
        } else if self.fifo.is_empty() {
            place(nic, &mut self.notes, frame, source, None)
        } else {
            nic.regs().admit(frame, source).map_or_else(|gone| gone, Placed::NoRoom)
        };
        let placed = match placed {
            Placed::NoRoom(accepted) if nic.regs().overflow == Overflow::Drop => {
                self.queue(nic, frame, accepted)
            }
            placed => placed,
        };
        tell_arrival(nic, frame, placed, self.fifo.is_empty());
        placed
    }

    /// A frame that a filter takes may be lost here.
    #[cold]
    fn arrive_at_a_fault<const H: bool>(
        &mut self,
        nic: Hooked<'_, H>,
        frame: &WireFrame<'_>,
        source: Path,
    ) -> Placed {
        let admitted = nic.regs().admit(frame, source);
        match admitted {
            Err(gone) => gone,
            Ok(_) if nic.strikes(CardFault::RxOverrun).is_some() => {
                lose(nic, frame);
                Placed::Gone(DropReason::Overrun)
            }
            Ok(accepted) if self.fifo.is_empty() => {
                place(nic, &mut self.notes, frame, source, Some(accepted))
            }
            Ok(accepted) => Placed::NoRoom(accepted),
        }
    }

    fn queue<const H: bool>(
        &mut self,
        nic: Hooked<'_, H>,
        frame: &WireFrame<'_>,
        accepted: Accepted,
    ) -> Placed {
        nic.regs().count_no_buffer(accepted);
        if !self.fifo.push(frame, accepted, nic.regs().fifo_len()) {
            // The peer may have sent on after its pause: ask again.
            self.tell_fifo_level(nic);
            lose(nic, frame);
            return Placed::Gone(DropReason::Overrun);
        }
        // RDT ends the wait, although nobody outside waits.
        nic.regs().rx_waiting = true;
        self.tell_fifo_level(nic);
        Placed::Stored
    }

    /// Places what waits in the FIFO, oldest first.
    fn drain_fifo<const H: bool>(&mut self, nic: Hooked<'_, H>, budget: &mut usize) {
        if self.fifo.is_empty() {
            return;
        }
        while let Some(Waiting { bytes, accepted, checksums_good, tail }) = self.fifo.first() {
            if *budget == 0 {
                nic.finish_later();
                break;
            }
            *budget -= 1;
            let frame = WireFrame { head: bytes, payload: &[], checksums_good: *checksums_good, tail: *tail };
            if let Placed::NoRoom(_) = place(nic, &mut self.notes, &frame, Path::Wire, Some(*accepted)) {
                nic.regs().rx_waiting = true;
                break;
            }
            self.fifo.drop_first();
        }
        self.tell_fifo_level(nic);
    }

    fn tell_fifo_level<const H: bool>(&self, nic: Hooked<'_, H>) {
        let owed = {
            let mut regs = nic.regs();
            regs.set(reg::RDFPC, self.fifo.frames() as u32 & 0x1fff);
            regs.fifo_holds(self.fifo.bytes())
        };
        if owed {
            nic.pause_later();
        }
    }

    /// Copies the frame and finishes its checksum before it is placed.
    fn arrive_finished<const H: bool>(&mut self, nic: Hooked<'_, H>, frame: &Frame<'_>) -> Placed {
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
        let scratch = std::mem::take(&mut self.scratch);
        let placed = self.arrive(nic, &WireFrame::whole(&scratch, good), Path::Wire);
        self.scratch = scratch;
        placed
    }

    /// Takes a frame over that has to be cut, if its first segment can be placed.
    fn take_over<const H: bool>(&mut self, nic: Hooked<'_, H>, frame: &Frame<'_>) -> Delivery {
        // Not in the scrutinee, where it would hold the lock for the whole match.
        let readiness = nic.regs().readiness();
        match readiness {
            Readiness::Off => return Delivery::Dropped(DropReason::LinkDown),
            Readiness::NoRoom => return nic.regs().wait_for_room(),
            Readiness::Room => {}
        }
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        frame.copy_to(&mut bytes);
        let Some(plan) = SegmentPlan::for_gso(&mut bytes, &frame.meta) else {
            return Delivery::Dropped(DropReason::BadMeta);
        };
        nic.regs().counters.rx_gso_frames += 1;
        self.uncut = Some(Uncut { frame: bytes, plan, next: 0 });
        self.place_uncut(nic, &mut BUDGET.clone());
        Delivery::Taken
    }

    /// Places segments until the frame is done, room runs out or the budget does.
    fn place_uncut<const H: bool>(&mut self, nic: Hooked<'_, H>, budget: &mut usize) {
        let Some(mut uncut) = self.uncut.take() else { return };
        let mut header = std::mem::take(&mut self.header);
        let count = uncut.plan.count(uncut.frame.len().saturating_sub(uncut.plan.header_len));
        while uncut.next < count && *budget > 0 {
            *budget -= 1;
            let payload = uncut.plan.cut(&uncut.frame, uncut.next, &mut header);
            let segment = WireFrame { head: &header, payload, checksums_good: true, tail: Tail::Finished };
            match self.arrive(nic, &segment, Path::Wire) {
                Placed::NoRoom(_) => break,
                // Receiver or link went off: so does the rest.
                Placed::Gone(DropReason::LinkDown) => uncut.next = count,
                Placed::Stored | Placed::Gone(_) => uncut.next += 1,
            }
        }
        self.header = header;
        if uncut.next >= count {
            self.scratch = uncut.frame;
            return;
        }
        if *budget == 0 {
            nic.finish_later();
        }
        nic.regs().rx_waiting = true;
        self.uncut = Some(uncut);
    }
}

/// Tells the observer about a frame and what became of it; the filters are asked once more for that.
fn tell_arrival<const H: bool>(nic: Hooked<'_, H>, frame: &WireFrame<'_>, placed: Placed, at_once: bool) {
    nic.tell(|| {
        let regs = nic.regs();
        let disposition = match placed {
            Placed::Stored if at_once => Disposition::Stored(regs.filter_of(frame.head)),
            Placed::Stored | Placed::NoRoom(_) => Disposition::NoDescriptors(regs.filter_of(frame.head)),
            Placed::Gone(why) => Disposition::Dropped(why, regs.refusal_of(frame, why)),
        };
        Event::Arrived { head: frame.head, payload: frame.payload, len: frame.len(), disposition }
    });
}

/// A frame met a full FIFO.
fn lose<const H: bool>(nic: Hooked<'_, H>, frame: &WireFrame<'_>) {
    nic.regs().overrun(frame);
    nic.interrupts().raise(cause::RXO);
}

impl Regs {
    /// Why a frame is gone.
    fn refusal_of(&self, frame: &WireFrame<'_>, why: DropReason) -> Refusal {
        match why {
            DropReason::LinkDown => Refusal::Off,
            DropReason::Overrun => Refusal::Overrun,
            DropReason::Filtered => self.filtered_by(frame),
            _ if frame.len() + FCS_LEN > MAX_STANDARD => Refusal::TooLong,
            _ => Refusal::Flawed,
        }
    }
}

/// Whether the receiver could take a frame now.
enum Readiness {
    Off,
    NoRoom,
    Room,
}

impl Regs {
    /// Tells somebody `Full`: RDT, RCTL, reset and link changes wake it.
    fn wait_for_room(&mut self) -> Delivery {
        self.rx_waiting = true;
        self.counters.rx_full += 1;
        Delivery::Full
    }

    fn hears(&self, source: Path) -> bool {
        self.get(reg::RCTL) & rctl::EN != 0 && self.path() == source && !self.asleep
    }

    fn readiness(&mut self) -> Readiness {
        if !self.hears(Path::Wire) {
            self.counters.rx_off += 1;
            Readiness::Off
        } else if self.rx_free().0 == 0 && self.overflow == Overflow::Wait {
            Readiness::NoRoom
        } else {
            Readiness::Room
        }
    }

    /// Descriptors that the driver has given, and the most that it can give.
    #[inline]
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

    /// RXDCTL.WTHRESH; one or less: each descriptor is written at once. Without RDTR the timer ends with each frame.
    fn rx_burst(&self) -> u32 {
        if self.get(reg::RDTR) == 0 || self.get(reg::RDLEN) == 0 {
            0
        } else {
            threshold(self.get(reg::RXDCTL))
        }
    }

    #[inline]
    fn buffer_len(&self) -> usize {
        let control = self.get(reg::RCTL);
        let code = control >> rctl::BSIZE_SHIFT & 3;
        match control & rctl::BSEX != 0 {
            true if code != 0 => 32768 >> code,
            _ => 2048 >> code,
        }
    }

    /// What the filters say about one frame, and what it asks of flow control.
    #[inline]
    fn admit(&mut self, frame: &WireFrame<'_>, source: Path) -> Result<Accepted, Placed> {
        if !self.hears(source) {
            self.counters.rx_off += 1;
            return Err(Placed::Gone(DropReason::LinkDown));
        }
        let (verdict, flow) = self.judge(frame);
        if let Some(flow) = flow {
            self.heed(flow);
        }
        match verdict {
            Verdict::Wanted(accepted) => Ok(accepted),
            Verdict::Filtered | Verdict::FlowControl => Err(self.filtered(frame, DropReason::Filtered)),
            Verdict::Flawed(flaw) => {
                self.count(flaw.counter(), 1);
                Err(self.filtered(frame, DropReason::BadLength))
            }
        }
    }

    /// Decides about one frame: how to store it, or why not. `known`: what the filters have said before.
    #[inline(always)]
    pub(super) fn plan(
        &mut self,
        frame: &WireFrame<'_>,
        source: Path,
        known: Option<Accepted>,
    ) -> Result<Plan, Placed> {
        let accepted = match known {
            Some(accepted) => accepted,
            None => self.admit(frame, source)?,
        };
        let keep_fcs = self.get(reg::RCTL) & rctl::SECRC == 0;
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
            accepted,
            rxcsum: self.get(reg::RXCSUM),
            burst: self.rx_burst(),
        };
        let needed = stored_len.div_ceil(plan.buffer_len) as u32;
        if needed > free { Err(self.no_room_for(frame, &plan, needed, most)) } else { Ok(plan) }
    }

    fn filtered(&mut self, frame: &WireFrame<'_>, why: DropReason) -> Placed {
        self.count_arrived(wire_frames(frame));
        self.counters.rx_filtered += 1;
        Placed::Gone(why)
    }

    /// Not enough descriptors: the frame waits, unless no ring of this size could ever hold it. A MAC control frame
    /// has done its work and does not come again.
    fn no_room_for(&mut self, frame: &WireFrame<'_>, plan: &Plan, needed: u32, most: u32) -> Placed {
        let never = needed > most && most > 0;
        if never || plan.accepted.control {
            self.overrun(frame);
            return Placed::Gone(if never { DropReason::BadLength } else { DropReason::Overrun });
        }
        Placed::NoRoom(plan.accepted)
    }

    /// The descriptors that were promised held too little.
    pub(super) fn no_room(&mut self, frame: &WireFrame<'_>, plan: &Plan) -> Placed {
        let (_, most) = self.rx_free();
        let needed = if plan.free >= most { most + 1 } else { most };
        self.no_room_for(frame, plan, needed, most)
    }

    /// A frame is lost for want of descriptors. It counts as arrived (13.7.5).
    fn overrun(&mut self, frame: &WireFrame<'_>) {
        self.count_arrived(wire_frames(frame));
        self.count(reg::MPC, 1);
        self.counters.rx_overrun += 1;
    }

    /// A frame came while there was no buffer for it (13.7.33).
    fn count_no_buffer(&mut self, accepted: Accepted) {
        if !accepted.control {
            self.count(reg::RNBC, 1);
        }
    }

    /// Bytes of the receive FIFO: what PBA gave it at the last reset.
    fn fifo_len(&self) -> usize {
        64usize.saturating_sub((self.get(reg::PBA) >> 16) as usize) * 1024
    }

    /// The frame is in memory and its descriptors are written: moves RDH, counts, says what to interrupt with.
    #[inline(always)]
    pub(super) fn stored(&mut self, plan: &Plan, frame: &WireFrame<'_>, used: u32) -> (Delay, u32) {
        let frames = wire_frames(frame);
        self.count_arrived(frames);
        if plan.accepted.is_good() {
            self.count_good(frames);
        } else if let Some(flaw) = plan.accepted.flaw {
            self.count(flaw.counter(), 1);
        }
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

fn wire_frames(frame: &WireFrame<'_>) -> WireFrames {
    WireFrames { len: frame.len(), count: 1, cast: Cast::of(frame.head) }
}
