//! One port of a hub: what it gets goes to the hub's others, what they send goes to its peer or waits here.
//!
//! [`HubPort::emit`] offers a frame to the peer on the sender's thread, straight from where it lies. A peer
//! without room, or one that is being served by another thread, gets a copy later, in order: from the queue,
//! which is bounded. Frames that the peer does not take unfinished are finished here.
//!
//! Lock order: `egress` (held across calls of the peer, never waited for) before `queue` (held for moments).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::Hub;
use crate::event::{Entered, EventHandle, Token};
use crate::netdev::{Backend, PortCounters};
use crate::netport::{Delivery, DropReason, Frame, FramePort, Offloads, OwnedFrame, PeerSlot, finish, fits};

/// Frames that wait for a peer, at most; as many as a Linux interface queues.
pub(super) const QUEUE_FRAMES: usize = 1000;
/// Bytes that wait, at most: some fifty frames of the longest kind.
pub(super) const QUEUE_BYTES: usize = 4 << 20;
/// Frames taken from the queue in one go; the event loop does the rest.
const BUDGET: usize = 64;

/// A port of a hub.
#[derive(Debug)]
pub struct HubPort {
    id: String,
    number: u64,
    hub: Arc<Hub>,
    events: EventHandle,
    this: Weak<Self>,
    peer: PeerSlot,
    counters: PortCounters,
    egress: Token<()>,
    queue: Mutex<Queue>,
    /// Its peer was told `Full` and waits to be called.
    starved: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<OwnedFrame>,
    bytes: usize,
}

/// How emptying the queue ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    Nothing,
    PeerFull,
    More,
}

impl Queue {
    fn has_room_for(&self, len: usize) -> bool {
        self.frames.len() < QUEUE_FRAMES && self.bytes + len <= QUEUE_BYTES
    }

    fn pop(&mut self) -> Option<OwnedFrame> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.bytes.len();
        Some(frame)
    }

    fn put_back(&mut self, frames: impl DoubleEndedIterator<Item = OwnedFrame>) {
        for frame in frames.rev() {
            self.bytes += frame.bytes.len();
            self.frames.push_front(frame);
        }
    }
}

impl HubPort {
    pub(super) fn new(id: &str, hub: &Arc<Hub>, events: &EventHandle) -> Arc<Self> {
        let port = Arc::new_cyclic(|this| Self {
            id: id.to_owned(),
            number: hub.next_port.fetch_add(1, Ordering::Relaxed),
            hub: hub.clone(),
            events: events.clone(),
            this: this.clone(),
            peer: PeerSlot::default(),
            counters: PortCounters::default(),
            egress: Token::default(),
            queue: Mutex::default(),
            starved: AtomicBool::new(false),
        });
        hub.add(Some(Arc::downgrade(&port)));
        port
    }

    pub(super) fn name(&self) -> &str {
        &self.id
    }

