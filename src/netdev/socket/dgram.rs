//! Frames in datagrams, one in each: `-netdev dgram`, `-netdev socket,udp=|mcast=`, `-netdev l2tpv3`.
//!
//! There is no connection and so no link that could go down: whether anybody is at the other end shows only in
//! the answers. A host without room (a Unix receiver with a full queue above all) is asked again after a while
//! that doubles each time; the frame waits in the NIC. A receiver that is not there costs the frame.
//!
//! A group's members hear what they send themselves, so frames are sent from a socket of their own and those
//! that come from its address are ignored.
//!
//! Lock order: `tx` alone; not held while the peer is called.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketAddrAny, SocketType, bind, connect, getsockname,
    recvfrom, send, sendto, sockopt,
};

use super::address::{self, HostAddress};
use super::error::SocketError;
use super::framing::LONGEST;
use super::l2tpv3_header::{Foreign, L2tpv3};
use super::receiver::{Core, FrameReader, Incoming, Receiver};
use crate::cli::{DgramOptions, InetAddress, L2tpv3Options};
use crate::event::{FdHandler, HostTimer, Ready, Watch};
use crate::netdev::{Backend, PortCounters};
use crate::netport::{Delivery, DropReason, Frame, FramePort, Offloads, PeerSlot};
use crate::sys::inherit;
use crate::sys::unix_path::BoundPath;
use crate::time::{Clock, MonotonicClock};

/// The first wait for a host without room, in nanoseconds; each further one is twice as long.
const FIRST_WAIT_NS: u64 = 100_000;
/// The longest wait.
const LAST_WAIT_NS: u64 = 10_000_000;
/// IP's number for L2TPv3 (RFC 3931, section 4.1.1).
const IPPROTO_L2TP: u32 = 115;
/// Room for what is before a frame: an IP header, L2TPv3's, and a long `offset`.
const HEADER_ROOM: usize = 65536;

/// A datagram backend.
#[derive(Debug)]
pub struct Dgram {
    core: Arc<Core>,
    kind: &'static str,
    what: String,
    receiver: Arc<Receiver<DgramReader>>,
    sender: Arc<OwnedFd>,
    /// None: the socket is connected.
    to: Option<SocketAddrAny>,
    tx: Mutex<Tx>,
    retry: Arc<HostTimer>,
    _path: BoundPath,
}

#[derive(Debug)]
struct Tx {
    buffer: Vec<u8>,
    wrap: Option<L2tpv3>,
    /// The peer waits for room; the next wait in nanoseconds.
    waiting: bool,
    wait_ns: u64,
}

/// Open sockets, before anything reads them.
struct Sockets {
    receiver: OwnedFd,
    /// Another one to send from, where that matters.
    sender: Option<OwnedFd>,
    to: Option<SocketAddrAny>,
    /// Datagrams from this address are our own.
    own: Option<SocketAddrAny>,
    path: BoundPath,
    what: String,
}

impl Dgram {
    /// Opens the sockets as `-netdev dgram` says; `interface_option` is the key that names a group's interface.
    ///
    /// # Errors
    /// [`SocketError`]; nothing is left behind then.
    pub fn open(
        core: Arc<Core>,
        kind: &'static str,
        options: &DgramOptions,
        interface_option: &'static str,
    ) -> Result<Arc<Self>, SocketError> {
        let sockets = match options {
            DgramOptions::Inet { local, remote } => udp(local, remote)?,
            DgramOptions::Unix { local, remote } => between(&address::unix(local)?, &address::unix(remote)?)?,
            DgramOptions::Multicast { group, port, interface } => {
                multicast(*group, *port, *interface, interface_option)?
            }
            DgramOptions::Fd(number) => inherited(*number)?,
        };
        Self::on(core, kind, sockets, None)
    }

