//! From the options of a backend to the backend.

use std::sync::Arc;

use super::hub::Hubs;
use super::{Backend, NetdevError, Surroundings, Tap, User, socket};
use crate::cli::{Netdev, NetdevKind};

/// Opens one backend; ports of hubs belong to `hubs`. Nothing is left behind on failure.
///
/// # Errors
/// The backend's own.
pub(super) fn open(
    options: &Netdev,
    around: &Surroundings,
    hubs: &Hubs,
) -> Result<Arc<dyn Backend>, NetdevError> {
    let Netdev { id, kind } = options;
    match kind {
        NetdevKind::HubPort(options) => match hubs.open(id, options, around) {
            Ok(port) => Ok(port),
            Err(error) => Err(NetdevError::HubPort { id: id.clone(), error }),
        },
        NetdevKind::Tap(options) => Ok(Tap::open(id, options, around)?),
        NetdevKind::User(options) => Ok(User::open(id, options, around)?),
        NetdevKind::Bridge(helper) => Ok(Tap::open_bridge(id, helper, around)?),
        NetdevKind::Stream(options) => socket::open_stream(id, options, around),
        NetdevKind::Dgram(options) => socket::open_dgram(id, options, around),
        NetdevKind::Socket(options) => socket::open_socket(id, options, around),
        NetdevKind::L2tpv3(options) => socket::open_l2tpv3(id, options, around),
        NetdevKind::Passt(options) => socket::open_passt(id, options, around),
    }
}
