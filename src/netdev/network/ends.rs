//! What cables end in, and what may be joined with what.
//!
//! Plain data and questions about it; [`super::Network`] changes it.

use std::sync::Arc;

use super::NetworkError;
use super::cable::{Branch, BranchPort, Side};
use crate::netdev::Backend;

#[derive(Debug)]
pub(super) struct End {
    pub(super) name: String,
    pub(super) what: What,
    pub(super) side: Side,
    /// What `set_link` said last.
    pub(super) link_up: bool,
    /// The end that this one named.
    pub(super) uses: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    Nic {
        model: &'static str,
        mac: [u8; 6],
    },
    Netdev(Arc<dyn Backend>),
    /// A filter's port, in the cable of its `indev=` or `outdev=`.
    Branch(Arc<dyn BranchPort>),
}

impl What {
    /// Whether it has nothing against a link.
    pub(super) fn own_link(&self) -> bool {
        match self {
            What::Nic { .. } | What::Branch(_) => true,
            What::Netdev(backend) => backend.link_up(),
        }
    }
}

impl End {
    pub(super) fn is_nic(&self) -> bool {
        matches!(self.what, What::Nic { .. })
    }

    /// Whether it is the NIC, or the backend, of this name; one may be called as the other.
    pub(super) fn is(&self, name: &str, nic: bool) -> bool {
        self.name == name && self.is_nic() == nic
    }
}

pub(super) fn position(ends: &[End], name: &str, nic: bool) -> Option<usize> {
    ends.iter().position(|end| end.is(name, nic))
}

/// The other end of the cable of `ends[at]`.
pub(super) fn peer_of(ends: &[End], at: usize) -> Option<usize> {
    let end = &ends[at];
    match &end.uses {
        Some(used) => position(ends, used, false),
        None if end.is_nic() => None,
        None => ends.iter().position(|other| other.uses.as_deref() == Some(&end.name)),
    }
}

/// Whether the backend is there and nothing uses it.
pub(super) fn check_free(ends: &[End], netdev: &str) -> Result<(), NetworkError> {
    let id = netdev.to_owned();
    let at = position(ends, netdev, false).ok_or_else(|| NetworkError::NoNetdev(id.clone()))?;
    match peer_of(ends, at) {
        Some(user) => Err(NetworkError::InUse { id, by: ends[user].name.clone() }),
        None => Ok(()),
    }
}

/// The name of a chardev among the ends; no netdev can be called so.
pub(super) fn chardev_name(id: &str) -> String {
    format!("chardev:{id}")
}

/// The name of a filter's port among the ends; no netdev can be called so.
pub(super) fn branch_name(filter: &str, key: &str) -> String {
    format!("{filter}:{key}")
}

/// The free end that a filter on `netdev` may be joined with by this branch: a chardev, or a netdev of which no frame
/// finds its way back into the filter.
pub(super) fn check_branch(ends: &[End], netdev: &str, branch: &Branch) -> Result<String, NetworkError> {
    let chardev = chardev_name(&branch.to);
    if position(ends, &chardev, false).is_some() {
        check_free(ends, &chardev)?;
        return Ok(chardev);
    }
    let Some(at) = position(ends, &branch.to, false) else {
        return Err(NetworkError::NoBranchEnd(branch.to.clone()));
    };
    let is_hub = matches!(&ends[at].what, What::Netdev(backend) if backend.hub().is_some());
    let branches = ends[at].side.filters.iter().any(|filter| !filter.branches().is_empty());
    if is_hub || branches || branch.to == netdev || is_branch(ends, netdev) {
        return Err(NetworkError::BranchLoop { key: branch.key, to: branch.to.clone() });
    }
    check_free(ends, &branch.to)?;
    Ok(branch.to.clone())
}

/// Whether the netdev is some filter's `indev=` or `outdev=`.
fn is_branch(ends: &[End], netdev: &str) -> bool {
    ends.iter().any(|end| matches!(end.what, What::Branch(_)) && end.uses.as_deref() == Some(netdev))
}

/// Whether a port of hub `hub` may be joined with `used`: two hubs are joined by one way at most.
pub(super) fn check_hubs(ends: &[End], hub: u32, used: &str) -> Result<(), NetworkError> {
    let hub_of = |at: usize| match &ends[at].what {
        What::Netdev(backend) => backend.hub(),
        What::Nic { .. } | What::Branch(_) => None,
    };
    let Some(other) = position(ends, used, false).and_then(hub_of) else { return Ok(()) };
    let joins: Vec<(u32, u32)> =
        (0..ends.len()).filter_map(|at| Some((hub_of(at)?, hub_of(peer_of(ends, at)?)?))).collect();
    let mut reached = vec![hub];
    let mut next = 0;
    while let Some(&from) = reached.get(next) {
        let neighbours = joins.iter().filter(|(a, _)| *a == from).map(|(_, b)| *b);
        let new: Vec<u32> = neighbours.filter(|to| !reached.contains(to)).collect();
        reached.extend(new);
        next += 1;
    }
    if reached.contains(&other) { Err(NetworkError::HubLoop(hub, other)) } else { Ok(()) }
}

/// `MODEL.N`, counting the NICs of this model.
pub(super) fn free_name(ends: &[End], model: &str) -> String {
    let names = (0..=ends.len()).map(|n| format!("{model}.{n}"));
    let mut free = names.filter(|name| position(ends, name, true).is_none());
    free.next().unwrap_or_else(|| model.to_owned())
}