    /// Opens the sockets as `-netdev l2tpv3` says.
    ///
    /// # Errors
    /// [`SocketError`]; nothing is left behind then.
    pub fn open_l2tpv3(core: Arc<Core>, options: &L2tpv3Options) -> Result<Arc<Self>, SocketError> {
        let (from_port, to_port) = options.ports.unwrap_or_default();
        let only = Some(true);
        let end = |host: &str, port| match options.ipv6 {
            true => InetAddress { ipv6: only, ..InetAddress::new(host, port) },
            false => InetAddress { ipv4: only, ..InetAddress::new(host, port) },
        };
        let (local, remote) = (end(&options.src, from_port), end(&options.dst, to_port));
        let sockets = if options.ports.is_some() { udp(&local, &remote)? } else { raw(&local, &remote)? };
        Self::on(core, "l2tpv3", sockets, Some(L2tpv3::new(options)))
    }

    fn on(
        core: Arc<Core>,
        kind: &'static str,
        sockets: Sockets,
        wrap: Option<L2tpv3>,
    ) -> Result<Arc<Self>, SocketError> {
        let Sockets { receiver: fd, sender, to, own, path, what } = sockets;
        let fd = Arc::new(fd);
        let retry = HostTimer::new(&core.events, &MonotonicClock::new())?;
        let reader = DgramReader::new(fd.clone(), own, wrap.clone());
        let watch = Arc::new(Watch::default());
        let lost = core.clone();
        let on_end = move |why: &str| lost.notices.say(&format!("nothing more is received: {why}"));
        let port = Arc::new_cyclic(|this: &Weak<Self>| {
            let this = this.clone();
            retry.on_wake(move || {
                if let Some(port) = this.upgrade() {
                    port.try_again();
                }
            });
            Self {
                receiver: Receiver::new(core.clone(), reader, watch.clone(), on_end),
                core,
                kind,
                what,
                sender: sender.map_or_else(|| fd.clone(), Arc::new),
                to,
                tx: Mutex::new(Tx { buffer: Vec::new(), wrap, waiting: false, wait_ns: FIRST_WAIT_NS }),
                retry,
                _path: path,
            }
        });
        watch.start(&port.core.events, fd, Arc::new(Arc::downgrade(&port)))?;
        port.receiver.start();
        Ok(port)
    }

    fn transmit(&self, frame: &Frame<'_>) -> Delivery {
        let mut tx = self.tx.lock().unwrap_or_else(PoisonError::into_inner);
        let Tx { buffer, wrap, .. } = &mut *tx;
        buffer.clear();
        if let Some(wrap) = wrap {
            wrap.encode(buffer);
        }
        frame.copy_to(buffer);
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let sent = loop {
            let sent = match &self.to {
                Some(to) => sendto(&self.sender, buffer, flags, to),
                None => send(&self.sender, buffer, flags),
            };
            if sent != Err(Errno::INTR) {
                break sent;
            }
        };
        match sent {
            Ok(_) => {
                tx.wait_ns = FIRST_WAIT_NS;
                Delivery::Taken
            }
            Err(Errno::AGAIN | Errno::NOBUFS) => {
                if !tx.waiting {
                    tx.waiting = true;
                    self.retry.wake_at(self.retry.now_ns().saturating_add(tx.wait_ns));
                    tx.wait_ns = (tx.wait_ns * 2).min(LAST_WAIT_NS);
                }
                Delivery::Full
            }
            Err(Errno::MSGSIZE) => Delivery::Dropped(DropReason::BadLength),
            // Nobody is there (yet): the answer of a Unix path, or of the last datagram by ICMP.
            Err(
                Errno::CONNREFUSED | Errno::NOENT | Errno::NOTCONN | Errno::HOSTUNREACH | Errno::NETUNREACH,
            ) => Delivery::Dropped(DropReason::LinkDown),
            Err(_) => Delivery::Dropped(DropReason::Backend),
        }
    }

    fn try_again(&self) {
        self.tx.lock().unwrap_or_else(PoisonError::into_inner).waiting = false;
        self.core.peer.ready();
    }
}

