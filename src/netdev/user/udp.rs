//! UDP between the guest and the host: a bounded table of flows, each a connected socket.
//!
//! A connected socket takes answers from nobody but whom the guest asked, and reports ICMP errors of its own
//! flow, which the guest then hears. Datagrams that come in by a host forward share the forward's socket. What
//! the host cannot take at once is dropped, as UDP may; what the guest cannot take stays in the host's socket
//! buffers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{self as host, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::icmp::Unreachable;
use super::ip::{self, Packet};
use super::poller::{Kind, SocketId};
use super::stack::{Progress, Shared};
use super::subnet::Route;
use crate::netport::FrameMeta;

/// Flows at a time; the longest silent one makes way.
const MAX_FLOWS: usize = 256;
/// How long a silent flow is kept (RFC 4787, REQ-5 has 2 minutes at least for what is not well known), and a DNS
/// request.
const KEEP_NS: u64 = 120_000_000_000;
const KEEP_DNS_NS: u64 = 15_000_000_000;
const DNS_PORT: u16 = 53;
/// Datagrams taken at a time, so that others get their turn.
const BUDGET: usize = 32;
/// Longest datagram.
pub const MAX_DATAGRAM: usize = 64 << 10;

/// The guest's end and the end it sees.
pub type Key = (SocketAddr, SocketAddr);

#[derive(Debug)]
struct Flow {
    key: Key,
    path: Path,
    active: u64,
    /// What an ICMP error about the last datagram repeats.
    quote: Vec<u8>,
}

#[derive(Debug)]
enum Path {
    /// A socket of its own, connected to this address.
    Own { socket: OwnedFd, to: SocketAddr },
    /// The socket of a host forward, and the client there.
    Forward { socket: Arc<OwnedFd>, client: SocketAddr },
}

/// The table.
#[derive(Debug)]
pub struct Udp {
    flows: HashMap<SocketId, Flow>,
    by_key: HashMap<Key, SocketId>,
    buffer: Box<[u8]>,
}

impl Udp {
    /// An empty table.
    pub fn new() -> Self {
        Self { flows: HashMap::new(), by_key: HashMap::new(), buffer: vec![0; MAX_DATAGRAM].into() }
    }

    /// Passes a datagram of the guest's on, or tells why not.
    pub fn datagram(&mut self, key: Key, data: &[u8], packet: &Packet<'_>, shared: &mut Shared) {
        let sent = match self.by_key.get(&key) {
            Some(&id) => Ok(id),
            None => self.open(key, shared),
        };
        let refused = match sent.map(|id| self.flows.get_mut(&id)) {
            Ok(Some(flow)) => {
                flow.active = shared.now;
                flow.quote = packet.quote();
                flow.path.send(data).err().map(Unreachable::from_errno)
            }
            Ok(None) => None,
            Err(why) => Some(why),
        };
        if let Some(why) = refused {
            self.refused(key, shared);
            shared.refuse(packet.src, packet.dst, why, &packet.quote());
        }
    }

    /// Forgets a flow whose other end refused, so that the next datagram tries anew.
    fn refused(&mut self, key: Key, shared: &mut Shared) {
        let flow = self.by_key.remove(&key).and_then(|id| self.flows.remove(&id));
        if let Some(Flow { path: Path::Own { to, .. }, .. }) = flow
            && key.1.port() == DNS_PORT
        {
            shared.resolver.refused(to);
        }
    }

    fn open(&mut self, key: Key, shared: &mut Shared) -> Result<SocketId, Unreachable> {
        let to = match shared.subnet.route(key.1, false, &mut shared.resolver) {
            Route::Host(to) => to,
            Route::Prohibited => return Err(Unreachable::Prohibited),
            Route::Nobody | Route::Forward(_) if shared.subnet.is_ours(key.1.ip()) => {
                return Err(Unreachable::Port);
            }
            Route::Nobody | Route::Forward(_) => return Err(Unreachable::Host),
        };
        self.make_room();
        let connect = || -> Result<OwnedFd, Errno> {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let socket = host::socket_with(AddressFamily::of(to), SocketType::DGRAM, flags, None)?;
            host::connect(&socket, &to)?;
            Ok(socket)
        };
        let socket = connect().map_err(Unreachable::from_errno)?;
        let id = shared.poller.new_id(Kind::Udp);
        shared.poller.watch(&socket, id).map_err(Unreachable::from_errno)?;
        self.insert(id, key, Path::Own { socket, to }, shared.now);
        Ok(id)
    }

