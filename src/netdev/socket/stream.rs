//! Frames over a stream socket: `-netdev stream`, `-netdev socket,listen=|connect=`, passt's socket, and the chardevs
//! of filters.
//!
//! One connection at a time: a server takes the next one when the first has gone, a client with `reconnect`
//! tries again. Without a connection the NIC's link is down and its frames are dropped for that reason.
//!
//! Connections come and go on the loop thread only, so that the peer hears of its link in the right order;
//! frames are sent on any thread.
//!
//! Lock order: `connection` is read before a connection's own locks and written with none held.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use rustix::net::{SocketFlags, SocketType, acceptfrom_with, sockopt};

use super::address::{self, HostAddress};
use super::client::Client;
use super::connection::Connection;
use super::error::SocketError;
use super::receiver::Core;
use crate::cli::{SocketAddress, StreamOptions};
use crate::event::{FdHandler, Ready, Watch};
use crate::netdev::{Backend, NetdevEvent, PortCounters, StreamPeer};
use crate::netport::{Delivery, DropReason, Frame, FramePort, Offloads, PeerSlot};
use crate::sys::inherit;
use crate::sys::unix_path::BoundPath;

/// Changes of the link that are told to the user one by one; a peer that flaps for hours must not fill a log.
const CHANGES_TOLD: u32 = 20;

/// A stream backend.
#[derive(Debug)]
pub struct Stream {
    core: Arc<Core>,
    kind: &'static str,
    role: Role,
    this: Weak<Self>,
    connection: RwLock<Option<Arc<Connection>>>,
    changes: AtomicU32,
}

/// How connections come about.
#[derive(Debug)]
pub enum Role {
    /// Others connect to us.
    Server(Server),
    /// We connect.
    Client(Arc<Client>),
    /// The connection was handed to us and there is no other.
    Given {
        /// What is at its other end, for the user.
        what: String,
    },
}

/// A listening socket.
#[derive(Debug)]
pub struct Server {
    at: String,
    listener: Arc<OwnedFd>,
    watch: Watch,
    _path: BoundPath,
    keep_alive: bool,
}

impl Server {
    /// Binds and listens.
    ///
    /// # Errors
    /// [`SocketError`] of the last address tried.
    fn bind(addresses: &[HostAddress], keep_alive: bool) -> Result<Self, SocketError> {
        let listen = |at: &HostAddress| {
            let fd = address::bound(at, SocketType::STREAM)?;
            let path = BoundPath(at.path.clone());
            rustix::net::listen(&fd, 1).map_err(SocketError::os("listen"))?;
            Ok(Self::on(at.to_string(), fd, path, keep_alive))
        };
        let (first, others) = addresses.split_first().ok_or_else(SocketError::no_address)?;
        others.iter().fold(listen(first), |done, at| done.or_else(|_| listen(at)))
    }

    fn on(at: String, listener: OwnedFd, path: BoundPath, keep_alive: bool) -> Self {
        Self { at, listener: Arc::new(listener), watch: Watch::default(), _path: path, keep_alive }
    }

    /// A connection that waits, and who made it.
    fn accept(&self) -> Option<(OwnedFd, String)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // One that has gone again before it was accepted is no event.
        let (fd, from) = acceptfrom_with(&self.listener, flags).ok()?;
        let from = from.and_then(|from| std::net::SocketAddr::try_from(from).ok());
        Some((fd, from.map_or_else(|| self.at.clone(), |from| from.to_string())))
    }
}

/// Who is at the other end; a socket without a name has the empty path.
fn peer_of(fd: &OwnedFd) -> StreamPeer {
    let name = rustix::net::getpeername(fd).ok().flatten();
    match name.clone().and_then(|name| std::net::SocketAddr::try_from(name).ok()) {
        Some(addr) => StreamPeer::Inet(addr),
        None => {
            let unix = name.and_then(|name| rustix::net::SocketAddrUnix::try_from(name).ok());
            let path = unix.as_ref().and_then(|unix| unix.path());
            StreamPeer::Unix(path.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default())
        }
    }
}

/// The listener's events.
impl FdHandler for Stream {
    fn ready(&self, _ready: Ready) {
        // Told to look away, the loop may have seen the next one in the same moment; it waits its turn.
        if let Role::Server(server) = &self.role
            && self.present().is_none()
            && let Some((fd, from)) = server.accept()
        {
            self.connected(fd, &from, server.keep_alive);
        }
    }
}

