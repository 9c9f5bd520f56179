//! Events: what happened to the machine, told to every monitor that listens.
//!
//! Raised by `machine` and, through it, by network backends, from any thread. Names and members are QMP's
//! (qemu-qmp-ref, "Events"). Raising never waits for a listener.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::netdev::{NetdevEvent, StreamPeer};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The run ends.
    Shutdown {
        /// Who ended it.
        cause: Cause,
        /// The exit status that it will have.
        status: u8,
    },
    /// The machine was reset.
    Reset(Cause),
    /// The machine was stopped: CPUs and time stand still.
    Stop,
    /// It goes on.
    Resume,
    /// The power button was pressed.
    Powerdown,
    /// The guest's kernel panicked; the run will end.
    GuestPanicked,
    /// The guest changed a NIC's address filters; told once, then again after `query-rx-filter`.
    NicRxFilterChanged {
        /// The NIC.
        name: String,
    },
    /// A stream backend has a connection.
    NetdevStreamConnected {
        /// The backend's id.
        netdev: String,
        /// The other side, as the backend's option writes it.
        peer: StreamPeer,
    },
    /// A stream backend has lost its connection.
    NetdevStreamDisconnected {
        /// The backend's id.
        netdev: String,
    },
}

/// Who caused it: QMP's ShutdownCause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cause {
    /// The guest did.
    pub guest: bool,
    /// `guest-shutdown`, `host-qmp-quit`, ...
    pub reason: &'static str,
}

impl Event {
    /// Its name in QMP.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Shutdown { .. } => "SHUTDOWN",
            Self::Reset(_) => "RESET",
            Self::Stop => "STOP",
            Self::Resume => "RESUME",
            Self::Powerdown => "POWERDOWN",
            Self::GuestPanicked => "GUEST_PANICKED",
            Self::NicRxFilterChanged { .. } => "NIC_RX_FILTER_CHANGED",
            Self::NetdevStreamConnected { .. } => "NETDEV_STREAM_CONNECTED",
            Self::NetdevStreamDisconnected { .. } => "NETDEV_STREAM_DISCONNECTED",
        }
    }

    fn data(&self) -> Option<Value> {
        match self {
            Self::Shutdown { cause, .. } | Self::Reset(cause) => {
                Some(json!({"guest": cause.guest, "reason": cause.reason}))
            }
            Self::Stop | Self::Resume | Self::Powerdown => None,
            Self::GuestPanicked => Some(json!({"action": "poweroff"})),
            Self::NicRxFilterChanged { name } => {
                Some(json!({"name": name, "path": format!("/machine/peripheral/{name}")}))
            }
            Self::NetdevStreamConnected { netdev, peer } => {
                Some(json!({"netdev-id": netdev, "addr": address(peer)}))
            }
            Self::NetdevStreamDisconnected { netdev } => Some(json!({"netdev-id": netdev})),
        }
    }

    /// The event as QMP sends it, `since_epoch` being when it happened.
    pub fn to_json(&self, since_epoch: Duration) -> Value {
        let stamp = json!({"seconds": since_epoch.as_secs(), "microseconds": since_epoch.subsec_micros()});
        let mut object = Map::new();
        object.insert("timestamp".into(), stamp);
        object.insert("event".into(), self.name().into());
        if let Some(data) = self.data() {
            object.insert("data".into(), data);
        }
        object.into()
    }
}

/// QAPI's SocketAddress.
fn address(peer: &StreamPeer) -> Value {
    match peer {
        StreamPeer::Inet(addr) => {
            json!({"type": "inet", "host": addr.ip().to_string(), "port": addr.port().to_string()})
        }
        StreamPeer::Unix(path) => json!({"type": "unix", "path": path}),
    }
}

impl From<NetdevEvent> for Event {
    fn from(event: NetdevEvent) -> Self {
        match event {
            NetdevEvent::StreamConnected { id, peer } => Self::NetdevStreamConnected { netdev: id, peer },
            NetdevEvent::StreamDisconnected { id } => Self::NetdevStreamDisconnected { netdev: id },
        }
    }
}

/// Somebody who wants to hear of events. Must not wait.
pub trait Listener: Debug + Send + Sync {
    /// Something happened; `text` is the event as QMP sends it, one line without its end.
    fn happened(&self, event: &Event, text: &Arc<str>);
}

/// Where events go. Clones are the same place; one without listeners swallows everything.
#[derive(Debug, Clone, Default)]
pub struct Events(Arc<Mutex<Vec<Weak<dyn Listener>>>>);

impl Events {
    /// Tells everybody, in the order in which they came.
    pub fn raise(&self, event: &Event) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let text: Arc<str> = event.to_json(now).to_string().into();
        // Under the lock, so that two events come in the same order to all.
        let listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for listener in listeners.iter().filter_map(Weak::upgrade) {
            listener.happened(event, &text);
        }
    }

    /// `listener` hears of what happens as long as it lives.
    pub fn listen(&self, listener: Weak<dyn Listener>) {
        let mut listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| listener.strong_count() > 0);
        listeners.push(listener);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Recorder(Mutex<Vec<String>>);

    impl Listener for Recorder {
        fn happened(&self, event: &Event, text: &Arc<str>) {
            self.0.lock().unwrap().push(format!("{} {}", event.name(), text.len() > 60));
        }
    }

    #[test]
    fn events_have_qmp_s_form() {
        let reset = Event::Reset(Cause { guest: true, reason: "guest-reset" });
        assert_eq!(
            reset.to_json(Duration::from_micros(5_000_007)),
            json!({"timestamp": {"seconds": 5, "microseconds": 7}, "event": "RESET",
                   "data": {"guest": true, "reason": "guest-reset"}})
        );
        assert_eq!(Event::Stop.to_json(Duration::ZERO).get("data"), None);
        let peer = StreamPeer::Inet("127.0.0.1:5000".parse().unwrap());
        let connected = Event::NetdevStreamConnected { netdev: "n0".into(), peer };
        assert_eq!(
            connected.to_json(Duration::ZERO)["data"],
            json!({"netdev-id": "n0", "addr": {"type": "inet", "host": "127.0.0.1", "port": "5000"}})
        );
    }

    #[test]
    fn all_who_live_are_told() {
        let events = Events::default();
        events.raise(&Event::Stop);
        let recorder = Arc::new(Recorder::default());
        let weak: Weak<dyn Listener> = Arc::downgrade(&recorder) as _;
        events.listen(weak);
        let gone: Weak<dyn Listener> = Arc::downgrade(&Arc::new(Recorder::default())) as _;
        events.listen(gone);
        events.raise(&Event::Resume);
        assert_eq!(*recorder.0.lock().unwrap(), ["RESUME true"]);
    }
}