    /// Tells the ports of a hub apart.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn is_connected(&self) -> bool {
        self.peer.get().is_some()
    }

    pub(super) fn peer_accepts(&self) -> Offloads {
        self.peer.accepts()
    }

    /// Whether a frame of any length would be kept.
    pub(super) fn has_room(&self) -> bool {
        let queue = self.queue();
        queue.frames.len() < QUEUE_FRAMES && queue.bytes < QUEUE_BYTES - crate::netport::MAX_FRAME
    }

    /// Whether it is worth the while to call those who wait.
    pub(super) fn has_ample_room(&self) -> bool {
        let queue = self.queue();
        queue.frames.len() <= QUEUE_FRAMES / 2 && queue.bytes <= QUEUE_BYTES / 2
    }

    /// Its peer is about to be told `Full`.
    pub(super) fn starve(&self) {
        self.starved.store(true, Ordering::SeqCst);
    }

    /// Calls the peer if it was told `Full`.
    pub(super) fn feed(&self) {
        if self.starved.swap(false, Ordering::SeqCst) {
            self.peer.ready();
        }
    }

    /// Gives a frame of another port to the peer, now or later.
    pub(super) fn emit(&self, frame: &Frame<'_>) {
        let mut fresh = Some(frame);
        let mut rest = Rest::Nothing;
        let mut entered = self.egress.enter(|()| {
            rest = self.drain();
            if let Some(frame) = fresh.take() {
                rest = self.offer(frame, rest);
            }
        });
        if let Some(frame) = fresh {
            // Another thread, or a caller of ours, is giving frames to the peer: this one comes after them.
            self.keep(frame);
            entered = self.egress.enter(|()| rest = self.drain());
        }
        self.settle(entered, rest);
    }

    /// Empties the queue as far as the peer has room.
    fn serve(&self) {
        let mut rest = Rest::Nothing;
        let entered = self.egress.enter(|()| rest = self.drain());
        self.settle(entered, rest);
    }

    /// What is to follow when the egress is free again.
    fn settle(&self, entered: Entered, rest: Rest) {
        if entered == Entered::Again || rest == Rest::More {
            let this = self.this.clone();
            self.events.run(move || {
                if let Some(port) = this.upgrade() {
                    port.serve();
                }
            });
        }
        self.hub.wake_starved();
    }

    /// Offers a frame after those that wait. For the holder of the egress.
    fn offer(&self, frame: &Frame<'_>, before: Rest) -> Rest {
        if before == Rest::Nothing && fits(&frame.meta, self.peer.accepts()) {
            let outcome = self.peer.send(frame);
            self.counters.to_peer.count(frame, outcome);
            if outcome != Delivery::Full {
                return Rest::Nothing;
            }
            self.keep(frame);
            return Rest::PeerFull;
        }
        self.keep(frame);
        if before == Rest::Nothing { self.drain() } else { before }
    }

    /// Copies a frame into the queue, or drops it.
    fn keep(&self, frame: &Frame<'_>) {
        let mut queue = self.queue();
        if queue.has_room_for(frame.len()) {
            let own = OwnedFrame::copy(frame);
            queue.bytes += own.bytes.len();
            queue.frames.push_back(own);
        } else {
            drop(queue);
            self.counters.to_peer.count(frame, Delivery::Dropped(DropReason::Overrun));
        }
    }

    /// Gives frames of the queue to the peer. For the holder of the egress.
    fn drain(&self) -> Rest {
        for _ in 0..BUDGET {
            let Some(own) = self.queue().pop() else { return Rest::Nothing };
            let frame = own.frame();
            if !fits(&frame.meta, self.peer.accepts()) {
                match finish(own.clone()) {
                    Ok(pieces) => self.queue().put_back(pieces.into_iter()),
                    Err(why) => self.counters.to_peer.count(&frame, Delivery::Dropped(why)),
                }
                continue;
            }
            match self.peer.send(&frame) {
                // Counted when it was offered first.
                Delivery::Full => {
                    self.queue().put_back(std::iter::once(own));
                    return Rest::PeerFull;
                }
                outcome => self.counters.to_peer.count(&frame, outcome),
            }
        }
        if self.queue().frames.is_empty() { Rest::Nothing } else { Rest::More }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FramePort for HubPort {
    fn deliver(&self, frame: &Frame<'_>) -> Delivery {
        let outcome = self.hub.forward(self, frame);
        self.counters.from_peer.count(frame, outcome);
        outcome
    }

    fn accepts(&self) -> Offloads {
        self.hub.accepts(self.number)
    }

    fn peer_ready(&self) {
        self.serve();
    }

    fn peer_link(&self, up: bool) {
        if !up {
            self.hub.flush(self.number);
        }
        // A peer that is gone makes room: what waits for it is dropped.
        self.serve();
    }

    fn peer_slot(&self) -> &PeerSlot {
        &self.peer
    }
}

impl Backend for HubPort {
    fn id(&self) -> &str {
        &self.id
    }

    fn kind(&self) -> &'static str {
        "hubport"
    }

    fn describe(&self) -> String {
        let kind = if self.hub.learns() { "port of learning hub" } else { "port of hub" };
        format!("{kind} {}", self.hub.id)
    }

    fn counters(&self) -> &PortCounters {
        &self.counters
    }

    fn hub(&self) -> Option<u32> {
        Some(self.hub.id)
    }
}

impl Drop for HubPort {
    fn drop(&mut self) {
        self.hub.flush(self.number);
        self.hub.add(None);
    }
}
