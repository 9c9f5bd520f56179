//! Backends on datagrams: UDP, Unix, groups and L2TPv3.

use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use minivmm::netport::{Delivery, DropReason};

use crate::harness::*;

pub const TESTS: &[Test] = &[
    ("udp_carries_one_frame_in_each_datagram", udp_carries_one_frame_in_each_datagram),
    ("a_full_unix_receiver_is_waited_for", a_full_unix_receiver_is_waited_for),
    ("a_unix_receiver_may_come_late_and_come_again", a_unix_receiver_may_come_late_and_come_again),
    ("a_group_s_members_hear_each_other_and_not_themselves", a_group_s_members_hear_each_other),
    ("l2tpv3_over_udp_and_over_ip", l2tpv3_over_udp_and_over_ip),
    ("what_a_datagram_cannot_have_is_told", what_a_datagram_cannot_have_is_told),
];

fn frame(number: u8, len: usize) -> Vec<u8> {
    vec![number; len]
}

fn udp(local: u16, remote: u16) -> String {
    format!(
        "dgram,id=n0,local.type=inet,local.host=127.0.0.1,local.port={local},\
         remote.type=inet,remote.host=127.0.0.1,remote.port={remote}"
    )
}

fn both_ways(a: &Cable, b: &Cable) {
    for (from, to) in [(a, b), (b, a)] {
        for len in [14, 60, 1514, 9014] {
            assert_eq!(from.nic.send(&frame(len as u8, len)), Delivery::Taken);
        }
        eventually("the frames come", || to.nic.frames().len() == 4);
        let lengths: Vec<usize> = to.nic.frames().iter().map(|(frame, _)| frame.len()).collect();
        assert_eq!(lengths, [14, 60, 1514, 9014]);
        assert_eq!(to.nic.frames()[2].0, frame(1514_u32 as u8, 1514));
        assert_eq!(from.nic.frames().len(), if std::ptr::eq(from, a) { 0 } else { 4 }, "none of its own");
    }
}

fn udp_carries_one_frame_in_each_datagram() {
    let (a, b) = (Cable::new(&udp(6001, 6002)), Cable::new(&udp(6002, 6001)));
    assert_eq!(a.nic.link_changes(), [true]);
    both_ways(&a, &b);
    let old = "socket,id=n0,udp=127.0.0.1:6004,localaddr=127.0.0.1:6003";
    let older = "socket,id=n0,udp=127.0.0.1:6003,localaddr=:6004";
    both_ways(&Cable::new(old), &Cable::new(older));
    // Bare frames, as QEMU's; what is none is counted.
    let qemu = UdpSocket::bind("127.0.0.1:6006").unwrap();
    let cable = Cable::new(&udp(6005, 6006));
    for datagram in [&[1; 13][..], &[], &[2; 60]] {
        qemu.send_to(datagram, "127.0.0.1:6005").unwrap();
    }
    eventually("the good one comes", || cable.nic.frames().len() == 1);
    assert_eq!(cable.backend.counters().read().to_peer.dropped, [("bad-length", 2)]);
    // Over the limit of UDP: no such datagram exists.
    assert_eq!(cable.nic.send(&frame(0, 65536)), Delivery::Dropped(DropReason::BadLength));
    // Nobody there: UDP does not say so, or says it with the next datagram.
    drop(qemu);
    for _ in 0..3 {
        assert!(matches!(
            cable.nic.send(&frame(0, 60)),
            Delivery::Taken | Delivery::Dropped(DropReason::LinkDown)
        ));
    }
}

fn unix(dir: &tempfile::TempDir, local: &str, remote: &str) -> String {
    let path = |name: &str| dir.path().join(name).display().to_string();
    format!(
        "dgram,id=n0,local.type=unix,local.path={},remote.type=unix,remote.path={}",
        path(local),
        path(remote)
    )
}

fn a_full_unix_receiver_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let cable = Cable::new(&unix(&dir, "a", "b"));
    let qemu = UnixDatagram::bind(dir.path().join("b")).unwrap();
    // Laying the cable counts as one.
    let calls = cable.nic.ready_calls();
    let mut sent = 0;
    while cable.nic.send(&frame(sent, 60)) == Delivery::Taken {
        sent += 1;
        assert!(sent < 255, "net.unix.max_dgram_qlen is an end");
    }
    let before = cpu_time();
    std::thread::sleep(Duration::from_millis(300));
    assert!(cpu_time() - before < Duration::from_millis(60), "asking again is not spinning");
    eventually("the NIC is asked to try again", || cable.nic.ready_calls() > calls);
    let mut got = [0; 100];
    for i in 0..sent {
        assert_eq!(qemu.recv(&mut got).unwrap(), 60);
        assert_eq!(got[0], i);
    }
    assert_eq!(cable.nic.send(&frame(sent, 60)), Delivery::Taken);
    assert!(cable.backend.counters().read().from_peer.dropped.is_empty());
}

fn a_unix_receiver_may_come_late_and_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let a = Cable::new(&unix(&dir, "a", "b"));
    assert_eq!(a.nic.send(&frame(0, 60)), Delivery::Dropped(DropReason::LinkDown));
    for _ in 0..2 {
        let b = Cable::new(&unix(&dir, "b", "a"));
        assert_eq!(a.nic.send(&frame(1, 60)), Delivery::Taken);
        eventually("it comes", || b.nic.frames().len() == 1);
        assert_eq!(b.nic.send(&frame(2, 60)), Delivery::Taken);
        drop(b);
        assert!(!dir.path().join("b").exists());
        assert_eq!(a.nic.send(&frame(1, 60)), Delivery::Dropped(DropReason::LinkDown));
    }
    eventually("both came back", || a.nic.frames().len() == 2);
    let stats = a.backend.counters().read().from_peer;
    assert_eq!((stats.frames, stats.dropped), (2, vec![("link-down", 3)]));
}

