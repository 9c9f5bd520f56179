//! Network backends: what a NIC's cable is plugged into on the host, and the network that they form.
//!
//! `machine` makes one [`Network`], which opens the backends and lays the cables between them and the NICs. A
//! backend is a [`FramePort`] like any other and knows nothing of NICs; see `docs/netdev.md` for what each does
//! with frames that find no room.

mod counters;
pub mod filter;
mod helper;
pub mod hub;
pub mod network;
mod open;
pub mod socket;
pub mod tap;
pub mod user;
pub mod vnet_hdr;

use std::fmt;
use std::sync::Arc;

pub use counters::{DirectionCounters, DirectionStats, PortCounters, PortStats};
pub use hub::{HubError, HubPort};
pub use network::{EndSnapshot, FaultSnapshot, Network, NetworkError, NicEnd, Snapshot};
pub use socket::{Dgram, SocketError, Stream};
pub use tap::{Tap, TapError};
pub use user::{User, UserError, UserInfo};

use crate::event::EventHandle;
use crate::fault::CableListener;
use crate::netport::FramePort;
pub use crate::sys::Notices;

/// What every backend is given when it is opened.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Waits for its files and timers.
    pub events: EventHandle,
    /// Takes its remarks for the user.
    pub notices: Notices,
    /// Hears of connections.
    pub happenings: NetdevEvents,
    /// Hears of faults that strike.
    pub faults: CableListener,
}

impl Surroundings {
    /// Surroundings in which nobody wants to hear of connections and faults.
    pub fn new(events: EventHandle, notices: Notices) -> Self {
        Self { events, notices, happenings: NetdevEvents::default(), faults: CableListener::default() }
    }
}

/// What happens to a backend that the user may want to hear of while the guest runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetdevEvent {
    /// A stream has a connection.
    StreamConnected {
        /// `id=`.
        id: String,
        /// The other side.
        peer: StreamPeer,
    },
    /// A stream has lost its connection.
    StreamDisconnected {
        /// `id=`.
        id: String,
    },
}

/// The other side of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamPeer {
    /// A TCP connection.
    Inet(std::net::SocketAddr),
    /// A Unix socket's path; empty if it has none.
    Unix(String),
}

/// Where [`NetdevEvent`]s go, from any thread; by default nowhere.
#[derive(Clone, Default)]
pub struct NetdevEvents(Option<Arc<dyn Fn(NetdevEvent) + Send + Sync>>);

impl NetdevEvents {
    /// Events are given to `sink`, which must not wait.
    pub fn new(sink: impl Fn(NetdevEvent) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(sink)))
    }

    /// It happened.
    pub fn tell(&self, event: NetdevEvent) {
        if let Some(sink) = &self.0 {
            sink(event);
        }
    }
}

impl fmt::Debug for NetdevEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NetdevEvents")
    }
}

/// Why a backend could not be opened: one line that names the option and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum NetdevError {
    /// `-netdev hubport`.
    #[error("-netdev hubport,id={id}: {error}")]
    HubPort {
        /// `id=`.
        id: String,
        /// What was wrong.
        error: HubError,
    },
    /// `-netdev tap` and `-netdev bridge`.
    #[error("-netdev {kind},id={id}: {error}")]
    Tap {
        /// Which of them.
        kind: &'static str,
        /// `id=`.
        id: String,
        /// What was wrong.
        error: TapError,
    },
    /// `-netdev user`.
    #[error("-netdev user,id={id}: {error}")]
    User {
        /// `id=`.
        id: String,
        /// What was wrong.
        error: UserError,
    },
    /// `-chardev socket`.
    #[error("-chardev socket,id={id}: {error}")]
    Chardev {
        /// `id=`.
        id: String,
        /// What was wrong.
        error: SocketError,
    },
    /// `-netdev stream`, `dgram`, `socket`, `l2tpv3` and `passt`.
    #[error("-netdev {kind},id={id}: {error}")]
    Socket {
        /// Which of them.
        kind: &'static str,
        /// `id=`.
        id: String,
        /// What was wrong.
        error: SocketError,
    },
}

/// A port that has a name on the command line and counts.
pub trait Backend: FramePort {
    /// `id=`.
    fn id(&self) -> &str;

    /// Its type, in QEMU's word: "tap".
    fn kind(&self) -> &'static str;

    /// What it is, in a few words: "tap tap0, vnet_hdr".
    fn describe(&self) -> String;

    /// What passed so far.
    fn counters(&self) -> &PortCounters;

    /// Whether its own link is up, whatever `set_link` said: false while a connection is missing or when its
    /// interface is gone. Whenever this changes, the backend tells its peer by `peer_link`.
    fn link_up(&self) -> bool {
        true
    }

    /// The hub that it is a port of.
    fn hub(&self) -> Option<u32> {
        None
    }

    /// The user network that it is, if it is one: forwards and connections.
    fn user(&self) -> Option<&User> {
        None
    }
}
