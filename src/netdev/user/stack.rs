//! The user network's core: takes the guest's frames apart, gives each to its protocol, and lets sockets, timers
//! and queues have their turns.
//!
//! Run by one thread at a time (`mod.rs` sees to that), never waits, and does a bounded amount of work in each
//! call. Whatever a guest sends, it is parsed once from private memory; what is malformed, spoofed or meant for
//! nobody here is dropped and counted.

use std::collections::{HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use smoltcp::wire::{EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol, TcpPacket, UdpPacket};

use super::dhcp::{self, Dhcp};
use super::error::UserError;
use super::forward::Forwards;
use super::fragments::Reassembly;
use super::guestfwd::Children;
use super::icmp::{self, Unreachable};
use super::info::{Connection, UserInfo};
use super::ip::{self, Packet, Parsed};
use super::link::{ETHERNET_HEADER, Link};
use super::ping::Pings;
use super::poller::{Kind, Poller, SocketId};
use super::resolver::Resolver;
use super::subnet::Subnet;
use super::tcp::Tcp;
use super::tftp::{self, Tftp};
use super::udp::Udp;
use super::{arp, ndp, offload};
use crate::cli::{HostForward, ListenAt, UserOptions};
use crate::netdev::PortCounters;
use crate::netport::{Delivery, DropReason, Frame, FrameMeta, PeerSlot};

/// Turns given to sockets in one call.
const TURNS: usize = 64;
/// How often what is old is looked for, while there is anything.
const SWEEP_NS: u64 = 5_000_000_000;

/// What a socket's turn led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It wants another turn.
    Again,
    /// It wants one when the link has room.
    Blocked,
    /// It waits for its socket.
    Idle,
}

/// What all protocols use.
#[derive(Debug)]
pub struct Shared {
    /// The addresses.
    pub subnet: Subnet,
    /// The way to the guest.
    pub link: Link,
    /// The host's sockets.
    pub poller: Poller,
    /// The name servers.
    pub resolver: Resolver,
    /// Programs of guest forwards.
    pub children: Children,
    /// The time, in nanoseconds.
    pub now: u64,
    turns: VecDeque<SocketId>,
    in_turn: HashSet<SocketId>,
    blocked: Vec<SocketId>,
}

impl Shared {
    /// The socket gets a turn soon.
    pub fn later(&mut self, id: SocketId) {
        if self.in_turn.insert(id) {
            self.turns.push_back(id);
        }
    }

    /// Tells `guest` why what it sent to `target` (the packet that begins with `quote`) did not arrive.
    pub fn refuse(&mut self, guest: IpAddr, target: IpAddr, why: Unreachable, quote: &[u8]) {
        let from = match (why, target) {
            (Unreachable::Port, _) => target,
            (_, IpAddr::V4(_)) => self.subnet.host.into(),
            (_, IpAddr::V6(_)) => self.subnet.host6.into(),
        };
        if !quote.is_empty() && !target.is_multicast() && guest.is_ipv4() == from.is_ipv4() {
            let packet = icmp::error(from, guest, why, quote);
            self.link.send(guest, packet, FrameMeta::default(), self.now);
        }
    }
}

/// The core.
pub struct Stack {
    shared: Shared,
    tcp: Tcp,
    udp: Udp,
    pings: Pings,
    dhcp: Dhcp,
    tftp: Tftp,
    forwards: Forwards,
    reassembly: Reassembly,
    next_sweep: u64,
    counters: Arc<PortCounters>,
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack").field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl Stack {
    /// A network as `options` describe it; its host forwards listen already.
    ///
    /// # Errors
    /// [`UserError`]: a port that is taken, a directory that is not there, a host out of descriptors.
    pub fn new(options: &UserOptions, counters: Arc<PortCounters>) -> Result<Self, UserError> {
        let subnet = Subnet::new(options);
        let mut stack = Self {
            dhcp: Dhcp::new(options, &subnet),
            shared: Shared {
                link: Link::new(options.host, counters.clone()),
                subnet,
                poller: Poller::new().map_err(UserError::Poller)?,
                resolver: match options.dns_host {
                    Some(server) => Resolver::fixed(server),
                    None => Resolver::file("/etc/resolv.conf"),
                },
                children: Children::default(),
                now: 0,
                turns: VecDeque::new(),
                in_turn: HashSet::new(),
                blocked: Vec::new(),
            },
            tcp: Tcp::new(),
            udp: Udp::new(),
            pings: Pings::default(),
            tftp: Tftp::new(options.tftp.as_deref())?,
            forwards: Forwards::default(),
            reassembly: Reassembly::default(),
            next_sweep: 0,
            counters,
        };
        for rule in &options.hostfwd {
            stack.add_forward(rule)?;
        }
        Ok(stack)
    }

