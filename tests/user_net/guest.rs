//! A guest without a machine: smoltcp as the driver and stack at the other end of a user network's cable.
//!
//! It shares nothing with the backend but the library's TCP, so ARP, DHCP, ICMP, UDP, checksums and segment
//! sizes are seen by an independent reader. `Cable` is the port; `Guest::until` turns the guest until
//! something holds. Used by the tests here and by benches/user_net.rs.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use minivmm::cli::UserOptions;
use minivmm::event::EventLoop;
use minivmm::netdev::{Notices, Surroundings, User};
use minivmm::netport::{
    self, CsumRequest, Delivery, Frame, FrameMeta, FramePort, Gso, GsoKind, Offloads, PeerSlot, checksum,
};
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{icmp, tcp, udp};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr, IpEndpoint};

pub const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// Frames that the cable holds before it answers `Full`.
const CABLE: usize = 128;
const PATIENCE: Duration = Duration::from_secs(20);
const LARGE_MSS: u16 = 65000;
const MSS: u16 = 1460;

/// The guest's NIC, as the backend sees it.
#[derive(Debug, Default)]
pub struct Cable {
    frames: Mutex<VecDeque<(Vec<u8>, FrameMeta)>>,
    arrived: Condvar,
    slot: PeerSlot,
    /// Whether checksums and cutting are left to it.
    offload: bool,
}

impl FramePort for Cable {
    fn deliver(&self, frame: &Frame<'_>) -> Delivery {
        let mut frames = self.frames.lock().unwrap();
        if frames.len() >= CABLE {
            return Delivery::Full;
        }
        let mut bytes = Vec::new();
        frame.copy_to(&mut bytes);
        frames.push_back((bytes, frame.meta));
        self.arrived.notify_one();
        Delivery::Taken
    }

    fn accepts(&self) -> Offloads {
        Offloads { csum: self.offload, tso4: self.offload, tso6: self.offload }
    }

    fn peer_ready(&self) {}
    fn peer_link(&self, _up: bool) {}

    fn peer_slot(&self) -> &PeerSlot {
        &self.slot
    }
}

/// The guest's end of the cable as a smoltcp device.
struct Nic {
    cable: Arc<Cable>,
    user: Arc<User>,
    offload: bool,
}

impl Device for Nic {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Received, Sending)> {
        let (mut bytes, _) = self.cable.frames.lock().unwrap().pop_front()?;
        self.user.peer_ready();
        if self.offload {
            // What a segmenting NIC's driver does: the stack makes long segments for it to cut.
            mss_option(&mut bytes, LARGE_MSS);
        }
        Some((Received(bytes), Sending { user: self.user.clone(), offload: self.offload }))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Sending> {
        Some(Sending { user: self.user.clone(), offload: self.offload })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        if self.offload {
            capabilities.max_transmission_unit = 14 + 65535;
            capabilities.checksum.tcp = smoltcp::phy::Checksum::None;
        }
        capabilities
    }
}

struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Sending {
    user: Arc<User>,
    offload: bool,
}

impl TxToken for Sending {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut bytes = vec![0; len];
        let result = f(&mut bytes);
        let meta = if self.offload { requests(&mut bytes) } else { FrameMeta::default() };
        let frame = Frame { head: &bytes, body: &[], meta };
        while self.user.deliver(&frame) == Delivery::Full {
            std::thread::yield_now();
        }
        result
    }
}

/// Where TCP starts in an IPv4 frame that carries it.
fn tcp_start(bytes: &[u8]) -> Option<usize> {
    (bytes.len() > 54 - 20 && bytes[12..14] == [8, 0] && bytes[23] == 6)
        .then(|| 14 + usize::from(bytes[14] & 0xf) * 4)
}

/// Replaces the MSS in a SYN; smoltcp writes that option first.
fn mss_option(bytes: &mut [u8], mss: u16) {
    if let Some(at) = tcp_start(bytes).filter(|at| bytes[at + 13] & 2 != 0 && bytes[at + 20] == 2) {
        checksum::store(bytes, at + 22, mss);
    }
}

/// What a driver asks its NIC for: the TCP checksum, and cutting.
fn requests(bytes: &mut [u8]) -> FrameMeta {
    let Some(start) = tcp_start(bytes) else { return FrameMeta::default() };
    mss_option(bytes, MSS);
    let header_len = start + usize::from(bytes[start + 12] >> 4) * 4;
    let kind = GsoKind::Tcp4;
    let cut = bytes.len() - header_len > usize::from(MSS);
    FrameMeta {
        csum: Some(CsumRequest { start: start as u16, offset: 16 }),
        csum_valid: false,
        gso: cut.then_some(Gso { kind, mss: MSS, header_len: header_len as u16 }),
    }
}

/// The guest.
pub struct Guest {
    pub user: Arc<User>,
    pub cable: Arc<Cable>,
    pub sockets: SocketSet<'static>,
    pub interface: Interface,
    nic: Nic,
    started: Instant,
    port: Arc<dyn FramePort>,
    _event_loop: EventLoop,
    next_port: u16,
}

impl Drop for Guest {
    fn drop(&mut self) {
        netport::part(&self.port);
    }
}

impl Guest {
    /// A guest at 10.0.2.15 whose stack finishes its frames.
    pub fn new(options: &UserOptions) -> Self {
        Self::with(options, false)
    }

    /// One whose NIC segments and sums, both ways.
    pub fn offloading(options: &UserOptions) -> Self {
        Self::with(options, true)
    }

