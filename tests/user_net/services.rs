//! What the network itself answers: ARP, DHCP, echo, DNS, TFTP; and what it does not answer.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::symlink;
use std::thread;
use std::time::Duration;

use minivmm::cli::UserOptions;
use minivmm::netdev::Backend;
use minivmm::netport::Delivery;
use smoltcp::socket::dhcpv4;
use smoltcp::wire::{DhcpOption, Icmpv4Packet, Icmpv4Repr};

use super::guest::{GUEST, Guest, MAC};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// What DHCP told.
struct Lease {
    address: Ipv4Addr,
    router: Option<Ipv4Addr>,
    dns: Vec<Ipv4Addr>,
    options: Vec<(u8, Vec<u8>)>,
}

impl Lease {
    fn option(&self, kind: u8) -> Option<&[u8]> {
        self.options.iter().find(|(k, _)| *k == kind).map(|(_, data)| data.as_slice())
    }

    fn prefix(&self) -> u8 {
        self.option(1).unwrap().iter().map(|byte| byte.count_ones() as u8).sum()
    }
}

fn lease(options: &UserOptions) -> Lease {
    let mut guest = Guest::new(options);
    guest.interface.update_ip_addrs(|list| list.clear());
    let mut socket = dhcpv4::Socket::new();
    let buffer: &'static mut [u8] = vec![0; 1500].leak();
    socket.set_receive_packet_buffer(buffer);
    socket.set_outgoing_options(&[DhcpOption { kind: 12, data: b"me" }]);
    let handle = guest.sockets.add(socket);
    let (prefix, lease) = guest.until("a lease", |guest| {
        let event = guest.sockets.get_mut::<dhcpv4::Socket<'_>>(handle).poll()?;
        let dhcpv4::Event::Configured(config) = event else { return None };
        let options = config.packet.as_ref().unwrap().options();
        let lease = Lease {
            address: config.address.address(),
            router: config.router,
            dns: config.dns_servers.iter().copied().collect(),
            options: options.map(|option| (option.kind, option.data.to_vec())).collect(),
        };
        Some((config.address.prefix_len(), lease))
    });
    assert_eq!(prefix, lease.prefix());
    lease
}

#[test]
fn dhcp_tells_what_was_asked_for() {
    let options = UserOptions {
        hostname: Some("guest7".into()),
        domainname: Some("example.org".into()),
        dnssearch: vec!["a.example".into(), "b.example".into()],
        tftp_server_name: Some("boot".into()),
        bootfile: Some("pxelinux.0".into()),
        ..UserOptions::default()
    };
    let lease = lease(&options);
    assert_eq!((lease.address, lease.router), (GUEST, Some(GATEWAY)));
    assert_eq!(lease.dns, [Ipv4Addr::new(10, 0, 2, 3)]);
    let option = |kind| lease.option(kind);
    assert_eq!(option(12), Some(&b"guest7"[..]));
    assert_eq!(option(15), Some(&b"example.org"[..]));
    assert_eq!(option(66), Some(&b"boot"[..]));
    assert_eq!(option(67), Some(&b"pxelinux.0"[..]));
    assert_eq!(option(119), Some(&b"\x01a\x07example\x00\x01b\x07example\x00"[..]));
}

#[test]
fn dhcp_follows_another_network_and_hides_the_way_out_of_a_restricted_one() {
    let options = UserOptions {
        net: (Ipv4Addr::new(192, 168, 64, 0), 20),
        host: Ipv4Addr::new(192, 168, 64, 1),
        dns: Ipv4Addr::new(192, 168, 64, 9),
        dhcp_start: Ipv4Addr::new(192, 168, 70, 1),
        restrict: true,
        ..UserOptions::default()
    };
    let lease = lease(&options);
    assert_eq!((lease.address, lease.prefix()), (Ipv4Addr::new(192, 168, 70, 1), 20));
    assert_eq!((lease.router, lease.dns.len()), (None, 0));
}

#[test]
fn our_own_addresses_answer_echo() {
    let mut guest = Guest::new(&UserOptions { restrict: true, ..UserOptions::default() });
    let handle = guest.echo_socket(77);
    for address in [GATEWAY, Ipv4Addr::new(10, 0, 2, 3)] {
        guest.echo(handle, address, 77, b"sixty bytes of nothing");
        let (from, message) = guest.icmp_receive(handle);
        assert_eq!(from, address.into());
        let packet = Icmpv4Packet::new_checked(&message[..]).unwrap();
        let reply = Icmpv4Repr::parse(&packet, &Default::default()).unwrap();
        assert_eq!(reply, Icmpv4Repr::EchoReply { ident: 77, seq_no: 7, data: b"sixty bytes of nothing" });
    }
}

#[test]
fn names_are_asked_of_the_resolver() {
    let resolver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let options = UserOptions { dns_host: Some(resolver.local_addr().unwrap()), ..UserOptions::default() };
    let mut guest = Guest::new(&options);
    let server = thread::spawn(move || {
        let mut data = [0; 512];
        let (len, from) = resolver.recv_from(&mut data).unwrap();
        data[..len].reverse();
        resolver.send_to(&data[..len], from).unwrap();
    });
    let handle = guest.udp_socket(5300);
    let dns: SocketAddr = "10.0.2.3:53".parse().unwrap();
    guest.udp_send(handle, dns, b"who is it");
    assert_eq!(guest.udp_receive(handle), (dns, b"ti si ohw".to_vec()));
    server.join().unwrap();
}

