//! TCP: the proxy both ways, its ends and failures, its bounds.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use minivmm::cli::{ForwardTarget, GuestForward, HostForward, ListenAt, UserOptions};
use minivmm::netdev::Backend;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;

use super::guest::{GUEST, Guest};

const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 2));
const BUFFER: usize = 65536;

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, SocketAddr::new(GATEWAY, port))
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2654435761) >> 24) as u8).collect()
}

/// Sends all of `data`, then closes that direction.
fn upload(guest: &mut Guest, handle: SocketHandle, data: &[u8]) {
    let mut sent = 0;
    guest.until("the upload", |guest| {
        let tcp = guest.tcp(handle);
        while sent < data.len() && tcp.can_send() {
            sent += tcp.send_slice(&data[sent..]).unwrap();
        }
        (sent == data.len()).then_some(())
    });
    guest.tcp(handle).close();
}

/// Reads until the other side closes.
fn download(guest: &mut Guest, handle: SocketHandle) -> Vec<u8> {
    let mut data = Vec::new();
    guest.until("the download", |guest| {
        let tcp = guest.tcp(handle);
        while tcp.can_recv() {
            tcp.recv(|bytes| (bytes.len(), data.extend_from_slice(bytes))).unwrap();
        }
        let closed =
            matches!(tcp.state(), State::CloseWait | State::LastAck | State::TimeWait | State::Closed);
        (closed && !tcp.can_recv()).then_some(())
    });
    data
}

fn echo_server(listener: TcpListener) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut data = Vec::new();
        stream.read_to_end(&mut data).unwrap();
        stream.write_all(&data).unwrap();
    })
}

/// What the window allows leaves without waiting for answers, also by a NIC that does not segment. (A guest that sent
/// one segment for each answer once made the bench's figure 30 times too small.)
#[test]
fn a_window_of_small_segments_needs_no_answers() {
    let mut guest = Guest::new(&UserOptions::default());
    let (_listener, address) = listener();
    let handle = guest.connect(address, BUFFER);
    guest.until("the connection", |guest| (guest.tcp(handle).state() == State::Established).then_some(()));
    let frames = |guest: &Guest| guest.user.counters().from_peer.read().frames;
    let before = frames(&guest);
    guest.tcp(handle).send_slice(&pattern(40 * 1460)).unwrap();
    guest.turn();
    assert!(frames(&guest) - before >= 40, "{} frames in a turn", frames(&guest) - before);
}

/// The guest closes its direction first and still gets everything back: a half-open connection.
fn round_trip(mut guest: Guest, len: usize) {
    let (listener, address) = listener();
    let server = echo_server(listener);
    let handle = guest.connect(address, BUFFER);
    let data = pattern(len);
    upload(&mut guest, handle, &data);
    assert!(download(&mut guest, handle) == data, "the bytes differ");
    server.join().unwrap();
    guest.until("the flow's end", |guest| guest.user.info().connections.is_empty().then_some(()));
}

#[test]
fn bytes_pass_both_ways_and_half_open_connections_stay_open() {
    round_trip(Guest::new(&UserOptions::default()), 3_000_001);
}

#[test]
fn a_segmenting_nic_loses_nothing() {
    round_trip(Guest::offloading(&UserOptions::default()), 20_000_003);
}

#[test]
fn the_host_may_close_first() {
    let mut guest = Guest::new(&UserOptions::default());
    let (listener, address) = listener();
    let server = thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        assert!(peer.ip().is_loopback());
        stream.write_all(b"bye").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        rest
    });
    let handle = guest.connect(address, BUFFER);
    assert_eq!(download(&mut guest, handle), b"bye");
    upload(&mut guest, handle, b"still here");
    guest.until("the end", |guest| guest.user.info().connections.is_empty().then_some(()));
    assert_eq!(server.join().unwrap(), b"still here");
}

#[test]
fn a_refused_connection_is_reset_and_leaves_nothing() {
    let mut guest = Guest::new(&UserOptions::default());
    let (listener, address) = listener();
    drop(listener);
    let handle = guest.connect(address, BUFFER);
    guest.until("the reset", |guest| (guest.tcp(handle).state() == State::Closed).then_some(()));
    assert!(guest.user.info().connections.is_empty());
}