/// UDP between two hosts.
fn udp(local: &InetAddress, remote: &InetAddress) -> Result<Sockets, SocketError> {
    let (here, there) = same_family(address::resolve(local)?, address::resolve(remote)?, &remote.host)?;
    between(&here, &there)
}

/// The first two addresses of one kind.
fn same_family(
    here: Vec<HostAddress>,
    there: Vec<HostAddress>,
    host: &str,
) -> Result<(HostAddress, HostAddress), SocketError> {
    let alike = |a: &HostAddress, b: &HostAddress| a.addr.address_family() == b.addr.address_family();
    let pair = here.into_iter().find_map(|a| Some((there.iter().find(|b| alike(&a, b))?.clone(), a)));
    let (b, a) = pair.ok_or_else(|| SocketError::Resolve {
        host: host.to_owned(),
        why: "it has no address of the same kind (IPv4 or IPv6) as the local one".into(),
    })?;
    Ok((a, b))
}

fn between(here: &HostAddress, there: &HostAddress) -> Result<Sockets, SocketError> {
    let receiver = address::bound(here, SocketType::DGRAM)?;
    Ok(Sockets {
        receiver,
        sender: None,
        to: Some(there.addr.clone()),
        own: None,
        path: BoundPath(here.path.clone()),
        what: format!("{here} to {there}"),
    })
}

/// L2TPv3 directly over IP.
fn raw(local: &InetAddress, remote: &InetAddress) -> Result<Sockets, SocketError> {
    let (here, there) = same_family(address::resolve(local)?, address::resolve(remote)?, &remote.host)?;
    let family = here.addr.address_family();
    let protocol = std::num::NonZeroU32::new(IPPROTO_L2TP).map(Protocol::from_raw);
    let fd = address::open(family, SocketType::RAW, protocol).map_err(|error| match error {
        Errno::PERM | Errno::ACCESS => SocketError::RawDenied,
        error => SocketError::Os { what: "opening a raw socket", error: error.into() },
    })?;
    let refused = |error: Errno| SocketError::Bind { at: here.to_string(), error: error.into(), advice: "" };
    bind(&fd, &here.addr).map_err(refused)?;
    Ok(Sockets {
        receiver: fd,
        sender: None,
        to: Some(there.addr.clone()),
        own: None,
        path: BoundPath(None),
        what: format!("{} to {} over IP", local.host, remote.host),
    })
}

fn multicast(
    group: Ipv4Addr,
    port: u16,
    interface: Option<Ipv4Addr>,
    option: &'static str,
) -> Result<Sockets, SocketError> {
    let to = SocketAddr::new(group.into(), port);
    let join = |error: Errno| SocketError::Join { group: to.to_string(), error: error.into(), option };
    // Bound to the group's address, so that nothing else to this port comes in.
    let receiver = address::bound(&to.into(), SocketType::DGRAM)?;
    let through = interface.unwrap_or(Ipv4Addr::UNSPECIFIED);
    sockopt::set_ip_add_membership(&receiver, &group, &through).map_err(join)?;
    let sender =
        address::open(AddressFamily::INET, SocketType::DGRAM, None).map_err(SocketError::os("socket"))?;
    if let Some(interface) = interface {
        sockopt::set_ip_multicast_if(&sender, &interface).map_err(join)?;
    }
    // Others on this host are to hear us, too.
    sockopt::set_ip_multicast_loop(&sender, true).map_err(SocketError::os("IP_MULTICAST_LOOP"))?;
    connect(&sender, &to).map_err(join)?;
    let own = getsockname(&sender).map_err(SocketError::os("getsockname"))?;
    Ok(Sockets {
        receiver,
        sender: Some(sender),
        to: None,
        own: Some(own),
        path: BoundPath(None),
        what: format!("group {to}"),
    })
}

