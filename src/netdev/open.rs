//! From the options of a backend to the backend.

use std::sync::Arc;

use super::{Backend, NetdevError, Surroundings, Tap};
use crate::cli::{Netdev, NetdevKind};

/// Opens one backend. Nothing is left behind on failure.
///
/// # Errors
/// The backend's own.
pub(super) fn open(options: &Netdev, around: &Surroundings) -> Result<Arc<dyn Backend>, NetdevError> {
    let Netdev { id, kind } = options;
    match kind {
        NetdevKind::Tap(options) => Ok(Tap::open(id, options, around)?),
    }
}