    fn with(options: &UserOptions, offload: bool) -> Self {
        let (event_loop, events) = EventLoop::start().unwrap();
        let user = User::open("n0", options, &Surroundings::new(events, Notices::new(|_| ()))).unwrap();
        let cable = Arc::new(Cable { offload, ..Cable::default() });
        let (port, other): (Arc<dyn FramePort>, Arc<dyn FramePort>) = (cable.clone(), user.clone());
        netport::join(&port, &other);
        let mut nic = Nic { cable: cable.clone(), user: user.clone(), offload };
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(MAC)));
        config.random_seed = 0x5eed;
        let mut interface = Interface::new(config, &mut nic, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|list| list.push(IpCidr::new(GUEST.into(), 24)).unwrap());
        interface.routes_mut().add_default_ipv4_route(options.host).unwrap();
        let sockets = SocketSet::new(Vec::new());
        let started = Instant::now();
        Self {
            user,
            cable,
            sockets,
            interface,
            nic,
            started,
            port,
            _event_loop: event_loop,
            next_port: 40000,
        }
    }

    /// One turn of the guest's stack.
    pub fn turn(&mut self) {
        let now = smoltcp::time::Instant::from_micros(self.started.elapsed().as_micros() as i64);
        self.interface.poll(now, &mut self.nic, &mut self.sockets);
        // poll lets a socket send one segment; a driver's stack sends what its window allows.
        while self.interface.poll_egress(now, &mut self.nic, &mut self.sockets) != PollResult::None {}
        let frames = self.cable.frames.lock().unwrap();
        if frames.is_empty() {
            drop(self.cable.arrived.wait_timeout(frames, Duration::from_millis(1)).unwrap());
        }
    }

    /// Turns the guest until `done` gives something; panics when that takes too long.
    pub fn until<T>(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(value) = done(self) {
                return value;
            }
            assert!(begin.elapsed() < PATIENCE, "waited in vain: {what}");
            self.turn();
        }
    }

    /// Turns the guest for this long.
    pub fn for_a_while(&mut self, time: Duration) {
        let begin = Instant::now();
        while begin.elapsed() < time {
            self.turn();
        }
    }

    /// Gives the backend a frame as it is.
    pub fn send_raw(&self, bytes: &[u8]) -> Delivery {
        self.user.deliver(&Frame::whole(bytes))
    }

    fn fresh_port(&mut self) -> u16 {
        self.next_port += 1;
        self.next_port
    }

    /// A TCP socket with `buffer` bytes each way.
    pub fn tcp_socket(&mut self, buffer: usize) -> SocketHandle {
        let room = || tcp::SocketBuffer::new(vec![0; buffer]);
        let mut socket = tcp::Socket::new(room(), room());
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        self.sockets.add(socket)
    }

    /// Begins a connection.
    pub fn connect(&mut self, to: SocketAddr, buffer: usize) -> SocketHandle {
        let handle = self.tcp_socket(buffer);
        let port = self.fresh_port();
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        socket.connect(self.interface.context(), endpoint(to), port).unwrap();
        handle
    }

    /// A TCP socket.
    pub fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// A bound UDP socket.
    pub fn udp_socket(&mut self, port: u16) -> SocketHandle {
        let room = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 64], vec![0; 65536]);
        let mut socket = udp::Socket::new(room(), room());
        socket.bind(port).unwrap();
        self.sockets.add(socket)
    }

    /// Sends a datagram.
    pub fn udp_send(&mut self, handle: SocketHandle, to: SocketAddr, data: &[u8]) {
        self.sockets.get_mut::<udp::Socket<'_>>(handle).send_slice(data, endpoint(to)).unwrap();
    }

    /// Waits for a datagram.
    pub fn udp_receive(&mut self, handle: SocketHandle) -> (SocketAddr, Vec<u8>) {
        self.until("a datagram", |guest| {
            let socket = guest.sockets.get_mut::<udp::Socket<'_>>(handle);
            let (data, meta) = socket.recv().ok()?;
            Some((SocketAddr::new(meta.endpoint.addr.into(), meta.endpoint.port), data.to_vec()))
        })
    }

    /// A socket for echo with this identifier.
    pub fn echo_socket(&mut self, ident: u16) -> SocketHandle {
        let room = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 8], vec![0; 8192]);
        let mut socket = icmp::Socket::new(room(), room());
        socket.bind(icmp::Endpoint::Ident(ident)).unwrap();
        self.sockets.add(socket)
    }

    /// A socket that hears of errors about what was sent from this UDP port.
    pub fn error_socket(&mut self, port: u16) -> SocketHandle {
        let room = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 8], vec![0; 8192]);
        let mut socket = icmp::Socket::new(room(), room());
        socket.bind(icmp::Endpoint::Udp(port.into())).unwrap();
        self.sockets.add(socket)
    }

    /// Waits for an ICMP message: its sender and bytes.
    pub fn icmp_receive(&mut self, handle: SocketHandle) -> (IpAddress, Vec<u8>) {
        self.until("an ICMP message", |guest| {
            let (data, from) = guest.sockets.get_mut::<icmp::Socket<'_>>(handle).recv().ok()?;
            Some((from, data.to_vec()))
        })
    }

    /// Sends an echo request.
    pub fn echo(&mut self, handle: SocketHandle, to: Ipv4Addr, ident: u16, data: &[u8]) {
        let request = smoltcp::wire::Icmpv4Repr::EchoRequest { ident, seq_no: 7, data };
        let socket = self.sockets.get_mut::<icmp::Socket<'_>>(handle);
        let bytes = socket.send(request.buffer_len(), to.into()).unwrap();
        let mut packet = smoltcp::wire::Icmpv4Packet::new_unchecked(bytes);
        request.emit(&mut packet, &ChecksumCapabilities::default());
    }
}

/// smoltcp's form of an address.
pub fn endpoint(address: SocketAddr) -> IpEndpoint {
    IpEndpoint::new(address.ip().into(), address.port())
}
