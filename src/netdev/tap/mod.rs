//! A tap interface as a port: frames go to and come from the host's network stack.
//!
//! Out: [`Tap::deliver`] is one gathering write, straight from guest memory, on the caller's thread. In: the
//! loop thread reads when the tap is readable, into private memory, and offers each frame to the peer. A peer
//! without room keeps the tap unread: the frame that was read is kept, polling stops, and the queue builds in
//! the host's kernel until `peer_ready`, which goes on reading on the caller's own thread (waking the loop
//! thread would cost it more) up to a budget.
//!
//! With a virtio-net header (vnet_hdr) unfinished frames pass both ways, as far as the peer accepts them.
//!
//! Lock order: `rx` (held across calls of the peer, never waited for) before the watch's own.
#![expect(unsafe_code, reason = "ioctls and the gathering write from guest memory, in ioctl.rs")]

mod bridge;
mod error;
mod host_link;
mod ioctl;
mod open;

use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

pub use error::TapError;

use super::vnet_hdr::{self, VNET_HDR_LEN};
use super::{Backend, NetdevError, Notices, PortCounters, Surroundings};
use crate::cli::{BridgeHelper, ScriptChoice, TapOptions};
use crate::event::{Entered, EventHandle, FdHandler, Interest, Ready, Token, Watch};
use crate::netport::{
    Delivery, DropReason, Frame, FrameMeta, FramePort, MAX_FRAME, Offloads, PeerSlot, checksum,
};

/// Frames read for one wake-up of the loop thread, so that other files get their turn.
const LOOP_BUDGET: usize = 64;
/// Frames read on the thread of a `peer_ready`, usually a vCPU's: about as many as it costs to wake another
/// thread.
const INLINE_BUDGET: usize = 32;
/// Longest header before a frame that `open` admits, in bytes; Linux has 10, 12 and 24.
const VNET_HDR_ROOM: usize = 64;
/// QEMU's words for the two ways to this backend.
const TAP: &str = "tap";
const BRIDGE: &str = "bridge";
/// An Ethernet header.
const MIN_FRAME: usize = 14;

/// A tap backend.
#[derive(Debug)]
pub struct Tap {
    // Configuration.
    kind: &'static str,
    id: String,
    ifname: String,
    header: usize,
    offload: bool,
    found: Option<Offloads>,
    downscript: Option<PathBuf>,
    // Glue.
    fd: Arc<OwnedFd>,
    events: EventHandle,
    watch: Watch,
    notices: Notices,
    this: Weak<Self>,
    peer: PeerSlot,
    counters: PortCounters,
    // Volatile state.
    rx: Token<Rx>,
    tx_waits: AtomicBool,
    link_down_told: AtomicBool,
    gone: AtomicBool,
}

/// The receive engine's own.
#[derive(Debug)]
struct Rx {
    buffer: Box<[u8]>,
    /// A frame for which the peer had no room: its end in `buffer`, and what is left to do to it.
    kept: Option<(usize, FrameMeta)>,
    /// What the host was told to leave undone.
    offloads: Offloads,
}

/// Why reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Empty,
    PeerFull,
    Budget,
    Gone,
}

impl Tap {
    /// Opens the tap, sets up its host side, and starts to read it. Prints nothing; remarks go to `notices`.
    ///
    /// # Errors
    /// [`NetdevError::Tap`]; nothing is left behind then.
    pub fn open(id: &str, options: &TapOptions, around: &Surroundings) -> Result<Arc<Self>, NetdevError> {
        Self::open_as(TAP, id, options, around)
    }

    /// The same for `-netdev bridge`: a helper makes the tap.
    ///
    /// # Errors
    /// [`NetdevError::Tap`].
    pub fn open_bridge(
        id: &str,
        helper: &BridgeHelper,
        around: &Surroundings,
    ) -> Result<Arc<Self>, NetdevError> {
        let options = TapOptions { helper: Some(helper.clone()), ..TapOptions::default() };
        Self::open_as(BRIDGE, id, &options, around)
    }

    fn open_as(
        kind: &'static str,
        id: &str,
        options: &TapOptions,
        around: &Surroundings,
    ) -> Result<Arc<Self>, NetdevError> {
        let notices = around.notices.about(&format!("netdev {id}"));
        open::open(options, &notices)
            .and_then(|opened| Self::on(opened, kind, id, options, &around.events, notices))
            .map_err(|error| NetdevError::Tap { kind, id: id.to_owned(), error })
    }

