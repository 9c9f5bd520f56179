//! User networking: a network of its own for one guest, made of ordinary sockets of this process.
//!
//! No privilege, no interface of the host's: the guest's frames end here. ARP, DHCP, TFTP and echo are answered
//! by this backend; TCP, UDP and echo to the world go through sockets, as if a program of this user had made
//! them (`subnet` says which address means what). TCP is ended by smoltcp and proxied, UDP is translated.
//!
//! Threads: `deliver` copies a frame into a bounded queue and wakes the loop thread, which does everything else
//! under the lock of `stack`; the monitor's calls take that lock too. The peer is called with the lock held, and
//! may call back: nothing it can call takes it. Lock order: `stack` before `inbox`; the peer's locks come after
//! both.

mod arp;
mod connect;
mod dhcp;
mod error;
mod forward;
mod fragments;
mod guestfwd;
mod icmp;
mod info;
mod ip;
mod link;
mod ndp;
mod offload;
mod ping;
mod poller;
mod resolver;
mod stack;
mod subnet;
mod tcp;
mod tftp;
mod udp;

use std::collections::VecDeque;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

pub use error::UserError;
pub use info::{Connection, UserInfo};
pub use stack::Stack;

use super::{Backend, NetdevError, PortCounters, Surroundings};
use crate::cli::{HostForward, ListenAt, UserOptions};
use crate::event::{EventHandle, FdHandler, HostTimer, Interest, Ready, Registration, Waker};
use crate::netport::{Delivery, DropReason, Frame, FrameMeta, FramePort, MAX_FRAME, Offloads, PeerSlot};
use crate::time::{Clock, MonotonicClock};

/// Frames and bytes of the guest's that wait for the loop thread.
const INBOX_FRAMES: usize = 512;
const INBOX_BYTES: usize = 2 << 20;
/// Frames taken from there before sockets and timers get their turn.
const BATCH: usize = 64;
/// Rounds of work in one call by the event loop, so that other files get their turn.
const ROUNDS: usize = 4;
/// An Ethernet header.
const MIN_FRAME: usize = 14;

/// A user network.
pub struct User {
    // Configuration.
    id: String,
    description: String,
    first_guest: Ipv4Addr,
    // Glue.
    waker: OnceLock<Waker>,
    timer: Arc<HostTimer>,
    registration: OnceLock<Registration>,
    peer: PeerSlot,
    counters: Arc<PortCounters>,
    // Volatile state.
    stack: Mutex<Stack>,
    inbox: Mutex<Inbox>,
    /// The peer is, or may be, full.
    peer_full: AtomicBool,
}

/// The guest's frames on their way to the stack.
#[derive(Debug, Default)]
struct Inbox {
    frames: VecDeque<(Vec<u8>, FrameMeta)>,
    bytes: usize,
    /// The peer was told that there is no room.
    full: bool,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("id", &self.id).field("what", &self.description).finish_non_exhaustive()
    }
}

impl User {
    /// Makes the network; its host forwards listen from now on.
    ///
    /// # Errors
    /// [`NetdevError::User`]; nothing is left behind then.
    pub fn open(id: &str, options: &UserOptions, around: &Surroundings) -> Result<Arc<Self>, NetdevError> {
        Self::make(id, options, &around.events)
            .map_err(|error| NetdevError::User { id: id.to_owned(), error })
    }

    fn make(id: &str, options: &UserOptions, events: &EventHandle) -> Result<Arc<Self>, UserError> {
        let counters = Arc::new(PortCounters::default());
        let stack = Stack::new(options, counters.clone())?;
        let sockets = stack.poller().descriptor();
        let timer = HostTimer::new(events, &MonotonicClock::new())?;
        let user = Arc::new(Self {
            id: id.to_owned(),
            description: subnet::Subnet::new(options).name(),
            first_guest: options.dhcp_start,
            waker: OnceLock::new(),
            timer,
            registration: OnceLock::new(),
            peer: PeerSlot::default(),
            counters,
            stack: Mutex::new(stack),
            inbox: Mutex::default(),
            peer_full: AtomicBool::new(false),
        });
        let call = |user: &Arc<Self>| {
            let user = Arc::downgrade(user);
            move || {
                if let Some(user) = Weak::upgrade(&user) {
                    user.run();
                }
            }
        };
        let waker = Waker::new(events, call(&user))?;
        user.waker.get_or_init(|| waker);
        user.timer.on_wake(call(&user));
        let watch = events.watch(sockets, Interest::READ, Arc::new(Arc::downgrade(&user)))?;
        user.registration.get_or_init(|| watch);
        Ok(user)
    }

