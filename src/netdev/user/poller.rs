//! The host's sockets of one user network, in an epoll set of their own.
//!
//! Edge-triggered: a socket is reported once when it becomes readable or writable, and its owner remembers that
//! until a call says EAGAIN. So a busy connection costs no system call for watching it, and a connection that
//! waits for the guest costs nothing at all. The set itself is one descriptor in the machine's event loop.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Result;
use rustix::time::Timespec;

/// Events taken by one call.
const BATCH: usize = 64;

/// What a socket belongs to. Ids are never used twice, so a late event finds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(u64);

/// Which table an id is to be looked up in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A TCP flow.
    Tcp,
    /// A UDP flow.
    Udp,
    /// A ping socket.
    Ping,
    /// A listening socket of a host forward.
    Forward,
}

const KINDS: [Kind; 4] = [Kind::Tcp, Kind::Udp, Kind::Ping, Kind::Forward];

impl SocketId {
    /// Which table knows it.
    pub fn kind(self) -> Kind {
        KINDS[(self.0 % KINDS.len() as u64) as usize]
    }
}

/// What became possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Whose socket.
    pub id: SocketId,
    /// Reading will say something: data, the end, or an error.
    pub readable: bool,
    /// Writing will say something.
    pub writable: bool,
}

/// The set.
#[derive(Debug)]
pub struct Poller {
    set: Arc<OwnedFd>,
    next: u64,
}

impl Poller {
    /// An empty set.
    ///
    /// # Errors
    /// The host is out of descriptors.
    pub fn new() -> Result<Self> {
        Ok(Self { set: Arc::new(epoll::create(CreateFlags::CLOEXEC)?), next: 0 })
    }

    /// The descriptor that is readable while there are changes to be taken.
    pub fn descriptor(&self) -> Arc<OwnedFd> {
        self.set.clone()
    }

    /// An id that no socket had before.
    pub fn new_id(&mut self, kind: Kind) -> SocketId {
        self.next += 1;
        SocketId(self.next * KINDS.len() as u64 + kind as u64)
    }

    /// Reports changes of `socket` until it is closed.
    ///
    /// # Errors
    /// The host's limit on watches.
    pub fn watch(&self, socket: impl AsFd, id: SocketId) -> Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.set, socket, EventData::new_u64(id.0), flags)
    }

    /// Takes up to 64 changes, without waiting.
    pub fn changes(&self) -> Vec<Change> {
        let mut room = [const { MaybeUninit::<Event>::uninit() }; BATCH];
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        let Ok((events, _)) = epoll::wait(&self.set, &mut room, Some(&none)) else { return Vec::new() };
        let change = |event: &mut Event| {
            let flags = event.flags;
            let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
            Change {
                id: SocketId(event.data.u64()),
                readable: broken || flags.intersects(EventFlags::IN | EventFlags::RDHUP),
                writable: broken || flags.contains(EventFlags::OUT),
            }
        };
        events.iter_mut().map(change).collect()
    }
}

impl AsRawFd for Poller {
    fn as_raw_fd(&self) -> RawFd {
        self.set.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_and_to_its_own_id() {
        let mut poller = Poller::new().unwrap();
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        let id = poller.new_id(Kind::Ping);
        assert_ne!(id, poller.new_id(Kind::Ping));
        poller.watch(&a, id).unwrap();
        assert_eq!(poller.changes(), [Change { id, readable: false, writable: true }]);
        assert_eq!(poller.changes(), []);
        std::io::Write::write_all(&mut &b, b"x").unwrap();
        assert!(poller.changes()[0].readable);
        assert_eq!(poller.changes(), []);
        assert_eq!(id.kind(), Kind::Ping);
        drop(a);
        std::io::Write::write_all(&mut &b, b"x").unwrap_err();
        assert_eq!(poller.changes(), []);
    }
}