    /// Starts to read an open tap.
    fn on(
        opened: open::Opened,
        kind: &'static str,
        id: &str,
        options: &TapOptions,
        events: &EventHandle,
        notices: Notices,
    ) -> Result<Arc<Self>, TapError> {
        let tap = Arc::new_cyclic(|this| Self {
            kind,
            id: id.to_owned(),
            ifname: opened.name,
            header: opened.header,
            offload: opened.offload,
            found: opened.found,
            downscript: match &options.downscript {
                ScriptChoice::Path(path) => Some(path.clone()),
                ScriptChoice::Default | ScriptChoice::No => None,
            },
            fd: Arc::new(opened.fd),
            events: events.clone(),
            watch: Watch::default(),
            notices,
            this: this.clone(),
            peer: PeerSlot::default(),
            counters: PortCounters::default(),
            rx: Token::new(Rx {
                buffer: vec![0; opened.header + MAX_FRAME].into(),
                kept: None,
                offloads: Offloads::default(),
            }),
            tx_waits: AtomicBool::new(false),
            link_down_told: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        });
        let handler = Arc::new(Arc::downgrade(&tap));
        tap.watch.start(events, tap.fd.clone(), handler)?;
        tap.watch.want(|interest| interest.readable = true);
        Ok(tap)
    }

    /// The interface's name on the host.
    pub fn ifname(&self) -> &str {
        &self.ifname
    }

    fn receive(&self, budget: usize) {
        if self.rx.enter(|rx| self.pump(rx, budget)) == Entered::Again {
            let this = self.this.clone();
            self.events.run(move || {
                if let Some(tap) = this.upgrade() {
                    tap.receive(LOOP_BUDGET);
                }
            });
        }
    }

    /// Offers the kept frame, then reads and offers more; polls on unless the peer is full.
    fn pump(&self, rx: &mut Rx, budget: usize) {
        let stop = self.read_and_offer(rx, budget);
        self.watch.want(|interest| interest.readable = matches!(stop, Stop::Empty | Stop::Budget));
    }

    fn read_and_offer(&self, rx: &mut Rx, budget: usize) -> Stop {
        if self.gone.load(Ordering::SeqCst) {
            return Stop::Gone;
        }
        let peer = self.peer.get();
        let accepted = peer.as_ref().map(|peer| peer.accepts()).unwrap_or_default();
        self.follow_peer(rx, accepted);
        let offer = |rx: &mut Rx| {
            let Some((end, meta)) = rx.kept else { return true };
            let frame = Frame { head: &rx.buffer[self.header..end], body: &[], meta };
            let none = Delivery::Dropped(DropReason::NoPeer);
            let outcome = peer.as_ref().map_or(none, |peer| peer.deliver(&frame));
            self.counters.to_peer.count(&frame, outcome);
            if outcome != Delivery::Full {
                rx.kept = None;
            }
            rx.kept.is_none()
        };
        for _ in 0..budget {
            if !offer(rx) {
                return Stop::PeerFull;
            }
            match rustix::io::read(&self.fd, &mut rx.buffer[..]) {
                Ok(end) => self.keep(rx, end, accepted),
                Err(rustix::io::Errno::AGAIN) => return Stop::Empty,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return self.lost(&error.to_string()),
            }
        }
        if offer(rx) { Stop::Budget } else { Stop::PeerFull }
    }

    /// Takes the frame just read into `kept`, with what the peer cannot do done here; drops what is malformed.
    fn keep(&self, rx: &mut Rx, end: usize, accepted: Offloads) {
        let drop_for = |why, head: &[u8], meta| {
            self.counters.to_peer.count(&Frame { head, body: &[], meta }, Delivery::Dropped(why));
        };
        let none = FrameMeta::default();
        if end < self.header + MIN_FRAME {
            return drop_for(DropReason::BadLength, &[], none);
        }
        let (header, frame) = rx.buffer[..end].split_at_mut(self.header);
        let meta = match header.first_chunk::<VNET_HDR_LEN>() {
            Some(header) => vnet_hdr::decode(header, frame),
            None => Some(none),
        };
        let Some(mut meta) = meta else { return drop_for(DropReason::BadMeta, frame, none) };
        if meta.gso.is_some_and(|gso| !accepted.cuts(gso.kind)) {
            // Queued before the peer changed its mind; TCP sends it again.
            return drop_for(DropReason::BadMeta, frame, meta);
        }
        if let Some(csum) = meta.csum.filter(|_| !accepted.csum && meta.gso.is_none()) {
            let start = usize::from(csum.start);
            // As UDP's, because all-ones means the same as zero to everybody else.
            checksum::insert_udp(frame, start, frame.len(), start + usize::from(csum.offset));
            meta.csum = None;
        }
        rx.kept = Some((end, meta));
    }

    /// Tells the host what the peer lets it leave undone.
    fn follow_peer(&self, rx: &mut Rx, accepted: Offloads) {
        let wanted = if self.offload { accepted } else { Offloads::default() };
        if wanted != rx.offloads {
            rx.offloads = wanted;
            // A kernel that refuses goes on finishing the frames itself; it is not asked again.
            let _ = ioctl::set_offload(self.fd.as_fd(), wanted);
        }
    }

