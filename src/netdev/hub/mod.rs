//! Hubs: QEMU's "VLANs". Every port gets the frames of all others and never its own.
//!
//! [`Hubs`] (owned by the network) makes a hub when its first port is opened; the hub goes with its last port. A
//! port is a backend like any other: a NIC, a backend or a port of another hub is its peer. No port slows
//! another down: what its peer cannot take now waits in the port's own bounded queue (`port`), and what does
//! not fit there is dropped and counted at that port. Only when no other port has room is a sender told so.
//!
//! A hub that learns sends a frame for a known station to that station's port only (`mac_table`).

mod mac_table;
mod port;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};

use serde::Serialize;

use self::mac_table::{MacTable, is_group};
pub use self::port::HubPort;
use super::Surroundings;
use crate::cli::HubPortOptions;
use crate::netport::{Delivery, DropReason, Frame, Offloads};
use crate::time::MonotonicClock;

/// Why a port could not be had.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Two ports want different things of their hub.
    #[error("hub {hubid} is there with learning={}; leave learning= out or write the same", on_off(*.is))]
    Learning {
        /// The hub.
        hubid: u32,
        /// What it does.
        is: bool,
    },
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// The hubs of one machine, by their numbers.
#[derive(Debug, Default)]
pub struct Hubs(Mutex<BTreeMap<u32, Weak<Hub>>>);

/// One hub.
#[derive(Debug)]
pub struct Hub {
    id: u32,
    /// Set by the first port that says.
    learning: OnceLock<bool>,
    ports: RwLock<Arc<[Weak<HubPort>]>>,
    next_port: AtomicU64,
    stations: Mutex<MacTable>,
    clock: MonotonicClock,
    /// Some port was told `Full` and waits to be called.
    starved: AtomicBool,
}

/// A hub at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HubSnapshot {
    /// `hubid=`.
    pub id: u32,
    /// Whether it is a switch.
    pub learning: bool,
    /// Ids of its ports, oldest first.
    pub ports: Vec<String>,
    /// What it has learned.
    pub stations: Vec<StationSnapshot>,
}

/// A station behind a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StationSnapshot {
    /// `52:54:00:12:34:56`.
    pub mac: String,
    /// Id of the port.
    pub port: String,
    /// Seconds since it was heard last.
    pub age_s: u64,
}

impl Hubs {
    /// Opens a port, and its hub if this is the first one.
    ///
    /// # Errors
    /// [`HubError`]; nothing has changed then.
    pub fn open(
        &self,
        id: &str,
        options: &HubPortOptions,
        around: &Surroundings,
    ) -> Result<Arc<HubPort>, HubError> {
        let hubid = options.hubid;
        let mut hubs = self.lock();
        let hub = hubs.get(&hubid).and_then(Weak::upgrade).unwrap_or_else(|| Arc::new(Hub::new(hubid)));
        if let Some(wanted) = options.learning {
            let is = *hub.learning.get_or_init(|| wanted);
            if is != wanted {
                return Err(HubError::Learning { hubid, is });
            }
        }
        hubs.insert(hubid, Arc::downgrade(&hub));
        Ok(HubPort::new(id, &hub, &around.events))
    }

