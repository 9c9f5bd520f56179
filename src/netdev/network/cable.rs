//! The cable between two ends: which ports are peers of which.
//!
//! Called by [`super::Network`] for every change of who is joined with whom. All joining of a machine's ports
//! happens here, so that this is the one place where something can sit in a cable.

use std::fmt::Debug;
use std::sync::Arc;

use crate::netdev::PortCounters;
use crate::netport::{self, Delivery, DropReason, Frame, FramePort, Offloads, PeerSlot};

/// Sits in a cable: what enters by one face leaves by the other.
///
/// The network joins the faces; a filter only delivers into a face's peer (its slot's `send`), never keeps a
/// peer, and passes `Full`, `peer_ready`, `peer_link` and `accepts` on as its purpose allows.
pub trait Filter: Debug + Send + Sync {
    /// `id=`.
    fn id(&self) -> &str;

    /// What it is, in a few words.
    fn describe(&self) -> String;

    /// Whether it acts on frames (`status=`); off, it lets everything pass.
    fn is_on(&self) -> bool;

    /// Whether it is there because something is to go wrong (`-fault`).
    fn is_fault(&self) -> bool {
        false
    }

    /// Switches it on or off. What it holds goes on its way.
    fn switch(&self, on: bool);

    /// The face towards the netdev on which it sits.
    fn near(&self) -> Arc<dyn FramePort>;

    /// The face towards that netdev's peer.
    fn far(&self) -> Arc<dyn FramePort>;

    /// Its ports in other cables (`indev=`, `outdev=`), each of which is to be joined with an end.
    fn branches(&self) -> Vec<Branch> {
        Vec::new()
    }
}

/// A port of a filter in another cable than the one in which it sits.
#[derive(Debug)]
pub struct Branch {
    /// The key that names the other end: `outdev`.
    pub key: &'static str,
    /// The id that it names: a chardev's or a netdev's.
    pub to: String,
    /// The port.
    pub port: Arc<dyn BranchPort>,
}

/// A port that counts.
pub trait BranchPort: FramePort {
    /// What passed so far.
    fn counters(&self) -> &PortCounters;
}

/// One side of a cable: a port and the filters that sit on it, nearest first.
#[derive(Debug, Clone)]
pub(super) struct Side {
    pub(super) port: Arc<dyn FramePort>,
    pub(super) filters: Vec<Arc<dyn Filter>>,
}

/// Joins two sides through all their filters. Whatever was joined before is replaced without a moment in which
/// an end has no peer.
pub(super) fn lay(a: &Side, b: &Side) {
    let mut chain = vec![a.port.clone()];
    chain.extend(a.filters.iter().flat_map(|filter| [filter.near(), filter.far()]));
    chain.extend(b.filters.iter().rev().flat_map(|filter| [filter.far(), filter.near()]));
    chain.push(b.port.clone());
    // Ports 0-1, 2-3, ... are neighbours; 1-2, 3-4, ... are the two faces of one filter.
    for pair in chain.chunks_exact(2) {
        netport::join(&pair[0], &pair[1]);
    }
}

/// Ends the side in nothing: frames are dropped because the link is down.
pub(super) fn cut(side: &Side) {
    let end: Arc<dyn FramePort> = Arc::new(DeadEnd::default());
    lay(side, &Side { port: end, filters: Vec::new() });
}

/// Forgets all peers of the side.
pub(super) fn clear(side: &Side) {
    side.port.peer_slot().clear();
    side.filters.iter().for_each(|filter| clear_filter(&**filter));
}

/// Forgets the peers of a filter that sits in no cable any more.
pub(super) fn clear_filter(filter: &dyn Filter) {
    filter.near().peer_slot().clear();
    filter.far().peer_slot().clear();
}

/// Where a cable ends whose link was set down.
#[derive(Debug, Default)]
struct DeadEnd(PeerSlot);

impl FramePort for DeadEnd {
    fn deliver(&self, _: &Frame<'_>) -> Delivery {
        Delivery::Dropped(DropReason::LinkDown)
    }

    fn accepts(&self) -> Offloads {
        Offloads::default()
    }

    fn peer_ready(&self) {}

    fn peer_link(&self, _: bool) {}

    fn peer_slot(&self) -> &PeerSlot {
        &self.0
    }
}
