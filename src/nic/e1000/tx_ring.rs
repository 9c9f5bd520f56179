//! The transmit engine: fetch, send, write-back (manual, sections 3.3 and 3.4).
//!
//! Entered with the transmit token by doorbells, by the peer's "ready" and by time. Each descriptor is read
//! once; a packet's descriptors are written back (DD) and TDH moves when the peer has taken the packet. A
//! peer that is full stops the ring; nothing is dropped. Holds no register lock while it calls the peer.

use super::E1000;
use super::interrupt::{Delay, Watch};
use super::link::Path;
use super::observe::{Disposition, Event, Fcs, Ring, SentFrame, Slot};
use super::regs::Regs;
use super::spec::{DELAY_TICK_NS, DESC_LEN, FCS_LEN, MAX_TX_FRAME, MIN_FRAME, cause, ctrl, reg, tctl, txd};
use super::stats::{Cast, WireFrames};
use super::tx_context::Contexts;
use super::tx_frame::{Data, Descriptor, Packet, Report, decode, insert_tag};
use super::tx_offload::{Job, finish_checksums, pass_checksums, pass_segmentation};
use super::write_back::{TxBurst, threshold};
use crate::fault::CardFault;
use crate::memory::DmaError;
use crate::netport::segment::SegmentPlan;
use crate::netport::{Delivery, Frame, FrameMeta, Offloads};
use crate::token::Round;

/// Descriptors and cut segments that one entry handles at least before it puts off the rest; a lap of the ring
/// if that is longer.
const BUDGET: u32 = 256;
/// Status bytes that a fault keeps at most: as many as the longest ring has descriptors. A driver that goes on without
/// waiting for them gets the others at once.
const MOST_LATE: usize = 1 << 16;
/// Packets up to this many bytes are copied whole: cheaper than lending pieces.
const COPY_WHOLE: usize = 512;
/// Private bytes of a longer packet, at least.
const COPY_HEAD: usize = 64;

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

/// A packet that the peer has not taken yet, whole in private memory.
#[derive(Debug)]
enum Outgoing {
    Frame { bytes: Vec<u8>, meta: FrameMeta },
    Cut { bytes: Vec<u8>, plan: SegmentPlan, next: usize, tag: Option<(u16, u16)> },
}