    /// Puts a host forward in force.
    ///
    /// # Errors
    /// [`UserError::Forward`].
    pub fn add_forward(&mut self, rule: &HostForward) -> Result<(), UserError> {
        self.forwards.add(rule, &mut self.shared)
    }

    /// Takes a host forward out of force; false if there is none that listens there.
    pub fn remove_forward(&mut self, listen: &ListenAt) -> bool {
        self.forwards.remove(listen, &mut self.udp)
    }

    /// The descriptor that is readable when [`Self::work`] has sockets to look at.
    pub fn poller(&self) -> &Poller {
        &self.shared.poller
    }

    /// Sets the time for everything that follows.
    pub fn set_now(&mut self, now: u64) {
        self.shared.now = now;
    }

    /// Takes one frame of the guest's, with what its NIC left undone.
    pub fn frame(&mut self, bytes: &mut [u8], meta: FrameMeta) {
        if meta.gso.is_some() && !offload::set_length(bytes) {
            for mut piece in offload::cut(bytes, &meta) {
                self.frame(&mut piece, FrameMeta::default());
            }
            return;
        }
        let Ok(ethernet) = EthernetFrame::new_checked(&*bytes) else {
            return self.drop_frame(bytes, DropReason::BadLength);
        };
        let (src, dst, ethertype) = (ethernet.src_addr(), ethernet.dst_addr(), ethernet.ethertype());
        if dst != self.shared.link.mac() && dst.is_unicast() || !src.is_unicast() {
            return self.drop_frame(bytes, DropReason::Filtered);
        }
        let unfinished = meta.gso.is_some();
        let summed = meta.csum.is_some() || meta.csum_valid || unfinished;
        let Shared { subnet, link, now, .. } = &mut self.shared;
        let taken = match ethertype {
            EthernetProtocol::Arp if subnet.ipv4 => {
                arp::receive(&bytes[ETHERNET_HEADER..], subnet, link, *now);
                true
            }
            EthernetProtocol::Ipv4 if subnet.ipv4 => self.ip(bytes, src, summed, unfinished),
            EthernetProtocol::Ipv6 if subnet.ipv6 => self.ip(bytes, src, summed, unfinished),
            _ => false,
        };
        if !taken {
            self.drop_frame(bytes, DropReason::Filtered);
        }
    }

    fn drop_frame(&self, bytes: &[u8], why: DropReason) {
        self.counters.from_peer.count(&Frame::whole(bytes), Delivery::Dropped(why));
    }

    /// Takes an IP packet behind an Ethernet header. False if it is dropped.
    fn ip(&mut self, bytes: &mut [u8], mac: EthernetAddress, summed: bool, unfinished: bool) -> bool {
        let parsed = match bytes.get(ETHERNET_HEADER).map(|first| first >> 4) {
            Some(4) => ip::parse4(&bytes[ETHERNET_HEADER..], unfinished),
            Some(6) => ip::parse6(&bytes[ETHERNET_HEADER..]),
            _ => Parsed::Malformed,
        };
        match parsed {
            Parsed::Malformed => false,
            Parsed::Packet(packet) => {
                if packet.protocol != IpProtocol::Tcp {
                    return self.packet(&packet, mac, summed);
                }
                let (header, total) = (packet.whole.len() - packet.payload.len(), packet.whole.len());
                let Some(key) = self.segment_of(&packet, mac, summed) else { return false };
                let bytes = &mut bytes[ETHERNET_HEADER..ETHERNET_HEADER + total];
                self.tcp.segment(key, bytes, header, &mut self.shared);
                true
            }
            Parsed::Fragment(fragment) => {
                if !self.admit(&fragment.packet, mac) {
                    return false;
                }
                let Some(whole) = self.reassembly.add(&fragment, self.shared.now) else { return true };
                let mut frame = [&bytes[..ETHERNET_HEADER], &whole].concat();
                self.ip(&mut frame, mac, false, false)
            }
        }
    }

