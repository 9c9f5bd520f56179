//! The network at one moment, as plain data.
//!
//! Read by the monitor (`info network`, `query-netdev`); serializable.

use serde::Serialize;

use super::ends::{End, What, peer_of};
use crate::netdev::PortStats;
use crate::netdev::hub::HubSnapshot;

/// All ends, backends and NICs in the order in which they came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// What cables end in.
    pub ends: Vec<EndSnapshot>,
    /// Hubs, by their numbers.
    pub hubs: Vec<HubSnapshot>,
}

/// A backend, a NIC, or a port of a filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndSnapshot {
    /// Its id or automatic name.
    pub name: String,
    /// `nic`, `filter` (a port of one), `chardev`, or the type of the backend.
    pub kind: &'static str,
    /// In a few words.
    pub what: String,
    /// Name of the end at the other end of the cable.
    pub peer: Option<String>,
    /// Whether there is a cable and neither end has its link down.
    pub link_up: bool,
    /// The hub that it is a port of.
    pub hub: Option<u32>,
    /// Ids of the filters on it, nearest first.
    pub filters: Vec<String>,
    /// What passed; NICs do not count here.
    pub counters: Option<PortStats>,
}

impl Snapshot {
    pub(super) fn of(ends: &[End], hubs: Vec<HubSnapshot>) -> Self {
        Self { ends: (0..ends.len()).map(|at| end(ends, at)).collect(), hubs }
    }
}

fn end(ends: &[End], at: usize) -> EndSnapshot {
    let end = &ends[at];
    let peer = peer_of(ends, at).map(|peer| &ends[peer]);
    let (kind, what, hub, counters) = match &end.what {
        What::Nic { model, mac } => {
            let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
            ("nic", format!("model={model},macaddr={mac}"), None, None)
        }
        What::Branch(port) => ("filter", "port of a filter".to_owned(), None, Some(port.counters().read())),
        What::Netdev(backend) => {
            (backend.kind(), backend.describe(), backend.hub(), Some(backend.counters().read()))
        }
    };
    EndSnapshot {
        name: end.name.clone(),
        kind,
        what,
        peer: peer.map(|peer| peer.name.clone()),
        link_up: peer.is_some_and(|peer| [end, peer].iter().all(|end| end.link_up && end.what.own_link())),
        hub,
        filters: end.side.filters.iter().map(|filter| filter.id().to_owned()).collect(),
        counters,
    }
}
