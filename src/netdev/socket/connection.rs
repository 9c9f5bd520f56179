//! One live stream: frames out through a bounded buffer, frames in through the decoder, until it ends.
//!
//! Made by `stream` for each connection. Out: a frame is copied once, with its length before it, and written on
//! the caller's thread. What the host does not take of a frame it has begun is kept, exactly one frame; until
//! it is gone, further frames are answered with `Full`.
//!
//! Lock order: `tx` before the watch's own; neither is held while the peer or the owner is called.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::framing::{self, Decoder};
use super::receiver::{Core, FrameReader, Incoming, Receiver};
use crate::event::{EventError, FdHandler, Interest, Ready, Watch};
use crate::netport::{Delivery, DropReason, Frame};

/// A connected stream socket.
#[derive(Debug)]
pub struct Connection {
    core: Arc<Core>,
    fd: Arc<OwnedFd>,
    watch: Arc<Watch>,
    receiver: Arc<Receiver<StreamReader>>,
    tx: Mutex<Tx>,
    ending: Ending,
}

/// Calls the owner once, whichever half notices the end first.
struct Ending {
    why: OnceLock<String>,
    tell: Box<dyn Fn(&str) + Send + Sync>,
}

impl std::fmt::Debug for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.why.fmt(f)
    }
}

#[derive(Debug, Default)]
struct Tx {
    /// One frame with its length, and how much of it the host has taken.
    pending: Vec<u8>,
    sent: usize,
    /// The peer was told that there is no room.
    peer_waits: bool,
}

impl Connection {
    /// Takes over a nonblocking, connected stream socket. `on_end` is called once, on any thread, when it is of no
    /// more use; not when it is dropped.
    ///
    /// # Errors
    /// [`EventError`] when the host is out of descriptors.
    pub fn new(
        core: &Arc<Core>,
        fd: OwnedFd,
        on_end: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Arc<Self>, EventError> {
        let (fd, watch) = (Arc::new(fd), Arc::new(Watch::default()));
        let connection = Arc::new_cyclic(|this: &Weak<Self>| {
            let this = this.clone();
            let end = move |why: &str| {
                if let Some(connection) = this.upgrade() {
                    connection.end(why);
                }
            };
            let reader = StreamReader::new(fd.clone());
            Self {
                core: core.clone(),
                fd: fd.clone(),
                watch: watch.clone(),
                receiver: Receiver::new(core.clone(), reader, watch.clone(), end),
                tx: Mutex::default(),
                ending: Ending { why: OnceLock::new(), tell: Box::new(on_end) },
            }
        });
        watch.start(&core.events, fd, Arc::new(Arc::downgrade(&connection)))?;
        Ok(connection)
    }

    /// Begins to read.
    pub fn start(&self) {
        self.receiver.start();
    }

    /// Sends one finished frame.
    pub fn send(&self, frame: &Frame<'_>) -> Delivery {
        let mut tx = self.tx();
        if self.ending.why.get().is_some() {
            return Delivery::Dropped(DropReason::LinkDown);
        }
        if !tx.pending.is_empty() {
            tx.peer_waits = true;
            return Delivery::Full;
        }
        framing::encode(frame, &mut tx.pending);
        tx.sent = 0;
        let error = match self.push(&mut tx) {
            Ok(()) => return Delivery::Taken,
            Err(error) => error,
        };
        if error != Errno::AGAIN {
            drop(tx);
            self.end(&error.to_string());
            return Delivery::Dropped(DropReason::LinkDown);
        }
        self.watch.want(|interest| interest.writable = true);
        if tx.sent > 0 {
            return Delivery::Taken;
        }
        tx.pending.clear();
        tx.peer_waits = true;
        Delivery::Full
    }

    /// The peer has room again.
    pub fn peer_ready(&self) {
        self.receiver.peer_ready();
    }

    fn tx(&self) -> MutexGuard<'_, Tx> {
        self.tx.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is pending, as far as the host takes it.
    fn push(&self, tx: &mut Tx) -> rustix::io::Result<()> {
        while tx.sent < tx.pending.len() {
            match send(&self.fd, &tx.pending[tx.sent..], SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(n) => tx.sent += n,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        tx.pending.clear();
        Ok(())
    }

    fn writable(&self) {
        let mut tx = self.tx();
        match self.push(&mut tx) {
            Ok(()) => {
                self.watch.want(|interest| interest.writable = false);
                if std::mem::take(&mut tx.peer_waits) {
                    drop(tx);
                    self.core.peer.ready();
                }
            }
            Err(Errno::AGAIN) => {}
            Err(error) => {
                drop(tx);
                self.end(&error.to_string());
            }
        }
    }

    fn end(&self, why: &str) {
        self.watch.want(|interest| *interest = Interest::NONE);
        if self.ending.why.set(why.to_owned()).is_ok() {
            (self.ending.tell)(why);
        }
    }
}

impl FdHandler for Connection {
    fn ready(&self, ready: Ready) {
        if ready.writable || ready.hangup {
            self.writable();
        }
        if ready.readable {
            self.receiver.readable();
        }
    }
}

/// Reads a stream and cuts it into frames.
#[derive(Debug)]
struct StreamReader {
    fd: Arc<OwnedFd>,
    decoder: Decoder,
    place: Range<usize>,
    /// The last read got less than it asked for: the next one would find nothing.
    drained: bool,
}

impl StreamReader {
    fn new(fd: Arc<OwnedFd>) -> Self {
        Self { fd, decoder: Decoder::default(), place: 0..0, drained: false }
    }
}

impl FrameReader for StreamReader {
    fn read_next(&mut self) -> Incoming {
        loop {
            match self.decoder.next_frame() {
                Ok(Some(place)) => {
                    self.place = place;
                    return Incoming::Frame;
                }
                Ok(None) => {}
                Err(error) => return Incoming::End(error.to_string()),
            }
            if std::mem::take(&mut self.drained) {
                return Incoming::Empty;
            }
            let room = self.decoder.room();
            let asked = room.len();
            match rustix::io::read(&self.fd, room) {
                Ok(0) if self.decoder.is_amid_frame() => {
                    return Incoming::End("closed by the other side amid a frame".into());
                }
                Ok(0) => return Incoming::End("closed by the other side".into()),
                Ok(n) => {
                    self.drained = n < asked;
                    self.decoder.filled(n);
                }
                Err(Errno::AGAIN) => return Incoming::Empty,
                Err(Errno::INTR) => {}
                Err(error) => return Incoming::End(error.to_string()),
            }
        }
    }

    fn frame(&self) -> &[u8] {
        self.decoder.bytes(self.place.clone())
    }
}
