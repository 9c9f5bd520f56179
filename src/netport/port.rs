//! The port trait, its outcome, and how two ports become peers.

use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock};

use super::{Frame, GsoKind};

/// What became of an offered frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The receiver owns it now (it may still drop it later, and then counts that itself).
    Taken,
    /// No room. The sender keeps it and offers it again after [`FramePort::peer_ready`].
    Full,
    /// Gone, for this reason, which the receiver has counted.
    Dropped(DropReason),
}

/// Why a frame was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The port's link is down, or its receiver is switched off.
    LinkDown,
    /// No address filter wanted it.
    Filtered,
    /// Longer or shorter than the receiver accepts.
    BadLength,
    /// Metadata that contradicts the frame.
    BadMeta,
    /// The operating system refused it.
    Backend,
    /// Nobody is connected.
    NoPeer,
    /// A bounded queue was full and the sender could not be made to wait.
    Overrun,
}

/// Which [`super::FrameMeta`] a port understands. A sender finishes the rest itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Unfinished L4 checksums.
    pub csum: bool,
    /// TCP over IPv4 to be cut (implies `csum`).
    pub tso4: bool,
    /// TCP over IPv6 to be cut (implies `csum`).
    pub tso6: bool,
}

impl Offloads {
    /// Whether a frame that is to be cut this way is understood.
    pub fn cuts(self, kind: GsoKind) -> bool {
        self.csum
            && match kind {
                GsoKind::Tcp4 => self.tso4,
                GsoKind::Tcp6 => self.tso6,
            }
    }
}

/// One end of a link. All methods may be called from any thread and must not block for long; none is called
/// with a lock of the caller held that `deliver` of the same port would need.
pub trait FramePort: Debug + Send + Sync {
    /// Offers one frame to this port.
    fn deliver(&self, frame: &Frame<'_>) -> Delivery;

    /// What metadata [`Self::deliver`] accepts now.
    fn accepts(&self) -> Offloads;

    /// The peer, which answered [`Delivery::Full`] before, has room again. Spurious calls are allowed.
    fn peer_ready(&self);

    /// The peer's link went up or down.
    fn peer_link(&self, up: bool);

    /// Where this port keeps its peer.
    fn peer_slot(&self) -> &PeerSlot;
}

/// A port's reference to its peer.
#[derive(Debug, Default)]
pub struct PeerSlot(RwLock<Option<Arc<dyn FramePort>>>);

impl PeerSlot {
    /// The peer, if connected.
    pub fn get(&self) -> Option<Arc<dyn FramePort>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, peer: Option<Arc<dyn FramePort>>) -> Option<Arc<dyn FramePort>> {
        std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), peer)
    }

    /// Forgets the peer, which is not told.
    pub fn clear(&self) {
        self.set(None);
    }

    /// Offers a frame to the peer; without one it is dropped.
    pub fn send(&self, frame: &Frame<'_>) -> Delivery {
        self.get().map_or(Delivery::Dropped(DropReason::NoPeer), |peer| peer.deliver(frame))
    }

    /// What the peer accepts; nothing without a peer.
    pub fn accepts(&self) -> Offloads {
        self.get().map(|peer| peer.accepts()).unwrap_or_default()
    }

    /// Tells the peer that this side has room again.
    pub fn ready(&self) {
        if let Some(peer) = self.get() {
            peer.peer_ready();
        }
    }
}

/// Makes `a` and `b` peers. Each holds the other alive until [`part`].
pub fn join(a: &Arc<dyn FramePort>, b: &Arc<dyn FramePort>) {
    a.peer_slot().set(Some(b.clone()));
    b.peer_slot().set(Some(a.clone()));
}

/// Ends the peering of `port`, on both sides.
pub fn part(port: &Arc<dyn FramePort>) {
    if let Some(peer) = port.peer_slot().set(None) {
        peer.peer_slot().set(None);
    }
}