    /// Whether the sender may be who it says it is; learns where it is.
    fn admit(&mut self, packet: &Packet<'_>, mac: EthernetAddress) -> bool {
        let Shared { subnet, link, now, .. } = &mut self.shared;
        if subnet.is_guest(packet.src) {
            link.learn(packet.src, mac, *now);
            return true;
        }
        false
    }

    /// The ends of an intact TCP segment from an address that a guest may have.
    fn segment_of(
        &mut self,
        packet: &Packet<'_>,
        mac: EthernetAddress,
        summed: bool,
    ) -> Option<super::tcp::Key> {
        let tcp = TcpPacket::new_checked(packet.payload).ok()?;
        let intact = summed || tcp.verify_checksum(&packet.src.into(), &packet.dst.into());
        if !intact || tcp.src_port() == 0 || tcp.dst_port() == 0 || !self.admit(packet, mac) {
            return None;
        }
        if self.is_everybody(packet.dst) {
            return None;
        }
        Some((SocketAddr::new(packet.src, tcp.src_port()), SocketAddr::new(packet.dst, tcp.dst_port())))
    }

    fn is_everybody(&self, address: IpAddr) -> bool {
        address.is_multicast() || address == Ipv4Addr::BROADCAST || address == self.shared.subnet.broadcast()
    }

    /// Takes a whole packet that is not TCP. False if it is dropped.
    fn packet(&mut self, packet: &Packet<'_>, mac: EthernetAddress, summed: bool) -> bool {
        let Shared { subnet, link, now, .. } = &mut self.shared;
        if packet.protocol == IpProtocol::Icmpv6 && ndp::receive(packet, mac, subnet, link, *now) {
            return true;
        }
        let udp = match packet.protocol {
            IpProtocol::Udp => match intact_udp(packet, summed) {
                Some(udp) => Some(udp),
                None => return false,
            },
            _ => None,
        };
        // DHCP comes before the guest has an address.
        if let Some((_, to, data)) = &udp
            && to.port() == dhcp::SERVER_PORT
            && (to.ip() == subnet.host || self.is_everybody(to.ip()))
        {
            let Shared { subnet, link, now, .. } = &mut self.shared;
            self.dhcp.receive(data, subnet, link, *now);
            return true;
        }
        if !self.admit(packet, mac) || self.is_everybody(packet.dst) {
            return false;
        }
        let ours = self.shared.subnet.is_ours(packet.dst);
        if packet.hop_limit <= 1 && !ours {
            let quote = packet.quote();
            self.shared.refuse(packet.src, packet.dst, Unreachable::TimeExceeded, &quote);
            return true;
        }
        if let Some((from, to, data)) = udp {
            if self.tftp.serves() && to == SocketAddr::new(self.shared.subnet.host.into(), tftp::PORT) {
                self.tftp.receive(from, to, data, &mut self.shared);
            } else {
                self.udp.datagram((from, to), data, packet, &mut self.shared);
            }
            return true;
        }
        let Some(echo) = icmp::echo_request(packet, summed) else { return false };
        if ours {
            let reply = icmp::echo_reply(packet.dst, packet.src, echo.ident, packet.payload);
            let now = self.shared.now;
            self.shared.link.send(packet.src, reply, FrameMeta::default(), now);
        } else {
            self.pings.request(packet, echo, &mut self.shared);
        }
        true
    }