    fn insert(&mut self, id: SocketId, key: Key, path: Path, now: u64) {
        self.by_key.insert(key, id);
        self.flows.insert(id, Flow { key, path, active: now, quote: Vec::new() });
    }

    fn make_room(&mut self) {
        if self.flows.len() >= MAX_FLOWS
            && let Some((&id, _)) = self.flows.iter().min_by_key(|(_, flow)| flow.active)
            && let Some(flow) = self.flows.remove(&id)
        {
            self.by_key.remove(&flow.key);
        }
    }

    /// Gives the guest a datagram that `client` sent to a host forward; answers go back by `socket`.
    pub fn arrived(
        &mut self,
        socket: &Arc<OwnedFd>,
        client: SocketAddr,
        guest: SocketAddr,
        data: &[u8],
        shared: &mut Shared,
    ) {
        let seen = SocketAddr::new(shared.subnet.seen_from_guest(client.ip(), guest.ip()), client.port());
        let key = (guest, seen);
        let id = self.by_key.get(&key).copied().unwrap_or_else(|| {
            self.make_room();
            shared.poller.new_id(Kind::Udp)
        });
        self.insert(id, key, Path::Forward { socket: socket.clone(), client }, shared.now);
        shared.deliver_udp(seen, guest, data);
    }

    /// Takes what the socket `id` received.
    pub fn ready(&mut self, id: SocketId, shared: &mut Shared) -> Progress {
        let Some(flow) = self.flows.get_mut(&id) else { return Progress::Idle };
        let Path::Own { socket, .. } = &flow.path else { return Progress::Idle };
        let (guest, seen) = flow.key;
        for _ in 0..BUDGET {
            if !shared.link.has_room() {
                return Progress::Blocked;
            }
            match host::recv(socket, &mut *self.buffer, RecvFlags::DONTWAIT) {
                Ok((_, len)) => {
                    flow.active = shared.now;
                    shared.deliver_udp(seen, guest, &self.buffer[..len.min(MAX_DATAGRAM)]);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Progress::Idle,
                Err(errno) => {
                    let quote = std::mem::take(&mut flow.quote);
                    self.refused((guest, seen), shared);
                    shared.refuse(guest.ip(), seen.ip(), Unreachable::from_errno(errno), &quote);
                    return Progress::Idle;
                }
            }
        }
        Progress::Again
    }

    /// Forgets flows that have been silent for long.
    pub fn sweep(&mut self, now: u64) {
        let keep = |flow: &Flow| {
            let limit = if flow.key.1.port() == DNS_PORT { KEEP_DNS_NS } else { KEEP_NS };
            now.saturating_sub(flow.active) < limit
        };
        self.flows.retain(|_, flow| keep(flow));
        self.by_key.retain(|_, id| self.flows.contains_key(id));
    }

    /// Forgets the flows that go by `socket`, which is no longer a forward's.
    pub fn close_forward(&mut self, socket: &Arc<OwnedFd>) {
        self.flows.retain(
            |_, flow| !matches!(&flow.path, Path::Forward { socket: s, .. } if Arc::ptr_eq(s, socket)),
        );
        self.by_key.retain(|_, id| self.flows.contains_key(id));
    }

    /// Each flow: the guest's end, the end it sees, the end on the host.
    pub fn list(&self) -> impl Iterator<Item = (Key, SocketAddr)> {
        self.flows.values().map(|flow| match flow.path {
            Path::Own { to, .. } => (flow.key, to),
            Path::Forward { client, .. } => (flow.key, client),
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }
}

impl Path {
    fn send(&self, data: &[u8]) -> Result<(), Errno> {
        let sent = match self {
            Self::Own { socket, .. } => host::send(socket, data, SendFlags::NOSIGNAL),
            Self::Forward { socket, client } => host::sendto(&**socket, data, SendFlags::NOSIGNAL, client),
        };
        match sent {
            Ok(_) | Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

/// `AddressFamily` of an address.
pub trait FamilyOf {
    /// INET or INET6.
    fn of(address: SocketAddr) -> AddressFamily;
}

impl FamilyOf for AddressFamily {
    fn of(address: SocketAddr) -> AddressFamily {
        if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
    }
}

impl Shared {
    /// Queues a datagram for the guest.
    pub fn deliver_udp(&mut self, from: SocketAddr, to: SocketAddr, data: &[u8]) {
        if let Some(bytes) = ip::udp(from, to, data) {
            self.link.send(to.ip(), bytes, FrameMeta::default(), self.now);
        }
    }
}
