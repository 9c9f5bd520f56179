//! One proxied TCP connection: smoltcp ends the guest's, a socket of the host's carries it on.
//!
//! Bytes are read from one side straight into the other's buffer, and no further than it has room, so a slow
//! reader on either side stops the writer on the other. The end of one direction is passed on and leaves the
//! other open; a reset is passed on as a reset.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{self as host, RecvFlags, SendFlags, Shutdown, sockopt};
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::wire::{HardwareAddress, IpCidr, IpEndpoint};

use super::wire::{SLOWER, Unplugged, Wire, instant, nanoseconds};
use crate::netdev::user::link::Link;
use crate::netdev::user::offload;
use crate::netdev::user::stack::Progress;

/// Each direction's buffer, in bytes. Linux hands the memory out only as far as it is used.
const BUFFER: usize = 256 << 10;
/// Segments sent at a time, so that others get their turn.
const BUDGET: usize = 16;
/// After this long without a word the guest is asked whether it is there; its answer also brings its window,
/// should the update have been lost (smoltcp 0.12 does not probe a closed window by itself).
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// The guest's end and the end it sees.
pub type Key = (SocketAddr, SocketAddr);

/// How a flow stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// There may be more to do at once.
    Again,
    /// Waits for room on the link.
    Blocked,
    /// Waits for the guest, the host, or its timer.
    Idle,
    /// Over.
    Over,
}

impl From<Next> for Progress {
    fn from(next: Next) -> Self {
        match next {
            Next::Again => Self::Again,
            Next::Blocked => Self::Blocked,
            Next::Idle | Next::Over => Self::Idle,
        }
    }
}

/// An open flow.
pub struct Flow {
    key: Key,
    socket: OwnedFd,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    /// What the guest takes in one segment.
    mss: u16,
    /// The host's socket may have something to read, or room to write.
    readable: bool,
    writable: bool,
    /// The host has sent its last byte.
    host_ended: bool,
    /// The host has been told that the guest has sent its last byte.
    guest_ended: bool,
    /// The connection ended otherwise.
    broken: bool,
}

