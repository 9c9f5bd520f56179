//! A packet in hand to frames for the peer: gather, checksums, segmentation, tag, padding (manual, sections 3.3, 3.5).
//!
//! Called by [`TxEngine::run`] with the transmit token held. What the peer does not take is kept whole in private
//! memory and offered again. Never reads a descriptor and never writes one back.

use super::view::View;
use super::{Pushed, TxEngine, tell_unreadable};
use crate::fault::CardFault;
use crate::memory::DmaError;
use crate::netport::segment::SegmentPlan;
use crate::netport::{Delivery, Frame, FrameMeta, Offloads};
use crate::nic::e1000::hooks::Hooked;
use crate::nic::e1000::link::Path;
use crate::nic::e1000::observe::{Disposition, Event, Fcs, SentFrame};
use crate::nic::e1000::spec::{FCS_LEN, MAX_TX_FRAME, MIN_FRAME, reg};
use crate::nic::e1000::stats::{Cast, WireFrames};
use crate::nic::e1000::tx_frame::insert_tag;
use crate::nic::e1000::tx_offload::{Job, insert_ip, insert_l4, pass_l4, pass_segmentation};

/// Packets up to this many bytes are copied whole: cheaper than lending pieces.
const COPY_WHOLE: usize = 512;
/// Private bytes of a longer packet, at least.
const COPY_HEAD: usize = 64;

/// A packet that the peer has not taken yet, whole in private memory.
#[derive(Debug)]
pub(super) enum Outgoing {
    Frame { bytes: Vec<u8>, meta: FrameMeta },
    Cut { bytes: Vec<u8>, plan: SegmentPlan, next: usize, tag: Option<(u16, u16)> },
}

impl TxEngine {
    /// Sends the packet that has just been completed.
    pub(super) fn send<const H: bool>(&mut self, nic: Hooked<'_, H>, view: &View) -> Pushed {
        if nic.strikes(CardFault::DmaError).is_some() {
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

    fn give_up<const H: bool>(&mut self, nic: Hooked<'_, H>, disposition: Disposition) -> Pushed {
        nic.tell(|| {
            let rest = self.packet.len();
            let (mss, checksum_left, fcs) = (None, false, Fcs::Appended);
            Event::Sent(SentFrame { head: &[], rest, mss, checksum_left, fcs, disposition })
        });
        nic.regs().counters.tx_errors += 1;
        Pushed::Done
    }

    fn give_up_unreadable<const H: bool>(&mut self, nic: Hooked<'_, H>, error: DmaError) -> Pushed {
        tell_unreadable(nic, error);
        self.give_up(nic, Disposition::Unreadable)
    }

    fn send_frame<const H: bool>(
        &mut self,
        nic: Hooked<'_, H>,
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
        insert_ip(&mut gathered.head, ip);
        let left =
            l4.filter(|_| passed.is_some()).and_then(|l4| pass_l4(&gathered.head, gathered.len(), &l4));
        let mut meta = left.unwrap_or_default();
        if l4.is_some() && meta.csum.is_none() {
            gathered.make_whole();
            insert_l4(&mut gathered.head, l4);
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

    fn send_segmented<const H: bool>(
        &mut self,
        nic: Hooked<'_, H>,
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
            gathered.make_whole();
            self.outgoing = Some(Outgoing::Cut { bytes: gathered.head, plan, next: 0, tag });
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
    fn offer<const H: bool>(&mut self, nic: Hooked<'_, H>, view: &View, frame: &Frame<'_>) -> Pushed {
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
    fn offer_damaged<const H: bool>(
        &mut self,
        nic: Hooked<'_, H>,
        view: &View,
        frame: &Frame<'_>,
        fcs: Option<[u8; 4]>,
    ) -> Pushed {
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
    pub(super) fn push_outgoing<const H: bool>(
        &mut self,
        nic: Hooked<'_, H>,
        view: &View,
        budget: &mut u32,
    ) -> Pushed {
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
    fn push_segments<const H: bool>(
        &mut self,
        nic: Hooked<'_, H>,
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
    fn note_cut<const H: bool>(
        &mut self,
        nic: Hooked<'_, H>,
        view: &View,
        head: &[u8],
        (len, header, mss): (usize, usize, usize),
    ) {
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

    #[inline(always)]
    fn note_sent(&mut self, head: &[u8], len: usize, count: u64) {
        match self.sent.last_mut() {
            Some(last) if last.len == len => last.count += count,
            _ => self.sent.push(WireFrames { len, count, cast: Cast::of(head) }),
        }
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
