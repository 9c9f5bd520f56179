//! Frames between a NIC, a tap and the host's real network stack.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use minivmm::cli::{AddressChoice, TapOptions};
use minivmm::netdev::{Backend, Tap};
use minivmm::netport::{Delivery, FramePort, Offloads, join};

use crate::harness::*;

pub const TESTS: &[Test] = &[
    ("udp_passes_both_ways", udp_passes_both_ways),
    ("a_full_nic_loses_nothing", a_full_nic_loses_nothing),
    ("tcp_passes_whole_segments_with_vnet_hdr", tcp_passes_whole_segments_with_vnet_hdr),
    ("tcp_passes_wire_frames_without_vnet_hdr", tcp_passes_wire_frames_without_vnet_hdr),
    ("mixed_taps_get_what_each_understands", mixed_taps_get_what_each_understands),
];

const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

/// A tap at 10.0.2.2 that knows the guest's address without asking.
fn host_side(host: &Host, vnet_hdr: Option<bool>) -> Arc<Tap> {
    let tap = host.open(&TapOptions { vnet_hdr, ..options() });
    sh(&format!("ip neigh add 10.0.2.15 lladdr 52:54:00:12:34:56 dev {}", tap.ifname()));
    tap
}

fn udp_passes_both_ways() {
    for vnet_hdr in [Some(true), Some(false)] {
        let host = Host::new();
        let tap = host_side(&host, vnet_hdr);
        let nic = Nic::plugged(&tap);
        let socket = UdpSocket::bind("10.0.2.2:7000").unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket.send_to(b"to the guest", "10.0.2.15:7001").unwrap();
        eventually("the datagram reaches the NIC", || nic.udp_payloads(7001) == [b"to the guest"]);
        let finished = nic.frames().iter().all(|(_, meta)| *meta == Default::default());
        assert!(finished, "a NIC that accepts nothing gets finished frames");

        let guest = (GUEST_MAC, [10, 0, 2, 15], 7001);
        let frame = udp_frame((mac_of(tap.ifname()), [10, 0, 2, 2], 7000), guest, b"to the host");
        assert_eq!(nic.send(&frame), Delivery::Taken);
        let mut buf = [0; 64];
        let (n, from) = socket.recv_from(&mut buf).unwrap();
        assert_eq!((&buf[..n], from.to_string().as_str()), (&b"to the host"[..], "10.0.2.15:7001"));

        let stats = tap.counters().read();
        assert_eq!((stats.from_peer.frames, stats.from_peer.bytes), (1, frame.len() as u64));
        assert_eq!(stats.to_peer.frames, nic.frames().len() as u64);
        minivmm::netport::part(&(nic as Arc<dyn FramePort>));
        drop(tap);
        host.event_loop.join();
    }
}

fn a_full_nic_loses_nothing() {
    const COUNT: u32 = 400;
    let host = Host::new();
    let tap = host_side(&host, None);
    // The kernel's own chatter must not overflow the queue either.
    sh("sysctl -qw net.ipv6.conf.tap0.disable_ipv6=1");
    let nic = Nic::new(0, Offloads::default());
    nic.plug(&tap);
    let socket = UdpSocket::bind("10.0.2.2:0").unwrap();
    for i in 0..COUNT {
        socket.send_to(&i.to_be_bytes(), "10.0.2.15:7001").unwrap();
    }
    eventually("the tap is held back", || tap.counters().read().to_peer.full > 0);
    let before = (cpu_time(), tap.counters().read().to_peer.full);
    std::thread::sleep(Duration::from_millis(200));
    let after = (cpu_time(), tap.counters().read().to_peer.full);
    assert_eq!(after.1, before.1, "a full NIC is not offered the frame again and again");
    assert!(after.0 - before.0 < Duration::from_millis(50), "the event loop spins");
    // Room comes from several threads, as from several vCPUs, in small and in large portions.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (1..=24).for_each(|n| nic.make_room(n)));
        }
    });
    let numbers = || -> Vec<u32> {
        let payloads = nic.udp_payloads(7001).into_iter();
        payloads.map(|p| u32::from_be_bytes(p.try_into().unwrap())).collect()
    };
    eventually("everything arrives", || numbers().len() == COUNT as usize);
    assert_eq!(numbers(), (0..COUNT).collect::<Vec<_>>());
}