#[test]
fn resets_pass_both_ways() {
    let mut guest = Guest::new(&UserOptions::default());
    let (listener, address) = listener();
    let handle = guest.connect(address, BUFFER);
    let mut server = guest.until("the connection", |guest| {
        (guest.tcp(handle).state() == State::Established).then(|| listener.accept().unwrap().0)
    });
    guest.tcp(handle).abort();
    guest.until("the flow's end", |guest| guest.user.info().connections.is_empty().then_some(()));
    let error = server.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);

    let handle = guest.connect(address, BUFFER);
    let server = guest.until("the connection", |guest| {
        (guest.tcp(handle).state() == State::Established).then(|| listener.accept().unwrap().0)
    });
    // Closing with unread data sends a reset.
    guest.tcp(handle).send_slice(b"unread").unwrap();
    server.set_nonblocking(true).unwrap();
    guest.until("the data", |_| matches!(server.peek(&mut [0; 6]), Ok(6)).then_some(()));
    drop(server);
    guest.until("the reset", |guest| (guest.tcp(handle).state() == State::Closed).then_some(()));
}

#[test]
fn a_guest_that_does_not_read_stops_the_host() {
    let mut guest = Guest::new(&UserOptions::default());
    let (listener, address) = listener();
    let handle = guest.connect(address, 4096);
    let mut server = guest.until("the connection", |guest| {
        (guest.tcp(handle).state() == State::Established).then(|| listener.accept().unwrap().0)
    });
    server.set_nonblocking(true).unwrap();
    let block = vec![7; 65536];
    let (mut taken, mut still) = (0, 0);
    while still < 20 {
        match server.write(&block) {
            Ok(n) => (taken, still) = (taken + n, 0),
            Err(_) => {
                still += 1;
                guest.for_a_while(Duration::from_millis(10));
            }
        }
        // Socket buffers of the host's take some megabytes; more would be ours growing.
        assert!(taken < 64 << 20, "nothing stops the host");
    }
    let queued = guest.user.info().connections[0].to_guest;
    assert!(queued <= 256 << 10, "{queued} bytes queued");
    drop(server);
    assert_eq!(download(&mut guest, handle).len(), taken);
}

#[test]
fn a_hundred_connections_at_once() {
    let mut guest = Guest::new(&UserOptions::default());
    let (listener, address) = listener();
    let server = thread::spawn(move || {
        let streams: Vec<TcpStream> = (0..100).map(|_| listener.accept().unwrap().0).collect();
        for mut stream in streams {
            let mut data = Vec::new();
            stream.read_to_end(&mut data).unwrap();
            stream.write_all(&data).unwrap();
        }
    });
    let handles: Vec<SocketHandle> = (0..100).map(|_| guest.connect(address, 4096)).collect();
    for (k, &handle) in handles.iter().enumerate() {
        upload(&mut guest, handle, format!("connection {k}").as_bytes());
    }
    for (k, &handle) in handles.iter().enumerate() {
        assert_eq!(download(&mut guest, handle), format!("connection {k}").as_bytes());
    }
    server.join().unwrap();
}

fn forward(guest: &Guest, port: u16) -> SocketAddr {
    // A port that was free a moment ago.
    let (listener, address) = listener();
    drop(listener);
    let at = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port());
    let rule = HostForward { listen: ListenAt::Tcp(at), guest: std::net::SocketAddrV4::new(GUEST, port) };
    guest.user.add_forward(&rule).unwrap();
    at
}