/// One file by TFTP, or the server's error text.
fn fetch(guest: &mut Guest, port: u16, name: &str, options: &[&str]) -> Result<Vec<u8>, String> {
    let handle = guest.udp_socket(port);
    let server: SocketAddr = "10.0.2.2:69".parse().unwrap();
    let mut request = vec![0, 1];
    for word in [name, "octet"].iter().chain(options) {
        request.extend_from_slice(word.as_bytes());
        request.push(0);
    }
    guest.udp_send(handle, server, &request);
    let (mut data, mut block_size) = (Vec::new(), 512);
    loop {
        let (from, answer) = guest.udp_receive(handle);
        match answer[1] {
            3 => {
                data.extend_from_slice(&answer[4..]);
                guest.udp_send(handle, from, &[0, 4, answer[2], answer[3]]);
                if answer.len() < 4 + block_size {
                    return Ok(data);
                }
            }
            6 => {
                let words: Vec<&str> = std::str::from_utf8(&answer[2..]).unwrap().split('\0').collect();
                let at = words.iter().position(|word| *word == "blksize").unwrap();
                block_size = words[at + 1].parse().unwrap();
                guest.udp_send(handle, from, &[0, 4, 0, 0]);
            }
            5 => return Err(String::from_utf8_lossy(&answer[4..answer.len() - 1]).into_owned()),
            other => panic!("opcode {other}"),
        }
    }
}

#[test]
fn tftp_serves_its_folder_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (root, secret) = (folder.path().join("root"), folder.path().join("secret"));
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::write(&secret, "secret").unwrap();
    let long: Vec<u8> = (0..100_000u32).map(|i| (i / 3) as u8).collect();
    fs::write(root.join("sub/long"), &long).unwrap();
    fs::write(root.join("exact"), &long[..1024]).unwrap();
    symlink("sub/long", root.join("inside")).unwrap();
    symlink(&secret, root.join("absolute")).unwrap();
    symlink("../secret", root.join("relative")).unwrap();
    symlink("..", root.join("sub/up")).unwrap();
    let mut guest = Guest::new(&UserOptions { tftp: Some(root), ..UserOptions::default() });
    let mut port = 2000;
    let mut get = |name: &str, options: &[&str]| {
        port += 1;
        fetch(&mut guest, port, name, options)
    };
    assert!(get("sub/long", &["blksize", "1428", "tsize", "0"]).unwrap() == long);
    assert!(get("/inside", &[]).unwrap() == long);
    assert!(get("exact", &["blksize", "512"]).unwrap() == long[..1024]);
    for name in [
        "../secret",
        "absolute",
        "relative",
        "sub/up/../secret",
        "/../../etc/passwd",
        "sub",
        "sub/../../secret",
    ] {
        assert_eq!(get(name, &[]), Err("access violation".into()), "{name}");
    }
    assert_eq!(get("nothing", &[]), Err("file not found".into()));
}

#[test]
fn broken_spoofed_and_foreign_frames_are_dropped_and_counted() {
    let mut guest = Guest::new(&UserOptions::default());
    let ours = [0x52, 0x55, 10, 0, 2, 2];
    let spoofed = |address: [u8; 4]| {
        let mut ip = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0];
        ip.extend_from_slice(&address);
        ip.extend_from_slice(&[10, 0, 2, 2, 8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
        let mut sum = minivmm::netport::checksum::Sum::default();
        sum.add(&ip[..20]);
        minivmm::netport::checksum::store(&mut ip, 10, sum.checksum());
        [&ours[..], &MAC, &[8, 0], &ip].concat()
    };
    let cases: Vec<Vec<u8>> = vec![
        spoofed([10, 0, 2, 2]),
        spoofed([10, 0, 2, 255]),
        spoofed([192, 0, 2, 1]),
        spoofed([127, 0, 0, 1]),
        [&ours[..], &MAC, &[8, 0]].concat(),
        [&ours[..], &MAC, &[8, 0, 0x4f, 0xff]].concat(),
        [&ours[..], &MAC, &[0x86, 0xdd, 0x60]].concat(),
        [&ours[..], &MAC, &[0x81, 0, 0, 5]].concat(),
        [&[2, 0, 0, 0, 0, 9], &MAC[..], &[8, 0, 0x45]].concat(),
        [&ours[..], &[0xff; 6], &[8, 0, 0x45]].concat(),
    ];
    for frame in &cases {
        assert_eq!(guest.send_raw(frame), Delivery::Taken);
    }
    assert_eq!(guest.send_raw(&ours), Delivery::Dropped(minivmm::netport::DropReason::BadLength));
    guest.for_a_while(Duration::from_millis(50));
    let stats = guest.user.counters().read();
    assert_eq!(stats.from_peer.dropped, [("filtered", cases.len() as u64), ("bad-length", 1)]);
    assert_eq!(stats.to_peer.frames, 0, "nobody is answered");
    guest.send_raw(&spoofed([10, 0, 2, 15]));
    guest.until("the honest one's reply", |guest| {
        (guest.user.counters().read().to_peer.frames > 0).then_some(())
    });
}