fn a_group_s_members_hear_each_other() {
    let members = [
        Cable::new("socket,id=n0,mcast=230.0.0.1:6100,localaddr=127.0.0.1"),
        Cable::new(
            "dgram,id=n0,remote.type=inet,remote.host=230.0.0.1,remote.port=6100,local.type=inet,local.host=127.0.0.1,local.port=0",
        ),
        Cable::new("socket,id=n0,mcast=230.0.0.1:6100,localaddr=127.0.0.1"),
    ];
    for (i, member) in members.iter().enumerate() {
        assert_eq!(member.nic.send(&frame(i as u8, 60)), Delivery::Taken);
    }
    for (i, member) in members.iter().enumerate() {
        eventually("two frames", || member.nic.frames().len() == 2);
        let mut from: Vec<u8> = member.nic.frames().iter().map(|(frame, _)| frame[0]).collect();
        from.sort_unstable();
        let others: Vec<u8> = (0..3).filter(|n| usize::from(*n) != i).collect();
        assert_eq!(from, others);
        assert!(member.backend.counters().read().to_peer.dropped.is_empty());
    }
}

fn l2tpv3_over_udp_and_over_ip() {
    let ends = |keys: &str, a: &str, b: &str| {
        let end = |own: &str| format!("l2tpv3,id=n0,src=127.0.0.1,dst=127.0.0.1,{own},{keys}");
        (end(a), end(b))
    };
    for (keys, a, b) in [
        ("udp=on", "srcport=7001,dstport=7002,txsession=1", "srcport=7002,dstport=7001,txsession=1"),
        (
            "udp=on,cookie64=on,counter=on,offset=4",
            "srcport=7003,dstport=7004,txsession=0xffffffff,rxsession=2,txcookie=0x0123456789abcdef,rxcookie=9",
            "srcport=7004,dstport=7003,txsession=2,rxsession=0xffffffff,rxcookie=0x0123456789abcdef,txcookie=9",
        ),
    ] {
        let (a, b) = ends(keys, a, b);
        both_ways(&Cable::new(&a), &Cable::new(&b));
    }
    // Directly over IP, we being root here; each end at an address of its own.
    let raw = |src: u8, dst: u8| {
        Cable::new(&format!("l2tpv3,id=n0,src=127.0.0.{src},dst=127.0.0.{dst},txsession=5,pincounter=on"))
    };
    both_ways(&raw(1, 2), &raw(2, 1));
    let six = |from: u16, to: u16| {
        Cable::new(&format!(
            "l2tpv3,id=n0,ipv6=on,src=::1,dst=::1,udp=on,srcport={from},dstport={to},txsession=5"
        ))
    };
    both_ways(&six(7005, 7006), &six(7006, 7005));
    // Another session and a stranger's cookie are counted and go no further.
    let cable = Cable::new(
        "l2tpv3,id=n0,src=127.0.0.1,dst=127.0.0.1,udp=on,srcport=7007,dstport=7008,txsession=5,txcookie=1,rxcookie=2",
    );
    let stranger = UdpSocket::bind("127.0.0.1:7008").unwrap();
    let header = |session: u8, cookie: u8| [0, 3, 0, 0, 0, 0, 0, session, 0, 0, 0, cookie];
    for header in [header(6, 2), header(5, 1), header(5, 2)] {
        stranger.send_to(&[&header[..], &[9; 60]].concat(), "127.0.0.1:7007").unwrap();
    }
    eventually("the good one comes", || cable.nic.frames().len() == 1);
    assert_eq!(cable.backend.counters().read().to_peer.dropped, [("filtered", 2)]);
}

fn what_a_datagram_cannot_have_is_told() {
    let error = |line: &str| Cable::try_new(line, usize::MAX).err().expect("an error");
    let no_route = error("socket,id=n0,mcast=230.0.0.1:6200");
    assert!(no_route.contains("cannot join the group 230.0.0.1:6200: "), "{no_route}");
    assert!(no_route.ends_with("name an interface by its address (localaddr=ADDRESS)"), "{no_route}");
    let mixed = "dgram,id=n0,local.type=inet,local.host=127.0.0.1,local.port=1,remote.type=inet,remote.host=::1,remote.port=2";
    assert!(error(mixed).contains("it has no address of the same kind (IPv4 or IPv6) as the local one"));
    // Without the right to raw sockets. (The line belongs to a helper process, which has given it up.)
    let exe = std::env::current_exe().unwrap();
    let raw = sh(&format!(
        "MINIVMM_NETDEV_ROLE=line-error NETDEV_LINE=l2tpv3,id=n0,src=127.0.0.1,dst=127.0.0.1,txsession=1 \
         setpriv --bounding-set=-net_raw --inh-caps=-net_raw {}",
        exe.display()
    ));
    assert!(
        raw.contains("L2TPv3 directly over IP needs CAP_NET_RAW: use udp=on,srcport=PORT,dstport=PORT"),
        "{raw}"
    );
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let line = format!("dgram,id=n0,local.type=fd,local.str={}", std::os::fd::AsRawFd::as_raw_fd(&udp));
    assert!(error(&line).contains("is a socket that is not connected"));
}
