//! TCP between the guest and the host: a bounded table of flows, each a transparent proxy.
//!
//! The guest's SYN is answered only when the host's own connection stands, so the guest hears of refusals and
//! missing routes as if it had connected itself. Until then nothing but the SYN is kept. A full table makes room
//! by the oldest unfinished connection, else by the longest silent one.

mod flow;
mod wire;

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::sockopt;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

pub use flow::Key;
use flow::{Flow, Next};

use super::connect::{self, Connected};
use super::icmp::Unreachable;
use super::ip::{self, HOP_LIMIT, Packet};
use super::offload::{DEFAULT_MSS, describe};
use super::poller::{Change, Kind, SocketId};
use super::stack::{Progress, Shared};
use super::subnet::Route;

/// Flows at a time. Each has one descriptor, and two buffers once it is open.
pub const MAX_FLOWS: usize = 512;
const DNS_PORT: u16 = 53;

enum Stage {
    /// The host's connection is being made; the guest's SYN waits.
    Connecting {
        socket: OwnedFd,
        syn: Vec<u8>,
        header: usize,
    },
    Open(Box<Flow>),
}

struct Entry {
    key: Key,
    stage: Stage,
    /// Where the host's end is, in words.
    target: String,
    to: Option<SocketAddr>,
    active: u64,
    timer: Option<u64>,
}

/// The table.
pub struct Tcp {
    flows: HashMap<SocketId, Entry>,
    by_key: HashMap<Key, SocketId>,
    timers: BTreeSet<(u64, SocketId)>,
    seeds: RandomState,
    opened: u64,
}

impl Tcp {
    /// An empty table.
    pub fn new() -> Self {
        Self {
            flows: HashMap::new(),
            by_key: HashMap::new(),
            timers: BTreeSet::new(),
            seeds: RandomState::new(),
            opened: 0,
        }
    }

    /// Takes a segment of the guest's: an IP packet whose checksums are in order and whose IP header is
    /// `header` bytes long.
    pub fn segment(&mut self, key: Key, bytes: &mut [u8], header: usize, shared: &mut Shared) {
        let Ok(tcp) = TcpPacket::new_checked(&bytes[header..]) else { return };
        let (syn, opening) = (tcp.syn(), tcp.syn() && !tcp.ack() && !tcp.rst() && !tcp.fin());
        let reset = tcp.rst();
        if let Some(&id) = self.by_key.get(&key) {
            let Some(entry) = self.flows.get_mut(&id) else { return };
            entry.active = shared.now;
            match &mut entry.stage {
                Stage::Open(flow) => {
                    flow.receive(bytes, header, &mut shared.link, shared.now);
                    shared.later(id);
                }
                Stage::Connecting { .. } if reset => self.remove(id),
                // The guest repeats its SYN, or has given up on the one that waits.
                Stage::Connecting { syn, .. } if opening => *syn = bytes.to_vec(),
                Stage::Connecting { .. } => {}
            }
        } else if opening {
            self.open(key, bytes, header, shared);
        } else if !reset || syn {
            self.refuse(key, bytes, header, shared);
        }
    }

    /// The guest opens a connection.
    fn open(&mut self, key: Key, bytes: &[u8], header: usize, shared: &mut Shared) {
        let route = shared.subnet.route(key.1, true, &mut shared.resolver);
        let connected = match route {
            Route::Host(to) => connect::tcp(to).map(|socket| (socket, to.to_string(), Some(to))),
            Route::Forward(rule) => {
                shared.children.open(&rule.target).map(|(socket, name)| (socket, name, None))
            }
            Route::Prohibited => {
                return self.unreachable(key, Unreachable::Prohibited, bytes, header, shared);
            }
            Route::Nobody if shared.subnet.is_ours(key.1.ip()) => {
                return self.refuse(key, bytes, header, shared);
            }
            Route::Nobody => return self.unreachable(key, Unreachable::Host, bytes, header, shared),
        };
        let (connected, target, to) = match connected {
            Ok(connected) => connected,
            Err(errno) => return self.failed(key, errno, bytes, header, shared),
        };
        let syn = bytes.to_vec();
        match connected {
            Connected::Now(socket) => {
                self.make_room(shared);
                let flow = Flow::accepting(key, socket, self.seed(), shared.now);
                if let Some(id) = self.insert(key, Stage::Open(Box::new(flow)), target, to, shared) {
                    self.greet(id, syn, header, shared);
                }
            }
            Connected::Soon(socket) => {
                self.make_room(shared);
                self.insert(key, Stage::Connecting { socket, syn, header }, target, to, shared);
            }
        }
    }

