//! Backends on streams and datagrams, against each other and against plain sockets that speak QEMU's format.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::time::Duration;

use minivmm::netport::{Delivery, DropReason};

use crate::harness::*;

pub const TESTS: &[Test] = &[
    ("streams_carry_frames_of_every_length_in_order", streams_carry_frames_of_every_length_in_order),
    ("the_stream_s_format_is_qemu_s_however_it_is_cut", the_stream_s_format_is_qemu_s_however_it_is_cut),
    ("a_slow_reader_is_waited_for_and_nothing_is_lost", a_slow_reader_is_waited_for_and_nothing_is_lost),
    ("a_slow_nic_holds_the_sender_back", a_slow_nic_holds_the_sender_back),
    ("another_protocol_s_bytes_end_the_connection", another_protocol_s_bytes_end_the_connection),
    ("a_client_reconnects_and_the_link_follows", a_client_reconnects_and_the_link_follows),
    ("streams_over_tcp_old_and_new", streams_over_tcp_old_and_new),
    ("what_a_stream_cannot_have_is_told", what_a_stream_cannot_have_is_told),
    ("inherited_sockets_are_used", inherited_sockets_are_used),
    ("a_flapping_peer_does_not_fill_the_log", a_flapping_peer_does_not_fill_the_log),
];

fn frame(number: u32, len: usize) -> Vec<u8> {
    let mut frame = vec![number as u8; len.max(14)];
    frame[..4].copy_from_slice(&number.to_be_bytes());
    frame
}

fn on_the_wire(frame: &[u8]) -> Vec<u8> {
    [&(frame.len() as u32).to_be_bytes(), frame].concat()
}

fn unix(dir: &tempfile::TempDir) -> (std::path::PathBuf, String) {
    let path = dir.path().join("s");
    let text = format!("stream,id=n0,addr.type=unix,addr.path={}", path.display());
    (path, text)
}

fn streams_carry_frames_of_every_length_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (path, client) = unix(&dir);
    let server = Cable::new(&format!("{client},server=on"));
    assert_eq!(server.nic.link_changes().last(), Some(&false), "nobody is there yet");
    assert_eq!(server.nic.send(&frame(0, 60)), Delivery::Dropped(DropReason::LinkDown));
    let client = Cable::new(&client);
    assert_eq!(client.nic.link_changes(), [true]);
    eventually("the server has it, too", || server.nic.link_changes().last() == Some(&true));
    let lengths: Vec<usize> = (14..1600).chain([9000, 65535, 65536 + 256]).collect();
    for (from, to) in [(&server, &client), (&client, &server)] {
        for (i, len) in lengths.iter().enumerate() {
            from.send_patiently(&frame(i as u32, *len));
        }
        eventually("all frames", || to.nic.frames().len() == lengths.len());
        for (i, ((got, _), len)) in to.nic.frames().iter().zip(&lengths).enumerate() {
            assert!(*got == frame(i as u32, *len), "frame {i} of {len} bytes");
        }
        let stats = to.backend.counters().read().to_peer;
        assert_eq!((stats.frames, stats.bytes), (lengths.len() as u64, lengths.iter().sum::<usize>() as u64));
    }
    assert_eq!(client.nic.send(&frame(0, 65536 + 257)), Delivery::Dropped(DropReason::BadLength));
    assert_eq!(client.backend.kind(), "stream");
    assert_eq!(client.backend.describe(), format!("stream to unix:{}, connected", path.display()));
    drop(server);
    eventually("the client's link is down", || client.nic.link_changes() == [true, false]);
    assert!(!path.exists(), "the server's path is gone");
    let said = client.host.said();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].ends_with("is gone: closed by the other side; the link is down"), "{said:?}");
}

