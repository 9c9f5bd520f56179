//! The receiving half that all socket backends share: read a frame, offer it to the peer, wait for room.
//!
//! The rule is the tap's: a peer without room keeps the socket unread, so that the queue builds in the host's
//! kernel (and, on streams, in the sender); `peer_ready` goes on reading on the caller's thread up to a budget.
//!
//! Lock order: `rx` (held across calls of the peer, never waited for) before the watch's own.

use std::fmt::{self, Debug};
use std::sync::{Arc, Weak};

use crate::event::{Entered, EventHandle, Token, Watch};
use crate::netdev::{NetdevEvents, Notices, PortCounters, Surroundings};
use crate::netport::{Delivery, DropReason, Frame, FrameMeta, MAX_FRAME, Offloads, PeerSlot};

/// Frames offered for one wake-up of the loop thread, so that other files get their turn.
const LOOP_BUDGET: usize = 64;
/// Frames offered on the thread of a `peer_ready`, usually a vCPU's.
const INLINE_BUDGET: usize = 32;
/// An Ethernet header.
const MIN_FRAME: usize = 14;

/// What a backend's port and its connections have in common.
#[derive(Debug)]
pub struct Core {
    /// `id=`.
    pub id: String,
    /// The other end of the cable.
    pub peer: PeerSlot,
    /// What passed.
    pub counters: PortCounters,
    /// Who waits for files.
    pub events: EventHandle,
    /// Where remarks about this backend go.
    pub notices: Notices,
    /// Where its connections are told.
    pub happenings: NetdevEvents,
}

impl Core {
    /// For the netdev of this id.
    pub fn new(id: &str, around: &Surroundings) -> Arc<Self> {
        Self::about(id, &format!("netdev {id}"), around)
    }

    /// For the backend of this id, which the user calls `what`.
    pub fn about(id: &str, what: &str, around: &Surroundings) -> Arc<Self> {
        Arc::new(Self {
            id: id.to_owned(),
            peer: PeerSlot::default(),
            counters: PortCounters::default(),
            events: around.events.clone(),
            notices: around.notices.about(what),
            happenings: around.happenings.clone(),
        })
    }

    /// Whether a frame from the peer is one that can be sent; why not. Sockets carry finished frames only.
    pub fn check(frame: &Frame<'_>) -> Result<(), DropReason> {
        if !(MIN_FRAME..=MAX_FRAME).contains(&frame.len()) {
            return Err(DropReason::BadLength);
        }
        let FrameMeta { csum, gso, csum_valid: _ } = frame.meta;
        if csum.is_some() || gso.is_some() { Err(DropReason::BadMeta) } else { Ok(()) }
    }

    /// What ports of sockets accept.
    pub fn accepts() -> Offloads {
        Offloads::default()
    }
}

/// Takes frames out of a descriptor.
pub trait FrameReader: Debug + Send {
    /// Reads until one frame is whole, without blocking.
    fn read_next(&mut self) -> Incoming;

    /// The frame that [`Self::read_next`] told of, until its next call.
    fn frame(&self) -> &[u8];
}

/// What [`FrameReader::read_next`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A frame.
    Frame,
    /// Something that is no frame for us; it is counted, and reading goes on.
    Skipped(DropReason),
    /// Something that nobody need know of.
    Ignored,
    /// Nothing now.
    Empty,
    /// Nothing ever again, for this reason.
    End(String),
}

/// A descriptor's receiving half.
pub struct Receiver<R> {
    core: Arc<Core>,
    watch: Arc<Watch>,
    on_end: Box<dyn Fn(&str) + Send + Sync>,
    this: Weak<Self>,
    rx: Token<Rx<R>>,
}

struct Rx<R> {
    reader: R,
    /// The reader's frame waits for room at the peer.
    kept: bool,
    ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Empty,
    PeerFull,
    Budget,
    Ended,
}

impl<R> Debug for Receiver<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("watch", &self.watch).finish_non_exhaustive()
    }
}

impl<R: FrameReader + 'static> Receiver<R> {
    /// Makes it; nothing is read before [`Self::start`]. `watch` is what tells when to call [`Self::readable`];
    /// `on_end` is called once, on any thread, when the reader has come to its end.
    pub fn new(
        core: Arc<Core>,
        reader: R,
        watch: Arc<Watch>,
        on_end: impl Fn(&str) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let rx = Token::new(Rx { reader, kept: false, ended: false });
        let on_end = Box::new(on_end);
        Arc::new_cyclic(|this| Self { core, watch, on_end, this: this.clone(), rx })
    }

    /// Begins to wait for data.
    pub fn start(&self) {
        self.watch.want(|interest| interest.readable = true);
    }

    /// The descriptor is readable.
    pub fn readable(&self) {
        self.enter(LOOP_BUDGET, false);
    }

    /// The peer has room again.
    pub fn peer_ready(&self) {
        // Entered even if nothing seems to be kept: the holder may be about to keep a frame.
        self.enter(INLINE_BUDGET, true);
    }

    fn enter(&self, budget: usize, only_if_kept: bool) {
        let mut more = false;
        let entered = self.rx.enter(|rx| {
            if rx.kept || !only_if_kept {
                more = self.pump(rx, budget) == Stop::Budget;
            }
        });
        if more || entered == Entered::Again {
            // A reader may hold whole frames for which the descriptor will not be ready again.
            let (this, only_if_kept) = (self.this.clone(), only_if_kept && !more);
            self.core.events.run(move || {
                if let Some(receiver) = this.upgrade() {
                    receiver.enter(LOOP_BUDGET, only_if_kept);
                }
            });
        }
    }

    fn pump(&self, rx: &mut Rx<R>, budget: usize) -> Stop {
        let stop = self.read_and_offer(rx, budget);
        self.watch.want(|interest| interest.readable = matches!(stop, Stop::Empty | Stop::Budget));
        stop
    }

    fn read_and_offer(&self, rx: &mut Rx<R>, budget: usize) -> Stop {
        let counters = &self.core.counters.to_peer;
        for _ in 0..budget {
            if rx.kept && !self.offer(rx) {
                return Stop::PeerFull;
            }
            if rx.ended {
                return Stop::Ended;
            }
            match rx.reader.read_next() {
                Incoming::Frame if (MIN_FRAME..=MAX_FRAME).contains(&rx.reader.frame().len()) => {
                    rx.kept = true;
                }
                Incoming::Frame => {
                    counters.count(&Frame::whole(&[]), Delivery::Dropped(DropReason::BadLength));
                }
                Incoming::Skipped(why) => counters.count(&Frame::whole(&[]), Delivery::Dropped(why)),
                Incoming::Ignored => {}
                Incoming::Empty => return Stop::Empty,
                Incoming::End(why) => {
                    rx.ended = true;
                    (self.on_end)(&why);
                }
            }
        }
        if rx.kept && !self.offer(rx) { Stop::PeerFull } else { Stop::Budget }
    }

    /// Offers the reader's frame; whether the peer took or refused it for good.
    fn offer(&self, rx: &mut Rx<R>) -> bool {
        let frame = Frame::whole(rx.reader.frame());
        let outcome = self.core.peer.send(&frame);
        self.core.counters.to_peer.count(&frame, outcome);
        rx.kept = outcome == Delivery::Full;
        !rx.kept
    }
}