    /// Puts a host forward in force (the monitor's hostfwd_add).
    ///
    /// # Errors
    /// [`UserError::Forward`]: the host does not let us listen there.
    pub fn add_forward(&self, rule: &HostForward) -> Result<(), UserError> {
        self.stack().add_forward(rule)
    }

    /// Takes a host forward out of force (hostfwd_remove); connections that stand go on. False if there is none
    /// that listens there.
    pub fn remove_forward(&self, listen: &ListenAt) -> bool {
        self.stack().remove_forward(listen)
    }

    /// The guest that a rule without a guest's address is for: the first that DHCP gives away.
    pub fn first_guest(&self) -> Ipv4Addr {
        self.first_guest
    }

    /// Addresses, forwards and connections (info usernet).
    pub fn info(&self) -> UserInfo {
        self.stack().info()
    }

    fn stack(&self) -> MutexGuard<'_, Stack> {
        self.stack.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }

    /// Takes the guest's frames, gives sockets and timers their turn, gives the guest its frames. On the loop
    /// thread.
    fn run(&self) {
        let mut stack = self.stack();
        let mut more = true;
        for _ in 0..ROUNDS {
            stack.set_now(self.timer.now_ns());
            let (frames, room) = self.take_frames();
            more = frames.len() == BATCH;
            for (mut bytes, meta) in frames {
                stack.frame(&mut bytes, meta);
            }
            more |= stack.work();
            self.peer_full.store(true, Ordering::SeqCst);
            if stack.flush(&self.peer) {
                self.peer_full.store(false, Ordering::SeqCst);
            }
            more |= stack.waits_for_room();
            if room {
                self.peer.ready();
            }
            if !more {
                break;
            }
        }
        self.timer.wake_at(stack.deadline());
        if more {
            self.wake();
        }
    }

    /// Some of the guest's frames, and whether the peer is to be told that there is room again.
    fn take_frames(&self) -> (Vec<(Vec<u8>, FrameMeta)>, bool) {
        let mut inbox = self.inbox();
        let count = inbox.frames.len().min(BATCH);
        let frames: Vec<_> = inbox.frames.drain(..count).collect();
        inbox.bytes -= frames.iter().map(|(bytes, _)| bytes.len()).sum::<usize>();
        let room = inbox.full && inbox.has_room();
        inbox.full &= !room;
        (frames, room)
    }

    fn receive(&self, frame: &Frame<'_>) -> Delivery {
        let len = frame.len();
        if !(MIN_FRAME..=MAX_FRAME).contains(&len) {
            return Delivery::Dropped(DropReason::BadLength);
        }
        if frame.meta.gso.is_some() && frame.meta.csum.is_none() {
            return Delivery::Dropped(DropReason::BadMeta);
        }
        let mut inbox = self.inbox();
        if !inbox.has_room() {
            inbox.full = true;
            return Delivery::Full;
        }
        let mut bytes = Vec::with_capacity(len);
        frame.copy_to(&mut bytes);
        inbox.bytes += len;
        inbox.frames.push_back((bytes, frame.meta));
        Delivery::Taken
    }
}

impl Inbox {
    fn has_room(&self) -> bool {
        self.frames.len() < INBOX_FRAMES && self.bytes < INBOX_BYTES
    }
}

impl FdHandler for User {
    fn ready(&self, _ready: Ready) {
        self.run();
    }
}

impl FramePort for User {
    fn deliver(&self, frame: &Frame<'_>) -> Delivery {
        let outcome = self.receive(frame);
        self.counters.from_peer.count(frame, outcome);
        if outcome == Delivery::Taken {
            self.wake();
        }
        outcome
    }

    fn accepts(&self) -> Offloads {
        Offloads { csum: true, tso4: true, tso6: true }
    }

    fn peer_ready(&self) {
        if self.peer_full.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Connections outlive a pulled cable, as they do on a real network.
    fn peer_link(&self, _up: bool) {}

    fn peer_slot(&self) -> &PeerSlot {
        &self.peer
    }
}

impl Backend for User {
    fn id(&self) -> &str {
        &self.id
    }

    fn kind(&self) -> &'static str {
        "user"
    }

    fn user(&self) -> Option<&User> {
        Some(self)
    }

    fn describe(&self) -> String {
        format!("user {}", self.description)
    }

    fn counters(&self) -> &PortCounters {
        &self.counters
    }
}