fn the_stream_s_format_is_qemu_s_however_it_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (path, client) = unix(&dir);
    let cable = Cable::new(&format!("{client},server=on"));
    let mut qemu = UnixStream::connect(path).unwrap();
    eventually("connected", || cable.nic.link_changes().last() == Some(&true));
    assert_eq!(cable.nic.send(&frame(7, 60)), Delivery::Taken);
    let mut got = [0; 64];
    qemu.read_exact(&mut got).unwrap();
    assert_eq!(got[..], on_the_wire(&frame(7, 60)));
    let bytes: Vec<u8> = (0..40).flat_map(|i| on_the_wire(&frame(i, 14 + 3 * i as usize))).collect();
    for byte in &bytes {
        qemu.write_all(std::slice::from_ref(byte)).unwrap();
    }
    // Frames that are too short to be any are counted and do not disturb the others.
    qemu.write_all(&[0, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3]).unwrap();
    qemu.write_all(&on_the_wire(&frame(40, 100))).unwrap();
    eventually("all frames", || cable.nic.frames().len() == 41);
    assert!((0..40).all(|i| cable.nic.frames()[i].0 == frame(i as u32, 14 + 3 * i)));
    assert_eq!(cable.backend.counters().read().to_peer.dropped, [("bad-length", 2)]);
}

fn a_slow_reader_is_waited_for_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (path, client) = unix(&dir);
    let listener = UnixListener::bind(path).unwrap();
    // Small frames are taken whole or not at all, long ones in part.
    for len in [1514, 65000] {
        let cable = Cable::new(&client);
        slow_reader(&cable, listener.accept().unwrap().0, len);
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let cable = Cable::new(&format!("socket,id=n0,connect=127.0.0.1:{port}"));
    slow_reader(&cable, listener.accept().unwrap().0, 65000);
}

fn slow_reader(cable: &Cable, mut qemu: impl Read, len: usize) {
    // Laying the cable counts as one.
    let calls = cable.nic.ready_calls();
    let mut sent = 0;
    while cable.nic.send(&frame(sent, len)) == Delivery::Taken {
        sent += 1;
        assert!(sent < 100_000, "a socket has an end");
    }
    assert_eq!(cable.nic.send(&frame(sent, len)), Delivery::Full, "and stays full");
    assert_eq!(cable.nic.ready_calls(), calls);
    let before = cpu_time();
    std::thread::sleep(Duration::from_millis(100));
    assert!(cpu_time() - before < Duration::from_millis(50), "the event loop spins");
    let mut got = vec![0; len + 4];
    for i in 0..sent {
        qemu.read_exact(&mut got).unwrap();
        assert!(got == on_the_wire(&frame(i, len)), "frame {i} of {len} bytes");
    }
    eventually("the NIC is called", || cable.nic.ready_calls() == calls + 1);
    assert_eq!(cable.nic.send(&frame(sent, len)), Delivery::Taken);
    let stats = cable.backend.counters().read().from_peer;
    assert_eq!((stats.frames, stats.full, stats.dropped), (u64::from(sent) + 1, 2, vec![]));
    // Who waits for room at the end of a connection is told, too.
    while cable.nic.send(&frame(0, len)) == Delivery::Taken {}
    let calls = cable.nic.ready_calls();
    drop(qemu);
    eventually("the link is down", || cable.nic.link_changes().last() == Some(&false));
    eventually("the NIC is called", || cable.nic.ready_calls() > calls);
    assert_eq!(cable.nic.send(&frame(0, 60)), Delivery::Dropped(DropReason::LinkDown));
}

