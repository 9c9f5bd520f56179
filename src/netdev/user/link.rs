//! The virtual cable's end: who has which hardware address, and the bounded queue of frames for the guest.
//!
//! Every protocol sends through [`Link`]; the loop thread empties its queue into the peer. A protocol that
//! could fill the queue (TCP, UDP from the host) asks [`Link::has_room`] first and waits; short answers (ARP,
//! ICMP, DHCP) may go a little beyond and are dropped only when a guest provokes more than it takes.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use smoltcp::wire::{EthernetAddress, EthernetProtocol};

use super::{arp, fragments, ip, ndp, offload};
use crate::netdev::PortCounters;
use crate::netport::{Delivery, DropReason, Frame, FrameMeta, PeerSlot};

/// Length of an Ethernet header without a VLAN tag.
pub const ETHERNET_HEADER: usize = 14;
/// Frames (which may be GSO frames) and bytes up to which the queue counts as having room.
const ROOM_FRAMES: usize = 256;
const ROOM_BYTES: usize = 1 << 20;
/// Beyond this many frames, or bytes, they are dropped.
const MOST_FRAMES: usize = 1024;
const MOST_BYTES: usize = 4 << 20;
/// Hardware addresses that are remembered.
const MAX_NEIGHBORS: usize = 256;
/// Frames that wait for a hardware address.
const MAX_WAITING: usize = 64;
/// How often a hardware address is asked for, and for how long.
const ASK_EVERY_NS: u64 = 1_000_000_000;
const ASK_TIMES: u32 = 10;

/// A frame on its way to the guest.
#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    meta: FrameMeta,
}

#[derive(Debug)]
struct Waiting {
    to: IpAddr,
    frame: Outgoing,
    ask_again: u64,
    asked: u32,
}

/// Our end of the cable.
#[derive(Debug)]
pub struct Link {
    mac: EthernetAddress,
    /// Who asks for IPv4 neighbours.
    host: Ipv4Addr,
    queue: VecDeque<Outgoing>,
    queued_bytes: usize,
    neighbors: HashMap<IpAddr, (EthernetAddress, u64)>,
    waiting: VecDeque<Waiting>,
    counters: Arc<PortCounters>,
    next_ident: u16,
}

impl Link {
    /// A quiet link. Our hardware address is 52:55 and `host`, as in QEMU.
    pub fn new(host: Ipv4Addr, counters: Arc<PortCounters>) -> Self {
        let [a, b, c, d] = host.octets();
        Self {
            mac: EthernetAddress([0x52, 0x55, a, b, c, d]),
            host,
            queue: VecDeque::new(),
            queued_bytes: 0,
            neighbors: HashMap::new(),
            waiting: VecDeque::new(),
            counters,
            next_ident: 0,
        }
    }

    /// Our hardware address.
    pub fn mac(&self) -> EthernetAddress {
        self.mac
    }

    /// Whether a protocol that can wait may send now.
    pub fn has_room(&self) -> bool {
        self.queue.len() < ROOM_FRAMES && self.queued_bytes < ROOM_BYTES
    }

    /// The guest's `address` is at `mac`; what waited for that goes out.
    pub fn learn(&mut self, address: IpAddr, mac: EthernetAddress, now: u64) {
        if !mac.is_unicast() {
            return;
        }
        if self.neighbors.len() >= MAX_NEIGHBORS && !self.neighbors.contains_key(&address) {
            let oldest = self.neighbors.iter().min_by_key(|(_, (_, seen))| *seen).map(|(&ip, _)| ip);
            oldest.and_then(|ip| self.neighbors.remove(&ip));
        }
        self.neighbors.insert(address, (mac, now));
        if self.waiting.is_empty() {
            return;
        }
        let (ready, still) = std::mem::take(&mut self.waiting).into_iter().partition(|w| w.to == address);
        self.waiting = still;
        let ready: VecDeque<Waiting> = ready;
        for waiting in ready {
            self.send_to(mac, waiting.to, waiting.frame.bytes, waiting.frame.meta);
        }
    }

    /// The hardware address of the guest's `address`, if it has been seen.
    pub fn neighbor(&self, address: IpAddr) -> Option<EthernetAddress> {
        self.neighbors.get(&address).map(|&(mac, _)| mac)
    }

    /// Sends an IP packet behind room for an Ethernet header; asks for the hardware address if need be, and
    /// cuts a finished IPv4 packet that is longer than the cable takes.
    pub fn send(&mut self, to: IpAddr, bytes: Vec<u8>, meta: FrameMeta, now: u64) {
        if meta.gso.is_none() && bytes.len() > ETHERNET_HEADER + ip::MTU {
            self.next_ident = self.next_ident.wrapping_add(1);
            match fragments::cut(&bytes, self.next_ident) {
                Some(pieces) => pieces.into_iter().for_each(|piece| self.send_whole(to, piece, meta, now)),
                None => self.drop_frame(&bytes, DropReason::BadLength),
            }
        } else {
            self.send_whole(to, bytes, meta, now);
        }
    }

