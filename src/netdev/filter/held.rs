//! Frames that a filter holds back, and their release in order from any thread.
//!
//! Used by `buffer`, and by `inlet` and `outlet`, which send on their own account and may find no room.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::node::Onward;
use crate::event::{Entered, Token};
use crate::netport::{Delivery, OwnedFrame};

/// Most frames held in one direction.
pub(super) const MOST_FRAMES: usize = 4096;
/// Most bytes held in one direction.
pub(super) const MOST_BYTES: usize = 16 << 20;

impl Queue {
    fn admits(&mut self, frames: usize, bytes: usize) -> bool {
        let fits = self.frames.len() + frames <= MOST_FRAMES && self.bytes + bytes <= MOST_BYTES;
        self.refused |= !fits;
        fits
    }
}

/// One direction's queue.
#[derive(Debug, Default)]
pub(super) struct Held {
    queue: Mutex<Queue>,
    /// Whoever has it sends; the lock of the queue is not held meanwhile.
    sending: Token<()>,
}

/// How [`Held::release`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Released {
    /// There was no room for some frame; there is now.
    pub(super) has_room: bool,
    /// The caller arranges another call soon.
    pub(super) again: bool,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<OwnedFrame>,
    bytes: usize,
    /// How many of them may go.
    due: usize,
    /// A frame was turned away.
    refused: bool,
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().frames.is_empty()
    }

    /// Adds a frame at the end.
    pub(super) fn push(&self, frame: OwnedFrame) -> Delivery {
        self.push_all(vec![frame])
    }

    /// Adds frames at the end, all of them or none.
    pub(super) fn push_all(&self, frames: Vec<OwnedFrame>) -> Delivery {
        let bytes: usize = frames.iter().map(|frame| frame.bytes.len()).sum();
        let mut queue = self.lock();
        if !queue.admits(frames.len(), bytes) {
            return Delivery::Full;
        }
        queue.bytes += bytes;
        queue.frames.extend(frames);
        Delivery::Taken
    }

    /// Whether a frame of this length would be taken; if not, [`Self::release`] tells when there is room.
    pub(super) fn admits(&self, bytes: usize) -> bool {
        self.lock().admits(1, bytes)
    }

    /// Everything that is held now may go.
    pub(super) fn make_due(&self) {
        let mut queue = self.lock();
        queue.due = queue.frames.len();
    }

    /// Sends what is due, until the receiver has no room.
    pub(super) fn release(&self, onward: &Onward<'_>) -> Released {
        let again = self.sending.enter(|()| self.drain(onward)) == Entered::Again;
        let mut queue = self.lock();
        let room = queue.frames.len() < MOST_FRAMES && queue.bytes < MOST_BYTES;
        Released { has_room: room && std::mem::take(&mut queue.refused), again }
    }

    fn drain(&self, onward: &Onward<'_>) {
        loop {
            let frame = {
                let mut queue = self.lock();
                let Some(frame) = (queue.due > 0).then(|| queue.frames.pop_front()).flatten() else {
                    queue.due = 0;
                    return;
                };
                queue.due -= 1;
                queue.bytes -= frame.bytes.len();
                frame
            };
            if onward.send(&frame.frame()) == Delivery::Full {
                let mut queue = self.lock();
                queue.due += 1;
                queue.bytes += frame.bytes.len();
                queue.frames.push_front(frame);
                return;
            }
        }
    }
}