fn a_slow_nic_holds_the_sender_back() {
    let dir = tempfile::tempdir().unwrap();
    let (path, client) = unix(&dir);
    let listener = UnixListener::bind(path).unwrap();
    let cable = Cable::with_room(&client, 3);
    let (mut qemu, _) = listener.accept().unwrap();
    qemu.set_nonblocking(true).unwrap();
    let mut bytes = Vec::new();
    let mut number = 0;
    let refused = loop {
        if bytes.is_empty() {
            bytes = on_the_wire(&frame(number, 1000));
            number += 1;
        }
        match qemu.write(&bytes) {
            Ok(n) => drop(bytes.drain(..n)),
            Err(error) if cable.nic.frames().len() == 3 => break error,
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
        assert!(number < 100_000, "somebody buffers without end");
    };
    assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
    let before = cpu_time();
    std::thread::sleep(Duration::from_millis(100));
    assert!(cpu_time() - before < Duration::from_millis(50), "the event loop spins");
    assert_eq!(cable.nic.frames().len(), 3);
    // Whole frames wait in our own buffer, for which the socket will never be readable again.
    qemu.set_nonblocking(false).unwrap();
    let rest = std::thread::spawn(move || qemu.write_all(&bytes).map(|()| qemu));
    while cable.nic.frames().len() < number as usize {
        let before = cable.nic.frames().len();
        cable.nic.make_room(20);
        eventually("twenty more", || cable.nic.frames().len() == (before + 20).min(number as usize));
    }
    rest.join().unwrap().unwrap();
    assert!((0..number).all(|i| cable.nic.frames()[i as usize].0 == frame(i, 1000)));
    assert!(cable.backend.counters().read().to_peer.dropped.is_empty());
}

fn another_protocol_s_bytes_end_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    let (path, client) = unix(&dir);
    let cable = Cable::new(&format!("{client},server=on"));
    for round in 1..=2 {
        let mut stranger = UnixStream::connect(&path).unwrap();
        stranger.write_all(&on_the_wire(&frame(1, 60))).unwrap();
        stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(stranger.read(&mut [0; 10]).unwrap_or(0), 0, "it is closed");
        eventually("the link is down again", || {
            cable.nic.link_changes().iter().filter(|up| !**up).count() == 1 + round
        });
        assert_eq!(cable.nic.frames().len(), round, "what came before is delivered");
    }
    let said = cable.host.said();
    assert_eq!(said.len(), 4, "{said:?}");
    assert!(
        said[1].contains("a frame of 1195725856 bytes was announced, and 69632 is the limit"),
        "{said:?}"
    );
    assert!(said[1].ends_with("the link is down; the next one is awaited"), "{said:?}");
    let before = cpu_time();
    std::thread::sleep(Duration::from_millis(100));
    assert!(cpu_time() - before < Duration::from_millis(50), "the event loop spins");
}

fn a_client_reconnects_and_the_link_follows() {
    let dir = tempfile::tempdir().unwrap();
    let (path, client) = unix(&dir);
    let client = Cable::new(&format!("{client},reconnect-ms=20"));
    assert_eq!(client.nic.link_changes(), [false]);
    std::thread::sleep(Duration::from_millis(100));
    assert!(client.host.said().is_empty(), "waiting is no event: {:?}", client.host.said());
    for round in 1..=2 {
        let listener = UnixListener::bind(&path).unwrap();
        let (mut qemu, _) = listener.accept().unwrap();
        qemu.write_all(&on_the_wire(&frame(round, 60))).unwrap();
        eventually("it is connected", || client.nic.link_changes().len() == 2 * round as usize);
        eventually("the frame comes", || client.nic.frames().len() == round as usize);
        drop((qemu, listener));
        std::fs::remove_file(&path).unwrap();
        eventually("it is down", || client.nic.link_changes().len() == 1 + 2 * round as usize);
    }
    assert_eq!(client.nic.link_changes(), [false, true, false, true, false]);
    let said = client.host.said();
    assert_eq!(said.len(), 4, "{said:?}");
    assert!(said[0].starts_with("netdev n0: connected (unix:"), "{said:?}");
    assert!(said[1].ends_with("the link is down; trying again every 20ms"), "{said:?}");
}

fn streams_over_tcp_old_and_new() {
    for (server, client) in [
        (
            "stream,id=n0,server=on,addr.type=inet,addr.host=127.0.0.1,addr.port=5555",
            "stream,id=n0,addr.type=inet,addr.host=localhost,addr.port=5555,addr.ipv4=on,addr.keep-alive=on",
        ),
        ("socket,id=n0,listen=:5556", "socket,id=n0,connect=127.0.0.1:5556"),
        (
            r#"{"type":"stream","id":"n0","server":true,"addr":{"type":"inet","host":"::1","port":"5557"}}"#,
            r#"{"type":"stream","id":"n0","addr":{"type":"inet","host":"::1","port":"5557"},"reconnect-ms":10}"#,
        ),
    ] {
        let (server, client) = (Cable::new(server), Cable::new(client));
        for cable in [&server, &client] {
            eventually("the link is up", || cable.nic.link_changes().last() == Some(&true));
        }
        assert_eq!(server.nic.send(&frame(1, 60)), Delivery::Taken);
        assert_eq!(client.nic.send(&frame(2, 1514)), Delivery::Taken);
        eventually("both came", || client.nic.frames().len() + server.nic.frames().len() == 2);
        assert_eq!((&client.nic.frames()[0].0, &server.nic.frames()[0].0), (&frame(1, 60), &frame(2, 1514)));
    }
}