/// A connected socket that our parent left open.
fn inherited(number: i32) -> Result<Sockets, SocketError> {
    let bad = |why| SocketError::BadFd { fd: number, why };
    let fd = inherit::adopt(number).map_err(|_| bad("is not open"))?;
    match sockopt::socket_type(&fd) {
        Ok(SocketType::DGRAM) => {}
        Ok(_) => return Err(bad("is not a datagram socket: use -netdev stream,addr.type=fd for it")),
        Err(_) => return Err(bad("is not a socket")),
    }
    let multicast = getsockname(&fd).ok().and_then(|own| SocketAddr::try_from(own).ok());
    let group = multicast.filter(|own| own.ip().is_multicast());
    if group.is_none() && rustix::net::getpeername(&fd).is_err() {
        return Err(bad("is a socket that is not connected: connect it, or bind it to a multicast group"));
    }
    rustix::io::ioctl_fionbio(&fd, true).map_err(SocketError::os("FIONBIO"))?;
    Ok(Sockets {
        receiver: fd,
        sender: None,
        to: group.map(Into::into),
        own: None,
        path: BoundPath(None),
        what: format!("fd {number}"),
    })
}

impl FdHandler for Dgram {
    fn ready(&self, _ready: Ready) {
        self.receiver.readable();
    }
}

impl FramePort for Dgram {
    fn deliver(&self, frame: &Frame<'_>) -> Delivery {
        let outcome = match Core::check(frame) {
            Ok(()) => self.transmit(frame),
            Err(why) => Delivery::Dropped(why),
        };
        self.core.counters.from_peer.count(frame, outcome);
        outcome
    }

    fn accepts(&self) -> Offloads {
        Core::accepts()
    }

    fn peer_ready(&self) {
        self.receiver.peer_ready();
    }

    /// Datagrams have no link.
    fn peer_link(&self, _up: bool) {}

    fn peer_slot(&self) -> &PeerSlot {
        &self.core.peer
    }
}

impl Backend for Dgram {
    fn id(&self) -> &str {
        &self.core.id
    }

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn describe(&self) -> String {
        format!("{} {}", self.kind, self.what)
    }

    fn counters(&self) -> &PortCounters {
        &self.core.counters
    }
}

/// Reads datagrams.
#[derive(Debug)]
struct DgramReader {
    fd: Arc<OwnedFd>,
    own: Option<SocketAddrAny>,
    wrap: Option<L2tpv3>,
    buffer: Box<[u8]>,
    frame: Range<usize>,
}

impl DgramReader {
    fn new(fd: Arc<OwnedFd>, own: Option<SocketAddrAny>, wrap: Option<L2tpv3>) -> Self {
        let room = if wrap.is_some() { HEADER_ROOM } else { 0 };
        Self { fd, own, wrap, buffer: vec![0; LONGEST + room].into(), frame: 0..0 }
    }
}

impl FrameReader for DgramReader {
    fn read_next(&mut self) -> Incoming {
        let (got, from) =
            match recvfrom(&self.fd, &mut self.buffer[..], RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
                Ok((_, whole, _)) if whole > self.buffer.len() => {
                    return Incoming::Skipped(DropReason::BadLength);
                }
                Ok((_, got, from)) => (got, from),
                Err(Errno::AGAIN) => return Incoming::Empty,
                Err(error @ (Errno::BADF | Errno::NOTSOCK | Errno::NOTCONN | Errno::OPNOTSUPP)) => {
                    return Incoming::End(error.to_string());
                }
                // The network's answer to a datagram of ours (ICMP, an interface that is down); told once and gone.
                Err(_) => return Incoming::Ignored,
            };
        if from.is_some() && from == self.own {
            return Incoming::Ignored;
        }
        let start = match self.wrap.as_ref().map(|wrap| wrap.decode(&self.buffer[..got])) {
            None => 0,
            Some(Ok(start)) => start,
            Some(Err(Foreign::Short)) => return Incoming::Skipped(DropReason::BadLength),
            Some(Err(Foreign::Session)) => return Incoming::Skipped(DropReason::Filtered),
        };
        self.frame = start..got;
        Incoming::Frame
    }

    fn frame(&self) -> &[u8] {
        &self.buffer[self.frame.clone()]
    }
}