impl Stream {
    /// Opens the socket as `-netdev stream` says.
    ///
    /// # Errors
    /// [`SocketError`]; nothing is left behind then.
    pub fn open(
        core: Arc<Core>,
        kind: &'static str,
        options: &StreamOptions,
    ) -> Result<Arc<Self>, SocketError> {
        let (addresses, keep_alive) = match &options.addr {
            SocketAddress::Inet(inet) => (address::resolve(inet)?, inet.keep_alive),
            SocketAddress::Unix(unix) => (vec![address::unix(unix)?], false),
            SocketAddress::Fd(number) => return Self::inherited(core, kind, *number),
        };
        if options.server {
            return Self::listen(core, kind, Server::bind(&addresses, keep_alive)?);
        }
        let client = Client::new(addresses, options.reconnect, keep_alive, &core.events)?;
        // Without a second chance, the first attempt decides whether the machine starts.
        let first = if options.reconnect.is_none() { Some(client.connect_now()?) } else { None };
        let stream = Self::with(core, kind, Role::Client(client.clone()));
        client.serve(&stream);
        match first {
            Some((fd, to)) => stream.attach(fd, &to, keep_alive)?,
            None => client.retry_at(0),
        }
        Ok(stream)
    }

    /// Takes over a connected socket.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn given(
        core: Arc<Core>,
        kind: &'static str,
        fd: OwnedFd,
        what: String,
    ) -> Result<Arc<Self>, SocketError> {
        rustix::io::ioctl_fionbio(&fd, true).map_err(SocketError::os("FIONBIO"))?;
        let stream = Self::with(core, kind, Role::Given { what: what.clone() });
        stream.attach(fd, &what, false)?;
        Ok(stream)
    }

    /// A socket that our parent left open, connected or listening.
    pub(super) fn inherited(
        core: Arc<Core>,
        kind: &'static str,
        number: i32,
    ) -> Result<Arc<Self>, SocketError> {
        let bad = |why| SocketError::BadFd { fd: number, why };
        let fd = inherit::adopt(number).map_err(|_| bad("is not open"))?;
        let listens = match sockopt::socket_type(&fd) {
            Ok(SocketType::STREAM) => sockopt::socket_acceptconn(&fd).unwrap_or(false),
            Ok(_) => return Err(bad("is not a stream socket: use -netdev dgram,local.type=fd for it")),
            Err(_) => return Err(bad("is not a socket")),
        };
        let what = format!("fd {number}");
        if !listens {
            if rustix::net::getpeername(&fd).is_err() {
                return Err(bad("is a socket that neither listens nor is connected"));
            }
            return Self::given(core, kind, fd, what);
        }
        rustix::io::ioctl_fionbio(&fd, true).map_err(SocketError::os("FIONBIO"))?;
        Self::listen(core, kind, Server::on(what, fd, BoundPath(None), false))
    }

    /// Waits until a server has its first connection, which the event loop accepts.
    pub(super) fn wait_for_first(&self) {
        if let Role::Server(server) = &self.role {
            self.core.notices.say(&format!("waiting for a connection at {}", server.at));
            while self.present().is_none() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    fn listen(core: Arc<Core>, kind: &'static str, server: Server) -> Result<Arc<Self>, SocketError> {
        let listener = server.listener.clone();
        let stream = Self::with(core, kind, Role::Server(server));
        if let Role::Server(server) = &stream.role {
            server.watch.start(&stream.core.events, listener, Arc::new(Arc::downgrade(&stream)))?;
            server.watch.want(|interest| interest.readable = true);
        }
        Ok(stream)
    }

    fn with(core: Arc<Core>, kind: &'static str, role: Role) -> Arc<Self> {
        let (connection, changes) = (RwLock::new(None), AtomicU32::new(0));
        Arc::new_cyclic(|this| Self { core, kind, role, this: this.clone(), connection, changes })
    }

    /// A connection came about while the machine runs.
    pub(super) fn connected(&self, fd: OwnedFd, with: &str, keep_alive: bool) {
        match self.attach(fd, with, keep_alive) {
            Ok(()) => self.tell(&format!("connected ({with})")),
            Err(error) => self.tell(&format!("cannot use the connection ({with}): {error}")),
        }
    }

    /// Begins to use a connection.
    fn attach(&self, fd: OwnedFd, with: &str, keep_alive: bool) -> Result<(), SocketError> {
        // Not every socket is TCP, and without these it works too.
        let _ = sockopt::set_tcp_nodelay(&fd, true);
        let _ = sockopt::set_socket_keepalive(&fd, keep_alive);
        let (this, with, peer) = (self.this.clone(), with.to_owned(), peer_of(&fd));
        let connection = Connection::new(&self.core, fd, move |why| {
            if let Some(stream) = this.upgrade() {
                stream.ended(&with, why);
            }
        })?;
        self.listen_for_more(false);
        *self.connection.write().unwrap_or_else(PoisonError::into_inner) = Some(connection.clone());
        connection.start();
        self.send_link();
        self.core.happenings.tell(NetdevEvent::StreamConnected { id: self.core.id.clone(), peer });
        Ok(())
    }

    /// The present connection is of no more use. From any thread.
    fn ended(&self, with: &str, why: &str) {
        let (this, with, why) = (self.this.clone(), with.to_owned(), why.to_owned());
        self.core.events.run(move || {
            if let Some(stream) = this.upgrade() {
                stream.detach(&with, &why);
            }
        });
    }

    fn detach(&self, with: &str, why: &str) {
        drop(self.connection.write().unwrap_or_else(PoisonError::into_inner).take());
        self.send_link();
        self.core.happenings.tell(NetdevEvent::StreamDisconnected { id: self.core.id.clone() });
        // Who was told to wait for room learns that there is nobody to wait for.
        self.core.peer.ready();
        let then = match &self.role {
            Role::Server(_) => "the next one is awaited".to_owned(),
            Role::Client(client) => client.lost(),
            Role::Given { .. } => String::new(),
        };
        let then = if then.is_empty() { then } else { format!("; {then}") };
        self.tell(&format!("the connection ({with}) is gone: {why}; the link is down{then}"));
        self.listen_for_more(true);
    }

    fn listen_for_more(&self, on: bool) {
        if let Role::Server(server) = &self.role {
            server.watch.want(|interest| interest.readable = on);
        }
    }

    fn present(&self) -> Option<Arc<Connection>> {
        self.connection.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn send_link(&self) {
        if let Some(peer) = self.core.peer.get() {
            peer.peer_link(self.present().is_some());
        }
    }

    fn tell(&self, line: &str) {
        match self.changes.fetch_add(1, Ordering::Relaxed) {
            n if n < CHANGES_TOLD => self.core.notices.say(line),
            CHANGES_TOLD => {
                self.core.notices.say("the connection keeps coming and going; no more of this is told")
            }
            _ => {}
        }
    }
}

impl FramePort for Stream {
    fn deliver(&self, frame: &Frame<'_>) -> Delivery {
        let outcome = match (Core::check(frame), self.present()) {
            (Err(why), _) => Delivery::Dropped(why),
            (Ok(()), None) => Delivery::Dropped(DropReason::LinkDown),
            (Ok(()), Some(connection)) => connection.send(frame),
        };
        self.core.counters.from_peer.count(frame, outcome);
        outcome
    }

    fn accepts(&self) -> Offloads {
        Core::accepts()
    }

    fn peer_ready(&self) {
        if let Some(connection) = self.present() {
            connection.peer_ready();
        }
    }

    /// The connection stays: the other side's link is not ours to switch.
    fn peer_link(&self, _up: bool) {}

    fn peer_slot(&self) -> &PeerSlot {
        &self.core.peer
    }
}

impl Backend for Stream {
    fn id(&self) -> &str {
        &self.core.id
    }

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn describe(&self) -> String {
        let (kind, state) = (self.kind, if self.present().is_some() { "connected" } else { "not connected" });
        match &self.role {
            Role::Server(server) => format!("{kind} listening at {}, {state}", server.at),
            Role::Client(client) => format!("{kind} to {}, {state}", client.target()),
            Role::Given { what } => format!("{kind} {what}, {state}"),
        }
    }

    fn counters(&self) -> &PortCounters {
        &self.core.counters
    }

    fn link_up(&self) -> bool {
        self.present().is_some()
    }
}
