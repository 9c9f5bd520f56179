//! `filter-buffer`: holds frames and lets them go together, every so often.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::held::Held;
use super::node::{Behaviour, Node, Onward, Way};
use crate::event::HostTimer;
use crate::netport::{Delivery, Frame, OwnedFrame};
use crate::time::Clock;

/// Holds and releases. At most [`super::held::MOST_FRAMES`] in each direction; beyond that the sender has to wait.
#[derive(Debug)]
pub(super) struct Buffer(Arc<Store>);

#[derive(Debug)]
struct Store {
    interval: Duration,
    timer: Arc<HostTimer>,
    /// When everything held is released, in nanoseconds of `timer`; `u64::MAX` while nothing is.
    release_at: AtomicU64,
    node: Weak<Node>,
    held: [Held; 2],
}

impl Buffer {
    /// Frames are released at every multiple of `interval`, counted by `timer`, which is nobody else's.
    pub(super) fn new(interval: Duration, timer: Arc<HostTimer>, node: Weak<Node>) -> Self {
        let release_at = AtomicU64::new(u64::MAX);
        let store =
            Arc::new(Store { interval, timer: timer.clone(), release_at, node, held: Default::default() });
        let weak = Arc::downgrade(&store);
        timer.on_wake(move || {
            if let Some(store) = weak.upgrade() {
                store.time_passed();
            }
        });
        Self(store)
    }
}

impl Store {
    /// Makes sure that what is held now will be released.
    fn arm(&self) {
        let interval = self.interval.as_nanos().max(1) as u64;
        let next = (self.timer.now_ns() / interval + 1).saturating_mul(interval);
        if self.release_at.fetch_min(next, Ordering::SeqCst) > next {
            self.timer.wake_at(next);
        }
    }

    fn time_passed(&self) {
        let Some(node) = self.node.upgrade() else { return };
        if self.timer.now_ns() >= self.release_at.load(Ordering::SeqCst) {
            self.release_at.store(u64::MAX, Ordering::SeqCst);
            self.held.iter().for_each(Held::make_due);
        }
        Way::BOTH.into_iter().for_each(|way| self.release(&node, way));
    }

    fn release(&self, node: &Node, way: Way) {
        let released = self.held[way as usize].release(&node.onward(way));
        if released.has_room {
            node.ask_sender(way);
        }
        if released.again {
            self.timer.wake_at(self.timer.now_ns());
        }
    }
}

impl Behaviour for Buffer {
    fn describe(&self) -> String {
        format!("type=filter-buffer,interval={}", self.0.interval.as_micros())
    }

    fn frame(&self, frame: &Frame<'_>, way: Way, _: &Onward<'_>) -> Delivery {
        let outcome = self.0.held[way as usize].push(OwnedFrame::copy(frame));
        match self.0.node.upgrade() {
            Some(node) if !node.is_on() => {
                // Switched off with frames that must go first.
                self.0.held[way as usize].make_due();
                self.0.release(&node, way);
            }
            _ => self.0.arm(),
        }
        outcome
    }

    fn busy(&self, way: Way) -> bool {
        !self.0.held[way as usize].is_empty()
    }

    fn room(&self, node: &Node, way: Way) {
        self.0.release(node, way);
    }

    fn switched(&self, node: &Node, on: bool) {
        if !on {
            self.0.held.iter().for_each(Held::make_due);
            Way::BOTH.into_iter().for_each(|way| self.0.release(node, way));
        }
    }
}
