//! `filter-dump`: every frame of a cable into a capture file.
//!
//! What is written are wire frames: cut, checksummed, without FCS. The write happens in the thread that brings the
//! frame, before the frame goes on, so that an answer never stands before its question.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::capture::{CaptureError, Writer};
use super::node::{Behaviour, Onward, Way};
use super::refused::Refused;
use crate::netport::{Delivery, Frame, Offloads, OwnedFrame, finish, fits};
use crate::sys::Notices;
use crate::time::MonotonicClock;

/// Writes and passes on.
#[derive(Debug)]
pub(super) struct Dump {
    path: PathBuf,
    clock: MonotonicClock,
    /// What the host's wall clock said when `clock` was 0.
    epoch: Duration,
    notices: Notices,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None` after an error.
    writer: Option<Writer>,
    /// What is in the file already.
    refused: Refused,
}

impl Dump {
    /// Frames go to `writer`, which was opened on `path`.
    pub(super) fn new(path: PathBuf, writer: Writer, notices: Notices) -> Self {
        let clock = MonotonicClock::new();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch = now.saturating_sub(Duration::from_nanos(clock.now_ns()));
        Self {
            path,
            clock,
            epoch,
            notices,
            state: Mutex::new(State { writer: Some(writer), refused: Refused::default() }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, frame: &OwnedFrame, way: Way) {
        let mut state = self.lock();
        if state.refused.comes_again(way, &frame.bytes) {
            return;
        }
        let at = self.epoch + Duration::from_nanos(self.clock.now_ns());
        let Some(writer) = &mut state.writer else { return };
        let written = if fits(&frame.meta, Offloads::default()) {
            writer.add(at, way, &frame.bytes)
        } else {
            // What contradicts itself is dropped by the receiver, and never was on a wire.
            let wire = finish(frame.clone()).unwrap_or_default();
            wire.iter().try_for_each(|frame| writer.add(at, way, &frame.bytes))
        };
        if let Err(error) = written {
            state.writer = None;
            drop(state);
            self.complain(&error);
        }
    }

    fn complain(&self, error: &CaptureError) {
        self.notices.say(&format!("{}: {error}; nothing more is captured", self.path.display()));
    }
}

impl Behaviour for Dump {
    fn describe(&self) -> String {
        format!("type=filter-dump,file={}", self.path.display())
    }

    fn frame(&self, frame: &Frame<'_>, way: Way, onward: &Onward<'_>) -> Delivery {
        // The copy goes on: a guest that changes the frame meanwhile cannot make the file lie.
        let copy = OwnedFrame::copy(frame);
        self.record(&copy, way);
        let outcome = onward.send(&copy.frame());
        if outcome == Delivery::Full {
            self.lock().refused.keep(way, copy.bytes);
        }
        outcome
    }
}