#[test]
fn clients_of_the_host_reach_the_guest_by_a_forward_until_it_is_removed() {
    let mut guest = Guest::new(&UserOptions::default());
    let at = forward(&guest, 80);
    let handle = guest.tcp_socket(BUFFER);
    guest.tcp(handle).listen(80).unwrap();
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.write_all(&pattern(500_000)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    });
    assert!(download_listening(&mut guest, handle) == pattern(500_000));
    assert_eq!(guest.tcp(handle).remote_endpoint().unwrap().addr, GATEWAY.into());
    upload(&mut guest, handle, b"got it");
    guest.until("the client", |_| client.is_finished().then_some(()));
    assert_eq!(client.join().unwrap(), b"got it");

    let again = HostForward { listen: ListenAt::Tcp(at), guest: std::net::SocketAddrV4::new(GUEST, 81) };
    let error = guest.user.add_forward(&again).unwrap_err().to_string();
    assert!(error.contains(&at.to_string()), "{error}");
    assert!(guest.user.remove_forward(&ListenAt::Tcp(at)) && !guest.user.remove_forward(&ListenAt::Tcp(at)));
    assert!(TcpStream::connect(at).is_err());
}

fn download_listening(guest: &mut Guest, handle: SocketHandle) -> Vec<u8> {
    guest.until("a client", |guest| guest.tcp(handle).is_active().then_some(()));
    download(guest, handle)
}

#[test]
fn a_forward_to_a_closed_port_resets_the_client() {
    let mut guest = Guest::new(&UserOptions::default());
    let at = forward(&guest, 81);
    let client = thread::spawn(move || TcpStream::connect(at).unwrap().read(&mut [0]).unwrap_err().kind());
    guest.until("the client", |_| client.is_finished().then_some(()));
    assert_eq!(client.join().unwrap(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_guest_forward_runs_a_program_for_each_connection() {
    let server = "10.0.2.100:7".parse().unwrap();
    let target = ForwardTarget::Command("echo hello; exec tr a-z A-Z".into());
    let options = UserOptions {
        restrict: true,
        guestfwd: vec![GuestForward { server, target }],
        ..UserOptions::default()
    };
    let mut guest = Guest::new(&options);
    for word in ["one", "two"] {
        let handle = guest.connect(server.into(), BUFFER);
        upload(&mut guest, handle, word.as_bytes());
        assert_eq!(download(&mut guest, handle), format!("hello\n{}", word.to_uppercase()).as_bytes());
    }
}

#[test]
fn a_restricted_network_lets_nothing_out() {
    let mut guest = Guest::new(&UserOptions { restrict: true, ..UserOptions::default() });
    let (listener, address) = listener();
    listener.set_nonblocking(true).unwrap();
    let handle = guest.connect(address, BUFFER);
    guest.for_a_while(Duration::from_millis(100));
    assert_eq!(guest.tcp(handle).state(), State::SynSent);
    assert!(listener.accept().is_err());
    assert!(guest.user.info().connections.is_empty());
}

#[test]
fn a_flood_of_connections_stays_within_bounds() {
    let mut guest = Guest::new(&UserOptions::default());
    let (listener, address) = listener();
    let mut template = Vec::new();
    template.extend_from_slice(&[0x52, 0x55, 10, 0, 2, 2]);
    template.extend_from_slice(&super::guest::MAC);
    for round in 0..3000u32 {
        let syn = syn(round, address.port());
        let frame = [&template[..], &[8, 0], &syn].concat();
        while guest.send_raw(&frame) == minivmm::netport::Delivery::Full {
            guest.turn();
        }
    }
    guest.for_a_while(Duration::from_millis(300));
    assert!(guest.user.info().connections.len() <= 512);
    drop(listener);
    // The network still serves.
    round_trip(guest, 1000);
}

/// A SYN from port `n` of the guest.
fn syn(n: u32, port: u16) -> Vec<u8> {
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{IpProtocol, IpRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};
    let tcp = TcpRepr {
        src_port: 1024 + n as u16,
        dst_port: port,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(n as i32),
        ack_number: None,
        window_len: 1,
        window_scale: None,
        max_seg_size: Some(1),
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let (src, dst) = (GUEST.into(), GATEWAY.into());
    let ip = IpRepr::new(src, dst, IpProtocol::Tcp, tcp.buffer_len(), 64);
    let caps = ChecksumCapabilities::default();
    let mut bytes = vec![0; ip.buffer_len()];
    ip.emit(&mut bytes[..], &caps);
    tcp.emit(&mut TcpPacket::new_unchecked(&mut bytes[20..]), &src, &dst, &caps);
    bytes
}