    /// Gives sockets and timers their turns. True if there is more to do at once.
    pub fn work(&mut self) -> bool {
        for change in self.shared.poller.changes() {
            match change.id.kind() {
                Kind::Tcp => self.tcp.changed(change, &mut self.shared),
                Kind::Udp | Kind::Ping | Kind::Forward if change.readable => self.shared.later(change.id),
                Kind::Udp | Kind::Ping | Kind::Forward => {}
            }
        }
        self.tcp.time_passed(&mut self.shared);
        self.shared.link.time_passed(self.shared.now);
        self.sweep();
        if self.shared.link.has_room() {
            for id in std::mem::take(&mut self.shared.blocked) {
                self.shared.later(id);
            }
        }
        for _ in 0..TURNS {
            let Some(id) = self.shared.turns.pop_front() else { return false };
            self.shared.in_turn.remove(&id);
            let shared = &mut self.shared;
            let progress = match id.kind() {
                Kind::Tcp => self.tcp.pump(id, shared),
                Kind::Udp => self.udp.ready(id, shared),
                Kind::Ping => self.pings.ready(id, shared),
                Kind::Forward => self.forwards.ready(id, &mut self.tcp, &mut self.udp, shared),
            };
            match progress {
                Progress::Again => self.shared.later(id),
                Progress::Blocked => self.shared.blocked.push(id),
                Progress::Idle => {}
            }
        }
        !self.shared.turns.is_empty()
    }

    /// Gives the queued frames to the peer. False if it is full.
    pub fn flush(&mut self, peer: &PeerSlot) -> bool {
        self.shared.link.flush(peer)
    }

    /// Whether somebody waits for the room that a flush may have made.
    pub fn waits_for_room(&self) -> bool {
        !self.shared.blocked.is_empty() && self.shared.link.has_room()
    }

    fn sweep(&mut self) {
        let now = self.shared.now;
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + SWEEP_NS;
        self.udp.sweep(now);
        self.pings.sweep(now);
        self.tftp.sweep(now);
        self.shared.children.reap();
    }

    /// When [`Self::work`] has something to do even if nothing happens; `u64::MAX` is never.
    pub fn deadline(&self) -> u64 {
        let quiet = self.udp.is_empty()
            && self.pings.is_empty()
            && self.tftp.is_empty()
            && self.shared.children.is_empty()
            && self.shared.blocked.is_empty();
        let sweep = (!quiet).then_some(self.next_sweep);
        [self.tcp.deadline(), self.shared.link.deadline(), sweep]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(u64::MAX)
    }

    /// What the monitor shows.
    pub fn info(&self) -> UserInfo {
        let tcp = self.tcp.list().map(|((guest, seen), target, state, (to_guest, to_host))| Connection {
            protocol: "tcp",
            state,
            guest,
            seen,
            target: target.to_owned(),
            to_guest,
            to_host,
        });
        let udp = self
            .udp
            .list()
            .map(|((guest, seen), to)| Connection::stateless("udp", guest, seen, to.to_string()));
        let pings = self.pings.list().map(|(guest, ident, to)| Connection::echo(guest, ident, to));
        UserInfo {
            net: self.shared.subnet.name(),
            restrict: self.shared.subnet.restrict,
            forwards: self.forwards.list().map(|r| (r.listen.to_string(), r.guest.into())).collect(),
            connections: tcp.chain(udp).chain(pings).collect(),
        }
    }
}

/// Ends and data of an intact UDP datagram.
fn intact_udp<'a>(packet: &Packet<'a>, summed: bool) -> Option<(SocketAddr, SocketAddr, &'a [u8])> {
    let udp = UdpPacket::new_checked(packet.payload).ok()?;
    // No checksum is a checksum in IPv4 only (RFC 768, RFC 8200 section 8.1).
    let none = udp.checksum() == 0 && packet.src.is_ipv4();
    let intact = summed || none || udp.verify_checksum(&packet.src.into(), &packet.dst.into());
    let (from, to) = (udp.src_port(), udp.dst_port());
    (intact && to != 0)
        .then(|| (SocketAddr::new(packet.src, from), SocketAddr::new(packet.dst, to), udp.payload()))
}
