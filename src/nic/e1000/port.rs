//! The device as a frame port: frames from the peer, PAUSE frames of its own, and the way back by loopback.
//!
//! The peer calls it with none of its locks held. Frames for the ring go to the receive engine; nothing is queued here
//! but what the transmitter loops back.

use super::E1000;
use super::interrupt::Watch;
use crate::netport::{Delivery, DropReason, Frame, FramePort, Offloads, PeerSlot};
use crate::token::Entered;
use std::collections::VecDeque;
use std::sync::{MutexGuard, PoisonError};

/// EtherType of PAUSE frames.
const MAC_CONTROL: [u8; 2] = [0x88, 0x08];
/// Looped-back frames that wait for the receiver at most.
const LOOPBACK_FRAMES: usize = 64;

/// A transmitted frame on its way back to the receiver.
#[derive(Debug)]
pub(super) struct LoopedBack {
    pub(super) bytes: Vec<u8>,
    /// What the driver put there for an FCS, if that is not the frame's.
    pub(super) fcs: Option<[u8; 4]>,
}

impl E1000 {
    /// A PAUSE frame is owed, but not to be sent by whoever found that out.
    pub(super) fn pause_later(&self) {
        self.interrupts.watch(Watch::Pause, Some(self.clock.now_ns()));
    }

    /// Sends the PAUSE frame that is owed. A peer that is full gets it when it is ready, unless another has become due.
    pub(super) fn send_owed_pause(&self) {
        let Some((quanta, frame)) = self.regs().take_pause_owed() else { return };
        match self.port.send(&Frame::whole(&frame)) {
            Delivery::Taken => self.regs().pause_frame_sent(quanta),
            Delivery::Full => {
                self.regs().pause_owed.get_or_insert(quanta);
            }
            Delivery::Dropped(_) => {}
        }
    }

    /// Takes a transmitted frame into the loopback queue; `false` when that is full.
    pub(super) fn loop_back(&self, frame: &Frame<'_>, fcs: Option<[u8; 4]>) -> bool {
        let mut queue = self.lock_loopback();
        if queue.len() >= LOOPBACK_FRAMES {
            return false;
        }
        let mut bytes = Vec::with_capacity(frame.len());
        frame.copy_to(&mut bytes);
        queue.push_back(LoopedBack { bytes, fcs });
        true
    }

    pub(super) fn next_looped_back(&self) -> Option<LoopedBack> {
        self.lock_loopback().pop_front()
    }

    pub(super) fn drain_loopback(&self) {
        if !self.lock_loopback().is_empty()
            && self.rx.enter_rounds(|rx| self.run_rx(rx), || ()) == Entered::Again
        {
            self.finish_later();
        }
    }

    pub(super) fn lock_loopback(&self) -> MutexGuard<'_, VecDeque<LoopedBack>> {
        self.loopback.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FramePort for E1000 {
    fn deliver(&self, frame: &Frame<'_>) -> Delivery {
        let _wire = self.caused_by_wire();
        self.look_at_deadlines();
        if self.faults.is_gone(false) {
            return Delivery::Dropped(DropReason::LinkDown);
        }
        let (delivery, knocked) = self.rx.with(|rx| self.deliver_rx(rx, frame));
        if knocked {
            self.finish_later();
        }
        if delivery == Delivery::Dropped(DropReason::LinkDown) {
            self.regs().wake_by(frame);
        }
        if frame.head.get(12..14) == Some(&MAC_CONTROL) {
            // It may have paused the transmitter, or let it go.
            self.interrupts.watch(Watch::Pause, Some(self.clock.now_ns()));
        }
        delivery
    }

    fn accepts(&self) -> Offloads {
        Offloads { csum: true, tso4: true, tso6: true }
    }

    fn peer_ready(&self) {
        let _wire = self.caused_by_wire();
        self.look_at_deadlines();
        self.send_owed_pause();
        self.kick_transmitter();
    }

    fn peer_link(&self, up: bool) {
        let _wire = self.caused_by_wire();
        self.set_link(up);
    }

    fn peer_slot(&self) -> &PeerSlot {
        &self.port
    }
}
