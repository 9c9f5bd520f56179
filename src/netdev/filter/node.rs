//! The common part of all filters: two faces in a cable, a switch, and what happens to a frame in between.
//!
//! Made by [`super::open`]. A [`Behaviour`] says what becomes of the frames of the chosen directions; the node
//! passes everything else on untouched and keeps `Full`, readiness and link changes going from end to end.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use crate::cli::FilterQueue;
use crate::netdev::DirectionCounters;
use crate::netdev::network::{Branch, Filter};
use crate::netport::{Delivery, DropReason, Frame, FramePort, Offloads, PeerSlot};

/// Which way a frame goes along the cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Way {
    /// Sent by the netdev, towards the guest: QEMU's `queue=tx`.
    FromNetdev,
    /// Sent to the netdev, from the guest: QEMU's `queue=rx`.
    ToNetdev,
}

impl Way {
    pub(super) const BOTH: [Self; 2] = [Self::FromNetdev, Self::ToNetdev];
}

/// What a kind of filter does.
pub(super) trait Behaviour: Debug + Send + Sync {
    /// What it is, in a few words.
    fn describe(&self) -> String;

    /// A frame of a chosen direction, while the filter is on. `onward` is where it would go.
    fn frame(&self, frame: &Frame<'_>, way: Way, onward: &Onward<'_>) -> Delivery;

    /// Whether frames may not pass this filter although it is off (it still holds some that came before).
    fn busy(&self, _way: Way) -> bool {
        false
    }

    /// Whether it is a fault: it then acts on finished frames, and senders leave nothing to offloads while it is on.
    fn is_fault(&self) -> bool {
        false
    }

    /// The receiver of this direction has room again.
    fn room(&self, _node: &Node, _way: Way) {}

    /// `status=` changed, or the node is there.
    fn switched(&self, _node: &Node, _on: bool) {}

    /// Its ports in other cables.
    fn branches(&self) -> Vec<Branch> {
        Vec::new()
    }
}

/// The rest of a cable in one direction.
#[derive(Debug)]
pub(super) struct Onward<'a> {
    slot: &'a PeerSlot,
    counters: Option<&'a DirectionCounters>,
}

impl<'a> Onward<'a> {
    /// What is sent is counted.
    pub(super) fn counted(slot: &'a PeerSlot, counters: &'a DirectionCounters) -> Self {
        Self { slot, counters: Some(counters) }
    }

    pub(super) fn send(&self, frame: &Frame<'_>) -> Delivery {
        let outcome = self.slot.send(frame);
        if let Some(counters) = self.counters {
            counters.count(frame, outcome);
        }
        outcome
    }
}

/// A filter in a cable.
#[derive(Debug)]
pub(super) struct Node {
    id: String,
    queue: FilterQueue,
    on: AtomicBool,
    near: Arc<Face>,
    far: Arc<Face>,
    behaviour: Box<dyn Behaviour>,
}

/// One of its two ends.
#[derive(Debug)]
struct Face {
    node: Weak<Node>,
    slot: PeerSlot,
    /// The way of frames that enter here.
    way: Way,
}

impl Node {
    /// `make` gets the node that is about to be, for behaviours that send frames on their own account.
    pub(super) fn new(
        id: &str,
        queue: FilterQueue,
        on: bool,
        make: impl FnOnce(Weak<Node>) -> Box<dyn Behaviour>,
    ) -> Arc<Self> {
        let node = Arc::new_cyclic(|node: &Weak<Node>| {
            let face = |way| Arc::new(Face { node: node.clone(), slot: PeerSlot::default(), way });
            Self {
                id: id.to_owned(),
                queue,
                on: AtomicBool::new(on),
                near: face(Way::FromNetdev),
                far: face(Way::ToNetdev),
                behaviour: make(node.clone()),
            }
        });
        node.behaviour.switched(&node, on);
        node
    }

    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Where frames of this direction leave.
    pub(super) fn onward(&self, way: Way) -> Onward<'_> {
        let slot = match way {
            Way::FromNetdev => &self.far.slot,
            Way::ToNetdev => &self.near.slot,
        };
        Onward { slot, counters: None }
    }

    /// Tells the sender of this direction that it may offer its frame again.
    pub(super) fn ask_sender(&self, way: Way) {
        self.entry(way).slot.ready();
    }

    fn entry(&self, way: Way) -> &Face {
        match way {
            Way::FromNetdev => &self.near,
            Way::ToNetdev => &self.far,
        }
    }

    /// Whether `queue=` names this direction.
    pub(super) fn chooses(&self, way: Way) -> bool {
        match self.queue {
            FilterQueue::All => true,
            FilterQueue::Rx => way == Way::ToNetdev,
            FilterQueue::Tx => way == Way::FromNetdev,
        }
    }

    fn pass(&self, frame: &Frame<'_>, way: Way) -> Delivery {
        let onward = self.onward(way);
        if self.chooses(way) && (self.is_on() || self.behaviour.busy(way)) {
            self.behaviour.frame(frame, way, &onward)
        } else {
            onward.send(frame)
        }
    }
}

impl Filter for Node {
    fn id(&self) -> &str {
        &self.id
    }

    fn describe(&self) -> String {
        let queue = match self.queue {
            FilterQueue::All => "all",
            FilterQueue::Rx => "rx",
            FilterQueue::Tx => "tx",
        };
        let status = if self.is_on() { "on" } else { "off" };
        format!("{},queue={queue},status={status}", self.behaviour.describe())
    }

    fn near(&self) -> Arc<dyn FramePort> {
        self.near.clone()
    }

    fn far(&self) -> Arc<dyn FramePort> {
        self.far.clone()
    }

    fn is_on(&self) -> bool {
        self.is_on()
    }

    fn is_fault(&self) -> bool {
        self.behaviour.is_fault()
    }

    fn switch(&self, on: bool) {
        if self.on.swap(on, Ordering::SeqCst) != on {
            self.behaviour.switched(self, on);
        }
    }

    fn branches(&self) -> Vec<Branch> {
        self.behaviour.branches()
    }
}

impl FramePort for Face {
    fn deliver(&self, frame: &Frame<'_>) -> Delivery {
        match self.node.upgrade() {
            Some(node) => node.pass(frame, self.way),
            None => Delivery::Dropped(DropReason::NoPeer),
        }
    }

    fn accepts(&self) -> Offloads {
        let Some(node) = self.node.upgrade() else { return Offloads::default() };
        if node.chooses(self.way) && node.is_on() && node.behaviour.is_fault() {
            return Offloads::default();
        }
        node.onward(self.way).slot.accepts()
    }

    /// The peer of this face has room: frames that enter at the other face may go on.
    fn peer_ready(&self) {
        let Some(node) = self.node.upgrade() else { return };
        let way = match self.way {
            Way::FromNetdev => Way::ToNetdev,
            Way::ToNetdev => Way::FromNetdev,
        };
        node.behaviour.room(&node, way);
        node.ask_sender(way);
    }

    fn peer_link(&self, up: bool) {
        let Some(node) = self.node.upgrade() else { return };
        if let Some(other) = node.onward(self.way).slot.get() {
            other.peer_link(up);
        }
    }

    fn peer_slot(&self) -> &PeerSlot {
        &self.slot
    }
}
