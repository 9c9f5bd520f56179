//! `-fault` of frames: lost, damaged, doubled, late or out of order on their way along a cable.
//!
//! Acts on finished wire frames ([`Behaviour::is_fault`]). What is held back goes on from the event loop's timer; a
//! frame that finds no room then waits for it, and at most [`MOST_LATE`] wait in each direction (more are lost, and
//! counted).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::held::{Held, MOST_FRAMES};
use super::node::{Behaviour, Node, Onward, Way};
use crate::cli::{FrameFault, FrameFaultOptions};
use crate::event::HostTimer;
use crate::fault::{CableEffect, CableHit, CableListener, Chooser, FrameEffect};
use crate::netport::{Delivery, Frame, Offloads, OwnedFrame, fits};
use crate::time::Clock;

/// Frames held back in each direction at most.
const MOST_LATE: usize = MOST_FRAMES;
/// A frame that is to be overtaken waits no longer, in nanoseconds.
const OVERTAKEN_WITHIN: u64 = 100_000_000;

/// One plan.
#[derive(Debug)]
pub(super) struct Fault(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: FrameFaultOptions,
    id: String,
    netdev: String,
    listener: CableListener,
    state: Mutex<State>,
    timer: Arc<HostTimer>,
    node: Weak<Node>,
    /// Frames whose time has come.
    due: [Held; 2],
    /// Some of them are still to be sent, by the timer.
    again: AtomicBool,
    /// Late frames for which there was no place.
    lost: AtomicU64,
}

#[derive(Debug)]
struct State {
    chooser: Chooser,
    late: [Late; 2],
    /// The receiver had no room for the last frame of this direction: the next is the same one, decided on already.
    refused: [bool; 2],
}

/// Frames of one direction that are held back.
#[derive(Debug, Default)]
struct Late {
    /// By the moment when they go, in nanoseconds of the timer, and the order in which they came.
    frames: BTreeMap<(u64, u64), OwnedFrame>,
    came: u64,
    /// Frames that must still pass the oldest, for `reorder`.
    overtaking: u32,
}

