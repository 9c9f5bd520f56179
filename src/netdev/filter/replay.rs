//! `filter-replay`: frames out of a capture file into a cable, in their own time or as fast as they are taken.
//!
//! The first frame waits until somebody takes it (a guest's driver is not up at power-on); the time of the others
//! counts from there. Frames that meet the cable pass untouched.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::capture::{Captured, FileReader, Reader};
use super::node::{Behaviour, Node, Onward, Way};
use crate::cli::ReplaySpeed;
use crate::event::{Entered, HostTimer, Token};
use crate::netport::{Delivery, DropReason, Frame, MAX_FRAME};
use crate::sys::Notices;
use crate::time::Clock;

/// How often a cable without a link is tried.
const RETRY: Duration = Duration::from_millis(50);
/// Frames sent before the event loop gets a turn.
const BUDGET: usize = 64;
/// Shortest frame: an Ethernet header.
const SHORTEST: usize = 14;

/// The file and how it is sent.
#[derive(Debug)]
pub(super) struct Replay(Arc<Player>);

#[derive(Debug)]
struct Player {
    path: PathBuf,
    way: Way,
    speed: ReplaySpeed,
    timer: Arc<HostTimer>,
    node: Weak<Node>,
    notices: Notices,
    state: Token<State>,
}

#[derive(Debug)]
struct State {
    reader: Option<Reader<FileReader>>,
    next: Option<Captured>,
    /// Host time at which a frame of that file time was sent.
    base: Option<(u64, Duration)>,
    /// When the filter was found switched off.
    paused: Option<u64>,
    sent: u64,
    skipped: u64,
}

/// What to do after a turn.
enum Then {
    WaitUntil(u64),
    WaitForRoom,
    End(String),
}

impl Replay {
    /// Sends what `reader`, opened on `path`, brings; `timer` is nobody else's.
    pub(super) fn new(
        (path, reader): (PathBuf, Reader<FileReader>),
        way: Way,
        speed: ReplaySpeed,
        timer: Arc<HostTimer>,
        node: Weak<Node>,
        notices: Notices,
    ) -> Self {
        let state = State { reader: Some(reader), next: None, base: None, paused: None, sent: 0, skipped: 0 };
        let state = Token::new(state);
        let player = Arc::new(Player { path, way, speed, timer: timer.clone(), node, notices, state });
        let weak = Arc::downgrade(&player);
        timer.on_wake(move || {
            if let Some(player) = weak.upgrade() {
                player.turn();
            }
        });
        Self(player)
    }
}

impl Player {
    fn turn(&self) {
        let Some(node) = self.node.upgrade() else { return };
        let again = self.state.enter(|state| {
            if state.reader.is_none() || !state.goes_on(node.is_on(), self.timer.now_ns()) {
                return;
            }
            match self.send_due(state, &node.onward(self.way)) {
                Then::WaitUntil(at) => self.timer.wake_at(at),
                Then::WaitForRoom => {}
                Then::End(how) => {
                    state.reader = None;
                    let skipped = match state.skipped {
                        0 => String::new(),
                        n => format!(", {n} skipped (cut when captured, or no Ethernet frames)"),
                    };
                    self.notices.say(&format!(
                        "{}: {how}: {} frames sent{skipped}",
                        self.path.display(),
                        state.sent
                    ));
                }
            }
        });
        if again == Entered::Again {
            self.timer.wake_at(self.timer.now_ns());
        }
    }

    fn send_due(&self, state: &mut State, onward: &Onward<'_>) -> Then {
        for _ in 0..BUDGET {
            let next = match state.next.take().map_or_else(|| state.read(), |next| Ok(Some(next))) {
                Ok(Some(next)) => next,
                Ok(None) => return Then::End("the end".to_owned()),
                Err(why) => return Then::End(why),
            };
            let now = self.timer.now_ns();
            let due = match (state.base, self.speed) {
                (Some((base, first)), ReplaySpeed::Real) => {
                    let after = u64::try_from(next.at.saturating_sub(first).as_nanos()).unwrap_or(u64::MAX);
                    base.saturating_add(after)
                }
                _ => now,
            };
            if now < due {
                state.next = Some(next);
                return Then::WaitUntil(due);
            }
            match onward.send(&Frame::whole(&next.frame)) {
                Delivery::Full => {
                    state.next = Some(next);
                    return Then::WaitForRoom;
                }
                Delivery::Dropped(DropReason::LinkDown | DropReason::NoPeer) if state.base.is_none() => {
                    state.next = Some(next);
                    return Then::WaitUntil(now + RETRY.as_nanos() as u64);
                }
                Delivery::Taken | Delivery::Dropped(_) => {
                    state.base.get_or_insert((now, next.at));
                    state.sent += 1;
                }
            }
        }
        Then::WaitUntil(self.timer.now_ns())
    }
}

impl State {
    /// Whether to send. A pause does not count as time of the file.
    fn goes_on(&mut self, on: bool, now: u64) -> bool {
        if on && let (Some(since), Some((base, _))) = (self.paused.take(), &mut self.base) {
            *base += now.saturating_sub(since);
        } else if !on {
            self.paused.get_or_insert(now);
        }
        on
    }

    /// The next frame that can be sent.
    fn read(&mut self) -> Result<Option<Captured>, String> {
        let Some(reader) = &mut self.reader else { return Ok(None) };
        loop {
            match reader.next_frame().map_err(|error| error.to_string())? {
                Some(next) if next.cut || !(SHORTEST..=MAX_FRAME).contains(&next.frame.len()) => {
                    self.skipped += 1;
                }
                other => return Ok(other),
            }
        }
    }
}

impl Behaviour for Replay {
    fn describe(&self) -> String {
        format!("type=filter-replay,file={}", self.0.path.display())
    }

    fn frame(&self, frame: &Frame<'_>, _: Way, onward: &Onward<'_>) -> Delivery {
        onward.send(frame)
    }

    fn room(&self, _: &Node, way: Way) {
        if way == self.0.way {
            self.0.timer.wake_at(self.0.timer.now_ns());
        }
    }

    /// The next turn sees it.
    fn switched(&self, _: &Node, _: bool) {
        self.0.timer.wake_at(self.0.timer.now_ns());
    }
}