    /// All hubs that have a port.
    pub fn snapshot(&self) -> Vec<HubSnapshot> {
        let hubs: Vec<_> = self.lock().values().filter_map(Weak::upgrade).collect();
        hubs.iter().map(|hub| hub.snapshot()).filter(|hub| !hub.ports.is_empty()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Weak<Hub>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub {
    fn new(id: u32) -> Self {
        Self {
            id,
            learning: OnceLock::new(),
            ports: RwLock::new(Arc::new([])),
            next_port: AtomicU64::new(0),
            stations: Mutex::default(),
            clock: MonotonicClock::new(),
            starved: AtomicBool::new(false),
        }
    }

    fn learns(&self) -> bool {
        self.learning.get().copied().unwrap_or(false)
    }

    fn all(&self) -> Arc<[Weak<HubPort>]> {
        self.ports.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds a port and drops those that are gone.
    fn add(&self, port: Option<Weak<HubPort>>) {
        let mut ports = self.ports.write().unwrap_or_else(PoisonError::into_inner);
        let alive = ports.iter().filter(|port| port.strong_count() > 0).cloned();
        *ports = alive.chain(port).collect();
    }

    fn table(&self) -> MutexGuard<'_, MacTable> {
        self.stations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a frame that came in by `from` to the ports that are to have it.
    fn forward(&self, from: &HubPort, frame: &Frame<'_>) -> Delivery {
        let all = self.all();
        let others = || all.iter().filter_map(Weak::upgrade).filter(|port| port.number() != from.number());
        if !others().any(|port| port.is_connected()) {
            return Delivery::Dropped(DropReason::NoPeer);
        }
        let room = || others().any(|port| port.is_connected() && port.has_room());
        if !room() {
            from.starve();
            self.starved.store(true, Ordering::SeqCst);
            // Looked at again after word was left: whoever makes room finds it.
            if !room() {
                return Delivery::Full;
            }
        }
        match self.learn_and_find(from, frame) {
            Some(number) if number == from.number() => Delivery::Dropped(DropReason::Filtered),
            Some(number) => {
                others().filter(|port| port.number() == number).for_each(|port| port.emit(frame));
                Delivery::Taken
            }
            None => {
                others().filter(|port| port.is_connected()).for_each(|port| port.emit(frame));
                Delivery::Taken
            }
        }
    }

    /// The one port that is to have the frame; None: all.
    fn learn_and_find(&self, from: &HubPort, frame: &Frame<'_>) -> Option<u64> {
        if !self.learns() {
            return None;
        }
        let addresses = frame.head.first_chunk::<12>()?;
        let (mut to, mut source) = ([0; 6], [0; 6]);
        to.copy_from_slice(&addresses[..6]);
        source.copy_from_slice(&addresses[6..]);
        let now = self.clock.now_ns();
        let mut table = self.table();
        table.learn(source, from.number(), now);
        if is_group(to) { None } else { table.port_of(to, now) }
    }

    /// Forgets what was learned about a port: its cable was pulled.
    fn flush(&self, port: u64) {
        self.table().flush(port);
    }

    /// What at least one port other than `but` takes unfinished; for the rest its port finishes it.
    fn accepts(&self, but: u64) -> Offloads {
        let others = self.all();
        let others = others.iter().filter_map(Weak::upgrade).filter(|port| port.number() != but);
        others.map(|port| port.peer_accepts()).fold(Offloads::default(), |a, b| Offloads {
            csum: a.csum || b.csum,
            tso4: a.tso4 || b.tso4,
            tso6: a.tso6 || b.tso6,
        })
    }

    /// Calls those that were told `Full`, once a port has ample room.
    fn wake_starved(&self) {
        if !self.starved.load(Ordering::SeqCst) {
            return;
        }
        let all = self.all();
        let ports = || all.iter().filter_map(Weak::upgrade);
        if ports().any(|port| port.is_connected() && port.has_ample_room()) {
            self.starved.store(false, Ordering::SeqCst);
            ports().for_each(|port| port.feed());
        }
    }

    fn snapshot(&self) -> HubSnapshot {
        let ports: Vec<_> = self.all().iter().filter_map(Weak::upgrade).collect();
        let stations = self.table().list(self.clock.now_ns());
        let station = |(mac, number, age_ns): ([u8; 6], u64, u64)| {
            let port = ports.iter().find(|port| port.number() == number)?;
            Some(StationSnapshot {
                mac: mac.map(|byte| format!("{byte:02x}")).join(":"),
                port: port.name().to_owned(),
                age_s: age_ns / 1_000_000_000,
            })
        };
        HubSnapshot {
            id: self.id,
            learning: self.learns(),
            ports: ports.iter().map(|port| port.name().to_owned()).collect(),
            stations: stations.into_iter().filter_map(station).collect(),
        }
    }
}