    fn send_whole(&mut self, to: IpAddr, bytes: Vec<u8>, meta: FrameMeta, now: u64) {
        if let Some(mac) = self.neighbor(to) {
            return self.send_to(mac, to, bytes, meta);
        }
        if !self.waiting.iter().any(|w| w.to == to) {
            self.ask(to);
        }
        if self.waiting.len() >= MAX_WAITING
            && let Some(oldest) = self.waiting.pop_front()
        {
            self.drop_frame(&oldest.frame.bytes, DropReason::Backend);
        }
        let frame = Outgoing { bytes, meta };
        self.waiting.push_back(Waiting { to, frame, ask_again: now + ASK_EVERY_NS, asked: 1 });
    }

    /// Sends a packet of the IP version of `to` to this hardware address.
    pub fn send_to(&mut self, mac: EthernetAddress, to: IpAddr, mut bytes: Vec<u8>, meta: FrameMeta) {
        let ethertype = match to {
            IpAddr::V4(_) => EthernetProtocol::Ipv4,
            IpAddr::V6(_) => EthernetProtocol::Ipv6,
        };
        bytes[..6].copy_from_slice(mac.as_bytes());
        bytes[6..12].copy_from_slice(self.mac.as_bytes());
        bytes[12..ETHERNET_HEADER].copy_from_slice(&u16::from(ethertype).to_be_bytes());
        self.push(bytes, meta);
    }

    /// Queues a whole frame.
    pub fn push(&mut self, bytes: Vec<u8>, meta: FrameMeta) {
        if self.queue.len() >= MOST_FRAMES || self.queued_bytes + bytes.len() > MOST_BYTES {
            return self.drop_frame(&bytes, DropReason::Backend);
        }
        self.queued_bytes += bytes.len();
        self.queue.push_back(Outgoing { bytes, meta });
    }

    fn ask(&mut self, address: IpAddr) {
        let frame = match address {
            IpAddr::V4(ip) => arp::request(self.mac, self.host, ip),
            IpAddr::V6(ip) => ndp::solicit(self.mac, ip),
        };
        self.push(frame, FrameMeta::default());
    }

    fn drop_frame(&self, bytes: &[u8], why: DropReason) {
        self.counters.to_peer.count(&Frame::whole(bytes), Delivery::Dropped(why));
    }

    /// Asks again for hardware addresses that nobody told, and gives up in the end.
    pub fn time_passed(&mut self, now: u64) {
        let mut ask = Vec::new();
        let mut given_up = Vec::new();
        self.waiting.retain_mut(|waiting| {
            if waiting.ask_again > now {
                return true;
            }
            waiting.ask_again = now + ASK_EVERY_NS;
            waiting.asked += 1;
            if waiting.asked > ASK_TIMES {
                given_up.push(std::mem::take(&mut waiting.frame.bytes));
                return false;
            }
            if !ask.contains(&waiting.to) {
                ask.push(waiting.to);
            }
            true
        });
        given_up.iter().for_each(|bytes| self.drop_frame(bytes, DropReason::Backend));
        ask.into_iter().for_each(|address| self.ask(address));
    }

    /// When [`Self::time_passed`] has something to do.
    pub fn deadline(&self) -> Option<u64> {
        self.waiting.iter().map(|waiting| waiting.ask_again).min()
    }

    /// Gives the queue to the peer, until it is empty (true) or the peer full (false).
    pub fn flush(&mut self, peer: &PeerSlot) -> bool {
        let peer = peer.get();
        let accepts = peer.as_ref().map(|peer| peer.accepts()).unwrap_or_default();
        while let Some(mut front) = self.queue.pop_front() {
            let len = front.bytes.len();
            if let Some(pieces) = offload::finish(&mut front.bytes, &mut front.meta, accepts) {
                self.queued_bytes -= len;
                for bytes in pieces.into_iter().rev() {
                    self.queued_bytes += bytes.len();
                    self.queue.push_front(Outgoing { bytes, meta: FrameMeta::default() });
                }
                continue;
            }
            let frame = Frame { head: &front.bytes, body: &[], meta: front.meta };
            let none = Delivery::Dropped(DropReason::NoPeer);
            let outcome = peer.as_ref().map_or(none, |peer| peer.deliver(&frame));
            self.counters.to_peer.count(&frame, outcome);
            if outcome == Delivery::Full {
                self.queue.push_front(front);
                return false;
            }
            self.queued_bytes -= len;
        }
        true
    }
}