fn what_a_stream_cannot_have_is_told() {
    let error = |line: &str| Cable::try_new(line, usize::MAX).err().expect("an error");
    assert_eq!(
        error("stream,id=n0,addr.type=inet,addr.host=127.0.0.1,addr.port=1"),
        "-netdev stream,id=n0: cannot connect to 127.0.0.1:1: Connection refused (os error 111); start the other \
         side first, or add reconnect-ms=1000"
    );
    assert!(
        error("stream,id=n0,addr.type=unix,addr.path=/no/such")
            .contains("unix:/no/such: No such file or directory")
    );
    let held = TcpListener::bind("127.0.0.1:5558").unwrap();
    assert_eq!(
        error("socket,id=n0,listen=127.0.0.1:5558"),
        "-netdev socket,id=n0: cannot bind 127.0.0.1:5558: Address already in use (os error 98); end the program \
         that has it, or choose another"
    );
    drop(held);
    assert!(error("socket,id=n0,listen=192.0.2.1:5558").contains("name an address of this host"));
    let unknown = error("stream,id=n0,addr.type=inet,addr.host=no-such-host.invalid,addr.port=1");
    assert!(unknown.contains("cannot resolve the host 'no-such-host.invalid': "), "{unknown}");
    assert!(error("stream,id=n0,addr.type=fd,addr.str=77").ends_with("fd=77 is not open"));
    let file = std::fs::File::open("/dev/null").unwrap();
    let line = format!("stream,id=n0,addr.type=fd,addr.str={}", file.as_raw_fd());
    assert!(error(&line).ends_with("is not a socket"));
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let line = format!("stream,id=n0,addr.type=fd,addr.str={}", udp.as_raw_fd());
    assert!(error(&line).ends_with("is not a stream socket: use -netdev dgram,local.type=fd for it"));
    let unconnected =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    let line = format!("stream,id=n0,addr.type=fd,addr.str={}", unconnected.as_raw_fd());
    assert!(error(&line).ends_with("is a socket that neither listens nor is connected"));
}

fn inherited_sockets_are_used() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    for kind in ["stream,id=n0,addr.type=fd,addr.str", "socket,id=n0,fd"] {
        let cable = Cable::new(&format!("{kind}={}", ours.as_raw_fd()));
        theirs.write_all(&on_the_wire(&frame(5, 60))).unwrap();
        eventually("the frame comes", || cable.nic.frames().len() == 1);
        assert_eq!(cable.nic.send(&frame(6, 60)), Delivery::Taken);
        let mut got = [0; 64];
        theirs.read_exact(&mut got).unwrap();
        assert_eq!(got[..], on_the_wire(&frame(6, 60)));
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let cable = Cable::new(&format!("stream,id=n0,addr.type=fd,addr.str={}", listener.as_raw_fd()));
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.write_all(&on_the_wire(&frame(5, 60))).unwrap();
    eventually("the frame comes", || cable.nic.frames().len() == 1);

    let (ours, theirs) = UnixDatagram::pair().unwrap();
    for kind in ["dgram,id=n0,local.type=fd,local.str", "socket,id=n0,fd"] {
        let cable = Cable::new(&format!("{kind}={}", ours.as_raw_fd()));
        theirs.send(&frame(5, 60)).unwrap();
        eventually("the frame comes", || cable.nic.frames().len() == 1);
        assert_eq!(cable.nic.send(&frame(6, 60)), Delivery::Taken);
        let mut got = [0; 100];
        assert_eq!(theirs.recv(&mut got).unwrap(), 60);
    }
}

fn a_flapping_peer_does_not_fill_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (path, client) = unix(&dir);
    let cable = Cable::new(&format!("{client},server=on"));
    for round in 1..=30 {
        drop(UnixStream::connect(&path).unwrap());
        eventually("it came and went", || {
            cable.nic.link_changes().iter().filter(|up| **up).count() == round
                && cable.nic.link_changes().last() == Some(&false)
        });
    }
    let said = cable.host.said();
    assert_eq!(said.len(), 21, "{said:?}");
    assert!(said[20].ends_with("keeps coming and going; no more of this is told"), "{said:?}");
}