    /// Gives an open flow the SYN that it waited for.
    fn greet(&mut self, id: SocketId, mut syn: Vec<u8>, header: usize, shared: &mut Shared) {
        if let Some(Entry { stage: Stage::Open(flow), .. }) = self.flows.get_mut(&id) {
            flow.receive(&mut syn, header, &mut shared.link, shared.now);
            shared.later(id);
        }
    }

    /// A client of a host forward is to be connected with the guest. True if the table took it.
    pub fn accept(
        &mut self,
        socket: OwnedFd,
        client: Option<SocketAddr>,
        target: String,
        guest: SocketAddr,
        shared: &mut Shared,
    ) {
        let seen = client.map_or(shared.subnet.host.into(), |client| {
            shared.subnet.seen_from_guest(client.ip(), guest.ip())
        });
        self.make_room(shared);
        // Clients that look alike to the guest are told apart by another port.
        let first = client.map_or(0, |client| client.port());
        let mut ports = std::iter::once(first).chain((0..).map(|k: u16| 49152 | k & 0x3fff)).take(0x4000);
        let free =
            |port: &u16| *port != 0 && !self.by_key.contains_key(&(guest, SocketAddr::new(seen, *port)));
        let Some(port) = ports.find(free) else { return };
        let key = (guest, SocketAddr::new(seen, port));
        let flow = Flow::connecting(key, socket, self.seed(), shared.now);
        if let Some(id) = self.insert(key, Stage::Open(Box::new(flow)), target, client, shared) {
            shared.later(id);
        }
    }

    fn seed(&mut self) -> u64 {
        self.opened += 1;
        self.seeds.hash_one(self.opened)
    }

    /// Puts a flow into the table and has its socket watched.
    fn insert(
        &mut self,
        key: Key,
        stage: Stage,
        target: String,
        to: Option<SocketAddr>,
        shared: &mut Shared,
    ) -> Option<SocketId> {
        let id = shared.poller.new_id(Kind::Tcp);
        let watched = match &stage {
            Stage::Connecting { socket, .. } => shared.poller.watch(socket, id),
            Stage::Open(flow) => shared.poller.watch(flow.socket(), id),
        };
        // The host's limit on watches: the guest's SYN is lost, and it will send another.
        watched.ok()?;
        self.by_key.insert(key, id);
        self.flows.insert(id, Entry { key, stage, target, to, active: shared.now, timer: None });
        Some(id)
    }

    fn make_room(&mut self, shared: &mut Shared) {
        if self.flows.len() < MAX_FLOWS {
            return;
        }
        let oldest = self.flows.iter().min_by_key(|(_, entry)| {
            let established = matches!(&entry.stage, Stage::Open(flow) if flow.established());
            (established, entry.active)
        });
        let Some((&id, _)) = oldest else { return };
        if let Some(Entry { stage: Stage::Open(flow), .. }) = self.flows.get_mut(&id) {
            flow.break_off();
            flow.pump(&mut shared.link, shared.now);
        }
        self.remove(id);
    }

    /// The host's socket of a flow changed.
    pub fn changed(&mut self, change: Change, shared: &mut Shared) {
        let Some(entry) = self.flows.get_mut(&change.id) else { return };
        match &mut entry.stage {
            Stage::Open(flow) => {
                flow.changed(change.readable, change.writable);
                shared.later(change.id);
            }
            Stage::Connecting { socket, .. } if change.writable => {
                let outcome = sockopt::socket_error(&*socket).unwrap_or_else(Err);
                self.connected(change.id, outcome, shared);
            }
            Stage::Connecting { .. } => {}
        }
    }

    /// The host's connection stands, or never will.
    fn connected(&mut self, id: SocketId, outcome: Result<(), Errno>, shared: &mut Shared) {
        let seed = self.seed();
        let Some(mut entry) = self.flows.remove(&id) else { return };
        let Stage::Connecting { socket, syn, header } = entry.stage else { return };
        if let Err(errno) = outcome {
            self.by_key.remove(&entry.key);
            if let Some(to) = entry.to.filter(|_| entry.key.1.port() == DNS_PORT) {
                shared.resolver.refused(to);
            }
            return self.failed(entry.key, errno, &syn, header, shared);
        }
        connect::prepare(&socket);
        entry.stage = Stage::Open(Box::new(Flow::accepting(entry.key, socket, seed, shared.now)));
        self.flows.insert(id, entry);
        self.greet(id, syn, header, shared);
    }

