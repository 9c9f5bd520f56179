//! Where frames of another cable enter the one in which a filter sits: the port behind `indev=`.
//!
//! Made by [`super::open`] for `redirector`. Frames go on from the filter in the directions of its `queue=`, in their
//! order; those for which there is no room wait here, and beyond that, or while the filter is off, at their sender.

use std::sync::{Arc, Weak};

use super::held::Held;
use super::node::{Node, Way};
use crate::event::EventHandle;
use crate::netdev::PortCounters;
use crate::netdev::network::BranchPort;
use crate::netport::{Delivery, DropReason, Frame, FramePort, Offloads, OwnedFrame, PeerSlot};

/// The port. At most [`super::held::MOST_FRAMES`] wait in it for each direction.
#[derive(Debug)]
pub(super) struct Inlet {
    slot: PeerSlot,
    counters: PortCounters,
    queues: [Held; 2],
    events: EventHandle,
    node: Weak<Node>,
    this: Weak<Self>,
}

impl Inlet {
    /// An inlet of `node`.
    pub(super) fn new(node: Weak<Node>, events: EventHandle) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            slot: PeerSlot::default(),
            counters: PortCounters::default(),
            queues: Default::default(),
            events,
            node,
            this: this.clone(),
        })
    }

    /// The receiver of this direction has room again.
    pub(super) fn room(&self, node: &Node, way: Way) {
        let queue = &self.queues[way as usize];
        queue.make_due();
        let released = queue.release(&node.onward(way));
        if released.has_room {
            self.go_on();
        }
        if released.again {
            let this = self.this.clone();
            self.events.run(move || {
                if let Some(inlet) = this.upgrade()
                    && let Some(node) = inlet.node.upgrade()
                {
                    inlet.room(&node, way);
                }
            });
        }
    }

    /// Asks the sender for what it was told to keep.
    pub(super) fn go_on(&self) {
        self.slot.ready();
    }

    fn enter(&self, frame: &Frame<'_>) -> Delivery {
        let Some(node) = self.node.upgrade() else { return Delivery::Dropped(DropReason::NoPeer) };
        let ways = || Way::BOTH.into_iter().filter(|way| node.chooses(*way));
        // Nobody else adds to the queues: what is admitted to all of them will be taken by all.
        if !node.is_on() || !ways().all(|way| self.queues[way as usize].admits(frame.len())) {
            return Delivery::Full;
        }
        for way in ways() {
            self.queues[way as usize].push(OwnedFrame::copy(frame));
            self.room(&node, way);
        }
        Delivery::Taken
    }
}

impl FramePort for Inlet {
    fn deliver(&self, frame: &Frame<'_>) -> Delivery {
        let outcome = self.enter(frame);
        self.counters.from_peer.count(frame, outcome);
        outcome
    }

    /// Finished frames are good for whatever is at either end of the filter's cable.
    fn accepts(&self) -> Offloads {
        Offloads::default()
    }

    fn peer_ready(&self) {}

    fn peer_link(&self, _up: bool) {}

    fn peer_slot(&self) -> &PeerSlot {
        &self.slot
    }
}

impl BranchPort for Inlet {
    fn counters(&self) -> &PortCounters {
        &self.counters
    }
}