/// Another network namespace, held by a process.
struct Namespace(Child);

impl Namespace {
    fn new() -> Self {
        let child = Command::new("unshare").args(["-n", "sleep", "120"]).spawn().unwrap();
        let namespace = Self(child);
        let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
        let theirs = format!("/proc/{}/ns/net", namespace.0.id());
        eventually("the namespace exists", || std::fs::read_link(&theirs).is_ok_and(|theirs| theirs != ours));
        namespace
    }

    fn enter(&self) -> [String; 5] {
        ["nsenter".into(), "-t".into(), self.0.id().to_string(), "-n".into(), "--".into()]
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).unwrap();
    }
}

/// Helper processes of this file.
pub fn role(name: &str) {
    if name != "tcp-echo" {
        return crate::signals::role(name);
    }
    let listener = TcpListener::bind("10.7.0.2:7000").unwrap();
    println!("ready");
    let (mut stream, _) = listener.accept().unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    stream.write_all(&received).unwrap();
}

/// Two host stacks talk TCP through two of our taps joined back to back. Returns the near tap's counters.
fn tcp_through(near: Option<bool>, far: Option<bool>) -> minivmm::netdev::PortStats {
    let host = Host::new();
    let address = AddressChoice::Ip4 { addr: [10, 7, 0, 1].into(), prefix: 24 };
    let near = host.open(&TapOptions { ifname: Some("near".into()), vnet_hdr: near, address, ..options() });
    let far = host.open(&TapOptions { ifname: Some("far".into()), vnet_hdr: far, ..options() });
    let (a, b): (Arc<dyn FramePort>, Arc<dyn FramePort>) = (near.clone(), far.clone());
    join(&a, &b);
    let namespace = Namespace::new();
    let enter = namespace.enter();
    let enter: Vec<&str> = enter.iter().map(String::as_str).collect();
    let inside = enter.join(" ");
    sh(&format!("ip link set far netns {}", namespace.0.id()));
    sh(&format!("{inside} ip addr add 10.7.0.2/24 dev far; {inside} ip link set far up"));
    let (mut echo, line) = spawn_role("tcp-echo", &enter);
    assert_eq!(line, "ready");

    let sent: Vec<u8> = (0..8 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut stream = TcpStream::connect("10.7.0.2:7000").unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(&sent).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    assert!(received == sent, "{} of {} bytes came back", received.len(), sent.len());
    assert_eq!(wait(&mut echo, SOON), Some(true));
    let stats = near.counters().read();
    minivmm::netport::part(&a);
    stats
}

fn tcp_passes_whole_segments_with_vnet_hdr() {
    let stats = tcp_through(Some(true), Some(true));
    for way in [&stats.to_peer, &stats.from_peer] {
        assert!(way.gso_units > 50, "{stats:?}");
        assert!(way.frames > 5 * way.units / 2, "few system calls for many frames: {stats:?}");
        assert!(way.bytes > 8 << 20, "{stats:?}");
    }
    assert_eq!(stats.from_peer.dropped, []);
}

fn tcp_passes_wire_frames_without_vnet_hdr() {
    let stats = tcp_through(Some(false), Some(false));
    for way in [&stats.to_peer, &stats.from_peer] {
        assert_eq!((way.gso_units, way.units), (0, way.frames), "{stats:?}");
        assert!(way.frames > 5000, "{stats:?}");
    }
}

fn mixed_taps_get_what_each_understands() {
    let stats = tcp_through(Some(true), Some(false));
    assert_eq!((stats.to_peer.gso_units, stats.from_peer.gso_units), (0, 0), "{stats:?}");
}