    /// The interface is gone under us: no more polling, and the peer learns it once.
    fn lost(&self, why: &str) -> Stop {
        if !self.gone.swap(true, Ordering::SeqCst) {
            self.notices.say(&format!("{} is gone ({why}); its cable is cut", self.ifname));
            self.watch.want(|interest| *interest = Interest::NONE);
            if let Some(peer) = self.peer.get() {
                peer.peer_link(false);
            }
        }
        Stop::Gone
    }

    fn transmit(&self, frame: &Frame<'_>) -> Delivery {
        let len = frame.len();
        if !(MIN_FRAME..=MAX_FRAME).contains(&len) {
            return Delivery::Dropped(DropReason::BadLength);
        }
        let meta = &frame.meta;
        if self.header == 0 && (meta.csum.is_some() || meta.gso.is_some())
            || meta.gso.is_some() && meta.csum.is_none()
        {
            return Delivery::Dropped(DropReason::BadMeta);
        }
        if self.gone.load(Ordering::SeqCst) {
            return Delivery::Dropped(DropReason::LinkDown);
        }
        let mut header = [0; VNET_HDR_ROOM];
        header[..VNET_HDR_LEN].copy_from_slice(&vnet_hdr::encode(meta));
        match ioctl::write_frame(&*self.fd, &header[..self.header], frame.head, frame.body) {
            Ok(_) => {
                self.link_down_told.store(false, Ordering::Relaxed);
                Delivery::Taken
            }
            Err(error) => self.refused(&error),
        }
    }

    fn refused(&self, error: &std::io::Error) -> Delivery {
        match error.raw_os_error() {
            _ if error.kind() == ErrorKind::WouldBlock => {
                self.tx_waits.store(true, Ordering::SeqCst);
                self.watch.want(|interest| interest.writable = true);
                Delivery::Full
            }
            // Linux: the interface is administratively down (drivers/net/tun.c, tun_get_user).
            Some(libc::EIO | libc::ENETDOWN) => {
                if !self.link_down_told.swap(true, Ordering::Relaxed) {
                    self.notices.say(&format!("{} is down; frames are dropped", self.ifname));
                }
                Delivery::Dropped(DropReason::LinkDown)
            }
            Some(libc::EBADFD) => {
                self.lost("it was deleted");
                Delivery::Dropped(DropReason::LinkDown)
            }
            Some(libc::EINVAL) => Delivery::Dropped(DropReason::BadMeta),
            Some(libc::EMSGSIZE) => Delivery::Dropped(DropReason::BadLength),
            _ => Delivery::Dropped(DropReason::Backend),
        }
    }
}

impl FdHandler for Tap {
    fn ready(&self, ready: Ready) {
        if ready.writable && self.tx_waits.swap(false, Ordering::SeqCst) {
            self.watch.want(|interest| interest.writable = false);
            self.peer.ready();
        }
        if ready.readable {
            self.receive(LOOP_BUDGET);
        }
    }
}

impl FramePort for Tap {
    fn deliver(&self, frame: &Frame<'_>) -> Delivery {
        let outcome = self.transmit(frame);
        self.counters.from_peer.count(frame, outcome);
        outcome
    }

    fn accepts(&self) -> Offloads {
        Offloads { csum: self.offload, tso4: self.offload, tso6: self.offload }
    }

    fn peer_ready(&self) {
        // Entered even if nothing seems to be kept: the holder may be about to keep a frame.
        self.receive_if_kept();
    }

    /// The host's side stays as it is: its carrier belongs to the host's administrator.
    fn peer_link(&self, _up: bool) {}

    fn peer_slot(&self) -> &PeerSlot {
        &self.peer
    }
}

impl Tap {
    fn receive_if_kept(&self) {
        let entered = self.rx.enter(|rx| {
            if rx.kept.is_some() {
                self.pump(rx, INLINE_BUDGET);
            }
        });
        if entered == Entered::Again {
            let this = self.this.clone();
            self.events.run(move || {
                if let Some(tap) = this.upgrade() {
                    tap.receive_if_kept();
                }
            });
        }
    }
}

impl Backend for Tap {
    fn id(&self) -> &str {
        &self.id
    }

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn describe(&self) -> String {
        let kind = if self.offload { "vnet_hdr" } else { "plain" };
        format!("{} {}, {kind}", self.kind, self.ifname)
    }

    fn counters(&self) -> &PortCounters {
        &self.counters
    }

    fn link_up(&self) -> bool {
        !self.gone.load(Ordering::SeqCst)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        if self.gone.load(Ordering::SeqCst) {
            return;
        }
        if let Some(found) = self.found {
            // The next user finds the tap as we did; a tap that is gone meanwhile has no next user.
            let _ = ioctl::set_offload(self.fd.as_fd(), found);
        }
        if let Some(path) = &self.downscript
            && let Err(error) = open::run_script("downscript", path, &self.ifname)
        {
            self.notices.say(&error.to_string());
        }
    }
}

#[cfg(test)]
mod tests;
