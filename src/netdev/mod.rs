//! Network backends: what a NIC's cable is plugged into on the host.
//!
//! `machine` opens all backends of a command line at once ([`Netdevs::open`]) and joins each with the NIC that
//! names its id. A backend is a [`FramePort`] like any other and knows nothing of NICs; see `docs/netdev.md`
//! for what each does with frames that find no room.

mod counters;
pub mod tap;
pub mod vnet_hdr;

use std::sync::Arc;

pub use counters::{DirectionCounters, DirectionStats, PortCounters, PortStats};
pub use tap::{Tap, TapError};

use crate::cli::Netdev;
use crate::event::EventHandle;
use crate::netport::FramePort;
pub use crate::sys::Notices;

/// Why a backend could not be opened: one line that names the option and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum NetdevError {
    /// `-netdev tap`.
    #[error("-netdev tap,id={id}: {error}")]
    Tap {
        /// `id=`.
        id: String,
        /// What was wrong.
        error: TapError,
    },
}

/// A port that has a name on the command line and counts.
pub trait Backend: FramePort {
    /// `id=`.
    fn id(&self) -> &str;

    /// What it is, in a few words: "tap tap0, vnet_hdr".
    fn describe(&self) -> String;

    /// What passed so far.
    fn counters(&self) -> &PortCounters;
}

/// All backends of a machine, in the order of the command line.
#[derive(Debug, Default)]
pub struct Netdevs(Vec<Arc<dyn Backend>>);

impl Netdevs {
    /// Opens every backend. Those opened before a failure are closed again.
    ///
    /// # Errors
    /// The first backend's that could not be opened.
    pub fn open(options: &[Netdev], events: &EventHandle, notices: &Notices) -> Result<Self, NetdevError> {
        let open_one = |netdev: &Netdev| -> Result<Arc<dyn Backend>, NetdevError> {
            match netdev {
                Netdev::Tap(options) => Ok(Tap::open(options, events, notices)?),
            }
        };
        options.iter().map(open_one).collect::<Result<_, _>>().map(Self)
    }

    /// The backend with this id.
    pub fn get(&self, id: &str) -> Option<&Arc<dyn Backend>> {
        self.0.iter().find(|backend| backend.id() == id)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Backend>> {
        self.0.iter()
    }
}
