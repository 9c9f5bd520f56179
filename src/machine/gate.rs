//! The door between a NIC and its cable, shut while the machine is stopped.
//!
//! Made by `nics.rs`, moved by `control.rs`. Frames that come meanwhile are answered `Full`: their senders keep
//! them, as they do when a receive ring has no room. Nothing enters the device, so a stopped guest's memory
//! stands still.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::netport::{Delivery, Frame, FramePort, Offloads, PeerSlot};

/// A port that stands for a NIC's.
#[derive(Debug)]
pub struct Gate {
    device: Arc<dyn FramePort>,
    shut: AtomicBool,
    /// Calls that are in the device now.
    inside: AtomicUsize,
    /// Somebody was turned away.
    knocked: AtomicBool,
}

/// A call that is in the device.
struct Visit<'a>(&'a Gate);

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Gate {
    /// An open door in front of `device`.
    pub fn new(device: Arc<dyn FramePort>) -> Arc<Self> {
        let (shut, inside, knocked) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicBool::new(false));
        Arc::new(Self { device, shut, inside, knocked })
    }

    /// Turns everybody away from now on; returns when nobody is inside. A call takes microseconds.
    pub fn shut(&self) {
        self.shut.store(true, Ordering::SeqCst);
        while self.inside.load(Ordering::SeqCst) > 0 {
            std::thread::yield_now();
        }
    }

    /// Lets everybody in again and calls those who were turned away.
    pub fn open(&self) {
        self.shut.store(false, Ordering::SeqCst);
        if self.knocked.swap(false, Ordering::SeqCst) {
            self.device.peer_ready();
            self.device.peer_slot().ready();
        }
    }

    fn enter(&self) -> Option<Visit<'_>> {
        self.inside.fetch_add(1, Ordering::SeqCst);
        let visit = Visit(self);
        if !self.shut.load(Ordering::SeqCst) {
            return Some(visit);
        }
        self.knocked.store(true, Ordering::SeqCst);
        drop(visit);
        if self.shut.load(Ordering::SeqCst) {
            return None;
        }
        // Opened meanwhile, perhaps before it could hear the knock.
        self.enter()
    }
}

impl FramePort for Gate {
    fn deliver(&self, frame: &Frame<'_>) -> Delivery {
        self.enter().map_or(Delivery::Full, |_visit| self.device.deliver(frame))
    }

    fn accepts(&self) -> Offloads {
        self.device.accepts()
    }

    fn peer_ready(&self) {
        if let Some(_visit) = self.enter() {
            self.device.peer_ready();
        }
    }

    /// A cable may be pulled from a stopped machine: that touches registers only.
    fn peer_link(&self, up: bool) {
        self.device.peer_link(up);
    }

    fn peer_slot(&self) -> &PeerSlot {
        self.device.peer_slot()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netport;

    #[derive(Debug, Default)]
    struct Port {
        slot: PeerSlot,
        frames: AtomicUsize,
        ready: AtomicUsize,
    }

    impl FramePort for Port {
        fn deliver(&self, _: &Frame<'_>) -> Delivery {
            self.frames.fetch_add(1, Ordering::SeqCst);
            Delivery::Taken
        }

        fn accepts(&self) -> Offloads {
            Offloads::default()
        }

        fn peer_ready(&self) {
            self.ready.fetch_add(1, Ordering::SeqCst);
        }

        fn peer_link(&self, _: bool) {}

        fn peer_slot(&self) -> &PeerSlot {
            &self.slot
        }
    }

    #[test]
    fn frames_wait_before_a_shut_gate_and_are_called_when_it_opens() {
        let (device, backend) = (Arc::new(Port::default()), Arc::new(Port::default()));
        let gate = Gate::new(device.clone());
        netport::join(&(gate.clone() as Arc<dyn FramePort>), &(backend.clone() as Arc<dyn FramePort>));
        let send = || backend.slot.send(&Frame::whole(&[0; 60]));
        assert_eq!(send(), Delivery::Taken);
        gate.shut();
        assert_eq!((send(), device.frames.load(Ordering::SeqCst)), (Delivery::Full, 1));
        backend.slot.ready();
        assert_eq!(device.ready.load(Ordering::SeqCst), 0);
        gate.open();
        assert_eq!((device.ready.load(Ordering::SeqCst), backend.ready.load(Ordering::SeqCst)), (1, 1));
        assert_eq!((send(), device.frames.load(Ordering::SeqCst)), (Delivery::Taken, 2));
        gate.shut();
        gate.open();
        assert_eq!(backend.ready.load(Ordering::SeqCst), 1, "nobody had knocked");
    }
}
