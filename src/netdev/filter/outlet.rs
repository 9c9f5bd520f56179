//! Where frames leave a filter by another cable: the port behind `outdev=`.
//!
//! Made by [`super::open`] for `mirror` and `redirector`. Frames leave finished, as a wire carries them, on the thread
//! that brings them; those for which the other end has no room wait here. What the other end sends is dropped.

use std::sync::{Arc, Weak};

use super::held::Held;
use super::node::{Node, Onward, Way};
use crate::event::EventHandle;
use crate::netdev::PortCounters;
use crate::netdev::network::BranchPort;
use crate::netport::{Delivery, DropReason, Frame, FramePort, Offloads, OwnedFrame, PeerSlot, finish};

/// The port. At most [`super::held::MOST_FRAMES`] wait in it.
#[derive(Debug)]
pub(super) struct Outlet {
    slot: PeerSlot,
    counters: PortCounters,
    queue: Held,
    events: EventHandle,
    node: Weak<Node>,
    this: Weak<Self>,
}

impl Outlet {
    /// An outlet of `node`, whose senders are asked for more when there is room again.
    pub(super) fn new(node: Weak<Node>, events: EventHandle) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            slot: PeerSlot::default(),
            counters: PortCounters::default(),
            queue: Held::default(),
            events,
            node,
            this: this.clone(),
        })
    }

    /// Sends a frame, now or when there is room; `Full` if too many wait.
    pub(super) fn send(&self, frame: OwnedFrame) -> Delivery {
        let outcome = match finish(frame) {
            Ok(pieces) => self.queue.push_all(pieces),
            Err(why) => Delivery::Dropped(why),
        };
        self.release();
        outcome
    }

    /// Sends a frame, now or when there is room; if too many wait, it is lost and counted.
    pub(super) fn send_or_drop(&self, frame: &OwnedFrame) {
        let why = match self.send(frame.clone()) {
            Delivery::Taken => return,
            Delivery::Full => DropReason::Overrun,
            Delivery::Dropped(why) => why,
        };
        self.counters.to_peer.count(&frame.frame(), Delivery::Dropped(why));
    }

    fn release(&self) {
        self.queue.make_due();
        let released = self.queue.release(&Onward::counted(&self.slot, &self.counters.to_peer));
        if released.has_room
            && let Some(node) = self.node.upgrade()
        {
            Way::BOTH.into_iter().for_each(|way| node.ask_sender(way));
        }
        if released.again {
            let this = self.this.clone();
            self.events.run(move || {
                if let Some(outlet) = this.upgrade() {
                    outlet.release();
                }
            });
        }
    }
}

impl FramePort for Outlet {
    fn deliver(&self, frame: &Frame<'_>) -> Delivery {
        let outcome = Delivery::Dropped(DropReason::Filtered);
        self.counters.from_peer.count(frame, outcome);
        outcome
    }

    fn accepts(&self) -> Offloads {
        Offloads::default()
    }

    fn peer_ready(&self) {
        self.release();
    }

    /// What waits for an end that is gone is dropped.
    fn peer_link(&self, _up: bool) {
        self.release();
    }

    fn peer_slot(&self) -> &PeerSlot {
        &self.slot
    }
}

impl BranchPort for Outlet {
    fn counters(&self) -> &PortCounters {
        &self.counters
    }
}