impl Flow {
    fn new(key: Key, socket: OwnedFd, seed: u64, now: u64) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut Unplugged, instant(now));
        // A prefix of length 0: everybody is on this link, so no route is needed.
        interface.update_ip_addrs(|addresses| {
            // There is room for one address at least.
            let _ = addresses.push(IpCidr::new(key.1.ip().into(), 0));
        });
        let buffer = || SocketBuffer::new(vec![0; BUFFER]);
        let mut tcp = Socket::new(buffer(), buffer());
        tcp.set_nagle_enabled(false);
        tcp.set_ack_delay(None);
        let keep_alive = KEEP_ALIVE.as_micros() as u64 / SLOWER;
        tcp.set_keep_alive(Some(smoltcp::time::Duration::from_micros(keep_alive)));
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(tcp);
        Self {
            key,
            socket,
            interface,
            sockets,
            handle,
            mss: offload::DEFAULT_MSS,
            readable: true,
            writable: true,
            host_ended: false,
            guest_ended: false,
            broken: false,
        }
    }

    /// A flow that the guest opens: `socket` is connected, the guest's SYN comes next.
    pub fn accepting(key: Key, socket: OwnedFd, seed: u64, now: u64) -> Self {
        let mut flow = Self::new(key, socket, seed, now);
        // Fails for port 0 only, which no flow has.
        let _ = flow.tcp().listen(endpoint(key.1));
        flow
    }

    /// A flow that the host opens: our SYN to the guest goes out at the next [`Self::pump`].
    pub fn connecting(key: Key, socket: OwnedFd, seed: u64, now: u64) -> Self {
        let mut flow = Self::new(key, socket, seed, now);
        let tcp = flow.sockets.get_mut::<Socket<'_>>(flow.handle);
        // Fails for port 0 only, which no flow has.
        let _ = tcp.connect(flow.interface.context(), endpoint(key.0), endpoint(key.1));
        flow
    }

    fn tcp(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// Takes an IP packet of the guest's for this flow; a SYN's segment size is made the large one.
    pub fn receive(&mut self, packet: &mut [u8], header: usize, link: &mut Link, now: u64) {
        if let Some(mss) = offload::replace_mss(&mut packet[header..], offload::LARGE_MSS) {
            // Less than Linux's least (net.ipv4.tcp_min_snd_mss is 48) only makes work.
            self.mss = mss.max(64);
        }
        let mut wire = Wire { inbound: Some(packet), link, guest: self.key.0.ip(), mss: self.mss, now };
        self.interface.poll_ingress_single(instant(now), &mut wire, &mut self.sockets);
    }

    /// The host's socket changed.
    pub fn changed(&mut self, readable: bool, writable: bool) {
        self.readable |= readable;
        self.writable |= writable;
    }

    /// Moves what can be moved, both ways.
    pub fn pump(&mut self, link: &mut Link, now: u64) -> Next {
        self.read_host();
        self.write_host();
        if self.broken {
            self.tcp().abort();
        }
        let sent_all = self.send(link, now);
        match self.tcp().state() {
            State::Closed if !sent_all => Next::Blocked,
            // The cable loses nothing: the guest has our last ACK, nobody has to linger for it.
            State::TimeWait => Next::Over,
            // A listener that has had its SYN was reset before the handshake was over.
            State::Closed | State::Listen => {
                if !(self.host_ended && self.guest_ended) {
                    // Closing with unread or unsent data: the host's peer gets a reset.
                    let _ = sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
                }
                Next::Over
            }
            _ if !link.has_room() => Next::Blocked,
            _ if !sent_all => Next::Again,
            _ => Next::Idle,
        }
    }

    /// Reads from the host into the guest's direction, as far as there is room.
    fn read_host(&mut self) {
        let tcp = self.sockets.get_mut::<Socket<'_>>(self.handle);
        while self.readable && !self.host_ended && !self.broken && tcp.can_send() {
            let socket = &self.socket;
            let mut outcome = Ok(0);
            let read = tcp.send(|room| {
                outcome = host::recv(socket, &mut *room, RecvFlags::DONTWAIT).map(|(_, len)| len);
                (outcome.unwrap_or(0).min(room.len()), ())
            });
            match outcome {
                _ if read.is_err() => break,
                Ok(0) => self.host_ended = true,
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.readable = false,
                Err(_) => self.broken = true,
            }
        }
        if self.host_ended {
            // Before the handshake is over there is nobody to tell yet.
            if matches!(tcp.state(), State::Established | State::CloseWait) {
                tcp.close();
            }
        }
    }

    /// Writes what the guest sent to the host, as far as it takes it; then its end.
    fn write_host(&mut self) {
        let tcp = self.sockets.get_mut::<Socket<'_>>(self.handle);
        while self.writable && !self.broken && tcp.can_recv() {
            let socket = &self.socket;
            let mut outcome = Ok(0);
            let written = tcp.recv(|data| {
                outcome = host::send(socket, data, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
                (outcome.unwrap_or(0).min(data.len()), ())
            });
            match outcome {
                _ if written.is_err() => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.writable = false,
                Err(_) => self.broken = true,
            }
        }
        let ended =
            matches!(tcp.state(), State::CloseWait | State::LastAck | State::Closing | State::TimeWait);
        if ended && !self.guest_ended && !tcp.can_recv() {
            self.guest_ended = true;
            // Refused only by a connection that is gone, which reading tells as well.
            let _ = host::shutdown(&self.socket, Shutdown::Write);
        }
    }

    /// Sends segments until there are none (true), the link is full or the budget spent (false).
    fn send(&mut self, link: &mut Link, now: u64) -> bool {
        let guest = self.key.0.ip();
        for _ in 0..BUDGET {
            let mut wire = Wire { inbound: None, link, guest, mss: self.mss, now };
            let sent = self.interface.poll_egress(instant(now), &mut wire, &mut self.sockets);
            if sent == PollResult::None {
                return link.has_room();
            }
        }
        false
    }

    /// When smoltcp wants to be called even if nothing happens.
    pub fn deadline(&mut self, now: u64) -> Option<u64> {
        self.interface.poll_at(instant(now), &self.sockets).map(|at| nanoseconds(at).max(now))
    }

    /// Whether the handshake with the guest is over.
    pub fn established(&self) -> bool {
        let state = self.sockets.get::<Socket<'_>>(self.handle).state();
        !matches!(state, State::Listen | State::SynSent | State::SynReceived)
    }

    /// The flow is to end at once, for both sides, at the next [`Self::pump`].
    pub fn break_off(&mut self) {
        self.broken = true;
    }

    /// The host's socket.
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// The state of the guest's end, in TCP's words.
    pub fn state(&self) -> String {
        self.sockets.get::<Socket<'_>>(self.handle).state().to_string()
    }

    /// Bytes under way: to the guest, to the host.
    pub fn queued(&self) -> (usize, usize) {
        let tcp = self.sockets.get::<Socket<'_>>(self.handle);
        (tcp.send_queue(), tcp.recv_queue())
    }
}

fn endpoint(address: SocketAddr) -> IpEndpoint {
    IpEndpoint::new(address.ip().into(), address.port())
}