/// Everything that the engine needs from the registers, read in one go.
#[derive(Debug, Clone, Copy)]
struct View {
    epoch: u64,
    resets: u64,
    running: bool,
    /// A PAUSE frame holds the ring until then.
    paused_until: Option<u64>,
    path: Path,
    base: u64,
    /// Descriptors of the ring.
    len: u32,
    head: u32,
    tail: u32,
    /// The ring without length: one descriptor for each doorbell, TDH stays.
    zero_ring: bool,
    /// VET, if CTRL.VME lets tags be inserted.
    tag_type: Option<u16>,
    pad: bool,
    delay: Delay,
    /// TXDCTL.WTHRESH; one or less: each status byte is written at once.
    burst: u32,
    /// What has gathered is to be written now.
    flush: bool,
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
    pub fn run(&mut self, nic: &E1000) -> Round {
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

    fn forget_packet(&mut self) {
        self.packet.clear();
        self.last = None;
        self.write_backs.clear();
        self.sent.clear();
        self.may_wait = true;
    }

    /// Reads descriptors until a packet is complete.
    fn fetch(&mut self, nic: &E1000, view: &View, budget: &mut u32) -> Fetched {
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

    fn note_write_back(&mut self, at: u64, status: u8, report: Report) {
        if report.status {
            self.write_backs.push((at + 12, status | txd::DD));
            self.may_wait &= report.delay;
        }
    }

    /// The ring ended inside a packet: what is there is copied, so that its descriptors can be given back.
    fn give_back_partial(&mut self, nic: &E1000, view: &View) {
        if let Err(error) = self.packet.absorb(nic.dma()) {
            tell_unreadable(nic, error);
            nic.regs().counters.tx_errors += 1;
        }
        if self.next != view.head || !self.write_backs.is_empty() {
            self.report(nic, view);
        }
    }

    /// Whether a fault has stopped the transmitter, which has something to do.
    fn hangs(&mut self, nic: &E1000, view: &View) -> bool {
        let planned = nic.faults().planned(CardFault::TxHang);
        self.hung = planned
            && (self.hung || self.next != view.tail && nic.faults().strikes(CardFault::TxHang).is_some());
        self.hung
    }

    /// Sends the packet that has just been completed.
    fn send(&mut self, nic: &E1000, view: &View) -> Pushed {
        if nic.faults().strikes(CardFault::DmaError).is_some() {
            return self.give_up(nic, Disposition::Unreadable);
        }
        let job = Job::of(self.packet.offload(), &self.contexts);
        let (Some(job), Some(last)) = (job, self.last) else {
            return self.give_up(nic, Disposition::BadRequest);
        };
        let too_long = match job {
            Job::Checksums { .. } => self.packet.len() > MAX_TX_FRAME,
            Job::Segment(_) => self.packet.is_oversize(),
        };
        if too_long {
            return self.give_up(nic, Disposition::TooLong);
        }
        if self.packet.is_empty() {
            // A descriptor of no bytes, alone: nothing goes out, but its status is reported.
            return Pushed::Done;
        }
        let tag = view.tag_type.filter(|_| last.vle).map(|ethertype| (ethertype, last.special));
        let accepts = if view.path == Path::Wire { nic.port().accepts() } else { Offloads::default() };
        match job {
            Job::Checksums { .. } => self.send_frame(nic, view, &job, tag, accepts),
            Job::Segment(_) => self.send_segmented(nic, view, &job, tag, accepts),
        }
    }

    fn give_up(&mut self, nic: &E1000, disposition: Disposition) -> Pushed {
        nic.tell(|| {
            let rest = self.packet.len();
            let (mss, checksum_left, fcs) = (None, false, Fcs::Appended);
            Event::Sent(SentFrame { head: &[], rest, mss, checksum_left, fcs, disposition })
        });
        nic.regs().counters.tx_errors += 1;
        Pushed::Done
    }

    fn give_up_unreadable(&mut self, nic: &E1000, error: DmaError) -> Pushed {
        tell_unreadable(nic, error);
        self.give_up(nic, Disposition::Unreadable)
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

impl TxEngine {
    fn send_frame(
        &mut self,
        nic: &E1000,
        view: &View,
        job: &Job,
        tag: Option<(u16, u16)>,
        accepts: Offloads,
    ) -> Pushed {
        let Job::Checksums { ip, l4 } = *job else { return self.give_up(nic, Disposition::BadRequest) };
        let len = self.packet.len();
        let passed = job.private_len(accepts, len);
        // Without IFCS the driver's FCS is at the end, where only a copy can find it. A tag brings its own FCS.
        let brings_fcs = tag.is_none() && self.last.is_some_and(|d| !d.ifcs);
        let whole = brings_fcs || len <= COPY_WHOLE;
        let head_len = passed.filter(|_| !whole).map_or(len, |needed| needed.max(COPY_HEAD));
        let buffer = std::mem::take(&mut self.buffer);
        let mut gathered = match self.packet.gather(nic.dma(), head_len, buffer) {
            Ok(gathered) => gathered,
            Err(error) => return self.give_up_unreadable(nic, error),
        };
        // Only a strict board sends a bad FCS; elsewhere its driver forgot IFCS.
        let before = gathered.head.len();
        let own_fcs = if brings_fcs { strip_fcs(&mut gathered.head, nic.strict()) } else { None };
        let stripped = own_fcs.is_none() && gathered.head.len() < before;
        self.fcs = if !brings_fcs {
            Fcs::Appended
        } else if stripped {
            Fcs::Brought
        } else {
            Fcs::Missing
        };
        let mut meta = FrameMeta::default();
        if passed.is_some() {
            meta = pass_checksums(&mut gathered.head, ip, l4);
        } else {
            finish_checksums(&mut gathered.head, ip, l4);
        }
        if gathered.body.is_empty() && own_fcs.is_none() {
            pad(view, &mut gathered.head);
        }
        if let Some((ethertype, special)) = tag {
            insert_tag(&mut gathered.head, ethertype, special);
            meta.csum = meta.csum.map(|c| crate::netport::CsumRequest { start: c.start + 4, ..c });
        }
        let frame = Frame { head: &gathered.head, body: &gathered.body, meta };
        let pushed = match own_fcs {
            Some(_) => self.offer_damaged(nic, view, &frame, own_fcs),
            None => self.offer(nic, view, &frame),
        };
        if pushed == Pushed::Done {
            self.note_sent(&gathered.head, frame.len(), 1);
        }
        self.buffer = gathered.head;
        pushed
    }

    fn send_segmented(
        &mut self,
        nic: &E1000,
        view: &View,
        job: &Job,
        tag: Option<(u16, u16)>,
        accepts: Offloads,
    ) -> Pushed {
        let Job::Segment(plan) = *job else { return self.give_up(nic, Disposition::BadRequest) };
        let len = self.packet.len();
        if plan.header_len > len {
            nic.regs().count(reg::TSCTFC, 1);
            return self.give_up(nic, Disposition::BadRequest);
        }
        let passed = job.private_len(accepts, len).filter(|_| tag.is_none());
        let head_len = passed.map_or(len, |needed| needed.max(COPY_HEAD));
        let buffer = std::mem::take(&mut self.buffer);
        let mut gathered = match self.packet.gather(nic.dma(), head_len, buffer) {
            Ok(gathered) => gathered,
            Err(error) => return self.give_up_unreadable(nic, error),
        };
        self.fcs = Fcs::Appended;
        let meta = passed.and_then(|_| pass_segmentation(&mut gathered.head, len, &plan));
        let Some(meta) = meta else {
            let rest = Frame { head: &[], body: &gathered.body, meta: FrameMeta::default() };
            let mut bytes = gathered.head;
            rest.copy_to(&mut bytes);
            self.outgoing = Some(Outgoing::Cut { bytes, plan, next: 0, tag });
            return Pushed::Later;
        };
        if meta.gso.is_none() && gathered.body.is_empty() {
            pad(view, &mut gathered.head);
        }
        let frame = Frame { head: &gathered.head, body: &gathered.body, meta };
        let pushed = self.offer(nic, view, &frame);
        if pushed == Pushed::Done {
            self.note_cut(nic, view, &gathered.head, (len, plan.header_len, plan.mss));
        }
        self.buffer = gathered.head;
        pushed
    }

    /// Offers a frame to whoever is at the other end; what it does not take now is kept.
    fn offer(&mut self, nic: &E1000, view: &View, frame: &Frame<'_>) -> Pushed {
        let refused = match view.path {
            Path::Loopback => (!nic.loop_back(frame, None)).then_some(Pushed::Later),
            Path::Wire | Path::Down => (nic.port().send(frame) == Delivery::Full).then_some(Pushed::Full),
        };
        let taken = if view.path == Path::Loopback { Disposition::LoopedBack } else { Disposition::Sent };
        let disposition = if refused.is_some() { Disposition::PeerFull } else { taken };
        nic.tell(|| Event::Sent(sent_frame(frame, self.fcs, disposition)));
        let Some(refused) = refused else { return Pushed::Done };
        let mut bytes = Vec::with_capacity(frame.len());
        frame.copy_to(&mut bytes);
        self.outgoing = Some(Outgoing::Frame { bytes, meta: frame.meta });
        refused
    }

    /// A frame with an FCS of the driver's own that is not the frame's: every MAC on the wire drops it.
    fn offer_damaged(&mut self, nic: &E1000, view: &View, frame: &Frame<'_>, fcs: Option<[u8; 4]>) -> Pushed {
        nic.tell(|| Event::Sent(sent_frame(frame, Fcs::Missing, Disposition::BadFcs)));
        if view.path == Path::Loopback {
            // A full queue loses it: nothing depends on a damaged frame.
            nic.loop_back(frame, fcs);
        } else {
            nic.regs().counters.tx_bad_fcs += 1;
        }
        Pushed::Done
    }

    /// Goes on with what was kept.
    fn push_outgoing(&mut self, nic: &E1000, view: &View, budget: &mut u32) -> Pushed {
        match self.outgoing.take() {
            None => Pushed::Done,
            Some(Outgoing::Frame { bytes, meta }) => {
                let pushed = self.offer(nic, view, &Frame { head: &bytes, body: &[], meta });
                if pushed == Pushed::Done {
                    match meta.gso {
                        None => self.note_sent(&bytes, bytes.len(), 1),
                        Some(gso) => {
                            let (header, mss) = (usize::from(gso.header_len), usize::from(gso.mss));
                            self.note_cut(nic, view, &bytes, (bytes.len(), header, mss));
                        }
                    }
                }
                pushed
            }
            Some(Outgoing::Cut { bytes, plan, next, tag }) => {
                self.push_segments(nic, view, budget, (bytes, plan, next, tag))
            }
        }
    }

    /// Cuts and offers segments until the peer is full or the budget is used up.
    fn push_segments(
        &mut self,
        nic: &E1000,
        view: &View,
        budget: &mut u32,
        (bytes, plan, mut next, tag): (Vec<u8>, SegmentPlan, usize, Option<(u16, u16)>),
    ) -> Pushed {
        let count = plan.count(bytes.len() - plan.header_len.min(bytes.len()));
        let mut segment = std::mem::take(&mut self.segment);
        let mut pushed = Pushed::Done;
        while next < count {
            if *budget == 0 {
                pushed = Pushed::Later;
                break;
            }
            *budget -= 1;
            let payload = plan.cut(&bytes, next, &mut segment);
            segment.extend_from_slice(payload);
            pad(view, &mut segment);
            if let Some((ethertype, special)) = tag {
                insert_tag(&mut segment, ethertype, special);
            }
            pushed = self.offer(nic, view, &Frame::whole(&segment));
            if pushed != Pushed::Done {
                break;
            }
            self.note_sent(&segment, segment.len(), 1);
            next += 1;
        }
        self.segment = segment;
        if pushed == Pushed::Done {
            nic.regs().count(reg::TSCTC, 1);
            self.buffer = bytes;
        } else {
            self.outgoing = Some(Outgoing::Cut { bytes, plan, next, tag });
        }
        pushed
    }

    /// Counts the segments that the peer makes of a frame of `len` bytes which it took uncut.
    fn note_cut(&mut self, nic: &E1000, view: &View, head: &[u8], (len, header, mss): (usize, usize, usize)) {
        let payload = len.saturating_sub(header);
        let (full, rest) = (payload / mss.max(1), payload % mss.max(1));
        let shortest = if view.pad { MIN_FRAME } else { 0 };
        if full > 0 {
            self.note_sent(head, shortest.max(header + mss), full as u64);
        }
        if rest > 0 || full == 0 {
            self.note_sent(head, shortest.max(header + rest), 1);
        }
        let mut regs = nic.regs();
        regs.count(reg::TSCTC, 1);
        regs.counters.tx_gso_frames += 1;
    }

    fn note_sent(&mut self, head: &[u8], len: usize, count: u64) {
        match self.sent.last_mut() {
            Some(last) if last.len == len => last.count += count,
            _ => self.sent.push(WireFrames { len, count, cast: Cast::of(head) }),
        }
    }

    /// The packet is done: its descriptors go back to the driver.
    fn complete(&mut self, nic: &E1000, view: &View) {
        self.report(nic, view);
        self.forget_packet();
    }

    /// Writes DD, then moves TDH, then interrupts.
    fn report(&mut self, nic: &E1000, view: &View) {
        if view.burst > 1 || !self.burst.is_empty() {
            self.gather(nic, view);
        }
        if !self.write_backs.is_empty() {
            self.make_late(nic);
        }
        std::sync::atomic::fence(std::sync::atomic::Ordering::Release);
        for &(at, status) in &self.write_backs {
            nic.tell_tx_write_back(view.base, at, status);
            // The ring may have lost its memory meanwhile; then there is nobody to tell.
            let _ = nic.dma().write(at, &[status]);
        }
        let causes = nic.regs().tx_done(view, self.next, &self.sent);
        let reported = if self.write_backs.is_empty() { 0 } else { cause::TXDW };
        nic.tell(|| Event::HeadMoved { ring: Ring::Tx, head: self.next, causes: causes | reported });
        if self.write_backs.is_empty() {
            nic.interrupts().raise(causes);
        } else {
            let delay = if self.may_wait { view.delay } else { Delay::NONE };
            nic.interrupts().transmitted(delay, causes);
        }
        self.write_backs.clear();
        self.sent.clear();
        self.may_wait = true;
    }
}

impl TxEngine {
    /// Status bytes wait for others: `write_backs` is empty afterwards or has all that waited. Counting begins with the
    /// first descriptor that has RS (13.4.43).
    fn gather(&mut self, nic: &E1000, view: &View) {
        let first = match self.write_backs.first() {
            Some(&(at, _)) if self.burst.is_empty() => (at.wrapping_sub(view.base) / DESC_LEN) as u32,
            None if self.burst.is_empty() => return,
            _ => view.head,
        };
        let ahead = if self.next >= first { self.next } else { self.next + view.len };
        let done = ahead.saturating_sub(first);
        self.burst.gather(&mut self.write_backs, &mut self.may_wait, done, view.burst);
        let waits = !self.burst.is_empty();
        if waits && !self.burst.timed && view.delay.timer != 0 {
            self.burst.timed = true;
            let ends = nic.regs().now() + u64::from(view.delay.timer) * DELAY_TICK_NS;
            nic.interrupts().watch(Watch::TxBurst, Some(ends));
        } else if !waits {
            nic.interrupts().watch(Watch::TxBurst, None);
        }
    }

    /// A fault takes the status bytes that are to be written, and all that come while it has any, up to [`MOST_LATE`].
    fn make_late(&mut self, nic: &E1000) {
        if self.late.len() >= MOST_LATE {
            return;
        }
        if !self.late.is_empty() {
            self.late.append(&mut self.write_backs);
        } else if let Some(hit) = nic.faults().strikes(CardFault::LateDone) {
            self.late.append(&mut self.write_backs);
            self.late_until = nic.clock.now_ns().saturating_add(hit.time_ns);
            nic.interrupts().watch(Watch::TxLate, Some(self.late_until));
        }
    }

    /// Writes what a fault has made late, when it is time.
    fn write_late(&mut self, nic: &E1000, view: &View) {
        if nic.clock.now_ns() < self.late_until && nic.faults().planned(CardFault::LateDone) {
            return;
        }
        for (at, status) in std::mem::take(&mut self.late) {
            nic.tell_tx_write_back(view.base, at, status);
            // The ring may have lost its memory meanwhile; then there is nobody to tell.
            let _ = nic.dma().write(at, &[status]);
        }
        nic.interrupts().transmitted(Delay::NONE, 0);
    }

    /// Writes what has gathered, for TIDV.
    fn flush_burst(&mut self, nic: &E1000, view: &View) {
        if self.burst.is_empty() {
            return;
        }
        for (at, status) in self.burst.take() {
            nic.tell_tx_write_back(view.base, at, status);
            let _ = nic.dma().write(at, &[status]);
        }
        nic.interrupts().transmitted(Delay::NONE, 0);
    }
}

impl E1000 {
    /// On a strict board with an observer, what lies in memory goes along, to be compared with what was fetched.
    fn tell_tx_write_back(&self, base: u64, at: u64, status: u8) {
        self.tell(|| {
            let address = at - 12;
            let slot = Slot { index: (address.wrapping_sub(base) / DESC_LEN) as u32, address };
            let mut raw = [0; DESC_LEN as usize];
            let found = (self.strict() && self.dma().read(address, &mut raw).is_ok()).then_some(raw);
            let raw = [0, 0, 0, 0, status, 0, 0, 0];
            Event::WrittenBack { ring: Ring::Tx, slot, raw, found }
        });
    }
}

fn sent_frame<'a>(frame: &Frame<'a>, fcs: Fcs, disposition: Disposition) -> SentFrame<'a> {
    SentFrame {
        head: frame.head,
        rest: frame.len() - frame.head.len(),
        mss: frame.meta.gso.map(|gso| gso.mss),
        checksum_left: frame.meta.csum.is_some(),
        fcs,
        disposition,
    }
}

fn tell_unreadable(nic: &E1000, error: DmaError) {
    if let DmaError::NotRam { addr, len } = error {
        nic.tell(|| Event::DmaFailed { ring: Ring::Tx, descriptor: false, address: addr, len });
    }
}

/// TCTL.PSP: the wire's shortest frame.
fn pad(view: &View, frame: &mut Vec<u8>) {
    if view.pad && frame.len() < MIN_FRAME {
        frame.resize(MIN_FRAME, 0);
    }
}

/// Takes the FCS off that a driver put there itself. A frame that ends with something else has none, since its driver
/// forgot IFCS and works on emulators all the same; on a `strict` board its last bytes are a bad FCS, which is returned.
fn strip_fcs(frame: &mut Vec<u8>, strict: bool) -> Option<[u8; FCS_LEN]> {
    let (bytes, fcs) = frame.split_last_chunk::<FCS_LEN>()?;
    let (fcs, good) = (*fcs, crc32fast::hash(bytes).to_le_bytes() == *fcs);
    if good || strict {
        frame.truncate(frame.len() - FCS_LEN);
    }
    (!good && strict).then_some(fcs)
}

impl Regs {
    fn tx_view(&mut self) -> View {
        let control = self.get(reg::TCTL);
        let path = self.path();
        let len = self.get(reg::TDLEN) / DESC_LEN as u32;
        let (head, tail) = (self.get(reg::TDH), self.get(reg::TDT));
        let paused_until = if path == Path::Wire { self.pause_end() } else { None };
        let enabled = control & tctl::EN != 0 && path != Path::Down && paused_until.is_none();
        let ring = head < len && tail < len;
        let zero_ring = enabled && len == 0 && !self.strict && std::mem::take(&mut self.zero_ring_doorbell);
        let vme = self.get(reg::CTRL) & ctrl::VME != 0;
        View {
            epoch: self.tx_epoch,
            resets: self.resets,
            running: enabled && (ring || zero_ring),
            paused_until,
            path,
            base: u64::from(self.get(reg::TDBAH)) << 32 | u64::from(self.get(reg::TDBAL)),
            len: if zero_ring { 1 } else { len },
            head: if zero_ring { 0 } else { head },
            tail: if zero_ring { 1 } else { tail },
            zero_ring,
            tag_type: vme.then(|| self.get(reg::VET) as u16),
            pad: control & tctl::PSP != 0,
            delay: Delay { timer: self.get(reg::TIDV) as u16, absolute: self.get(reg::TADV) as u16 },
            burst: if zero_ring { 0 } else { threshold(self.get(reg::TXDCTL)) },
            flush: std::mem::take(&mut self.tx_flush),
        }
    }

    /// The descriptors up to `next` are done and `sent` has left: moves TDH, counts, says what to interrupt with.
    fn tx_done(&mut self, view: &View, next: u32, sent: &[WireFrames]) -> u32 {
        for &frames in sent {
            self.count_transmitted(frames);
            if view.path == Path::Wire {
                self.counters.tx_frames += frames.count;
                self.counters.tx_octets += frames.len as u64 * frames.count;
            }
        }
        if view.zero_ring {
            return cause::TXQE;
        }
        if self.tx_epoch != view.epoch {
            return 0;
        }
        let tail = self.get(reg::TDT);
        let pending = |head: u32| if tail >= head { tail - head } else { tail + view.len - head };
        let (before, after) = (pending(self.get(reg::TDH)), pending(next));
        self.set(reg::TDH, next);
        let low = 8 * (self.get(reg::TXDCTL) >> 25);
        let empty = if before > 0 && after == 0 { cause::TXQE } else { 0 };
        let scarce = if low > 0 && before > low && after <= low { cause::TXD_LOW } else { 0 };
        empty | scarce
    }
}
