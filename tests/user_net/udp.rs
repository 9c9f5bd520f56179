//! UDP and what is told by ICMP.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use minivmm::cli::{HostForward, ListenAt, UserOptions};
use minivmm::netdev::Backend;

use super::guest::{GUEST, Guest, MAC};

const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 2));

fn host_socket() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, SocketAddr::new(GATEWAY, port))
}

/// Turns the guest until the host's socket has received something.
fn host_receive(guest: &mut Guest, socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    socket.set_nonblocking(true).unwrap();
    guest.until("a datagram at the host", |_| {
        let mut data = vec![0; 65536];
        let (len, from) = socket.recv_from(&mut data).ok()?;
        data.truncate(len);
        Some((data, from))
    })
}

#[test]
fn datagrams_pass_both_ways_and_keep_their_bounds() {
    let mut guest = Guest::new(&UserOptions::default());
    let (server, address) = host_socket();
    let handle = guest.udp_socket(5000);
    for text in ["one", "", "three"] {
        guest.udp_send(handle, address, text.as_bytes());
        let (data, from) = host_receive(&mut guest, &server);
        assert_eq!(data, text.as_bytes());
        server.send_to(text.to_uppercase().as_bytes(), from).unwrap();
        assert_eq!(guest.udp_receive(handle), (address, text.to_uppercase().into_bytes()));
    }
    assert_eq!(guest.user.info().connections.len(), 1);
}

#[test]
fn strangers_do_not_reach_the_guest() {
    let mut guest = Guest::new(&UserOptions::default());
    let (server, address) = host_socket();
    let handle = guest.udp_socket(5000);
    guest.udp_send(handle, address, b"hello");
    let (_, from) = host_receive(&mut guest, &server);
    let (stranger, _) = host_socket();
    // Refused by the kernel, which reports that to the next call of the stranger's.
    let _ = stranger.send_to(b"spoof", from);
    server.send_to(b"answer", from).unwrap();
    assert_eq!(guest.udp_receive(handle).1, b"answer");
}

#[test]
fn a_closed_port_is_told_by_icmp() {
    let mut guest = Guest::new(&UserOptions::default());
    let (server, address) = host_socket();
    drop(server);
    let (handle, errors) = (guest.udp_socket(5001), guest.error_socket(5001));
    guest.udp_send(handle, address, b"anybody?");
    let (from, message) = guest.icmp_receive(errors);
    assert_eq!(from, GATEWAY.into());
    assert_eq!(message[..2], [3, 3], "destination unreachable, port");
}

#[test]
fn what_leads_nowhere_is_told_by_icmp() {
    let mut guest = Guest::new(&UserOptions { restrict: true, ..UserOptions::default() });
    let (handle, errors) = (guest.udp_socket(5002), guest.error_socket(5002));
    guest.udp_send(handle, "192.0.2.1:9".parse().unwrap(), b"out?");
    assert_eq!(guest.icmp_receive(errors).1[..2], [3, 13], "destination unreachable, prohibited");
}

#[test]
fn a_forward_brings_datagrams_in_and_answers_out() {
    let mut guest = Guest::new(&UserOptions::default());
    let (probe, at) = host_socket();
    drop(probe);
    let at = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), at.port());
    let rule = HostForward { listen: ListenAt::Udp(at), guest: SocketAddrV4::new(GUEST, 6000) };
    guest.user.add_forward(&rule).unwrap();
    let handle = guest.udp_socket(6000);
    let clients = [host_socket().0, host_socket().0];
    for (k, client) in clients.iter().enumerate() {
        client.send_to(&[k as u8; 9], at).unwrap();
        let (from, data) = guest.udp_receive(handle);
        assert_eq!((from.ip(), data), (GATEWAY, vec![k as u8; 9]));
        guest.udp_send(handle, from, b"pong");
        assert_eq!(host_receive(&mut guest, client), (b"pong".to_vec(), at));
    }
    assert!(guest.user.remove_forward(&ListenAt::Udp(at)));
    assert!(guest.user.info().connections.is_empty());
}

#[test]
fn long_datagrams_are_cut_and_put_together() {
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{IpProtocol, IpRepr, UdpPacket, UdpRepr};
    let mut guest = Guest::new(&UserOptions::default());
    let (server, address) = host_socket();
    // The guest's stack has no fragmentation, so the test cuts.
    let data: Vec<u8> = (0..5000u32).map(|i| i as u8).collect();
    let (src, dst) = (GUEST.into(), GATEWAY.into());
    let mut udp = vec![0; 8 + data.len()];
    UdpRepr { src_port: 7000, dst_port: address.port() }.emit(
        &mut UdpPacket::new_unchecked(&mut udp[..]),
        &src,
        &dst,
        data.len(),
        |room| room.copy_from_slice(&data),
        &ChecksumCapabilities::default(),
    );
    let pieces: Vec<(usize, &[u8])> = udp.chunks(1000).enumerate().collect();
    for &(k, piece) in pieces.iter().rev() {
        let ip = IpRepr::new(src, dst, IpProtocol::Udp, piece.len(), 64);
        let mut bytes = vec![0; 20 + piece.len()];
        ip.emit(&mut bytes[..], &ChecksumCapabilities::default());
        bytes[20..].copy_from_slice(piece);
        let mut header = smoltcp::wire::Ipv4Packet::new_unchecked(&mut bytes[..]);
        header.set_ident(99);
        header.set_dont_frag(false);
        header.set_more_frags((k + 1) * 1000 < udp.len());
        header.set_frag_offset((k * 1000) as u16);
        header.fill_checksum();
        guest.send_raw(&[&[0x52, 0x55, 10, 0, 2, 2], &MAC[..], &[8, 0], &bytes].concat());
    }
    let (received, from) = host_receive(&mut guest, &server);
    assert!(received == data);
    // The way back: the guest's stack drops fragments, so they are counted: 5008 bytes in pieces of 1480.
    guest.for_a_while(Duration::from_millis(50));
    let before = guest.user.counters().read().to_peer;
    server.send_to(&data, from).unwrap();
    guest.until("four frames", |guest| {
        let now = guest.user.counters().read().to_peer;
        (now.frames - before.frames == 4).then(|| assert_eq!(now.bytes - before.bytes, 5008 + 4 * 34))
    });
}
