//! Echo requests of the guest's to the world: through the host's unprivileged ping sockets (icmp(7)).
//!
//! A flow is one identifier and one destination. Where the host does not allow such sockets to this user
//! (net.ipv4.ping_group_range), the guest hears that it is prohibited.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{self as host, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};

use super::icmp::{self, Echo, ICMP_HEADER, Unreachable};
use super::ip::Packet;
use super::poller::{Kind, SocketId};
use super::stack::{Progress, Shared};
use super::subnet::Route;
use crate::netport::FrameMeta;

/// Flows at a time; the longest silent one makes way.
const MAX_FLOWS: usize = 32;
/// How long a reply is waited for.
const KEEP_NS: u64 = 30_000_000_000;
/// Replies taken at a time, so that others get their turn.
const BUDGET: usize = 16;
/// Longest reply.
const MAX_REPLY: usize = 64 << 10;

/// The guest's address, its identifier, and whom it asks.
type Key = (IpAddr, u16, IpAddr);

#[derive(Debug)]
struct Flow {
    key: Key,
    socket: OwnedFd,
    active: u64,
    quote: Vec<u8>,
}

/// The flows.
#[derive(Debug, Default)]
pub struct Pings {
    flows: HashMap<SocketId, Flow>,
}

impl Pings {
    /// Passes an echo request on, or tells why not.
    pub fn request(&mut self, packet: &Packet<'_>, echo: Echo, shared: &mut Shared) {
        let why = match shared.subnet.route_echo(packet.dst) {
            Route::Host(_) => match self.send(packet, echo, shared) {
                Ok(()) => return,
                Err(errno) => Unreachable::from_errno(errno),
            },
            Route::Prohibited => Unreachable::Prohibited,
            Route::Nobody | Route::Forward(_) => Unreachable::Host,
        };
        shared.refuse(packet.src, packet.dst, why, &packet.quote());
    }

    fn send(&mut self, packet: &Packet<'_>, echo: Echo, shared: &mut Shared) -> Result<(), Errno> {
        let key = (packet.src, echo.ident, packet.dst);
        let known = self.flows.values_mut().find(|flow| flow.key == key);
        let flow = match known {
            Some(flow) => flow,
            None => self.open(key, shared)?,
        };
        flow.active = shared.now;
        flow.quote = packet.quote();
        match host::send(&flow.socket, packet.payload, SendFlags::NOSIGNAL) {
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn open(&mut self, key: Key, shared: &mut Shared) -> Result<&mut Flow, Errno> {
        if self.flows.len() >= MAX_FLOWS {
            let oldest = self.flows.iter().min_by_key(|(_, flow)| flow.active).map(|(&id, _)| id);
            oldest.and_then(|id| self.flows.remove(&id));
        }
        let (family, protocol) = match key.2 {
            IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
            IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = host::socket_with(family, SocketType::DGRAM, flags, Some(protocol))?;
        host::connect(&socket, &SocketAddr::new(key.2, 0))?;
        let id = shared.poller.new_id(Kind::Ping);
        shared.poller.watch(&socket, id)?;
        Ok(self.flows.entry(id).or_insert(Flow { key, socket, active: shared.now, quote: Vec::new() }))
    }

    /// Takes what the socket `id` received.
    pub fn ready(&mut self, id: SocketId, shared: &mut Shared) -> Progress {
        let Some(flow) = self.flows.get_mut(&id) else { return Progress::Idle };
        let (guest, ident, target) = flow.key;
        let mut reply = vec![0; MAX_REPLY];
        for _ in 0..BUDGET {
            if !shared.link.has_room() {
                return Progress::Blocked;
            }
            match host::recv(&flow.socket, &mut *reply, RecvFlags::DONTWAIT) {
                Ok((_, len)) if len >= ICMP_HEADER => {
                    flow.active = shared.now;
                    let packet = icmp::echo_reply(target, guest, ident, &reply[..len.min(MAX_REPLY)]);
                    shared.link.send(guest, packet, FrameMeta::default(), shared.now);
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Progress::Idle,
                Err(errno) => {
                    let quote = std::mem::take(&mut flow.quote);
                    self.flows.remove(&id);
                    shared.refuse(guest, target, Unreachable::from_errno(errno), &quote);
                    return Progress::Idle;
                }
            }
        }
        Progress::Again
    }

    /// Forgets flows that have been silent for long.
    pub fn sweep(&mut self, now: u64) {
        self.flows.retain(|_, flow| now.saturating_sub(flow.active) < KEEP_NS);
    }

    /// Each flow's guest address, destination and identifier.
    pub fn list(&self) -> impl Iterator<Item = Key> {
        self.flows.values().map(|flow| flow.key)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }
}