impl Fault {
    /// `timer` is nobody else's; `listener` is told of every hit.
    pub(super) fn new(
        options: FrameFaultOptions,
        (id, netdev): (String, String),
        timer: Arc<HostTimer>,
        node: Weak<Node>,
        listener: CableListener,
    ) -> Self {
        let state =
            State { chooser: Chooser::new(options.schedule), late: Default::default(), refused: [false; 2] };
        let shared = Arc::new(Shared {
            options,
            id,
            netdev,
            listener,
            state: Mutex::new(state),
            timer: timer.clone(),
            node,
            due: Default::default(),
            again: AtomicBool::new(false),
            lost: AtomicU64::new(0),
        });
        let weak = Arc::downgrade(&shared);
        timer.on_wake(move || {
            if let Some(shared) = weak.upgrade() {
                shared.time_passed();
            }
        });
        Self(shared)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn strikes(&self, frame: &Frame<'_>, way: Way) -> bool {
        if std::mem::take(&mut self.state().refused[way as usize]) {
            return false;
        }
        let matches = self.options.pattern.as_ref().is_none_or(|pattern| {
            let at = pattern.offset..pattern.offset.saturating_add(pattern.bytes.len());
            match frame.head.get(at.clone()) {
                Some(bytes) => bytes == pattern.bytes,
                None => OwnedFrame::copy(frame).bytes.get(at) == Some(pattern.bytes.as_slice()),
            }
        });
        matches && self.state().chooser.strikes()
    }

    fn tell(&self, frame: &OwnedFrame, way: Way, done: FrameEffect) {
        let ((hit, of), seed) = {
            let state = self.state();
            (state.chooser.counts(), state.chooser.seed())
        };
        let (to_guest, bytes) = (way == Way::FromNetdev, &frame.bytes[..]);
        self.listener.tell(&CableHit {
            netdev: &self.netdev,
            id: &self.id,
            kind: self.options.fault.name(),
            hit,
            what: CableEffect::Frame { to_guest, bytes, seed, of, done },
        });
    }

    /// Holds a frame back until `at`; `false` if there was no place. The caller lets go what is due and arms the timer for
    /// the rest, so that what goes at once goes in the sender's thread.
    fn hold(&self, frame: OwnedFrame, way: Way, at: u64) -> bool {
        let late = &mut self.state().late[way as usize];
        if late.frames.len() >= MOST_LATE {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        late.frames.insert((at, late.came), frame);
        late.came += 1;
        true
    }

    /// Passes a frame on; those that it was to overtake may follow.
    fn pass(&self, frame: &Frame<'_>, way: Way, onward: &Onward<'_>) -> Delivery {
        let outcome = onward.send(frame);
        if outcome == Delivery::Full {
            self.state().refused[way as usize] = true;
            return outcome;
        }
        let over = {
            let late = &mut self.state().late[way as usize];
            late.overtaking = late.overtaking.saturating_sub(1);
            late.overtaking == 0 && !late.frames.is_empty()
        };
        if over {
            self.let_go(way, u64::MAX);
        }
        outcome
    }

    fn arm(&self) {
        let state = self.state();
        let first = state.late.iter().filter_map(|late| late.frames.keys().next()).map(|key| key.0).min();
        if self.again.load(Ordering::SeqCst) {
            self.timer.wake_at(self.timer.now_ns());
        } else if let Some(at) = first {
            self.timer.wake_at(at);
        }
    }

    fn time_passed(&self) {
        self.again.store(false, Ordering::SeqCst);
        let now = self.timer.now_ns();
        Way::BOTH.into_iter().for_each(|way| self.let_go(way, now));
        self.arm();
    }

    /// Sends what was held back until `now` at most.
    fn let_go(&self, way: Way, now: u64) {
        let Some(node) = self.node.upgrade() else { return };
        {
            let late = &mut self.state().late[way as usize].frames;
            while let Some(entry) = late.first_entry().filter(|entry| entry.key().0 <= now) {
                if self.due[way as usize].push(entry.remove()) != Delivery::Taken {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        self.due[way as usize].make_due();
        self.release(&node, way);
    }

    fn release(&self, node: &Node, way: Way) {
        if self.due[way as usize].release(&node.onward(way)).again {
            self.again.store(true, Ordering::SeqCst);
            self.arm();
        }
    }

    /// In the byte at `offset`, or anywhere.
    fn flip_a_bit(&self, frame: &mut OwnedFrame, offset: Option<usize>) -> FrameEffect {
        let chooser = &mut self.state().chooser;
        let at = offset.unwrap_or_else(|| chooser.below(frame.bytes.len()));
        frame.meta.csum_valid = false;
        match frame.bytes.get_mut(at) {
            Some(byte) => {
                let bit = chooser.below(8) as u32;
                *byte ^= 1 << bit;
                FrameEffect::Flipped { byte: at, bit }
            }
            None => FrameEffect::Passed,
        }
    }

    /// Does what the plan says, now. A frame that is `Passed` has still to be sent on.
    fn strike(&self, frame: &OwnedFrame, way: Way, now: u64) -> FrameEffect {
        let kept = |effect, kept| if kept { effect } else { FrameEffect::NoPlace };
        match self.options.fault {
            FrameFault::Drop => FrameEffect::Lost,
            FrameFault::Corrupt { offset } => {
                let mut copy = frame.clone();
                match self.flip_a_bit(&mut copy, offset) {
                    FrameEffect::Passed => FrameEffect::Passed,
                    effect => kept(effect, self.hold(copy, way, now)),
                }
            }
            FrameFault::Duplicate { copies } => {
                let sent = (0..=copies).filter(|_| self.hold(frame.clone(), way, now)).count() as u32;
                kept(FrameEffect::Copied(sent.saturating_sub(1)), sent > 0)
            }
            FrameFault::Reorder { distance } => {
                {
                    let late = &mut self.state().late[way as usize];
                    if !late.frames.is_empty() {
                        return FrameEffect::Passed;
                    }
                    late.overtaking = distance;
                }
                let until = now.saturating_add(OVERTAKEN_WITHIN);
                kept(FrameEffect::Overtaken(distance), self.hold(frame.clone(), way, until))
            }
            FrameFault::Delay { time, jitter } => {
                let late = nanoseconds(time).saturating_add(self.spread(jitter));
                let held = self.hold(frame.clone(), way, now.saturating_add(late));
                kept(FrameEffect::Delayed(late), held)
            }
        }
    }

    fn spread(&self, jitter: Duration) -> u64 {
        self.state().chooser.below(nanoseconds(jitter) as usize) as u64
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Behaviour for Fault {
    fn describe(&self) -> String {
        let (hit, seen) = self.0.state().chooser.counts();
        let lost = match self.0.lost.load(Ordering::Relaxed) {
            0 => String::new(),
            lost => format!(",lost={lost}"),
        };
        format!("type=fault,kind={},hit={hit},of={seen}{lost}", self.0.options.fault.name())
    }

    fn is_fault(&self) -> bool {
        true
    }

    fn frame(&self, frame: &Frame<'_>, way: Way, onward: &Onward<'_>) -> Delivery {
        if !fits(&frame.meta, Offloads::default()) {
            // It was on its way when the plan came into the cable.
            return onward.send(frame);
        }
        if !self.0.strikes(frame, way) {
            return self.0.pass(frame, way, onward);
        }
        let copy = OwnedFrame::copy(frame);
        let now = self.0.timer.now_ns();
        let done = self.0.strike(&copy, way, now);
        self.0.tell(&copy, way, done);
        if done == FrameEffect::Passed {
            return self.0.pass(frame, way, onward);
        }
        self.0.let_go(way, now);
        self.0.arm();
        Delivery::Taken
    }

    fn room(&self, node: &Node, way: Way) {
        self.0.release(node, way);
    }

    fn switched(&self, _: &Node, on: bool) {
        if !on {
            Way::BOTH.into_iter().for_each(|way| self.0.let_go(way, u64::MAX));
        }
    }
}