    /// Moves what a flow can move.
    pub fn pump(&mut self, id: SocketId, shared: &mut Shared) -> Progress {
        let Some(entry) = self.flows.get_mut(&id) else { return Progress::Idle };
        let Stage::Open(flow) = &mut entry.stage else { return Progress::Idle };
        let next = flow.pump(&mut shared.link, shared.now);
        if next == Next::Over {
            self.remove(id);
            return Progress::Idle;
        }
        let deadline = flow.deadline(shared.now).filter(|_| next == Next::Idle);
        if deadline != entry.timer {
            entry.timer.map(|at| self.timers.remove(&(at, id)));
            deadline.map(|at| self.timers.insert((at, id)));
            entry.timer = deadline;
        }
        next.into()
    }

    /// Flows whose time has come are pumped soon.
    pub fn time_passed(&mut self, shared: &mut Shared) {
        while let Some(&(at, id)) = self.timers.first().filter(|(at, _)| *at <= shared.now) {
            self.timers.remove(&(at, id));
            if let Some(entry) = self.flows.get_mut(&id) {
                entry.timer = None;
                shared.later(id);
            }
        }
    }

    /// When [`Self::time_passed`] has something to do.
    pub fn deadline(&self) -> Option<u64> {
        self.timers.first().map(|&(at, _)| at)
    }

    fn remove(&mut self, id: SocketId) {
        if let Some(entry) = self.flows.remove(&id) {
            self.by_key.remove(&entry.key);
            entry.timer.map(|at| self.timers.remove(&(at, id)));
        }
    }

    /// The host could not connect.
    fn failed(&self, key: Key, errno: Errno, bytes: &[u8], header: usize, shared: &mut Shared) {
        match Unreachable::from_errno(errno) {
            Unreachable::Port => self.refuse(key, bytes, header, shared),
            // Out of descriptors or memory: the guest is told at once, in the only way there is.
            _ if matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                self.refuse(key, bytes, header, shared);
            }
            why => self.unreachable(key, why, bytes, header, shared),
        }
    }

    fn unreachable(&self, key: Key, why: Unreachable, bytes: &[u8], header: usize, shared: &mut Shared) {
        let packet = Packet {
            src: key.0.ip(),
            dst: key.1.ip(),
            protocol: IpProtocol::Tcp,
            hop_limit: HOP_LIMIT,
            payload: &bytes[header..],
            whole: bytes,
        };
        shared.refuse(packet.src, packet.dst, why, &packet.quote());
    }

    /// Answers a segment that belongs to nothing with a reset (RFC 9293, section 3.5.2).
    fn refuse(&self, key: Key, bytes: &[u8], header: usize, shared: &mut Shared) {
        let Ok(tcp) = TcpPacket::new_checked(&bytes[header..]) else { return };
        if tcp.rst() || key.0.port() == 0 || key.1.port() == 0 {
            return;
        }
        let (seq_number, ack_number) = match tcp.ack() {
            true => (tcp.ack_number(), None),
            false => (TcpSeqNumber(0), Some(tcp.seq_number() + tcp.segment_len())),
        };
        let reset = TcpRepr {
            src_port: key.1.port(),
            dst_port: key.0.port(),
            control: TcpControl::Rst,
            seq_number,
            ack_number,
            window_len: 0,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        let (src, dst) = (key.1.ip(), key.0.ip());
        let mut frame = ip::build(src, dst, IpProtocol::Tcp, HOP_LIMIT, reset.buffer_len(), |room| {
            let later = ChecksumCapabilities::ignored();
            reset.emit(&mut TcpPacket::new_unchecked(room), &src.into(), &dst.into(), &later);
        });
        let meta = describe(&mut frame, DEFAULT_MSS, DEFAULT_MSS);
        shared.link.send(dst, frame, meta, shared.now);
    }

    /// Each flow: its ends, the host's end in words, its state, and the bytes under way to guest and host.
    pub fn list(&self) -> impl Iterator<Item = (Key, &str, String, (usize, usize))> {
        self.flows.values().map(|entry| match &entry.stage {
            Stage::Connecting { .. } => (entry.key, &*entry.target, "CONNECTING".to_owned(), (0, 0)),
            Stage::Open(flow) => (entry.key, &*entry.target, flow.state(), flow.queued()),
        })
    }
}
